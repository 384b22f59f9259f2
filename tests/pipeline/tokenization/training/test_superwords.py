"""Superwords against a trainer and a cutter of another origin, and in a build."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pyarrow as pa
import pytest
import regex
from pydantic import ValidationError
from transformers import AutoTokenizer

from pipeline.store import files
from pipeline.tokenization import pack
from pipeline.tokenization.config import TokenizerConfig
from pipeline.tokenization.encoding import pretokenize
from pipeline.tokenization.encoding.encode import Encoder
from pipeline.tokenization.formats import export
from pipeline.tokenization.formats.export import SUPER_PATTERN, Vocabulary
from pipeline.tokenization.formats.folder import save
from pipeline.tokenization.training import counts, superwords, train
from tests.pipeline.tokenization.conftest import StandIn, documents, make_build, run

SAID = ("one of the ", "as well as the ", "in the end of ", "at the same time ", "on the other hand ", "there is no ")
ODD = [
    "",
    " a",
    "don't do it, it's 12 o'clock",
    "a  b c\n\nd e\tf g",
    "'start of it 'll",
    "é ü 計算 機 x",
    "(a b) c-d 3 4 e",
]


def texts() -> list[str]:
    made = []
    for row, document in enumerate(documents(60)):
        parts = [SAID[(row + at) % len(SAID)] + word for at, word in enumerate(document["text"].split(" "))]
        sentences = [" ".join(part.strip() for part in parts[at : at + 4]) for at in range(0, len(parts), 4)]
        made.append(". ".join(sentences) + ".\nNext line 12 of the text.")
    return made


def config(size: int = 420, **fields) -> TokenizerConfig:
    return TokenizerConfig(name="super", algorithm="bpe", vocab_size=size, superwords={"share": 0.5, **fields})  # type: ignore[arg-type]


def learned(asked: TokenizerConfig, read: list[str]) -> Vocabulary:
    column = pa.array(read, pa.large_string())
    near = superwords.frequent([superwords.count_neighbours(column, asked)], asked)
    table, _ = superwords.sequences([superwords.count_sequences(column, asked, near)])
    return train.train(counts.count(column, asked), asked, table)


@pytest.fixture(scope="module")
def vocabulary() -> Vocabulary:
    return learned(config(), texts())


def words(piece: str) -> int:
    return piece.count("Ġ") + (not piece.startswith("Ġ"))


def test_the_second_stage_merges_as_a_plain_trainer_does() -> None:
    """Byte pairs of whole spans, the most frequent first, ties to the pair that came first into the vocabulary.

    No words stand side by side too seldom here: where some do, pieces of them are counted without these places.
    """
    asked = config().model_copy(update={"min_frequency": 1})
    vocabulary = learned(asked, texts())
    first = train.train(counts.count(pa.array(texts(), pa.large_string()), asked), superwords.first_stage(asked))
    assert vocabulary.merges[: len(first.merges)] == first.merges
    letters = export.byte_alphabet()
    spans = Counter(span for text in texts() for span in regex.findall(SUPER_PATTERN, text))
    cut = {tuple(letters[byte] for byte in span.encode()): times for span, times in spans.items()}
    ids = {piece: at for at, piece in enumerate(first.pieces)}
    for pair in first.merges:
        cut = merged(cut, pair)
    for pair in vocabulary.merges[len(first.merges) :]:
        found: Counter[tuple[str, str]] = Counter()
        for span, times in cut.items():
            for left, right in pairwise(span):
                if words(left) + words(right) - (not right.startswith("Ġ")) <= 4:
                    found[left, right] += times
        assert pair == min(found, key=lambda both: (-found[both], ids[both[0]], ids[both[1]]))
        ids.setdefault("".join(pair), len(ids))
        cut = merged(cut, pair)
    assert sum(words(piece) > 1 for piece in vocabulary.pieces) > 20


def merged(cut: dict[tuple[str, ...], int], pair: tuple[str, str]) -> dict[tuple[str, ...], int]:
    found: dict[tuple[str, ...], int] = {}
    for span, times in cut.items():
        made: list[str] = []
        for part in span:
            if made and (made[-1], part) == pair:
                made[-1] += part
            else:
                made.append(part)
        found[tuple(made)] = found.get(tuple(made), 0) + times
    return found


def test_superwords_hold_no_more_words_than_asked_and_no_mark_digit_or_newline(vocabulary: Vocabulary) -> None:
    several = [piece for piece in vocabulary.pieces if words(piece) > 1 and piece.strip("Ġ")]
    assert max(map(words, several)) == 4
    assert not [piece for piece in several if regex.search(r"[\p{N}.,'Ċ]", piece)]
    two = learned(config(words=2), texts())
    assert max(words(piece) for piece in two.pieces if piece.strip("Ġ")) == 2


def test_what_does_not_fit_is_left_out_by_count_and_stated_whatever_the_order(monkeypatch: pytest.MonkeyPatch) -> None:
    words = [(f"{'ab cd' * 4}{n:02}", n + 1) for n in range(40)]
    tables = [
        pa.table([[0] * len(part), *map(list, zip(*part, strict=True))], schema=counts.COUNTS_SCHEMA)
        for part in (words[::2], words[1::2])
    ]
    size = sum(len(word) for word, _ in words)
    assert superwords.sequences(tables)[1] == 0
    monkeypatch.setattr(superwords, "_MOST", size // 2)
    for order in (tables, tables[::-1]):
        kept, left_out = superwords.sequences(order)
        assert sorted(kept["count"].to_pylist()) == list(range(21, 41))
        assert left_out == sum(range(1, 21))


def test_spans_are_cut_as_the_engines_pattern_cuts() -> None:
    read = [*ODD, *texts()[:5]]
    column = pa.array(read, pa.large_string())
    found = superwords.counts.count(column, config())  # the first stage is cut as GPT-2 cuts
    assert " of" in found["word"].to_pylist()
    for text in read:
        single = pa.array([text], pa.large_string())
        data, offsets = superwords.text_buffers(single)
        bits = superwords.character_classes.table()
        starts, ends, _ = pretokenize.cut_all(superwords.text_data(data), offsets, bits, pretokenize.SUPER, 0)
        spans = [text.encode()[start:end].decode() for start, end in zip(starts, ends, strict=True)]
        assert spans == regex.findall(SUPER_PATTERN, text)


def test_ids_are_those_of_unmodified_tokenizers_and_transformers(vocabulary: Vocabulary, tmp_path) -> None:
    save(str(tmp_path), vocabulary, config())
    engine = pack.load(str(tmp_path / "tokenizer.json"))
    auto = AutoTokenizer.from_pretrained(str(tmp_path))
    encoder = Encoder(engine)
    assert encoder.compiled
    read = [*ODD[1:], *texts()]
    at = 0
    tokens = [token for block in encoder.encode(pa.array(read)) for token in block.tokens.tolist()]
    for text in read:
        wanted = engine.encode(text, add_special_tokens=False).ids
        assert tokens[at : at + len(wanted)] == wanted
        assert auto(text, add_special_tokens=False, split_special_tokens=True)["input_ids"] == wanted
        assert engine.decode(wanted) == text
        at += len(wanted)
    assert at == len(tokens)


def test_shards_and_order_have_no_say_and_a_second_run_does_nothing(tmp_path) -> None:
    rows = [{**row, "text": text} for row, text in zip(documents(60), texts(), strict=True)]
    recipe = StandIn(tokenizers=[config()])
    one = make_build(tmp_path / "one", recipe, shard_count=2, rows=rows)
    two = make_build(tmp_path / "two", recipe, shard_count=5, rows=rows[::-1])
    for build in (one, two):
        run(build)
    digests = [files.file_digest(build.path("tokenizers", "super", "tokenizer.json")) for build in (one, two)]
    assert digests[0] == digests[1]
    assert all(outcome.reused for outcomes in run(one).values() for outcome in outcomes)


def test_a_tokenizer_without_superwords_is_described_as_before() -> None:
    plain = TokenizerConfig(name="plain", algorithm="bpe", vocab_size=300)
    assert "superwords" not in plain.model_dump()
    assert TokenizerConfig.model_validate(config().model_dump()) == config()


def test_superwords_are_for_byte_level_bpe() -> None:
    with pytest.raises(ValidationError, match="`superwords` are for bpe with the gpt2 pre_tokenizer"):
        TokenizerConfig(name="w", algorithm="wordpiece", vocab_size=300, superwords={})  # type: ignore[arg-type]
