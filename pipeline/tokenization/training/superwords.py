"""Superwords: pieces that reach across the spaces between words (SuperBPE: Liu 2025), from exact counts of the corpus.

The first stage is ordinary BPE, whose pieces end with their word. The second goes on with its tokens, in text that is
no longer cut at single spaces between words; punctuation, digits and newlines still cut it. No piece has more than so
many words.

The second stage needs no text, only how often sequences of words occur. Two words that stand side by side too seldom to
be among the _KEPT times as many pairs of words as there are superwords to learn cannot become one; the text is cut
there. What is between the cuts are short sequences, of which few differ, and that are counted as pre-tokens are: by
shard, then by partition, in bounded memory. On these counts BPE goes on to merge.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.text.buffers import text_buffers
from pipeline.text.jit import njit
from pipeline.text.kernels import text_data
from pipeline.tokenization import alphabet, character_classes
from pipeline.tokenization.config import SuperwordsConfig, TokenizerConfig
from pipeline.tokenization.encoding import normalise, pretokenize, segment
from pipeline.tokenization.formats import export
from pipeline.tokenization.formats.export import Vocabulary
from pipeline.tokenization.training import bpe, counts, merges, wordtable

VERSION = 1
_KEPT = 8
#: Bytes of sequences that are learned from, at most: of more, the rarest are left out.
_MOST = 400_000_000
_SPACE = np.uint8(32)


def first_stage(config: TokenizerConfig) -> TokenizerConfig:
    """The tokenizer of the first stage: ordinary BPE with its share of the vocabulary."""
    own = _asked(config)
    learned = max(0, alphabet.room(config) - 256)
    return config.model_copy(update={"superwords": None, "vocab_size": config.vocab_size - int(learned * own.share)})


def _asked(config: TokenizerConfig) -> SuperwordsConfig:
    assert config.superwords is not None  # who calls has looked
    return config.superwords


def count_neighbours(texts: pa.StringArray | pa.LargeStringArray, config: TokenizerConfig) -> pa.Table:
    """counts.COUNTS_SCHEMA of two words with the space between them, in ``texts``."""
    return _counted(texts, config, None)


def count_sequences(
    texts: pa.StringArray | pa.LargeStringArray, config: TokenizerConfig, neighbours: pa.Table
) -> pa.Table:
    """counts.COUNTS_SCHEMA of what is between the cuts: all but single spaces between ``neighbours`` cut."""
    known = wordtable.empty(1 << 12)
    for batch in neighbours.to_batches():
        data, offsets = text_buffers(batch["word"])
        known = wordtable.add(text_data(data), offsets[:-1], offsets[1:], np.zeros(0, np.int64), known)
    return _counted(texts, config, known)


def _counted(
    texts: pa.StringArray | pa.LargeStringArray, config: TokenizerConfig, known: wordtable.WordTable | None
) -> pa.Table:
    normalizer = export.normalizer(config)
    if normalizer is not None:
        texts, _ = normalise.normalise(texts, normalizer)
    bits = character_classes.table(tuple(config.split_scripts))
    alone = counts.alone(config)
    data, offsets = text_buffers(texts)
    data = text_data(data)
    table = wordtable.empty(1 << 12)
    for first, stop in counts.blocks(offsets):
        starts, ends, _ = pretokenize.cut_all(data, offsets[first : stop + 1], bits, pretokenize.SUPER, alone)
        if known is None:
            starts, ends = _neighbours(data, starts, ends)
        else:
            starts, ends = _sequences(data, starts, ends, known.short, known.long, known.words)
        table = wordtable.add(data, starts, ends, np.zeros(0, np.int64), table)
    return counts.as_table(table)


def frequent(tables: Iterable[pa.Table], config: TokenizerConfig) -> pa.Table:
    """Of the merged counts of neighbours those that may become superwords, the most frequent ones: word and count.

    Pairs that occur equally often are all there or none is.
    """
    wanted = _KEPT * (config.vocab_size - first_stage(config).vocab_size)
    kept = counts.COUNTS_SCHEMA.empty_table().select(["word", "count"])
    for table in tables:
        kept = pa.concat_tables([kept, table.select(["word", "count"])])
        if len(kept) > wanted:
            least = int(np.partition(kept["count"].to_numpy(), -wanted)[-wanted])
            kept = kept.filter(pc.greater_equal(kept["count"], least))
    return kept.filter(pc.greater_equal(kept["count"], config.min_frequency)).sort_by("word")


def sequences(tables: Iterable[pa.Table]) -> tuple[pa.Table, int]:
    """The merged counts of sequences as one table: all, or above _MOST bytes without the rarest; and how many times
    those that were left out stand in the text."""
    kept = counts.COUNTS_SCHEMA.empty_table()
    least, total = 1, 0
    for table in tables:
        total += pc.sum(table["count"]).as_py() or 0
        kept = pa.concat_tables([kept, table.filter(pc.greater_equal(table["count"], least))])
        while pc.sum(pc.binary_length(kept["word"])).as_py() > _MOST:
            least += 1
            kept = kept.filter(pc.greater_equal(kept["count"], least))
    return kept.combine_chunks(), total - (pc.sum(kept["count"]).as_py() or 0)


def several(tokenizer: dict[str, Any]) -> list[str]:
    """The pieces of a byte-level tokenizer.json that hold more than one word, as text, in the order of their ids."""
    pieces = tokenizer["model"]["vocab"]
    return [piece.replace("Ġ", " ") for piece in pieces if "Ġ" in piece[1:] and piece.strip("Ġ")]


def learn(vocabulary: Vocabulary, table: pa.Table, config: TokenizerConfig) -> Vocabulary:
    """``vocabulary`` of the first stage with the superwords that ``sequences``'s ``table`` gives."""
    reserved = len(alphabet.fixed(config))
    model = segment.model_of(_content(vocabulary), False, True, False, False)
    assert model is not None  # byte-level BPE is known
    order = np.argsort(table["count"].to_numpy(), kind="stable")
    words = table["word"].combine_chunks().take(pa.array(order))
    data, offsets = text_buffers(words)
    ids, lengths = segment.segment(text_data(data), offsets, model)
    known = lengths >= 0  # not longer than a kernel takes
    bounds = np.concatenate([[0], np.cumsum(lengths[known])]).astype(np.int64)
    symbols = (ids.astype(np.int64) - reserved).astype(np.int32)
    linked = merges.link(symbols, bounds, table["count"].to_numpy()[order][known])
    letters = {letter: byte for byte, letter in enumerate(export.byte_alphabet())}
    parts = [bytes(letters[letter] for letter in piece) for piece in vocabulary.pieces[reserved:]]
    inner = np.array([not part.startswith(b" ") for part in parts], np.bool_)
    sizes = np.array([part.count(b" ") for part in parts], np.int32) + inner.astype(np.int32)
    piece_bounds = np.cumsum([0, *map(len, parts)])
    pieces = merges.collect_pieces(
        np.frombuffer(b"".join(parts), np.uint8), piece_bounds, sizes, inner, alphabet.room(config)
    )
    learned, pieces = bpe.learn(
        linked,
        pieces,
        alphabet.room(config),
        config.min_frequency,
        _asked(config).words,
        *alphabet.forbidden(config),
        np.int64(1),
    )
    raw, written = pieces.data.tobytes(), export.byte_alphabet()
    made = [raw[pieces.offsets[at] : pieces.offsets[at + 1]] for at in range(int(pieces.size[0]))]
    names = ["".join(written[byte] for byte in piece) for piece in made]
    more = [(names[left], names[right]) for left, right in learned.tolist()]
    return Vocabulary([*vocabulary.pieces[:reserved], *names], [*vocabulary.merges, *more])


