"""word2vec by fastText's trainer without subwords: continuous bag of words and skip-gram with negative sampling.

Mikolov et al. 2013a, 2013b. Noise is drawn with f^(3/4), frequent words are thinned out by the threshold ``t``, the
window of each word is drawn between 1 and its full size. One thread, because more would race and differ every time.
With one thread fastText draws first values for a tenth of its vectors only and leaves the rest to what the memory held,
so it gets them all from us.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import fasttext
import numpy as np

from pipeline import MillError
from training.batches import random_streams

#: fastText cuts longer lines itself, in the middle of nothing in particular.
_LINE = 1000


def train(
    documents: Iterable[tuple[np.ndarray, np.ndarray]],
    words: Sequence[str],
    *,
    skipgram: bool,
    dimensions: int,
    window: int,
    epochs: int,
    negatives: int,
    rate: float,
    thinning: float,
    seed: int,
) -> np.ndarray:
    """Vectors float32 [len(words), dimensions]. ``documents`` are blocks of (places of words or -1, bounds).

    Unknown words are left out of the text, as in word2vec. A word that fastText did not see has the vector 0.
    """
    with tempfile.TemporaryDirectory() as folder:
        text = Path(folder, "words.txt")
        with text.open("w", encoding="utf-8") as handle:
            for places, bounds in documents:
                for start, stop in itertools.pairwise(bounds):
                    known = [place for place in places[start:stop].tolist() if place >= 0]
                    for at in range(0, len(known), _LINE):
                        # numbers, so that no word can hold a space or be fastText's own </s>
                        handle.write(" ".join(map(str, known[at : at + _LINE])) + "\n")
        first = Path(folder, "first.vec")
        _write_first(first, len(words), dimensions, seed)
        try:
            model = fasttext.train_unsupervised(
                str(text),
                model="skipgram" if skipgram else "cbow",
                dim=dimensions,
                ws=window,
                epoch=epochs,
                neg=negatives,
                lr=rate,
                t=thinning,
                minCount=1,
                minn=0,
                maxn=0,
                thread=1,
                pretrainedVectors=str(first),
                verbose=0,
            )
        except RuntimeError as error:
            raise MillError(
                f"fastText: {error} Take a smaller learning_rate or, for little text, a larger thinning"
            ) from error
    vectors = np.zeros((len(words), dimensions), np.float32)
    for word in model.words:
        if word != "</s>":
            vectors[int(word)] = model.get_word_vector(word)
    return vectors


def _write_first(path: Path, count: int, dimensions: int, seed: int) -> None:
    """The first vectors, uniform within 1 / dimensions as in fastText: one for each word and one for </s>."""
    drawn = (2 * random_streams.generator("word2vec", seed).random((count + 1, dimensions)) - 1) / dimensions
    with path.open("w", encoding="utf-8") as handle:
        handle.write(f"{count + 1} {dimensions}\n")
        for name, vector in zip(["</s>", *map(str, range(count))], drawn, strict=True):
            handle.write(f"{name} {' '.join(f'{value:.6g}' for value in vector)}\n")
