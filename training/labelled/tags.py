"""Schemes of tags: IOB1, IOB2 and BIOES (or BILOU) in, IOB2 out. Parts of speech and the like stay what they are.

IOB1 (Ramshaw and Marcus 1995) begins an entity with I-, and with B- only right behind another of its type. IOB2 begins
each with B-. BIOES also marks an entity's last word (E-, L-) and one of a single word (S-, U-).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

_TAG = re.compile(r"([BIESLUM])-(.+)", re.DOTALL)
_ENDS = frozenset("ESLUM")


def is_known(tag: str) -> bool:
    return tag == "O" or is_marked(tag)


def is_marked(tag: str) -> bool:
    """Whether ``tag`` says where an entity begins, goes on or ends."""
    return _TAG.fullmatch(tag) is not None


def mark_entities(tags: Iterable[str]) -> bool:
    """Whether ``tags`` are of entities, and not one for each word by itself, as parts of speech are."""
    return all(map(is_known, tags))


def kind(tag: str) -> str:
    """The type of entity that ``tag`` is of; of a tag that marks none the tag itself."""
    return _parts(tag)[1] if is_known(tag) else tag


def scheme(sentences: Iterable[Sequence[str]]) -> str:
    """``BIOES``, ``IOB1`` or ``IOB2``, by the tags of all ``sentences``."""
    begins_with_i = begins_with_b = False
    for tags in sentences:
        before = ("O", "")
        for tag in tags:
            mark, kind = _parts(tag)
            if mark in _ENDS:
                return "BIOES"
            begins_with_i |= mark == "I" and kind != before[1]
            begins_with_b |= mark == "B" and kind != before[1]
            before = (mark, kind)
    return "IOB1" if begins_with_i and not begins_with_b else "IOB2"


def to_iob2(tags: Sequence[str]) -> tuple[list[str], int]:
    """``tags`` by IOB2, and how many of them changed. An entity goes on only with its type, up to its last word."""
    made, changed = [], 0
    before, over = "", True
    for tag in tags:
        mark, kind = _parts(tag)
        goes_on = mark in "IELM" and kind == before and not over
        new = "O" if mark == "O" else f"{'I' if goes_on else 'B'}-{kind}"
        made.append(new)
        changed += new != tag
        before, over = kind, mark in "OESLU"
    return made, changed


def _parts(tag: str) -> tuple[str, str]:
    """The mark and the type; of O no type."""
    match = _TAG.fullmatch(tag)
    return (match[1], match[2]) if match else ("O", "")
