import math
import pydoc_data.topics
from pathlib import Path

import kenlm
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import MillError
from pipeline.stages.perplexity import train_model
from pipeline.text.sentence_folding import sentences
from tests.helpers.kenlm_programs import kenlm_on_path, needs
from tests.helpers.reading_arpa import read

__all__ = ["kenlm_on_path"]

corpora = st.lists(st.lists(st.sampled_from("abcdé漢"), min_size=1, max_size=7).map(" ".join), min_size=1, max_size=12)

#: ends the text with a word that stands nowhere else: lmplz counts the last word's n-grams wrongly otherwise
LAST = "zzzlast"


@pytest.fixture(scope="module")
def lines() -> pa.StringArray:
    """Real English: the language reference that Python carries, 700 KB."""
    texts = [text for _, text in sorted(pydoc_data.topics.topics.items())]
    return sentences(pa.array([*texts, LAST])).lines


@needs("lmplz")
@pytest.mark.usefixtures("kenlm_on_path")
@pytest.mark.parametrize(("order", "prune"), [(5, []), (5, [0, 0, 1]), (3, [0, 1, 4]), (2, [])], ids=str)
def test_the_own_estimator_agrees_with_lmplz_in_every_number(lines, tmp_path: Path, order: int, prune: list[int]):
    found = {}
    for estimator in ("own", "lmplz"):
        train_model.train(lines, str(tmp_path / estimator), order, prune, estimator)
        found[estimator] = read(tmp_path / estimator)
    assert found["own"].counts == found["lmplz"].counts
    assert found["own"].grams.keys() == found["lmplz"].grams.keys()
    grams = list(found["lmplz"].grams)
    own, lmplz = (np.array([found[name].grams[gram] for gram in grams]) for name in ("own", "lmplz"))
    np.testing.assert_allclose(own, lmplz, rtol=0, atol=1e-5)


@needs("lmplz")
@pytest.mark.usefixtures("kenlm_on_path")
def test_the_fallback_discounts_are_those_of_lmplz(tmp_path: Path):
    lines = pa.array(["a b c", "a b", "c", LAST])
    for estimator in ("own", "lmplz"):
        train_model.train(lines, str(tmp_path / estimator), 5, [0, 0, 1], estimator)
    own, lmplz = read(tmp_path / "own"), read(tmp_path / "lmplz")
    assert own.counts == lmplz.counts
    assert own.grams == {gram: pytest.approx(values, abs=1e-5) for gram, values in lmplz.grams.items()}


def test_the_same_text_gives_the_same_bytes(lines, tmp_path: Path):
    for name in ("one", "two"):
        train_model.train(lines, str(tmp_path / name), 3, [0, 0, 1], "own")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


@pytest.mark.parametrize("prune", [[], [0, 0, 1]], ids=str)
def test_kenlm_reads_the_file_and_gives_sentences_the_probability_that_it_states(lines, tmp_path: Path, prune):
    path = tmp_path / "arpa"
    train_model.train(lines, str(path), 4, prune, "own")
    model, stated = kenlm.Model(str(path)), read(path)
    assert model.order == 4
    for line in [*lines[:200].to_pylist(), "words qwxyz nobody wrote qwxyz", "a"]:
        assert model.score(line) == pytest.approx(stated.sentence(line.split()), abs=1e-3)


@given(corpora, st.integers(2, 5), st.sampled_from([[], [0, 1]]))
def test_kenlm_reads_the_models_of_the_smallest_texts(
    tmp_path_factory, corpus: list[str], order: int, prune: list[int]
):
    path = tmp_path_factory.mktemp("models") / "arpa"
    train_model.train(pa.array(corpus), str(path), order, prune, "own")
    stated = read(path)
    assert sum(stated.counts) == len(stated.grams)
    score = kenlm.Model(str(path)).score(corpus[0])
    assert math.isfinite(score)
    assert score == pytest.approx(stated.sentence(corpus[0].split()), abs=1e-4)


def test_lmplz_asked_for_and_absent_is_an_error_with_a_remedy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert train_model.choose("auto") == "own"
    with pytest.raises(MillError, match="estimator: own"):
        train_model.choose("lmplz")


def test_auto_takes_lmplz_from_the_path_and_reports_why_it_failed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    program = tmp_path / "lmplz"
    program.write_text("#!/bin/sh\necho 'disk full' >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert train_model.choose("auto") == "lmplz"
    with pytest.raises(MillError, match="disk full"):
        train_model.train(pa.array(["a"]), str(tmp_path / "arpa"), 2, [], "auto")
    assert not (tmp_path / "arpa").exists()
