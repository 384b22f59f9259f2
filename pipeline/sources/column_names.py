"""Names of a table's columns, each of them once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import count


def distinct(stated: Sequence[str]) -> list[str]:
    """``stated`` with a number behind the names that columns before have as well: x, x.1, x.2."""
    if len(known := set(stated)) == len(stated):
        return list(stated)
    names: list[str] = []
    taken: set[str] = set()
    numbers: defaultdict[str, Iterator[int]] = defaultdict(lambda: count(1))
    for name in stated:
        if name in taken:
            known.add(name := next(other for number in numbers[name] if (other := f"{name}.{number}") not in known))
        taken.add(name)
        names.append(name)
    return names
