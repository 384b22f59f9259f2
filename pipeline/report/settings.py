"""Which setting of a recipe moves a threshold, and for which documents: found by changing the numbers of a section."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from pipeline.build.stage import Stage
from pipeline.store.ledger import Rule

OTHERS = "*"
_PROBE = 7_654_321.5  # and the numbers after it: no threshold has these values
_Path = tuple[Any, ...]


@dataclass(frozen=True)
class Setting:
    """A number of the recipe that moves one bound of one rule, and nothing else.

    ``name`` is dotted, as `mill whatif --set` takes it. The rule drops documents whose ``signal`` is on the side
    ``drops`` ("below" or "above") of ``value``. ``moves`` says of each group (the value of the signal ``by``, OTHERS
    for all that are not named) whether the setting moves the threshold of its documents. ``special`` is a value at
    which the setting means something else than elsewhere: a default that is not the same for every language.
    ``whole``: it takes whole numbers only.
    """

    name: str
    rule: str
    signal: str
    drops: str
    value: float
    by: str | None
    moves: Mapping[str, bool]
    special: float | None
    whole: bool


@dataclass
class _Bound:
    """One bound of a rule: the threshold of each group, that of OTHERS for all that are not named."""

    rule: Rule
    drops: str
    of: Mapping[str, float]

    def at(self, group: str) -> float:
        return self.of.get(group, self.of.get(OTHERS, math.nan))


def settings(stage: Stage, config: Any) -> list[Setting]:
    """The settings of ``stage`` that move a threshold, in the order of the section ``config``.

    Every number of the section is changed at once, each to another value: a threshold then says which one moved it.
    Where one is computed from the numbers and not equal to any, nothing is known and the list is empty.
    """
    numbers = list(_numbers(config, (), None))
    probes = {_PROBE + index: entry for index, entry in enumerate(numbers)}
    changed = config
    for probe, (path, *_) in probes.items():
        changed = _replaced(changed, path, probe)
    before, after = _bounds(stage, config), _bounds(stage, changed)
    if before.keys() != after.keys():
        return []
    moved: dict[float, dict[tuple[str, str], dict[str, bool]]] = defaultdict(dict)
    for key, old in before.items():
        groups = dict.fromkeys([*old.of, *after[key].of, OTHERS])
        values = {group: after[key].at(group) for group in groups}
        if any(value not in probes and not _same(value, old.at(group)) for group, value in values.items()):
            return []
        for probe in set(values.values()) & probes.keys():
            moved[probe][key] = {group: value == probe for group, value in values.items()}
    entries = []
    for probe, (path, value, default) in probes.items():
        if len(moved[probe]) != 1:
            continue
        ((key, moves),) = moved[probe].items()
        rule = before[key].rule
        by = rule.by or after[key].rule.by
        name = ".".join([stage.name, *map(str, path)])
        special = None if default == value or not isinstance(default, int | float) else float(default)
        whole = isinstance(value, int)
        entries.append(Setting(name, rule.name, rule.signal, key[1], float(value), by, moves, special, whole))
    return entries


def _bounds(stage: Stage, config: Any) -> dict[tuple[str, str], _Bound]:
    """By rule and side that is dropped."""
    return {
        (rule.name, drops): _Bound(rule, drops, bound if isinstance(bound, Mapping) else {OTHERS: float(bound)})
        for rule in stage.rules(config)
        for drops, bound in (("below", rule.minimum), ("above", rule.maximum))
        if bound is not None
    }


def _same(one: float, other: float) -> bool:
    return one == other or (math.isnan(one) and math.isnan(other))


def _numbers(config: Any, path: _Path, default: Any) -> Iterator[tuple[_Path, int | float, Any]]:
    """Path, value and default of each number in a configuration; not those whose path cannot be written with dots."""
    if isinstance(config, int | float) and not isinstance(config, bool):
        yield path, config, default
    elif isinstance(config, BaseModel):
        for name, field in type(config).model_fields.items():
            yield from _numbers(getattr(config, name), (*path, name), field.default)
    elif isinstance(config, Mapping):
        defaults = default if isinstance(default, Mapping) else {}
        for name, value in config.items():
            if "." not in str(name):
                yield from _numbers(value, (*path, name), defaults.get(name))


def _replaced(config: Any, path: _Path, value: float) -> Any:
    """``config`` with ``value`` at ``path``, unchecked."""
    if not path:
        return value
    head, rest = path[0], path[1:]
    if isinstance(config, Mapping):
        return {**config, head: _replaced(config[head], rest, value)}
    return config.model_copy(update={head: _replaced(getattr(config, head), rest, value)})