def _content(vocabulary: Vocabulary) -> dict:
    """As much of a tokenizer.json as ``segment.model_of`` reads."""
    ids = {piece: index for index, piece in enumerate(vocabulary.pieces)}
    model = {"type": "BPE", "vocab": ids, "merges": vocabulary.merges, "unk_token": None, "ignore_merges": False}
    return {"model": {**model, "continuing_subword_prefix": None, "end_of_word_suffix": None}}


@njit(cache=True, nogil=True)
def _neighbours(data: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``(starts, ends)`` of all two words with one space between them, in spans of ``pretokenize.SUPER``."""
    room = 0
    for i in range(len(starts)):
        for at in range(starts[i] + 1, ends[i]):
            room += data[at] == _SPACE
    firsts, lasts = np.empty(room, np.int64), np.empty(room, np.int64)
    count = 0
    for i in range(len(starts)):
        word, space = starts[i], np.int64(-1)
        if data[word] == _SPACE:
            word += 1
        for at in range(word + 1, ends[i] + 1):
            if at == ends[i] or data[at] == _SPACE:
                if space >= 0:
                    firsts[count], lasts[count] = word, at
                    count += 1
                    word = space + 1
                space = at
    return firsts[:count], lasts[:count]


@njit(cache=True, nogil=True)
def _sequences(
    data: np.ndarray,
    starts: np.ndarray,
    ends: np.ndarray,
    short: np.ndarray,
    long: np.ndarray,
    words: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """The spans, cut before every space whose two words are not known, and before what the kernels of segment leave."""
    firsts, lasts = np.empty(len(starts) + 1024, np.int64), np.empty(len(starts) + 1024, np.int64)
    count = 0
    for i in range(len(starts)):
        opened, word, space = starts[i], starts[i], np.int64(-1)
        if data[word] == _SPACE:
            word += 1
        if count + (ends[i] - opened) > len(firsts):
            size = 2 * len(firsts) + (ends[i] - opened)
            firsts = np.concatenate((firsts, np.empty(size, np.int64)))
            lasts = np.concatenate((lasts, np.empty(size, np.int64)))
        for at in range(word + 1, ends[i] + 1):
            if at == ends[i] or data[at] == _SPACE:
                if space >= 0:
                    if at - opened > segment.LONGEST or not wordtable.holds(data, word, at - word, short, long, words):
                        firsts[count], lasts[count] = opened, space
                        count += 1
                        opened = space
                    word = space + 1
                space = at
        firsts[count], lasts[count] = opened, ends[i]
        count += 1
    return firsts[:count], lasts[:count]
