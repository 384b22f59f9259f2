"""GPT-2's and BERT's published vocabularies extended by a domain of real prose, with a model, as a user does it."""

from __future__ import annotations

import gzip
import json
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoTokenizer, BertConfig, GPT2Config

from pipeline.curation.write_corpus import CORPUS_SCHEMA
from pipeline.store import files, shards
from pipeline.tokenization.formats import references
from training.models.extend_tokenizer import extend

CASES = {
    "gpt2": (AutoModelForCausalLM, GPT2Config(n_layer=1, n_embd=32, n_head=2, n_positions=128)),
    "bert-base-uncased": (
        AutoModelForMaskedLM,
        BertConfig(num_hidden_layers=1, hidden_size=32, num_attention_heads=2, intermediate_size=64),
    ),
}


def prose(shared: Path, domain: str, count: int) -> list[str]:
    (path,) = shared.glob(f"prose/{domain}/*.jsonl.gz")
    with gzip.open(path, "rt", encoding="utf-8", newline="\n") as stream:
        return [json.loads(line)["text"] for line in islice(stream, count)]


@pytest.fixture(scope="module", params=CASES)
def extended(request, shared, tmp_path_factory):
    """``(name, texts of the domain, folder of the old model, folder of the extended tokenizer and model)``."""
    folder = tmp_path_factory.mktemp(request.param)
    texts = prose(shared, "legal", 60)
    rows = [{"id": f"d{i}", "text": t, "source": "s", "domain": "legal", "repeats": 1} for i, t in enumerate(texts)]
    shards.write_table(str(folder / "corpus" / "data.arrow"), pa.Table.from_pylist(rows, CORPUS_SCHEMA), "x")
    files.write_json(str(folder / "corpus" / "manifest.json"), {"shards": ["data.arrow"]})
    kind, config = CASES[request.param]
    torch.manual_seed(0)
    kind.from_config(config).save_pretrained(folder / "model")
    vocabulary = shared / "models" / request.param
    extend(str(vocabulary), folder / "corpus", folder / "extended", 300, "legal", folder / "model")
    return request.param, texts, folder / "model", folder / "extended"


def entries_of(folder: Path) -> list[dict]:
    return json.loads((folder / "extension.json").read_text())


def test_transformers_write_the_domain_in_as_many_tokens_fewer_as_was_promised(shared, extended):
    name, texts, _, folder = extended
    before, after = references.load(str(shared / "models" / name)), AutoTokenizer.from_pretrained(folder)
    old = sum(len(e.ids) for e in before.encode_batch_fast(texts, add_special_tokens=False))
    new = sum(len(ids) for ids in after(texts, add_special_tokens=False, verbose=False).input_ids)
    promised = sum(entry["saved"] for entry in entries_of(folder))
    assert old - new >= promised > old / 100  # WordPiece also begins other words with a new one
    assert old - new == promised or name != "gpt2"


def test_text_without_new_words_keeps_its_ids(shared, extended):
    name, _, _, folder = extended
    before, after = references.load(str(shared / "models" / name)), AutoTokenizer.from_pretrained(folder)
    first = entries_of(folder)[0]["id"]
    texts = prose(shared, "news", 200)
    old = [encoding.ids for encoding in before.encode_batch_fast(texts, add_special_tokens=False)]
    new = after(texts, add_special_tokens=False, verbose=False).input_ids
    assert all(a == b or max(b) >= first for a, b in zip(old, new, strict=True))
    assert sum(a == b for a, b in zip(old, new, strict=True)) > len(texts) / 2  # most news holds no word of policies


def test_special_tokens_have_their_roles_and_places(extended):
    name, _, _, folder = extended
    tokenizer = AutoTokenizer.from_pretrained(folder)
    if name == "gpt2":
        assert (tokenizer.eos_token, tokenizer.decode(tokenizer("A takedown\n  !").input_ids)) == (
            "<|endoftext|>", "A takedown\n  !",
        )  # fmt: skip
    else:
        assert tokenizer.convert_ids_to_tokens(tokenizer("one", "two").input_ids) == [
            "[CLS]", "one", "[SEP]", "two", "[SEP]",
        ]  # fmt: skip


def test_the_model_says_of_old_text_what_it_said_and_knows_new_words_by_their_pieces(extended):
    name, _, old, folder = extended
    kind, _ = CASES[name]
    before, after = (kind.from_pretrained(place).eval() for place in (old, folder))
    ids = torch.tensor([[1000, 2000, 3000, 42]])
    with torch.no_grad():
        first = before.config.vocab_size
        assert torch.allclose(before(ids).logits, after(ids).logits[..., :first], atol=1e-5)
    tables = before.get_input_embeddings().weight, after.get_input_embeddings().weight
    for entry in entries_of(folder):
        assert torch.allclose(tables[1][entry["id"]], tables[0][entry["pieces"]].mean(0), atol=1e-6)
