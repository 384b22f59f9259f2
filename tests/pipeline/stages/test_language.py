import warnings
from pathlib import Path
from typing import Any

import fasttext
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.build.stage import Batch
from pipeline.stages.classifiers import train_model
from pipeline.stages.classifiers.features import Shape
from pipeline.stages.language import STAGE, Config, Lines, measure, rules
from pipeline.store import ledger
from pipeline.text import spans

ENGLISH_TEXT = "the cat and the dog are sleeping in the house of my mother while it rains outside"
GERMAN_TEXT = "die katze und der hund schlafen im haus meiner mutter während es draußen regnet"
ENGLISH, GERMAN = ENGLISH_TEXT.split(), GERMAN_TEXT.split()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A fastText model that knows two languages, trained here: lid.176 may not be on this machine.

    Eleven threads, because each sets a tenth of the weights, rounded down: with fewer some stay uninitialised.
    """
    folder = tmp_path_factory.mktemp("model")
    rng = np.random.default_rng(1)
    lines = [
        f"__label__{label} " + " ".join(rng.choice(words, 5))
        for _ in range(300)
        for label, words in (("en", ENGLISH), ("de", GERMAN))
    ]
    (folder / "train.txt").write_text("\n".join([*lines, ""]), encoding="utf-8")
    trained = fasttext.train_supervised(
        str(folder / "train.txt"), dim=8, minn=2, maxn=4, bucket=5000, epoch=20, thread=11, verbose=0
    )
    trained.save_model(str(folder / "two.bin"))
    return str(folder / "two.bin")


def measured(model: str, texts: list[str], **config) -> dict[str, list]:
    batch = Batch(pa.array(texts, pa.string()), models={"language": model})
    found = measure(Config(model=model, **config), batch).signals
    assert all(len(array) == len(texts) for array in found.values())
    assert all(STAGE.signals[name] == array.type for name, array in found.items())
    return {name: array.to_pylist() for name, array in found.items()}


def test_a_text_in_each_language_is_named(model: str):
    found = measured(model, [ENGLISH_TEXT, GERMAN_TEXT])
    assert found["language"] == ["en", "de"]
    assert min(found["language_score"]) > 0.9
    assert max(found["language_score"]) <= 1


@given(st.lists(st.lists(st.sampled_from(ENGLISH + GERMAN), max_size=60).map(" ".join), max_size=6))
def test_a_whole_text_gets_what_fasttext_says_of_it(model: str, texts: list[str]):
    found = measured(model, texts, max_bytes=None)
    direct: Any = fasttext.load_model(model)
    for text, language, score in zip(texts, *found.values(), strict=True):
        if text:
            names, values = direct.predict([text])
            assert f"__label__{language}" == names[0][0]
            assert score == pytest.approx(min(values[0][0], 1), rel=1e-6)
        else:
            assert (language, score) == ("und", 0)


def test_lines_and_end_marks_do_not_end_the_text(model: str):
    german = " ".join(GERMAN * 3)
    found = measured(model, [f"the\n{german}", f"the </s> {german}", f"\n\r\n{german}\n"])
    assert found["language"] == ["de"] * 3


def test_a_text_in_capitals_is_named_like_the_same_in_small_letters(model: str):
    german = GERMAN_TEXT.replace("ß", "ss")  # whose capital is SS
    texts = [ENGLISH_TEXT, german, f"{ENGLISH_TEXT[:60].upper()} {ENGLISH_TEXT[60:]}"]
    small = measured(model, [text.lower() for text in texts])
    assert measured(model, [text.upper() for text in texts]) == small
    assert measured(model, texts) == small
    mixed = f"{GERMAN_TEXT[:30].upper()} {GERMAN_TEXT[30:]}"  # mostly small letters: named as it is written
    assert measured(model, [mixed])["language_score"] != measured(model, [mixed.lower()])["language_score"]
    lines = Lines(keep=["en"], min_bytes=20)
    text = f"{ENGLISH_TEXT.upper()}\n{GERMAN_TEXT.upper()}\n"
    cut = measure(Config(model=model, lines=lines), Batch(pa.array([text]), models={"language": model})).spans
    assert cut is not None
    assert spans.cut(pa.array([text]), cut).to_pylist() == [f"{ENGLISH_TEXT.upper()}\n"]


def test_a_text_is_judged_alike_in_any_company(model: str):
    texts = [" ".join(ENGLISH * n) for n in range(1, 40)] + [" ".join(GERMAN * n) for n in range(1, 40)]
    together = measured(model, texts, max_bytes=200)
    alone = [measured(model, [text], max_bytes=200) for text in texts]
    assert together["language"] == [found["language"][0] for found in alone]
    assert together["language_score"] == [found["language_score"][0] for found in alone]


def test_an_excerpt_sees_the_end_of_a_long_text(model: str):
    text = "the " * 200 + " ".join(GERMAN * 60)
    assert measured(model, [text], max_bytes=1000)["language"] == ["de"]


@pytest.mark.parametrize("text", ["", " ", "\n\t\u00a0\u3000\u2028", "\x00\x01", "\ufeff\u200b"])
def test_a_text_without_a_visible_character_has_no_language(model: str, text: str):
    found = measured(model, [text, "the cat"], top_k=2)
    assert (found["language"][0], found["language_score"][0], found["languages"][0]) == ("und", 0, [])
    assert found["language"][1] == "en"


def test_no_documents_give_no_signals(model: str):
    assert measured(model, [], top_k=3) == {"language": [], "language_score": [], "languages": []}


def test_the_top_languages_are_stored_best_first(model: str):
    text = " ".join(ENGLISH + GERMAN)
    found = measured(model, [text], top_k=2)
    guesses = found["languages"][0]
    assert sorted(guess["language"] for guess in guesses) == ["de", "en"]
    assert guesses[0]["score"] >= guesses[1]["score"]
    assert (found["language"][0], found["language_score"][0]) == (guesses[0]["language"], guesses[0]["score"])
    assert "languages" not in measured(model, [text])


def test_measuring_warns_of_nothing(model: str):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        measured(model, ["the cat", ""], top_k=2)


LINES = {"min_bytes": 10, "min_score": 0.6}
MIXED = f"{ENGLISH_TEXT}\n{GERMAN_TEXT}\r\nthe\n{ENGLISH_TEXT}\u2028{GERMAN_TEXT}"


def test_each_line_is_named_and_the_shares_are_those_of_its_bytes(model: str):
    found = measured(model, [ENGLISH_TEXT, MIXED, "the", "", "\n\n"], lines=LINES)
    english = 2 * len(ENGLISH_TEXT.encode()) + len("\n") + len("\u2028".encode())
    german = 2 * len(GERMAN_TEXT.encode()) + len("\r\n")
    shares = {entry["language"]: entry["fraction"] for entry in found["line_languages"][1]}
    assert shares == pytest.approx({"en": english / (english + german), "de": german / (english + german)})
    assert [entry["fraction"] for entry in found["line_languages"][1]] == sorted(shares.values(), reverse=True)
    own = found["language"][1]
    assert found["line_language_fraction"] == [1, pytest.approx(shares[own]), None, None, None]
    assert found["line_languages"][2:] == [[], [], []]


@given(st.lists(st.lists(st.sampled_from([ENGLISH_TEXT, GERMAN_TEXT, "the", "", "und so"]), max_size=6), max_size=4))
def test_lines_in_languages_not_kept_are_cut_whole_and_no_others(model: str, documents: list[list[str]]):
    texts = pa.array(["\n".join(lines) for lines in documents], pa.string())
    config = Config(model=model, lines=Lines(keep=["en"], **LINES))
    found = measure(config, Batch(texts, models={"language": model}))
    assert found.spans is not None
    expected = ["".join(f"{line}\n" for line in lines if line != GERMAN_TEXT) for lines in documents]
    cut = [
        f"{text}\n" if text and not text.endswith("\n") else text for text in spans.cut(texts, found.spans).to_pylist()
    ]
    assert [text.rstrip("\n") for text in cut] == [text.rstrip("\n") for text in expected]
    assert measure(Config(model=model, lines=Lines()), Batch(texts, models={"language": model})).spans is None


def test_a_document_needs_its_share_of_lines_in_its_language():
    config = Config(lines=Lines(min_fraction=0.8))
    signals: dict[str, pa.Array] = {
        "language": pa.array(["en"] * 3),
        "language_score": pa.array([1.0] * 3),
        "line_language_fraction": pa.array([0.79, 0.8, None]),
    }
    columns = ledger.judge(rules(config), signals, 3).columns()
    assert columns["dropped_by"].to_pylist() == ["language.lines.min_fraction", None, None]


def test_labels_of_any_form_are_languages(tmp_path: Path):
    """GlotLID names a language and its script."""
    texts = pa.array([" ".join(words) for words in (ENGLISH, GERMAN) for _ in range(50)])
    path = str(tmp_path / "glot.bin")
    settings: dict[str, Any] = {"dimensions": 4, "epochs": 5, "learning_rate": 0.5, "min_count": 1, "seed": 1}
    names = ["eng_Latn", "deu_Latn"]
    train_model.train(texts, np.repeat([0, 1], 50), names, path, shape=Shape(1, 0, 0, 0), **settings)
    found = measured(path, [ENGLISH_TEXT, GERMAN_TEXT], keep={"eng_Latn": 0.5}, top_k=2)
    assert found["language"] == names
    assert [guess["language"] for guess in found["languages"][1]] == names[::-1]
    assert verdicts({"eng_Latn": 0.5}, "deu_Latn", 0.9)[0] == "language.not_wanted"
    assert verdicts({"eng_Latn": 0.5}, "eng_Latn", 0.9)[0] is None


def verdicts(keep: dict[str, float], language: str, score: float) -> tuple[str | None, float | None]:
    signals = {"language": pa.array([language]), "language_score": pa.array([score], pa.float32())}
    columns = ledger.judge(rules(Config(keep=keep)), signals, 1).columns()
    return columns["dropped_by"][0].as_py(), columns["threshold"][0].as_py()


@pytest.mark.parametrize(
    ("language", "score", "verdict"),
    [
        ("en", 0.66, (None, None)),
        ("en", 0.64, ("language.low_score", 0.65)),
        ("de", 0.5, (None, None)),
        ("de", 0.49, ("language.low_score", 0.5)),
        ("fr", 1.0, ("language.not_wanted", float("inf"))),
        ("und", 0.0, ("language.not_wanted", float("inf"))),
    ],
)
def test_each_language_has_its_threshold_and_others_are_not_wanted(language: str, score: float, verdict):
    assert verdicts({"en": 0.65, "de": 0.5}, language, score) == verdict


def test_a_star_wants_all_others_from_its_score_on():
    keep = {"en": 0.65, "*": 0.9}
    assert verdicts(keep, "fr", 0.95) == (None, None)
    assert verdicts(keep, "fr", 0.85) == ("language.low_score", 0.9)
    assert verdicts(keep, "en", 0.7) == (None, None)


@pytest.mark.parametrize(
    "wrong", [{"keep": {}}, {"keep": {"en": 1.5}}, {"top_k": 0}, {"max_bytes": 10}, {"langs": 1}], ids=str
)
def test_a_wrong_configuration_is_refused(wrong: dict):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Config(**wrong)


def test_the_default_model_is_in_the_lock():
    from pipeline.store import model_files

    assert Config().model in model_files.lock()
    assert Path(model_files.lock()[Config().model].file).suffix == ".ftz"
