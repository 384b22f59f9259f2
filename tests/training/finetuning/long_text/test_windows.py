"""Which tokens are read of a text, by every way of reading long ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from pipeline import MillError
from training.finetuning.encoded import Reader
from training.finetuning.long_text import windows
from training.recipe import long_text
from training.recipe.finetuning import FinetuneConfig
from training.recipe.long_text import LongText

CLS, SEP, PAD = 100, 101, 102
WAYS = ["head", "tail", "head_tail", "chunks", "hierarchical"]


def config(given: Any) -> LongText:
    return TypeAdapter(LongText).validate_python(given)


@pytest.fixture
def tokenizer() -> Tokenizer:
    """A word is a number, and its own id."""
    made = Tokenizer(models.WordLevel({**{str(n): n for n in range(100)}, "[CLS]": CLS, "[SEP]": SEP, "[PAD]": PAD}))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]:1", special_tokens=[("[CLS]", CLS), ("[SEP]", SEP)]
    )
    return made


@pytest.fixture
def reader(tokenizer: Tokenizer) -> Reader:
    return Reader(tokenizer, 12, PAD)  # ten tokens fit


def text(count: int) -> str:
    return " ".join(map(str, range(count)))


@pytest.mark.parametrize(
    ("how", "expected", "covered"),
    [
        ("head", [[*range(10)]], text(10)),
        ("tail", [[*range(15, 25)]], "15 16 17 18 19 20 21 22 23 24"),
        # 10 x 128 / 510 is 2.51
        ("head_tail", [[0, 1, 2, *range(18, 25)]], "0 1 2\n18 19 20 21 22 23 24"),
        ({"kind": "head_tail", "head": 7}, [[*range(7), 22, 23, 24]], "0 1 2 3 4 5 6\n22 23 24"),
        # a quarter of ten is two: each begins four after the one before
        ("chunks", [[*range(at, min(at + 10, 25))] for at in (0, 4, 8, 12, 16)], text(25)),
        ("hierarchical", [[*range(at, min(at + 10, 25))] for at in (0, 4, 8, 12, 16)], text(25)),
        ({"kind": "chunks", "most": 2}, [[*range(10)], [*range(4, 14)]], text(14)),
    ],
)
def test_these_tokens_are_read_with_the_special_ones_around_them(
    reader: Reader, how: Any, expected: list[list[int]], covered: str
) -> None:
    (found,) = windows.read(reader, [text(25)], config(how))
    assert [window.tolist() for window in found.tokens] == [[CLS, *window, SEP] for window in expected]
    assert [kinds.tolist() for kinds in found.types] == [[0] * (len(window) + 1) + [1] for window in expected]
    assert found.text == covered
    assert found.cut == 25 - len({token for window in expected for token in window})


def test_of_512_tokens_head_and_tail_are_those_of_sun() -> None:
    (places,) = windows.kept(600, 510, config("head_tail"))
    assert places.tolist() == [*range(128), *range(600 - 382, 600)]
    (places,) = windows.kept(600, 126, config("head_tail"))
    assert places.tolist() == [*range(32), *range(600 - 94, 600)]


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("count", [0, 1, 10])
def test_a_text_that_fits_is_read_as_it_is(reader: Reader, how: str, count: int) -> None:
    (found,) = windows.read(reader, [text(count)], config(how))
    assert [window.tolist() for window in found.tokens] == [[CLS, *range(count), SEP]]
    assert (found.text, found.cut) == (text(count), 0)


def test_a_special_token_that_a_text_spells_is_a_token_of_the_text(reader: Reader) -> None:
    reader.tokenizer.add_special_tokens(["[CLS]", "[SEP]"])
    (found,) = windows.read(reader, ["[CLS] " + text(12) + " [SEP]"], config("tail"))
    assert found.tokens[0].tolist() == [CLS, *range(3, 12), SEP, SEP]


@given(st.integers(0, 100), st.integers(4, 40))
def test_the_head_is_what_truncation_leaves(count: int, room: int) -> None:
    assert windows.kept(count, room, config("head"))[0].tolist() == list(range(min(count, room)))


@given(st.integers(0, 3_000), st.integers(4, 300))
def test_every_token_is_in_a_chunk_and_each_inner_one_in_the_middle_half_of_one_alone(count: int, room: int) -> None:
    chunks = windows.kept(count, room, config({"kind": "chunks", "most": 10_000}))
    assert all(len(chunk) <= room for chunk in chunks)
    assert set(np.concatenate(chunks).tolist()) == set(range(count))
    often = np.zeros(count, int)
    for number, chunk in enumerate(chunks):
        often[[place for place in windows.middle(number, room) if place in chunk]] += 1
    quarter = room // 4
    assert often.max(initial=0) <= 1
    assert (often[quarter : count - quarter - room % 4] == 1).all()  # so near to an end no middle half can reach
    assert all(len(chunk) == room for chunk in chunks[:-1])


@given(st.integers(1, 500), st.integers(6, 60), st.integers(1, 9), st.sampled_from(WAYS))
def test_what_is_cut_is_what_does_not_reach(count: int, length: int, most: int, how: str) -> None:
    options = {"most": most} if how in ("chunks", "hierarchical") else {}
    read = windows.kept(count, length - 2, config({"kind": how, **options}))
    assert len(read) <= most or how not in ("chunks", "hierarchical")

    reach = long_text.reach(config({"kind": how, **options}), length, 2)
    assert (len(set(np.concatenate(read).tolist())) < count) == (count + 2 > reach)


def test_examples_hold_all_windows_of_a_text_and_say_what_they_leave(reader: Reader) -> None:
    data = windows.encode(reader, [text(25), text(3), text(30)], config({"kind": "chunks", "most": 5}), {})
    assert [of.tolist() for of in data.targets["windows"]] == [[12, 12, 12, 12, 11], [5], [12] * 5]
    assert data.lengths.tolist() == [59, 5, 60]
    assert data.unread == {"texts that go on after chunk 5": 1}
    parts = windows.split(data)
    assert parts.row.tolist() == [0] * 5 + [1] + [2] * 5
    assert parts.tokens[4].tolist() == [CLS, *range(16, 25), SEP]
    assert parts.tokens[5].tolist() == [CLS, 0, 1, 2, SEP]
    assert "windows" not in windows.encode(reader, [text(25)], config("tail"), {}).targets


def recipe(**fields: Any) -> FinetuneConfig:
    return FinetuneConfig.model_validate({"name": "x", "base": "x", "label": "x", "data": {"train": "x"}, **fields})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"task": "tokens", "long_text": "chunks"}, "not for the task tokens"),
        ({"pair": "other", "long_text": "tail"}, "not for a `pair` of texts"),
        ({"long_text": {"kind": "head_tail", "head": 128}}, "leaves nothing for the tail"),
        ({"long_text": "chunks", "compile": True}, "leave out `compile`"),
    ],
)
def test_what_makes_no_sense_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        recipe(**fields)


def test_a_sequence_too_short_for_quarters_is_refused() -> None:
    with pytest.raises(MillError, match="raise it by 2"):
        windows.kept(9, 2, config("chunks"))


def test_runs_that_read_the_head_keep_their_fingerprint() -> None:
    assert "long_text" not in recipe().of_result()
    assert "long_text" not in recipe(long_text="head").of_weights()
    assert recipe(long_text={"kind": "chunks", "pooling": "max"}).of_weights()["long_text"]["pooling"] == "max"


def test_texts_are_read_by_parts_in_their_order(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [text(count) for count in (0, 3, 40, 1, 1, 90, 2)]
    whole = [found.tokens for found in windows.read(reader, texts, config("tail"))]
    monkeypatch.setattr(windows, "_CHARACTERS", 20)
    parts = [found.tokens for found in windows.read(reader, texts, config("tail"))]
    assert [[w.tolist() for w in found] for found in parts] == [[w.tolist() for w in found] for found in whole]
