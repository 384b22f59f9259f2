"""Inputs that are tried each time: one for each thing that a target reads, and whatever has failed."""

from __future__ import annotations

from pathlib import Path

CORPUS = Path(__file__).parent


def inputs(name: str) -> list[bytes]:
    """The inputs of the target ``name``, in the order of their names."""
    return [path.read_bytes() for path in sorted((CORPUS / name).iterdir()) if path.is_file()]
