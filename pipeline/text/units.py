"""The units of text that repeats are made of: tokens, sentences, lines, paragraphs; where they are, and their hashes.

- ``token``: a word as in ``shingles`` but in its own case, or any other single character that is not whitespace. Its
  range of bytes is the token alone.
- ``sentence``: up to a mark of ``.!?`` (or its like in other scripts) before whitespace, or up to an empty line.
- ``line``: up to the end of a line that is not empty. ``paragraph``: up to an empty line.

The ranges of sentences, lines and paragraphs reach to the start of the next, so that nothing of one is left behind when
it is cut. Their hashes take a run of whitespace as one space.
"""

from __future__ import annotations

from typing import Literal, get_args

from pipeline.text.folding import ALONE, SPACE
from pipeline.text.hashing import FNV_OFFSET, fnv_step, mix
from pipeline.text.jit import njit
from pipeline.text.utf8 import decode

Unit = Literal["token", "sentence", "line", "paragraph"]
_TOKEN, _SENTENCE, _LINE, _PARAGRAPH = range(len(get_args(Unit)))


def code_of(unit: Unit) -> int:
    """The unit as the kernels take it."""
    return get_args(Unit).index(unit)


@njit(cache=True, nogil=True)
def split_units(data, start, end, unit, words, spaces, hashes, starts, ends, sizes):
    """Split the UTF-8 ``data[start:end]``; returns the number of units.

    ``words`` and ``spaces`` are ``folding.word_table`` and ``text_table``. Of each unit are written: ``hashes`` uint64;
    ``starts`` and ``ends`` int64, relative to ``start``; ``sizes`` int64, its characters without whitespace. All have
    room for one entry a byte.
    """
    if unit == _TOKEN:
        return _split_tokens(data, start, end, words, spaces, hashes, starts, ends, sizes)
    return _split_lines(data, start, end, unit, spaces, hashes, starts, ends, sizes)


@njit(cache=True, nogil=True)
def _split_tokens(data, start, end, words, spaces, hashes, starts, ends, sizes):
    count, at, inside = 0, start, False
    while at < end:
        code, after = decode(data, at)
        entry = words[code]
        joins = entry != 0 and not entry & ALONE
        if spaces[code] == SPACE:
            inside = False
        else:
            if not (inside and joins):
                hashes[count], starts[count], sizes[count] = FNV_OFFSET, at - start, 0
                count += 1
            hashes[count - 1] = fnv_step(hashes[count - 1], code)
            ends[count - 1] = after - start
            sizes[count - 1] += 1
            inside = joins
        at = after
    for i in range(count):
        hashes[i] = mix(hashes[i])
    return count


@njit(cache=True, nogil=True)
def _split_lines(data, start, end, unit, spaces, hashes, starts, ends, sizes):
    count, at, line = 0, start, start
    newlines, gap, closed = 0, False, False
    while at < end:
        code, after = decode(data, at)
        if spaces[code] == SPACE:
            gap = True
            if code == 10:
                newlines += 1
                line = after
        else:
            if unit == _SENTENCE:
                ended = newlines >= 2 or (closed and gap)
            else:
                ended = newlines >= (1 if unit == _LINE else 2)
            if count == 0 or ended:
                starts[count] = (at if unit == _SENTENCE else line) - start
                hashes[count], sizes[count] = FNV_OFFSET, 0
                count += 1
            elif gap:
                hashes[count - 1] = fnv_step(hashes[count - 1], 32)
            hashes[count - 1] = fnv_step(hashes[count - 1], code)
            sizes[count - 1] += 1
            closed = _closes(code) or (closed and not gap and _is_closing_mark(code))
            newlines, gap = 0, False
        at = after
    for i in range(count):
        hashes[i] = mix(hashes[i])
        ends[i] = starts[i + 1] if i + 1 < count else end - start
    return count


@njit(cache=True, nogil=True)
def _closes(code):
    """Whether a sentence may end with the character: . ! ? ... and those of CJK, Devanagari, Arabic and Urdu."""
    return code in (0x21, 0x2E, 0x3F, 0x2026, 0x3002, 0xFF01, 0xFF0E, 0xFF1F, 0x0964, 0x061F, 0x06D4)


@njit(cache=True, nogil=True)
def _is_closing_mark(code):
    """Whether the character may stand between the end of a sentence and the space: quotes and brackets."""
    return code in (0x22, 0x27, 0x29, 0x5D, 0xBB, 0x2019, 0x201D, 0x300D, 0x300F)
