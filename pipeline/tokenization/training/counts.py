"""How often each pre-token occurs in the corpus: exact, 64-bit, and all that a trainer needs to know of the text.

Counting is a map over shards; each table of counts is sorted by hash partition, so that partition p of the corpus is
the sum of the shards' partitions p, made on its own. Memory grows with the distinct pre-tokens of one shard, or of one
partition, never with the corpus. The result depends on the texts only: not on shards, order or workers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy import uint64
from tokenizers.normalizers import Normalizer

from pipeline.text.buffers import give_back, text_buffers
from pipeline.text.jit import njit
from pipeline.text.kernels import borrow, text_data
from pipeline.tokenization import character_classes
from pipeline.tokenization.config import TokenizerConfig
from pipeline.tokenization.encoding import normalise, pretokenize, spantable
from pipeline.tokenization.formats import export
from pipeline.tokenization.training import wordtable

VERSION = 1
PARTITIONS = 16
#: ``word`` is a pre-token after normalisation; its partition is the top of its hash.
COUNTS_SCHEMA = pa.schema(
    [
        pa.field("partition", pa.uint8(), nullable=False),
        pa.field("word", pa.large_string(), nullable=False),
        pa.field("count", pa.int64(), nullable=False),
    ]
)
_KINDS = {
    "gpt2": pretokenize.GPT2,
    "gpt2_marks": pretokenize.GPT2,
    "gpt4": pretokenize.GPT4,
    "bert": pretokenize.BERT,
    "whitespace": pretokenize.WORDS,
    "metaspace": pretokenize.WORDS,
}
_BLOCK = 1 << 18  # bytes of text whose spans are held at once: what stays in the cache
_ONCE = np.zeros(0, np.int64)


def counting_part(config: TokenizerConfig) -> dict[str, object]:
    """What of a tokenizer's config its counts depend on; tokenizers that agree here share them."""
    fields = {"pre_tokenizer", "normalizer", "lowercase", "strip_accents", "split_digits", "split_cjk", "split_scripts"}
    fields |= {"remove_extra_whitespaces", "add_dummy_prefix"}
    return config.model_dump(mode="json", include=fields)


def count(texts: pa.StringArray | pa.LargeStringArray, config: TokenizerConfig) -> pa.Table:
    """COUNTS_SCHEMA: the pre-tokens of ``texts``, sorted by partition and word.

    Where words are cut at white space (BERT, Metaspace, whitespace), each distinct word is normalised once, because
    normalisation never reaches across a space; GPT's patterns look at neighbours, so there each text is.
    """
    normalizer = export.normalizer(config)
    kind = _KINDS[config.pre_tokenizer or ""]
    bits = character_classes.table(tuple(config.split_scripts), config.pre_tokenizer == "gpt2_marks")
    single = alone(config)
    if config.byte_level:
        if normalizer is not None:
            texts, _ = normalise.normalise(texts, normalizer)
        return _table(*_tally(texts, None, kind, single, bits))
    if config.pre_tokenizer == "metaspace" and not (config.remove_extra_whitespaces and config.add_dummy_prefix):
        if normalizer is not None:
            texts, _ = normalise.normalise(texts, normalizer)
        return _table(*_tally_spaced(texts, config, single))
    raw = pretokenize.BERT_MARKS if kind == pretokenize.BERT else pretokenize.WORDS
    words, weights = _tally(texts, None, raw, np.uint8(0), bits)
    words = _normalise(words, normalizer, config)
    if config.pre_tokenizer == "metaspace":
        whole = _plain(words, character_classes.SPACE)  # the others may have got spaces, or lost all that they had
        kept = whole.to_numpy(zero_copy_only=False)
        others = pc.replace_substring(words.filter(pc.invert(whole)), "▁", " ")
        others, repeats = _tally(others, weights[~kept], kind, np.uint8(0), bits)
        words = pa.concat_arrays([words.filter(whole), others])
        weights = np.concatenate((weights[kept], repeats))
        mark, nothing = (pa.scalar(part, pa.large_string()) for part in ("▁", ""))
        words = pc.binary_join_element_wise(mark, words, nothing)
    return _table(*_tally(words, weights, kind, single, bits))


def _tally_spaced(
    texts: pa.Array, config: TokenizerConfig, alone: int | np.uint8
) -> tuple[pa.LargeStringArray, np.ndarray]:
    """As ``_tally`` for Metaspace where white space is kept, or a text's first word is not marked."""
    bits = character_classes.marked_table(tuple(config.split_scripts))
    kind, gaps = pretokenize.SPACED, " "
    if config.remove_extra_whitespaces:
        kind, gaps = pretokenize.GAPPED, "".join(map(chr, np.flatnonzero(bits & character_classes.SPACE)))
    elif config.add_dummy_prefix:
        texts = normalise.prefixed(texts)
    words, weights = _tally(texts, None, kind, np.uint8(0), bits)
    bare = pc.utf8_ltrim(words, characters=gaps)
    mark, nothing = (pa.scalar(part, pa.large_string()) for part in ("▁", ""))
    marked = pc.binary_join_element_wise(mark, bare, nothing)
    words = pc.if_else(pc.equal(bare, words), words, marked)
    return _tally(words, weights, pretokenize.SPACED, alone, bits)


def alone(config: TokenizerConfig) -> np.uint8:
    """The classes of which every character is a pre-token of its own."""
    return np.uint8(
        config.split_digits * character_classes.DIGIT
        | config.split_cjk * character_classes.CJK
        | bool(config.split_scripts) * character_classes.SCRIPT
    )


