"""Perplexity on real text: it must tell noise from prose, and our models must be lmplz's."""

from __future__ import annotations

import gzip
import json
import subprocess
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from benchmarks.documents import prose
from pipeline.stages.perplexity import ccnet, scoring, train_model
from pipeline.text.sentence_folding import sentences
from tests.helpers.kenlm_programs import kenlm_on_path, needs
from tests.helpers.reading_arpa import read

__all__ = ["kenlm_on_path"]


@pytest.fixture(scope="module")
def english(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A 5-gram model of 8 MB of prose from all domains but the news."""
    assert shared.is_dir()
    path = str(tmp_path_factory.mktemp("model") / "en.arpa")
    train_model.train(sentences(prose(8, "[!n]*")).lines, path, 5, [0, 0, 1], "own")
    return path


def test_a_page_read_wrongly_by_a_machine_is_more_surprising_than_the_page(shared: Path, english: str):
    """105 pages of a book on birds (1907) with the errors of OCR, and corrected by hand."""
    with gzip.open(shared / "quality" / "ocr_mibio.jsonl.gz", "rt", encoding="utf-8", newline="\n") as lines:
        pages = [json.loads(line) for line in lines]
    read_by_machine, _ = scoring.perplexity(pa.array([page["ocr"] for page in pages]), english)
    corrected, _ = scoring.perplexity(pa.array([page["gt"] for page in pages]), english)
    worse = np.mean(read_by_machine > corrected)
    print(f"\nOCR worse on {worse:.1%} of {len(pages)} pages; medians {np.median(read_by_machine):.0f}", end="")
    print(f" against {np.median(corrected):.0f}")
    assert worse >= 0.95


def test_words_in_another_order_are_more_surprising(english: str):
    texts = [text for text in prose(0.5, "news").to_pylist() if len(text) > 1000]
    rng = np.random.default_rng(5)
    shuffled = ["\n".join(" ".join(rng.permutation(line.split())) for line in text.split("\n")) for text in texts]
    before, _ = scoring.perplexity(pa.array(texts), english)
    after, _ = scoring.perplexity(pa.array(shuffled), english)
    assert (after > before).all()


def test_another_language_is_more_surprising_than_nearly_all_english(shared: Path, english: str):
    with gzip.open(shared / "langid" / "lingua_sentences.tsv.gz", "rt", encoding="utf-8", newline="\n") as lines:
        german = [line.split("\t", 1)[1] for line in lines if line.startswith("de\t")]
    documents = ["".join(german[at : at + 20]) for at in range(0, len(german), 20)]
    foreign, _ = scoring.perplexity(pa.array(documents), english)
    native, _ = scoring.perplexity(prose(1, "news"), english)
    assert np.quantile(foreign, 0.1) > np.quantile(native, 0.99)


@pytest.mark.slow
@needs("lmplz")
@pytest.mark.usefixtures("kenlm_on_path")
def test_the_model_of_megabytes_of_prose_is_that_of_lmplz(tmp_path: Path):
    lines = sentences(pa.array([*prose(5).to_pylist(), "zzzlast"])).lines  # lmplz miscounts the last word's n-grams
    for estimator in ("own", "lmplz"):
        train_model.train(lines, str(tmp_path / estimator), 5, [0, 0, 1], estimator)
    own, lmplz = read(tmp_path / "own").grams, read(tmp_path / "lmplz").grams
    assert own.keys() == lmplz.keys()
    grams = list(own)
    difference = np.array([own[gram] for gram in grams]) - np.array([lmplz[gram] for gram in grams])
    print(f"\n{len(grams)} n-grams, largest difference {np.abs(difference).max():.1e}")
    assert np.abs(difference).max() < 1e-5


@pytest.fixture(scope="module")
def of_pieces(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str, pa.Array]:
    """CCNet's kind of model: ALBERT's SentencePiece vocabulary, a 3-gram model of prose; and real CCNet documents."""
    pieces = str(shared / "models" / "albert" / "spiece.model")
    lines = pa.array([" ".join(text) for batch in ccnet.pieces(prose(3), pieces) for text in batch if text])
    arpa = str(tmp_path_factory.mktemp("pieces") / "en.arpa")
    train_model.train(lines, arpa, 3, [0, 0, 1], "own")
    documents = []
    for path in sorted((shared / "web" / "cc_net_dolma").glob("*.jsonl.gz")):
        with gzip.open(path, "rt", encoding="utf-8", newline="\n") as records:
            documents += [json.loads(line)["text"] for line in records]
    return pieces, arpa, pa.array(documents)


def test_pieces_of_a_published_vocabulary_tell_documents_from_their_shuffled_words(of_pieces):
    pieces, arpa, documents = of_pieces
    found, tokens = scoring.piece_perplexity(documents, arpa, pieces)
    assert len(found) >= 20
    assert np.isfinite(found).all()
    assert tokens.min() > 20
    shuffled = [" ".join(np.random.default_rng(5).permutation(text.split())) for text in documents.to_pylist()]
    assert (scoring.piece_perplexity(pa.array(shuffled), arpa, pieces)[0] > found).mean() > 0.95


@needs("build_binary")
@pytest.mark.usefixtures("kenlm_on_path")
def test_pieces_score_alike_from_arpa_and_from_binary(of_pieces, tmp_path: Path):
    pieces, arpa, documents = of_pieces
    binary = str(tmp_path / "en.arpa.bin")
    subprocess.run(["build_binary", "trie", arpa, binary], check=True, capture_output=True)
    found, wanted = (scoring.piece_perplexity(documents, model, pieces)[0] for model in (binary, arpa))
    np.testing.assert_allclose(found, wanted, rtol=1e-6)


@needs("build_binary")
@pytest.mark.usefixtures("kenlm_on_path")
def test_quantised_scores_of_real_text_are_those_of_kenlm_s_quantised_build(english: str, tmp_path: Path):
    binary, texts = str(tmp_path / "en.bin"), prose(1, "news")
    subprocess.run(["build_binary", "-q", "8", "-b", "8", "trie", english, binary], check=True, capture_output=True)
    found, wanted = scoring.perplexity(texts, english, quantised=True)[0], scoring.perplexity(texts, binary)[0]
    np.testing.assert_allclose(np.log10(found), np.log10(wanted), atol=1e-4)
    error = found / scoring.perplexity(texts, english)[0] - 1
    print(f"\nquantised: perplexity off by {np.std(error):.2%}, at most {np.abs(error).max():.2%}")
    assert error.any()
