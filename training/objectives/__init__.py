"""The objectives by the names that a recipe gives them."""

from __future__ import annotations

from importlib import import_module

from training.objectives.base import Objective


def load(name: str) -> Objective:
    """The objective in ``training/objectives/<name>.py``."""
    return import_module(f"training.objectives.{name}").OBJECTIVE
