"""Character classes, exactly as the engine that will read our tokenizers has them.

``classes.json`` holds runs of code points per class and script, measured on Hugging Face ``tokenizers`` by ``measure``
(its regular expressions and its BERT code follow different Unicode versions, so no one table of Python's would do). A
test compares the two; after an upgrade of it ``python -m pipeline.tokenization.character_classes`` writes the file
again.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import get_args

import numpy as np
from tokenizers import Regex, normalizers, pre_tokenizers

from pipeline.tokenization.config import Script

LETTER, NUMBER, SPACE, PUNCTUATION, CONTROL, CJK, DIGIT, SCRIPT = (np.uint8(1 << bit) for bit in range(8))
_BITS = {
    "letter": LETTER,  # \p{L}
    "number": NUMBER,  # \p{N}
    "space": SPACE,  # \s
    "punctuation": PUNCTUATION,  # what BertPreTokenizer isolates
    "control": CONTROL,  # what BertNormalizer removes
    "cjk": CJK,  # what BertNormalizer sets apart
    "digit": DIGIT,  # what Digits isolates
}
_FILE = Path(__file__).with_name("classes.json")
_BLOCK = 2048  # characters that the engine is asked for at once: a long text costs it more for each


@cache
def _read() -> dict[str, list[int]]:
    return json.loads(_FILE.read_text())


def ranges(name: str) -> str:
    """The characters of one class or script inside a bracket expression of the engine's: ``\\x{3400}-\\x{4DBF}...``"""
    runs = _read()[name]
    return "".join(
        f"\\x{{{first:X}}}-\\x{{{first + length - 1:X}}}" for first, length in zip(runs[::2], runs[1::2], strict=True)
    )


@cache
def table(scripts: tuple[str, ...] = (), marks: bool = False) -> np.ndarray:
    """uint8 [0x110000]: the class bits of each code point, SCRIPT for those of ``scripts`` (or classes).

    With ``marks`` those of Unicode (``\\p{M}``: vowel signs, accents of their own) are letters.
    """
    bits = np.zeros(0x110000, np.uint8)
    for name, bit in (_BITS | ({"mark": LETTER} if marks else {}) | dict.fromkeys(scripts, SCRIPT)).items():
        runs = _read()[name]
        for start, length in zip(runs[::2], runs[1::2], strict=True):
            bits[start : start + length] |= bit
    bits.flags.writeable = False
    return bits


@cache
def marked_table(scripts: tuple[str, ...] = ()) -> np.ndarray:
    """The same, with Metaspace's mark as white space."""
    bits = table(scripts).copy()
    bits[ord("▁")] |= SPACE
    bits.flags.writeable = False
    return bits


def measure() -> dict[str, list[int]]:
    """Per class the runs of code points in it as [start, length, ...], asked of ``tokenizers`` (some seconds)."""
    points = np.array([point for point in range(0x110000) if not 0xD800 <= point < 0xE000])
    every = "".join(map(chr, points))
    blocks = range(0, len(points), _BLOCK)

    def removed(pattern: str) -> np.ndarray:
        split = pre_tokenizers.Split(Regex(pattern + "+"), "removed")
        inside = np.ones(len(points), bool)
        for block in blocks:
            for _, (start, end) in split.pre_tokenize_str(every[block : block + _BLOCK]):
                inside[block + start : block + end] = False
        return points[inside]

    def alone(cutter: pre_tokenizers.PreTokenizer) -> np.ndarray:
        lone = np.zeros(len(points), bool)
        for block in blocks:  # character i of it stands at 2 i + 1
            cuts = cutter.pre_tokenize_str("a" + "a".join(every[block : block + _BLOCK]) + "a")
            lone[[block + start // 2 for _, (start, end) in cuts if end - start == 1 and start % 2]] = True
        return points[lone]

    options = {"strip_accents": False, "lowercase": False}
    cleaned = normalizers.BertNormalizer(clean_text=True, handle_chinese_chars=False, **options)
    spaced = normalizers.BertNormalizer(clean_text=False, handle_chinese_chars=True, **options)
    kept = set(cleaned.normalize_str(every))
    whitespace = set(removed(r"\s"))
    controls = [p for p in points if chr(p) not in kept and not (p in whitespace and cleaned.normalize_str(chr(p)))]
    cjk = [p for p in points if p > 0x2000 and len(spaced.normalize_str(chr(p))) == 3]
    classes = {
        "letter": removed(r"\p{L}"),
        "mark": removed(r"\p{M}"),
        "number": removed(r"\p{N}"),
        "space": removed(r"\s"),
        "punctuation": alone(pre_tokenizers.BertPreTokenizer()),
        "control": np.array(controls),
        "cjk": np.array(cjk),
        "digit": alone(pre_tokenizers.Digits(individual_digits=True)),
    }
    classes |= {script: removed(rf"\p{{{script.title()}}}") for script in get_args(Script)}
    return {name: _runs(members) for name, members in classes.items()}


def _runs(points: np.ndarray) -> list[int]:
    breaks = np.flatnonzero(np.diff(points) != 1) + 1
    return [n for run in np.split(points, breaks) for n in (int(run[0]), len(run))]


if __name__ == "__main__":
    _FILE.write_text(json.dumps(measure(), separators=(",", ":")).replace('],"', '],\n"') + "\n")
