"""What is fuzzed: functions of bytes that raise if a guarantee does not hold for them."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import yaml

from pipeline import MillError
from pipeline.curation import recipe as recipes
from pipeline.sources import READERS
from pipeline.sources.base import Document, File, Rejected
from pipeline.sources.csv import Csv
from pipeline.sources.jsonl import Jsonl
from pipeline.sources.parquet import Parquet
from pipeline.sources.text import Text
from pipeline.sources.warc import Warc
from pipeline.stages.rules import expressions
from pipeline.tokenization.config import TokenizerConfig
from pipeline.tokenization.encoding.encode import Encoder
from pipeline.tokenization.formats import export
from pipeline.tokenization.training import counts, train
from tests.pipeline.text import test_hashing, test_shingles, test_spans, test_words

#: The first byte of an input chooses the format, the rest is the file.
FORMATS: list[tuple[str, Callable[..., Any]]] = [
    *((f"a.jsonl{packed}", Jsonl) for packed in ("", ".gz", ".zst", ".bz2", ".xz")),
    ("a.csv", Csv),
    ("a.tsv", Csv),
    ("a.txt", Text),
    ("a.parquet", Parquet),
    ("a.arrow", Parquet),
    ("a.warc", Warc),
    ("a.warc.gz", Warc),
    ("a.arc", Warc),
]
#: Processor time that a file of a few kilobytes may take.
_SECONDS = 10.0
_FOLDER = tempfile.TemporaryDirectory(prefix="fuzz-")


def readers(data: bytes) -> None:
    """Whatever a file holds, reading it ends soon, and gives documents with ids of their own, or says why not."""
    name, config = FORMATS[data[0] % len(FORMATS) if data else 0]
    path = Path(_FOLDER.name, name)
    path.write_bytes(data[1:])
    source = config(name="s", path=[str(path)])
    began = time.process_time()
    try:
        found = list(READERS[source.kind].read(source, File(str(path), name, len(data) - 1)))
    except MillError as error:
        assert name in str(error), error  # noqa: PT017
        found = []
    assert time.process_time() - began < _SECONDS, "slow"
    ids = [row.id for row in found if isinstance(row, Document)]
    assert len(set(ids)) == len(ids), "an id twice"
    for row in found:
        if isinstance(row, Document):
            row.text.encode()
        if isinstance(row, Rejected):
            (row.reason + row.excerpt).encode()


def recipe(data: bytes) -> None:
    """A text is a recipe, which is the same once more when it is written and read, or is refused in words."""
    text = data.decode("utf-8", "replace")
    try:
        read = recipes.parse(text, recipes.Recipe)
    except MillError:
        return
    written = yaml.safe_dump(read.model_dump(mode="json"))
    assert recipes.parse(written, recipes.Recipe) == read


SIGNALS = {
    "words": pa.array([1, None, 30, 0, -7], pa.int64()),
    "share": pa.array([0.5, 0.0, None, float("inf"), 1e300]),
    "domain": pa.array(["news", "", None, "wiki", "é"]),
}


def expression(data: bytes) -> None:
    """A text is a condition, which a row meets or not whatever rows stand beside it, or is refused in words."""
    text = data.decode("utf-8", "replace")
    try:
        tree = expressions.parse(text)
        expressions.check(tree, {name: values.type for name, values in SIGNALS.items()})
    except MillError:
        return
    whole = expressions.holds(tree, SIGNALS).to_pylist()
    alone = [
        expressions.holds(tree, {name: values.slice(row, 1) for name, values in SIGNALS.items()}).to_pylist()
        for row in range(5)
    ]
    assert [[value] for value in whole] == alone
    assert expressions.canonical(expressions.parse(expressions.canonical(tree))) == expressions.canonical(tree)


_ENCODERS = {
    "gpt2": {"algorithm": "bpe"},
    "marks": {"algorithm": "bpe", "pre_tokenizer": "gpt2_marks"},
    "gpt4": {"algorithm": "bpe", "pre_tokenizer": "gpt4", "normalizer": "nfkc", "split_digits": True},
    "bert": {"algorithm": "wordpiece"},
    "unigram": {"algorithm": "unigram", "byte_fallback": True},
    "metaspace": {"algorithm": "bpe", "pre_tokenizer": "metaspace", "byte_fallback": True},
}


@cache
def _tokenizers() -> dict[str, tuple[Any, Encoder]]:
    texts = pa.array(["the lowest of the newer words, un widest 12345 naïve 計算机 être 😀.\n" * 9])
    made = {}
    for name, options in _ENCODERS.items():
        config = TokenizerConfig.model_validate({"name": name, "vocab_size": 400, **options})
        tokenizer = export.to_tokenizer(train.train(counts.count(texts, config), config), config)
        tokenizer.encode_special_tokens = True
        made[name] = tokenizer, Encoder(tokenizer)
    return made


def encoders(data: bytes) -> None:
    """The compiled encoders give the ids of `tokenizers`."""
    text = data.decode("utf-8", "ignore")
    for name, (tokenizer, encoder) in _tokenizers().items():
        (block,) = encoder.encode(pa.array([text], pa.string()))
        expected = tokenizer.encode(text, add_special_tokens=False).ids
        assert np.array_equal(block.tokens, expected), name


_KERNELS: list[Any] = [
    test_words.test_words_are_the_text_without_its_whitespace,
    test_words.test_words_do_not_depend_on_the_runs_around_them,
    test_words.test_each_word_is_described,
    test_spans.test_cut_removes_exactly_the_bytes_in_the_ranges,
    test_spans.test_merge_is_the_union_sorted_disjoint_and_as_short_as_possible,
    test_spans.test_lifted_ranges_cut_the_original_as_they_cut_the_edited_text,
    test_hashing.test_document_hash_is_xxh64,
    test_shingles.test_shingle_sets_are_the_distinct_hashes_of_the_definition,
    test_shingles.test_words_of_latin_text_are_those_of_the_usual_regular_expression,
]


def kernels(data: bytes) -> None:
    """Kernels do what their plain oracles do: one of the tests with random input, whose draws are ``data``."""
    if data:
        _KERNELS[data[0] % len(_KERNELS)].hypothesis.fuzz_one_input(data[1:])


TARGETS: dict[str, Callable[[bytes], None]] = {
    "readers": readers,
    "recipe": recipe,
    "expression": expression,
    "encoders": encoders,
    "kernels": kernels,
}
