"""Fields of a recipe as a command line sets them: ``--set section.field=value``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import yaml


class WrongSetting(ValueError):
    """A setting that is not ``field=value``."""


def parse(settings: Iterable[str]) -> dict[str, Any]:
    """Dotted names to values, read as YAML: ``80`` a number, ``{en: 0.5}`` a mapping. Raises WrongSetting."""
    found: dict[str, Any] = {}
    for setting in settings:
        name, mark, value = setting.partition("=")
        if not mark or not name:
            raise WrongSetting(f"--set {setting}: give field=value, such as gopher_quality.min_words=80")
        try:
            found[name.strip()] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise WrongSetting(f"--set {setting}: the value is not valid YAML") from error
    return found
