"""Perplexity of texts under a KenLM model (Heafield 2011, "KenLM: faster and smaller language model queries").

ARPA files and binaries of type ``probing`` are looked up by our kernel, which gives KenLM's scores to the bit; the
kenlm library scores with what that does not read: tries, quantised binaries, compressed or unusual ARPA files. A binary
stays in its file, whose pages all processes share; an ARPA file, or what is to be quantised, is packed in memory.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from itertools import chain
from typing import NamedTuple

import kenlm
import numpy as np
import pyarrow as pa

from pipeline import MillError
from pipeline.stages.perplexity import arpa_reader, ccnet, lookup, packed, tables
from pipeline.store import files, model_files
from pipeline.text.sentence_folding import sentences

#: Sentences that are Python strings at the same time.
_BATCH = 1 << 16


class Scorer(NamedTuple):
    """The files that texts are scored with: a KenLM model (ARPA or binary) and, if it is one of pieces, as CCNet's are,
    its SentencePiece model; ``quantised``: probabilities and backoffs as codes of 8 bits (``packed``), unless the kenlm
    library scores."""

    model: str
    sentencepiece: str | None = None
    quantised: bool = False


def perplexity(texts: pa.StringArray, model_path: str, quantised: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """``(perplexity float64 [n], tokens int64 [n])`` of each text, NaN and 0 for one without a sentence.

    10 ** (-log10 P / tokens), where P is the product of the probabilities of the text's sentences, each with its end,
    and the ends count as tokens: CCNet's definition. ``model_path`` is an ARPA file or a KenLM binary, ``quantised`` as
    ``Scorer`` has it.
    """
    lines, words, first = sentences(texts)
    scores = _model(model_path, model_files.digest(model_path), quantised)(lines)
    text = np.repeat(np.arange(len(texts)), np.diff(first))
    total = np.bincount(text, scores, len(texts))
    tokens = np.bincount(text, words + 1, len(texts)).astype(np.int64)
    with np.errstate(invalid="ignore"):
        return 10 ** (-total / tokens), tokens


def piece_perplexity(
    texts: pa.StringArray, model_path: str, pieces_path: str, quantised: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """The same of texts as CCNet scores them: each is one sentence, of the pieces of the normalised text."""
    model = _model(model_path, model_files.digest(model_path), quantised)
    scores, tokens = np.zeros(len(texts)), np.zeros(len(texts), np.int64)
    text = 0
    for batch in ccnet.pieces(texts, pieces_path):
        part = slice(text, text + len(batch))
        tokens[part] = [len(pieces) + 1 if pieces else 0 for pieces in batch]
        scores[part] = model(pa.array([" ".join(pieces) for pieces in batch], pa.string())) * (tokens[part] > 0)
        text += len(batch)
    with np.errstate(invalid="ignore"):
        return 10 ** (-scores / tokens), tokens


def score(texts: pa.StringArray, scorer: Scorer) -> tuple[np.ndarray, np.ndarray]:
    """``perplexity`` or ``piece_perplexity``, as the model wants it."""
    if scorer.sentencepiece is None:
        return perplexity(texts, scorer.model, scorer.quantised)
    return piece_perplexity(texts, scorer.model, scorer.sentencepiece, scorer.quantised)


@cache
def _model(path: str, _digest: str, quantised: bool) -> Callable[[pa.StringArray], np.ndarray]:
    """What gives the log10 probability of each line, float64. Loaded once a process."""
    files.check(path)
    if model := tables.open_binary(path):
        return partial(lookup.log10, model=(quantised and packed.pack(model, quantised)) or model)
    if model := arpa_reader.read(path):
        return partial(lookup.log10, model=packed.pack(model, quantised) or model)
    return partial(_by_kenlm, _kenlm_model(path))


def _by_kenlm(model: kenlm.Model, lines: pa.StringArray) -> np.ndarray:
    batches = (lines.slice(start, _BATCH).to_pylist() for start in range(0, len(lines), _BATCH))
    return np.fromiter(map(model.score, chain.from_iterable(batches)), np.float64, len(lines))


def _kenlm_model(path: str) -> kenlm.Model:
    config = kenlm.Config()
    config.show_progress = False
    config.arpa_complain = kenlm.ARPALoadComplain.NONE
    try:
        return kenlm.Model(path, config)
    except OSError as error:
        said = str(error.__cause__ or error).partition(" threw ")[2] or str(error)
        raise MillError(
            f"{path}: not a language model that KenLM reads: an ARPA file (it begins with \\data\\ and ends with "
            f"\\end\\) of order 2 to 6, or a KenLM binary. It said: {said[:200]}"
        ) from error
