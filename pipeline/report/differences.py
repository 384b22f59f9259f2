"""Where two texts differ, word by word, marked for a page."""

from __future__ import annotations

import difflib

import regex
from markupsafe import Markup, escape

#: A word; a character of a script without spaces; white space; or a sign.
_PIECE = regex.compile(r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]|\w+|\s+|\W", regex.DOTALL)
_MOST = 1200
"""Pieces of a text that are compared, so that the time is bounded whatever the text; what follows is not marked."""
ELLIPSIS = "…"


def marked(text: str, other: str | None) -> Markup:
    """``text``, escaped, with what ``other`` has not in ``mark`` and what only that has in ``del``.

    Where one was cut off (it ends in an ellipsis), nothing is known of what would follow: the end is not marked.
    """
    if other is None:
        return escape(text)
    mine, others = (_PIECE.findall(one.removesuffix(ELLIPSIS)) for one in (text, other))
    ours, theirs = mine[:_MOST], others[:_MOST]
    # where a line was broken is no difference
    keys = [[" " if piece.isspace() else piece for piece in pieces] for pieces in (theirs, ours)]
    steps = difflib.SequenceMatcher(None, *keys, autojunk=False).get_opcodes()
    cut = ELLIPSIS in (text[-1:], other[-1:]) or len(mine) > _MOST or len(others) > _MOST
    parts = []
    for place, (kind, start, end, low, high) in enumerate(steps, 1):
        known = kind == "equal" or (cut and place == len(steps))
        deleted, here = "".join(theirs[start:end]), "".join(ours[low:high])
        if not known and deleted.strip():
            parts.append(Markup("<del>{}</del>").format(deleted))
        parts.append(escape(here) if known or not here.strip() else Markup("<mark>{}</mark>").format(here))
    return Markup("").join(parts) + escape("".join(mine[_MOST:]) + ELLIPSIS * text.endswith(ELLIPSIS))