def merge(tables: Iterable[pa.Table]) -> pa.Table:
    """The sum of tables of counts, sorted by partition and word; held: the distinct words and one of ``tables``."""
    total = wordtable.empty(1 << 12)
    for batch in chain.from_iterable(table.to_batches() for table in tables):
        data, offsets = text_buffers(batch["word"])
        weights = np.array(batch["count"])  # a copy: kernels are compiled once more for arrays that are read-only
        total = wordtable.add(text_data(data), offsets[:-1], offsets[1:], weights, total)
    return as_table(total)


def as_table(total: wordtable.WordTable) -> pa.Table:
    """COUNTS_SCHEMA: what was counted, sorted by partition and word."""
    return _table(*_contents(total))


def partition(table: pa.Table, index: int) -> pa.Table:
    """The rows of one partition of a sorted table of counts, without a copy."""
    column = table["partition"].to_numpy()
    start, end = np.searchsorted(column, [index, index + 1])
    return table.slice(start, end - start)


def _table(words: pa.LargeStringArray, counts: np.ndarray) -> pa.Table:
    partitions, beginnings = _sort_keys(*text_buffers(words))
    order = np.argsort(beginnings)
    order = order[np.argsort(partitions[order], kind="stable")]
    partitions, beginnings = partitions[order], beginnings[order]
    same = (beginnings[1:] == beginnings[:-1]) & (partitions[1:] == partitions[:-1])
    if same.any():  # of the words that begin alike, each run is sorted by all its bytes
        alike = np.flatnonzero(np.append(same, False) | np.append(False, same))
        run = np.append(0, np.cumsum(~same))[alike]
        rows = pa.table({"run": run, "word": words.take(pa.array(order[alike]))})
        order[alike] = order[alike][pc.sort_indices(rows, [("run", "ascending"), ("word", "ascending")])]
    columns = [pa.array(partitions), words.take(pa.array(order)), pa.array(counts[order])]
    give_back()  # else each thread that counts keeps what sorting has freed
    return pa.Table.from_arrays(columns, schema=COUNTS_SCHEMA)


def _normalise(words: pa.Array, normalizer: Normalizer | None, config: TokenizerConfig) -> pa.Array:
    """Each of ``words`` normalised by the engine itself; ASCII takes a short cut."""
    if normalizer is None or len(words) == 0:
        return words
    plain = _plain(
        words, character_classes.CONTROL if config.pre_tokenizer == "bert" else 0
    )  # which BERT's also removes
    lowered = pc.ascii_lower(words) if config.lowercase else words
    rest = words.filter(pc.invert(plain))
    changed = pa.array([normalizer.normalize_str(word.as_py()) for word in rest], words.type)
    return pc.replace_with_mask(lowered, pc.invert(plain), changed)


def _plain(words: pa.Array, outside: int | np.uint8) -> pa.BooleanArray:
    """Which of ``words`` are not empty and of ASCII characters in none of the classes ``outside``."""
    members = np.zeros(256, bool)
    members[:128] = character_classes.table()[:128] & outside == 0
    data, offsets = text_buffers(words)
    return pa.array(_all_of(text_data(data), offsets, members))


def blocks(offsets: np.ndarray) -> Iterator[tuple[int, int]]:
    """Ranges of texts that hold about ``_BLOCK`` bytes each."""
    first, last = 0, len(offsets) - 1
    while first < last:
        stop = max(first + 1, int(np.searchsorted(offsets, offsets[first] + _BLOCK, "right")) - 1)
        yield first, min(stop, last)
        first = stop


def _tally(
    texts: pa.Array, weights: np.ndarray | None, kind: int, alone: int | np.uint8, bits: np.ndarray
) -> tuple[pa.LargeStringArray, np.ndarray]:
    """The distinct pre-tokens of ``texts`` and int64 counts; text i counts ``weights[i]`` times (None: once).

    ``bits`` is a table of classes.
    """
    data, offsets = text_buffers(texts)
    repeats = _ONCE if weights is None else weights
    return _contents(
        wordtable.add_texts(text_data(data), offsets, bits, kind, alone, repeats, wordtable.empty(1 << 12))
    )


def _contents(table: wordtable.WordTable) -> tuple[pa.LargeStringArray, np.ndarray]:
    """The words of ``table`` and their counts, int64."""
    data, offsets, counts = wordtable.contents(table)
    return pa.LargeStringArray.from_buffers(len(counts), pa.py_buffer(offsets), pa.py_buffer(data)), counts


@njit(cache=True, nogil=True)
def _all_of(data: np.ndarray, offsets: np.ndarray, members: np.ndarray) -> np.ndarray:
    """bool a text: whether it has bytes and all are ``members`` (bool [256])."""
    all_of = offsets[1:] > offsets[:-1]
    for i in range(len(all_of)):
        for at in range(offsets[i], offsets[i + 1]):
            if not members[data[at]]:
                all_of[i] = False
                break
    return all_of


@njit(cache=True, nogil=True)
def _sort_keys(data: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each word's partition (uint8), and its first eight bytes as a number that sorts as they do (uint64)."""
    partitions, beginnings = np.empty(len(offsets) - 1, np.uint8), np.empty(len(offsets) - 1, np.uint64)
    for i in range(len(partitions)):
        start, end = offsets[i], offsets[i + 1]
        partitions[i] = spantable.hash_span(borrow(data), start, end) >> uint64(60)
        beginning = uint64(0)
        for k in range(8):
            byte = uint64(data[start + k]) if start + k < end else uint64(0)
            beginning = (beginning << uint64(8)) | byte
        beginnings[i] = beginning
    return partitions, beginnings
