"""Parity-aware BPE against a plain loop, and in a build."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pyarrow as pa
import pytest

from pipeline import MillError
from pipeline.store import files
from pipeline.tokenization.config import TokenizerConfig
from pipeline.tokenization.encoding.encode import Encoder
from pipeline.tokenization.formats import export
from pipeline.tokenization.report import gini
from pipeline.tokenization.training import counts, train
from tests.pipeline.tokenization.conftest import StandIn, documents, make_build, run

TEXTS = {
    "large": ["low lower lowest newest widest the end of the line"] * 30,
    "other": ["être naïve été élève près"] * 3,
    "small": ["計算機 計算 機械 学習"] * 2,
}
PLAIN = TokenizerConfig(name="plain", algorithm="bpe", vocab_size=310)
ALIKE = TokenizerConfig(name="alike", algorithm="bpe", vocab_size=310, parity={"by": "domain"})  # type: ignore[arg-type]


def counted(texts: dict[str, list[str]]) -> dict[str, pa.Table]:
    return {name: counts.count(pa.array(part, pa.large_string()), PLAIN) for name, part in texts.items()}


def test_the_worst_group_chooses_its_most_frequent_pair() -> None:
    vocabulary, chosen = train.train_alike(counted(TEXTS), ALIKE)
    letters = export.byte_alphabet()
    text = {
        name: {
            tuple(letters[byte] for byte in word.encode()): times
            for word, times in zip(table["word"].to_pylist(), table["count"].to_pylist(), strict=True)
        }
        for name, table in counted(TEXTS).items()
    }
    units = {name: sum(map(len, part)) for name, part in TEXTS.items()}
    ids = {piece: at for at, piece in enumerate(vocabulary.pieces[: 1 + 256])}
    expected: list[tuple[str, str]] = []
    mine: Counter[str] = Counter()
    waiting = sorted(text)
    while len(ids) < 310 and waiting:
        tokens = {name: sum(len(word) * times for word, times in part.items()) for name, part in text.items()}
        worst = min(waiting, key=lambda name: units[name] / tokens[name])
        found: Counter[tuple[str, str]] = Counter()
        for word, times in text[worst].items():
            for both in pairwise(word):
                found[both] += times
        best = min(found, key=lambda both: (-found[both], ids[both[0]], ids[both[1]]), default=None)
        if best is None or found[best] < 2:
            waiting.remove(worst)
            continue
        expected.append(best)
        mine[worst] += 1
        ids.setdefault("".join(best), len(ids))
        text = {name: {merged(word, best): times for word, times in part.items()} for name, part in text.items()}
    assert vocabulary.merges == expected
    assert {name: count for name, count in chosen.items() if count} == mine
    assert set(mine) == set(TEXTS)


def merged(word: tuple[str, ...], pair: tuple[str, str]) -> tuple[str, ...]:
    made: list[str] = []
    for part in word:
        if made and (made[-1], part) == pair:
            made[-1] += part
        else:
            made.append(part)
    return tuple(made)


def test_with_parallel_lines_the_groups_come_out_alike() -> None:
    tables = counted(TEXTS)
    lines = {name: (table, 1) for name, table in counted({name: part[:1] for name, part in TEXTS.items()}).items()}
    made = {
        "plain": train.train(counts.merge(tables.values()), PLAIN),
        "alike": train.train_alike(tables, ALIKE, lines)[0],
    }
    unequal = {}
    for name, vocabulary in made.items():
        encoder = Encoder(export.to_tokenizer(vocabulary, PLAIN))
        sizes = [sum(len(b.tokens) for b in encoder.encode(pa.array(part[:1]))) for part in TEXTS.values()]
        unequal[name] = gini(sizes)
    assert unequal["alike"] < 0.2 * unequal["plain"]


def test_in_a_build_order_has_no_say_and_a_group_without_parallel_lines_is_named(tmp_path) -> None:
    recipe = StandIn(tokenizers=[ALIKE])
    one = make_build(tmp_path / "one", recipe, shard_count=2)
    two = make_build(tmp_path / "two", recipe, shard_count=3, rows=documents()[::-1])
    for build in (one, two):
        run(build)
    digests = [files.file_digest(build.path("tokenizers", "alike", "tokenizer.json")) for build in (one, two)]
    assert digests[0] == digests[1]
    assert set(files.read_json(one.path("tokenizers", "alike", "manifest.json"))["chosen_by"]) == {"even", "odd"}
    assert all(outcome.reused for outcomes in run(one).values() for outcome in outcomes)
    (tmp_path / "lines.tsv").write_text("even\tlow lower\n", encoding="utf-8")
    parallel = {"by": "domain", "parallel": str(tmp_path / "lines.tsv")}
    asked = TokenizerConfig.model_validate({**ALIKE.model_dump(), "parity": parallel})
    with pytest.raises(MillError, match="no line of odd"):
        run(make_build(tmp_path / "one", StandIn(tokenizers=[asked]), shard_count=2))


def test_gini() -> None:
    assert gini([3, 3, 3]) == 0
    assert gini([0, 0, 0, 1]) == pytest.approx(0.75)
