"""CCNet's view of a text against its definition over whole strings."""

import re
import unicodedata
from pathlib import Path

import kenlm
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.stages.perplexity import ccnet, scoring, train_model

#: Moses' forms of punctuation, as CCNet lists them.
FORMS = {
    "，": ",", "。": ".", "、": ",", "„": '"', "”": '"', "“": '"', "«": '"', "»": '"', "」": '"', "「": '"',
    "《": '"', "》": '"', "´": "'", "∶": ":", "：": ":", "？": "?", "！": "!", "（": "(", "）": ")", "；": ";",
    "–": "-", "—": " - ", "．": ". ", "～": "~", "’": "'", "…": "...", "━": "-", "〈": "<", "〉": ">", "【": "[",
    "】": "]", "％": "%", "►": "-",
}  # fmt: skip


def definition(text: str) -> str:
    text = text.strip().lower()
    text = "".join(c for c in unicodedata.normalize("NFD", text) if unicodedata.category(c) != "Mn")
    text = "".join(FORMS.get(c, c) for c in re.sub(r"\d", "0", text))
    return re.sub(r"[\x00-\x1f\x7f-\x9f]", "", text)


@pytest.mark.slow
def test_every_character_becomes_what_the_definition_says():
    chars = [chr(point) for point in range(0x110000) if not 0xD800 <= point < 0xE000]
    found = ccnet.normalise(pa.array([f"a{char}b" for char in chars]))
    table = {char: definition(f"a{char}b") for char in chars}
    assert found.to_pylist() == list(table.values())


@given(
    st.text(
        st.one_of(
            st.sampled_from("aΣΟς.' \u00ad\u0301\u2028É1\n\u3000\x1f"),
            st.characters(categories=["L", "Mn", "N", "P", "Z", "Cc", "Cf"]),
        )
    )
)
def test_a_text_becomes_what_the_definition_says_wherever_its_characters_stand(text: str):
    assert ccnet.normalise(pa.array(["Vor.", text, "nach"])).to_pylist() == ["vor.", definition(text), "nach"]


def test_a_slice_of_texts_is_read_at_its_place():
    texts = pa.array(["Ein", "É — 12\nzwei", "Drei"])
    assert ccnet.normalise(texts.slice(1, 1)).to_pylist() == ["e  -  00zwei"]
    assert ccnet.normalise(pa.array([], pa.string())).to_pylist() == []


TEXTS = ["The cat sat.\nThe dog sat.", "Ein Café – 1984!", "", " \n ", "the cat " * 3000, "猫坐在垫子上。"]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    import sentencepiece

    folder = tmp_path_factory.mktemp("ccnet")
    with (folder / "en.sp.model").open("wb") as handle:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(TEXTS[:2] * 5),
            model_writer=handle,
            vocab_size=60,
            minloglevel=2,
            hard_vocab_limit=False,
        )
    processor = sentencepiece.SentencePieceProcessor(model_file=str(folder / "en.sp.model"))
    lines = [" ".join(processor.encode(definition(text), out_type=str)) for text in TEXTS[:2]]
    train_model.train(pa.array(lines), str(folder / "en.arpa"), 3, [], "own")
    return str(folder / "en.arpa"), str(folder / "en.sp.model")


def test_perplexity_is_ten_to_minus_score_over_pieces_and_end(files: tuple[str, str], monkeypatch: pytest.MonkeyPatch):
    import sentencepiece

    arpa, model = files
    language, processor = kenlm.Model(arpa), sentencepiece.SentencePieceProcessor(model_file=model)
    found, tokens = scoring.piece_perplexity(pa.array(TEXTS), arpa, model)
    for text, value, count in zip(TEXTS, found, tokens, strict=True):
        pieces = processor.encode(definition(text), out_type=str)
        assert count == (len(pieces) + 1 if pieces else 0)
        wanted = 10 ** (-language.score(" ".join(pieces)) / (len(pieces) + 1)) if pieces else np.nan
        assert value == pytest.approx(wanted, rel=1e-9, nan_ok=True)
    monkeypatch.setattr(ccnet, "_BATCH", 10)
    np.testing.assert_array_equal(found, scoring.piece_perplexity(pa.array(TEXTS), arpa, model)[0])


def test_a_file_that_is_no_sentencepiece_model_is_named(tmp_path: Path):
    path = tmp_path / "x.model"
    path.write_bytes(b"no model")
    with pytest.raises(ValueError, match=r"x\.model: not a SentencePiece model"):
        list(ccnet.pieces(pa.array(["a"]), str(path)))
