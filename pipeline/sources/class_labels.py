"""Names of labels, for datasets that store them as numbers.

``datasets`` writes its features as JSON: into ``dataset_info.json``, and into the schema of Arrow and Parquet files
under the key ``huggingface``. A ``ClassLabel`` among them has ``names``; its values are indices into these. A number
that has no name (-1: no label) stays a number.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import orjson

Row = dict[str, Any]
Named = Callable[[Row], Row]


@lru_cache(maxsize=8)  # each batch of a file has the same schema
def of_schema(metadata: bytes) -> Named | None:
    """``naming`` for the features in the ``huggingface`` entry of a schema's metadata; None if it holds none."""
    try:
        info = orjson.loads(metadata)
    except orjson.JSONDecodeError:
        return None
    for key in ("info", "features"):
        info = info.get(key) if isinstance(info, dict) else None
    return naming(info) if isinstance(info, dict) else None


def naming(features: Mapping[str, Any]) -> Named | None:
    """A function that gives a row of ``features`` with the names of its labels; None if these have no labels."""
    known = {name: named for name, feature in features.items() if (named := _of(feature)) is not None}
    if not known:
        return None
    return lambda row: (
        {name: known[name](value) if name in known else value for name, value in row.items()}
        if isinstance(row, dict)  # a struct may be null
        else row
    )


def _of(feature: Any) -> Callable[[Any], Any] | None:
    """What names the labels in a value of ``feature``; None where there are none."""
    if isinstance(feature, list) and len(feature) == 1:  # datasets before 2.0
        return _each(feature[0])
    if not isinstance(feature, dict):
        return None
    kind = feature.get("_type")
    if kind == "ClassLabel":
        names = feature.get("names")
        return (lambda value: _name(names, value)) if isinstance(names, list) else None
    if kind in ("List", "LargeList", "Sequence"):
        return _each(feature.get("feature"))
    return None if isinstance(kind, str) else naming(feature)


def _name(names: list[Any], value: Any) -> Any:
    known = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(names)
    return names[value] if known else value


def _each(feature: Any) -> Callable[[Any], Any] | None:
    named = _of(feature)
    if named is None:
        return None
    # a Sequence of a struct holds a struct of lists
    return lambda value: [named(entry) for entry in value] if isinstance(value, list) else _columns(named, value)


def _columns(named: Callable[[Any], Any], value: Any) -> Any:
    if not isinstance(value, dict) or not all(isinstance(column, list) for column in value.values()):
        return value
    rows = {key: [named({key: entry})[key] for entry in column] for key, column in value.items()}
    return value | rows
