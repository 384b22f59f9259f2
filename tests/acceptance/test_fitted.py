"""Best-fit packing on the lengths of real documents."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from pipeline.store import packed_tokens
from pipeline.tokenization import pack
from pipeline.tokenization.encoding.encode import Encoder
from pipeline.tokenization.formats import references
from training.batches.best_fit import FittedOrder
from training.batches.windows import Layout

END = 50_256


def write(folder: Path, shared: Path, rows: list[tuple[str, str]], shard_count: int) -> packed_tokens.PackedTokens:
    encoder = Encoder(references.load(str(shared / "models" / "gpt2")))
    domains, texts = zip(*rows, strict=True)
    table = pa.table(
        {
            "id": [f"d{i}" for i in range(len(rows))],
            "text": pa.array(texts),
            "domain": pa.array(domains),
            "repeats": pa.array([1] * len(rows), pa.int32()),
        }
    )
    size = -(-len(rows) // shard_count)
    for index in range(shard_count):
        pack.pack_shard(str(folder), index, table.slice(index * size, size), encoder, END, "x")
    packed_tokens.write_manifest(str(folder), list(range(shard_count)), encoder.vocab_size, {"eos": END}, "x")
    return packed_tokens.PackedTokens(str(folder))


@pytest.fixture(scope="module")
def both(shared, tmp_path_factory) -> tuple[packed_tokens.PackedTokens, packed_tokens.PackedTokens]:
    """Up to 1.5 MB of whole documents of each domain, packed in one shard and in five."""
    rows = []
    for path in sorted(shared.glob("prose/*/*.jsonl.gz")):
        left = 1_500_000
        with gzip.open(path, "rt", encoding="utf-8", newline="\n") as stream:
            for line in stream:
                text = json.loads(line)["text"]
                rows.append((path.parent.name, text))
                left -= len(text)
                if left < 0:
                    break
    folder = tmp_path_factory.mktemp("fitted")
    return write(folder / "one", shared, rows, 1), write(folder / "five", shared, rows, 5)


@pytest.mark.parametrize("length", [512, 1024])
def test_padding_stays_below_one_percent(both, length):
    order = FittedOrder(both[0], Layout(), length, seed=1)
    assert order.tokens_per_epoch == len(both[0])
    assert order.windows_per_epoch > 1000  # as much text as says something
    assert 0 <= order.padding < 0.01


def test_windows_do_not_depend_on_the_number_of_shards(both):
    one, five = (FittedOrder(tokens, Layout(), 512, seed=1) for tokens in both)
    assert one.windows_per_epoch == five.windows_per_epoch
    positions = np.arange(0, 2 * one.windows_per_epoch, 17)
    for a, b in zip(vars(one.read(positions)).values(), vars(five.read(positions)).values(), strict=True):
        assert np.array_equal(a, b)
