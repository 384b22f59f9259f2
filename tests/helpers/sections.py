"""Recipes of tests: as much of one as a test needs, with the sections that it has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.build.stage import Stage
from pipeline.sources import READERS
from pipeline.stages import registry


class Sections:
    """What a build asks of a recipe, of the attributes that there are."""

    @property
    def registered(self) -> tuple[Stage, ...]:
        return registry.STAGES

    @property
    def readers(self) -> Mapping[str, Any]:
        return READERS

    def section(self, stage: str) -> Any:
        return vars(self).get(stage)

    def stages_before(self, stage: str | None) -> tuple[str, ...]:
        known = registry.before(self.registered, stage)
        return tuple(entry.name for entry in known if self.section(entry.name) is not None)
