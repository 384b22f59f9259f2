"""Published vocabularies, read as those who made them read them; and the encoder on them."""

import gzip
import json
from itertools import islice

import numpy as np
import pyarrow as pa
import pytest
import sentencepiece

from pipeline.tokenization import report
from pipeline.tokenization.encoding.encode import Encoder
from pipeline.tokenization.formats import references


@pytest.fixture(scope="module")
def texts(shared) -> list[str]:
    found = []
    for path in sorted(shared.glob("prose/*/*.jsonl.gz")):
        with gzip.open(path, "rt", encoding="utf-8", newline="\n") as stream:
            found += [json.loads(line)["text"][:2000] for line in islice(stream, 10)]
    return found


def test_gpt2_gives_its_known_ids(shared):
    tokenizer = references.load(str(shared / "models/gpt2"))
    assert tokenizer.encode("Hello world").ids == [15496, 995]  # the ids of OpenAI's own encoder
    assert tokenizer.get_vocab_size() == 50_257


def test_bert_lower_cases_and_splits_as_its_paper_does(shared):
    tokenizer = references.load(str(shared / "models/bert-base-uncased"))
    pieces = ["playing", "hello", ",", "una", "##ffa", "##ble"]
    assert tokenizer.encode("Playing Héllo, unaffable").tokens == ["[CLS]", *pieces, "[SEP]"]


def test_albert_equals_sentencepiece_on_lower_case_text(shared, texts):
    path = shared / "models/albert/spiece.model"
    tokenizer = references.load(str(path))
    reference = sentencepiece.SentencePieceProcessor(model_file=str(path))
    lines = [line.lower() for text in texts for line in text.split("\n") if line.isascii()]
    expected = reference.encode(lines)
    found = [encoding.ids for encoding in tokenizer.encode_batch(lines, add_special_tokens=False)]
    same = sum(a == b for a, b in zip(expected, found, strict=True))
    assert same > 0.999 * len(lines)  # equal scores may part a word in two ways


@pytest.mark.parametrize("name", ["gpt2", "bert-base-uncased", "albert"])
def test_the_encoder_gives_the_ids_of_the_library(shared, texts, name):
    tokenizer = references.load(str(shared / "models" / name))
    encoder = Encoder(tokenizer)
    assert encoder.compiled == (name != "albert")
    found = np.concatenate([block.tokens for block in encoder.encode(pa.array(texts))])
    expected = [e.ids for e in tokenizer.encode_batch(texts, add_special_tokens=False)]
    assert found.tolist() == [token for ids in expected for token in ids]
    table = pa.table({"text": texts, "domain": ["all"] * len(texts), "language": pa.nulls(len(texts), pa.string())})
    total = report.measure([table], encoder, name, reference=True)[0]
    assert 3 < total.bytes_per_token < 6
    assert 1 < total.fertility < 2.5
    assert (total.unknown_rate == 0) == (name == "gpt2")  # ALBERT lacks ` and _, BERT some scripts


def test_a_path_without_a_vocabulary_is_an_error_that_says_what_may_be_there(tmp_path):
    with pytest.raises(references.UnknownVocabulary, match=r"vocab\.txt, or a SentencePiece"):
        references.load(str(tmp_path))
    with pytest.raises(references.UnknownVocabulary, match="give the path of a vocabulary"):
        references.files_of(str(tmp_path / "nowhere"))
