"""Texts as CCNet's language models see them: normalised, then cut into SentencePiece pieces.

Wenzek et al. 2020, "CCNet", and its program: a document is stripped, lower-cased, decomposed (NFD) without its
non-spacing marks; every decimal digit becomes 0, punctuation that is not ASCII takes an ASCII form, control characters
go. The line ends are among these, so a document is one sentence to the model: its pieces, parted by spaces.

The kernel works character by character. Against the definition over whole strings it differs in one thing only: it
does not reorder combining characters that are not non-spacing marks, of which text has no two in a row.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa

from pipeline import MillError
from pipeline.text.buffers import string_array, text_buffers
from pipeline.text.jit import njit
from pipeline.text.utf8 import code_point, previous, width

if TYPE_CHECKING:
    import sentencepiece

#: Bytes of normalised text whose pieces are Python strings at the same time.
_BATCH = 1 << 20
#: The characters that the tables hold, one range after another: above are compatibility ideographs, which decompose,
#: and selectors of variants, which are marks. All others stay as they are.
_PLANES = range(0x20000)
_IDEOGRAPHS, _SELECTORS = range(0x2F800, 0x2FA20), range(0xE0000, 0xE0200)
_PLANES_END = _PLANES.stop
_IDEOGRAPHS_START, _IDEOGRAPHS_END = _IDEOGRAPHS.start, _IDEOGRAPHS.stop
_SELECTORS_START, _SELECTORS_END = _SELECTORS.start, _SELECTORS.stop
_OTHER = len(_PLANES) + len(_IDEOGRAPHS) + len(_SELECTORS)
_SIGMA, _FINAL_SIGMA = 0x3A3, 0x3C2

_CASED, _IGNORED, _SPACE = 1, 2, 4

#: What CCNet (after Moses) writes for punctuation that is not ASCII.
PUNCTUATION = (
    dict.fromkeys("„”“«»」「《》", '"')
    | dict.fromkeys("，、", ",")
    | dict.fromkeys("∶：", ":")
    | dict.fromkeys("´’", "'")
    | dict.fromkeys("–━►", "-")
    | {"。": ".", "．": ". ", "？": "?", "！": "!", "（": "(", "）": ")", "；": ";", "—": " - ", "～": "~", "…": "..."}
    | {"〈": "<", "〉": ">", "【": "[", "】": "]", "％": "%"}
)


class _Table(NamedTuple):
    """What each character becomes: ``data[starts[c]:starts[c + 1]]``; and of which ``kinds`` it is."""

    data: np.ndarray  # uint8
    starts: np.ndarray  # int32
    kinds: np.ndarray  # uint8
    growth: int  # the most bytes that one byte of text can become


def normalise(texts: pa.StringArray) -> pa.StringArray:
    """The texts as CCNet normalises them, accents, case, numbers and punctuation. Raises OverflowError beyond 2 GiB."""
    data, offsets = text_buffers(texts)
    table = _table()
    ends = np.zeros(len(offsets), np.int64)
    out = np.empty(table.growth * int(offsets[-1] - offsets[0]), np.uint8)  # pages that are not written cost nothing
    _normalise(data, offsets, table.data, table.starts, table.kinds, out, ends)
    return string_array(out[: ends[-1]], ends)


def pieces(texts: pa.StringArray, model: str) -> Iterator[list[list[str]]]:
    """The pieces of each text under the SentencePiece model in the file ``model``, in batches of texts, in order."""
    normalised = normalise(texts)
    processor = _processor(model)
    sizes = np.cumsum(np.diff(text_buffers(normalised)[1]))
    start = 0
    while start < len(normalised):
        before = sizes[start - 1] if start else 0
        end = max(start + 1, int(np.searchsorted(sizes, before + _BATCH, side="right")))
        yield processor.encode(normalised.slice(start, end - start).to_pylist(), out_type=str, num_threads=1)
        start = end


@cache
def _processor(path: str) -> sentencepiece.SentencePieceProcessor:
    import sentencepiece

    try:
        return sentencepiece.SentencePieceProcessor(model_file=path)
    except (OSError, RuntimeError) as error:
        raise MillError(
            f"{path}: not a SentencePiece model ({error}); give the .model file that belongs to it"
        ) from error


@cache
def _table() -> _Table:
    """Made on the first call (about half a second)."""
    chars = [chr(point) for points in (_PLANES, _IDEOGRAPHS, _SELECTORS) for point in points]
    forms = [_bytes(_form(char)) for char in chars]
    starts = np.concatenate([[0], np.cumsum([len(form) for form in forms])]).astype(np.int32)
    kinds = np.array([*map(_kinds, chars), 0], np.uint8)  # the last for all others
    growth = max(-(-len(form) // len(_bytes(char))) for char, form in zip(chars, forms, strict=True))
    return _Table(np.frombuffer(b"".join(forms), np.uint8), starts, kinds, growth)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _form(char: str) -> str:
    """What one character becomes wherever it stands."""
    plain = (c for c in unicodedata.normalize("NFD", char.lower()) if unicodedata.category(c) != "Mn")
    marks = ("0" if c.isdecimal() else PUNCTUATION.get(c, c) for c in plain)
    return "".join(c for c in "".join(marks) if not (ord(c) < 32 or 127 <= ord(c) < 160))


def _kinds(char: str) -> int:
    """Whether it is white space; and what it is for the rule of the final sigma, read off Python's own lower-casing."""
    cased = (char + "Σ").lower().endswith("ς")
    ignored = not cased and ("a" + char + "Σ").lower().endswith("ς")
    return _CASED * cased | _IGNORED * ignored | _SPACE * char.isspace()


@njit(cache=True, nogil=True)
def _normalise(data, offsets, forms, starts, kinds, out, ends):
    at = 0
    for text in range(len(offsets) - 1):
        i, end = offsets[text], offsets[text + 1]
        while i < end and kinds[_place(code_point(data, i))] & _SPACE:
            i += width(data[i])
        while end > i:
            last = previous(data, end)
            if not kinds[_place(code_point(data, last))] & _SPACE:
                break
            end = last
        cased = False  # whether the last character that counts for it was a cased one
        while i < end:
            point = code_point(data, i)
            after = i + width(data[i])
            place = _place(point)
            if point == _SIGMA and cased and not _cased_next(data, after, end, kinds):
                place = _FINAL_SIGMA
            if place == _OTHER:
                out[at : at + after - i] = data[i:after]
                at += after - i
            else:
                for source in range(starts[place], starts[place + 1]):
                    out[at] = forms[source]
                    at += 1
            if not kinds[place] & _IGNORED:
                cased = kinds[place] & _CASED != 0
            i = after
        ends[text + 1] = at


@njit(cache=True, nogil=True)
def _cased_next(data, i, end, kinds):
    """Whether a cased character comes next, those that are ignored passed over."""
    while i < end:
        place = _place(code_point(data, i))
        if not kinds[place] & _IGNORED:
            return kinds[place] & _CASED != 0
        i += width(data[i])
    return False


@njit(cache=True, nogil=True, inline="always")
def _place(point):
    """Where the tables hold a character; _OTHER for one that stays as it is."""
    if point < _PLANES_END:
        return point
    if _IDEOGRAPHS_START <= point < _IDEOGRAPHS_END:
        return point - _IDEOGRAPHS_START + _PLANES_END
    if _SELECTORS_START <= point < _SELECTORS_END:
        return point - _SELECTORS_START + _PLANES_END + _IDEOGRAPHS_END - _IDEOGRAPHS_START
    return _OTHER
