"""Fields of a recipe as a command line sets them: ``--set section.field=value``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pipeline import MillError
from pipeline.store import recipe_file


class WrongSetting(MillError):
    """A setting that is not ``field=value``."""


_UNITS = {"k": 10**3, "m": 10**6, "b": 10**9, "t": 10**12}


def amount(option: str, value: str) -> int:
    """A whole number that may end in k, M, B or T: ``1.3B`` is 1,300,000,000. Raises WrongSetting."""
    number, unit = (value[:-1], _UNITS[value[-1].lower()]) if value[-1:].lower() in _UNITS else (value, 1)
    try:
        rounded = round(float(number) * unit)
    except (ValueError, OverflowError):
        rounded = 0
    if rounded < 1:
        raise WrongSetting(f"{option} {value}: give a number such as 350M or 1.3B")
    return rounded


def parse(settings: Iterable[str]) -> dict[str, Any]:
    """Dotted names to values, read as YAML: ``80`` a number, ``{en: 0.5}`` a mapping. Raises WrongSetting."""
    values: dict[str, Any] = {}
    for setting in settings:
        name, mark, value = setting.partition("=")
        if not mark or not name:
            raise WrongSetting(f"--set {setting}: give field=value, such as gopher_quality.min_words=80")
        try:
            _, values[name.strip()] = recipe_file.read(value, "")
        except recipe_file.WrongRecipe as error:
            raise WrongSetting(f"--set {setting}: the value is not valid YAML") from error
    return values
