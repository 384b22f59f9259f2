"""Language models as ARPA files, the text format that KenLM, SRILM and others read.

Logarithms to base 10 with six decimals, as ``lmplz`` gives them in single precision.
"""

from __future__ import annotations

from typing import IO

import numpy as np

from pipeline.stages.perplexity.kneser_ney import Model
from pipeline.text.buffers import text_buffers
from pipeline.text.jit import njit

#: Stands for the logarithm of 0, as in SRILM.
LOG_ZERO = -99.0
_DECIMALS = 6
_LONGEST_NUMBER = 4 + _DECIMALS  # -99.000000
_BATCH = 1 << 14


def write(model: Model, handle: IO[bytes]) -> None:
    """Write ``model`` to ``handle``. The same model gives the same bytes."""
    counts = "".join(f"ngram {k}={len(grams.probability)}\n" for k, grams in enumerate(model.grams, 1))
    handle.write(f"\\data\\\n{counts}\n".encode())
    data, offsets = text_buffers(model.vocabulary)
    longest = int(np.diff(offsets).max())
    for k, (words, probability, backoff, _) in enumerate(model.grams, 1):
        handle.write(f"\\{k}-grams:\n".encode())
        buffer = np.empty(_BATCH * (2 * _LONGEST_NUMBER + 2 + k * (longest + 1)), np.uint8)
        values = np.stack([_fixed(probability), _fixed(backoff)])
        for start in range(0, len(words), _BATCH):
            part = slice(start, start + _BATCH)
            used = _lines(words[part], values[:, part], k < len(model.grams), data, offsets, buffer)
            handle.write(buffer[:used].data)
        handle.write(b"\n")
    handle.write(b"\\end\\\n")


def _fixed(values: np.ndarray) -> np.ndarray:
    """int64: minus the logarithms of ``values`` in [0, 1], in units of the last decimal."""
    with np.errstate(divide="ignore"):
        logarithms = np.clip(np.log10(values), LOG_ZERO, 0)
    return np.rint(-logarithms * 10**_DECIMALS).astype(np.int64)


@njit(cache=True, nogil=True)
def _lines(words, values, with_backoff, data, offsets, out):
    """Writes one line an n-gram to ``out``; returns the number of bytes."""
    at = 0
    for i in range(len(words)):
        at = _number(values[0, i], out, at)
        for j in range(words.shape[1]):
            out[at] = 9 if j == 0 else 32
            at += 1
            for source in range(offsets[words[i, j]], offsets[words[i, j] + 1]):
                out[at] = data[source]
                at += 1
        if with_backoff:
            out[at] = 9
            at = _number(values[1, i], out, at + 1)
        out[at] = 10
        at += 1
    return at


@njit(cache=True, nogil=True)
def _number(units, out, at):
    """Writes ``-units / 10**_DECIMALS``; returns where the next byte goes."""
    if units == 0:
        out[at] = 48
        return at + 1
    out[at] = 45
    at += 1
    whole, part = units // 10**_DECIMALS, units % 10**_DECIMALS
    if whole >= 10:
        out[at] = 48 + whole // 10
        at += 1
    out[at] = 48 + whole % 10
    out[at + 1] = 46
    at += 2
    for digit in range(_DECIMALS - 1, -1, -1):
        out[at + digit] = 48 + part % 10
        part //= 10
    return at + _DECIMALS
