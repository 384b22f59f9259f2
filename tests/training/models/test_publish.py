"""What a model's folder promises whoever opens it with transformers."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForPreTraining,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    BertConfig,
    GPT2Config,
    T5Config,
)

from pipeline.store import files
from tests.training.conftest import SPECIAL, TINY, make_build, pretrain_section, write_tokenizer
from training.models import publish, published_tokenizer
from training.models.published_tokenizer import Known
from training.pretraining.pretrain import pretrain

OPENING = {
    "causal": AutoModelForCausalLM,
    "mlm": AutoModelForMaskedLM,
    "mlm_nsp": AutoModelForPreTraining,
    "mlm_sop": AutoModelForPreTraining,
    "distillation": AutoModelForMaskedLM,
    "electra": AutoModelForPreTraining,
    "span_corruption": AutoModelForSeq2SeqLM,
    "denoising": AutoModelForSeq2SeqLM,
}
#: A run of each architecture: its objective.
RUNS = {
    "gpt2": "causal",
    "llama": "causal",
    "qwen3": "causal",
    "modernbert": "mlm",
    "bert": "mlm_nsp",
    "albert": "mlm_sop",
    "roberta": "mlm",
    "distilbert": "distillation",
    "electra": "electra",
    "t5": "span_corruption",
    "bart": "denoising",
}
TYPED = ("bert", "albert", "electra")
LENGTH = 32


@pytest.fixture(scope="module")
def root(packed_build: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A build with a model of each architecture, trained for a step."""
    folder = str(shutil.copytree(packed_build, tmp_path_factory.mktemp("published") / "build"))
    for type_, objective in RUNS.items():
        section = pretrain_section(objective, name=type_, model=TINY[type_], steps=1, eval_tokens=100)
        pretrain(make_build(folder, section), type_)
    return folder


def logits(found: Any) -> torch.Tensor:
    return found.prediction_logits if hasattr(found, "prediction_logits") else found.logits


def forward(model: Any, inputs: Any) -> Any:
    more = {"decoder_input_ids": inputs["input_ids"]} if model.config.is_encoder_decoder else {}
    with torch.no_grad():
        return model.eval()(**inputs, **more)


@pytest.mark.parametrize("type_", RUNS)
def test_truncation_fits_the_model(root: str, type_: str) -> None:
    folder = f"{root}/models/{type_}"
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder)
    assert tokenizer.model_max_length == LENGTH
    inputs = tokenizer("the cat sees the dog. " * 20, return_tensors="pt", truncation=True)
    assert inputs["input_ids"].shape == (1, LENGTH)
    assert forward(model, inputs).last_hidden_state.shape[1] == LENGTH


@pytest.mark.parametrize("type_", RUNS)
def test_the_tokenizer_gives_what_the_model_takes(root: str, type_: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(f"{root}/models/{type_}")
    given = set(tokenizer("the cat", "sees the dog"))
    assert given == {"input_ids", "attention_mask"} | ({"token_type_ids"} if type_ in TYPED else set())


@pytest.mark.parametrize("type_", RUNS)
def test_every_logit_is_a_token_s(root: str, type_: str) -> None:
    folder = f"{root}/models/{type_}"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model: Any = OPENING[RUNS[type_]].from_pretrained(folder)
    inputs = tokenizer("the cat sees the dog.", return_tensors="pt")
    assert model.config.vocab_size == model.get_input_embeddings().weight.shape[0] == len(tokenizer)
    if type_ != "electra":
        assert logits(forward(model, inputs)).shape[-1] == len(tokenizer)
    else:
        generator = AutoModelForMaskedLM.from_pretrained(f"{folder}/generator")
        assert forward(generator, inputs).logits.shape[-1] == len(tokenizer)
    summary = json.loads(Path(folder, "summary.json").read_text())
    assert summary["parameters"]["total"] == sum(parameter.numel() for parameter in model.parameters())


def test_what_is_published_is_what_was_trained(root: str) -> None:
    """But for the logits of the padding, which are gone."""
    from safetensors.torch import load_file

    trained = load_file(f"{root}/work/pretrain/gpt2/step-00000001/model.safetensors")
    published = load_file(f"{root}/models/gpt2/model.safetensors")
    for name, tensor in published.items():
        kept = trained[name][:257] if name.endswith("wte.weight") else trained[name]
        assert torch.equal(tensor, kept)
    assert trained["transformer.wte.weight"].shape[0] == 320


@pytest.mark.parametrize("type_", ["gpt2", "llama", "qwen3"])
def test_texts_of_different_lengths_are_continued_as_each_alone(root: str, type_: str) -> None:
    folder = f"{root}/models/{type_}"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model: Any = AutoModelForCausalLM.from_pretrained(folder).eval()
    assert model.config.pad_token_id == model.generation_config.pad_token_id == tokenizer.pad_token_id == 256
    texts = ["the cat", "the dog sees the"]
    how: dict[str, Any] = {"max_new_tokens": 6, "do_sample": False}
    together = model.generate(**tokenizer(texts, return_tensors="pt", padding=True), **how)[:, -6:]
    for row, text in enumerate(texts):
        alone = model.generate(**tokenizer(text, return_tensors="pt"), **how)[0, -6:]
        assert together[row].tolist() == alone.tolist()


@pytest.mark.parametrize("type_", ["bert", "albert", "roberta", "distilbert", "modernbert"])
def test_a_padded_batch_is_what_each_text_is_alone(root: str, type_: str) -> None:
    folder = f"{root}/models/{type_}"
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForMaskedLM.from_pretrained(folder)
    assert model.config.pad_token_id == tokenizer.pad_token_id
    texts = ["the cat", "the dog sees the bird"]
    together = forward(model, tokenizer(texts, return_tensors="pt", padding=True)).logits
    for row, text in enumerate(texts):
        alone = forward(model, tokenizer(text, return_tensors="pt")).logits[0]
        torch.testing.assert_close(together[row, : len(alone)], alone, atol=1e-5, rtol=1e-4)


def test_another_tokenizer_config_is_published_without_training_again(root: str, tmp_path: Path) -> None:
    folder = str(shutil.copytree(root, tmp_path / "build"))
    build = make_build(folder, pretrain_section("causal", name="gpt2", steps=1, eval_tokens=100))
    before = pretrain(build, "gpt2")
    path = f"{folder}/tokenizers/bytes/tokenizer_config.json"
    files.write_json(path, {**files.read_json(path), "added_field": 1})
    steps: list[int] = []
    after = pretrain(build, "gpt2", lambda step, _steps, _metrics: steps.append(step))
    assert steps == []
    assert (before["trained_by"], before["evaluation"]) == (after["trained_by"], after["evaluation"])
    assert before["fingerprint"] != after["fingerprint"]
    assert json.loads(Path(folder, "models/gpt2/tokenizer_config.json").read_text())["added_field"] == 1
    weights = [Path(where, "models/gpt2/model.safetensors").read_bytes() for where in (root, folder)]
    assert weights[0] == weights[1]


@pytest.mark.parametrize(
    ("config", "said", "expected"),
    [
        (GPT2Config(n_positions=64), {"eos_token": "</s>"}, {"model_max_length": 64, "pad_token": "</s>"}),
        (BertConfig(max_position_embeddings=128), {"pad_token": "[P]"}, {"model_max_length": 128, "pad_token": "[P]"}),
        (T5Config(), {"model_max_length": 512}, {"model_max_length": 512}),
    ],
)
def test_what_is_said_of_a_tokenizer_fits_the_model(config: Any, said: dict, expected: dict) -> None:
    found = publish.tokenizer_config(said, config)
    assert {name: found[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("type_", "kind", "task"),
    [
        ("gpt2", "AutoModelForCausalLM", "text-generation"),
        ("bert", "AutoModelForMaskedLM", "fill-mask"),
        ("electra", "AutoModelForPreTraining", None),
        ("t5", "AutoModelForSeq2SeqLM", "text2text-generation"),
    ],
)
def test_the_card_names_the_class_that_has_all_weights(root: str, type_: str, kind: str, task: str | None) -> None:
    import transformers

    told = Path(root, f"models/{type_}/README.md").read_text()
    assert f"{kind}.from_pretrained" in told
    assert (f"pipeline_tag: {task}" in told) if task else ("pipeline_tag" not in told and "fill-mask" not in told)
    opened = getattr(transformers, kind).from_pretrained(f"{root}/models/{type_}", output_loading_info=True)[1]
    assert not opened["missing_keys"]


@pytest.mark.parametrize(
    ("type_", "names"),
    [
        ("roberta", {"masked_accuracy"}),
        ("bert", {"masked_accuracy", "pairs_accuracy"}),
        ("albert", {"masked_accuracy", "pairs_accuracy"}),
        ("distilbert", {"masked_accuracy"}),
        ("electra", {"masked_accuracy", "replaced_accuracy", "original_share"}),
    ],
)
def test_accuracies_are_reported(root: str, type_: str, names: set[str]) -> None:
    found = json.loads(Path(root, f"models/{type_}/summary.json").read_text())["evaluation"]
    told = Path(root, f"models/{type_}/README.md").read_text()
    for name in names:
        assert 0 <= found[name] <= 1
        assert name.replace("_", " ") in told


def restated(folder: Path, name: str, **changed: Any) -> None:
    path = str(folder / name)
    files.write_json(path, {**files.read_json(path), **changed})


#: What a tokenizer's folder may say otherwise than the model was trained, and what is said of it.
OTHERWISE: dict[str, tuple[Any, str]] = {
    "prefix space": (
        lambda folder: restated(folder, "tokenizer.json", pre_tokenizer=PREFIXED),
        "reads document 'tale'",
    ),
    "special": (lambda folder: restated(folder, "tokenizer_config.json", sep_token="[MASK]"), "for its sep token"),
    "length": (lambda folder: restated(folder, "tokenizer_config.json", model_max_length=99), "model_max_length 99"),
    "types": (lambda folder: restated(folder, "tokenizer.json", post_processor=THREE_TYPES), "token types [0, 2]"),
}
PREFIXED = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
THREE_TYPES = {
    "type": "TemplateProcessing",
    "single": [{"Sequence": {"id": "A", "type_id": 0}}],
    "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 2}}],
    "special_tokens": {},
}


@pytest.mark.parametrize("fault", [None, *OTHERWISE])
def test_a_tokenizer_that_reads_otherwise_than_the_model_did_is_not_published(
    tmp_path: Path, fault: str | None
) -> None:
    write_tokenizer(str(tmp_path), SPECIAL)
    names = ["input_ids", "token_type_ids", "attention_mask"]
    restated(tmp_path, "tokenizer_config.json", model_max_length=32, model_input_names=names)
    known = [Known("tale", "the cat sees it", list(b"the cat sees it"))]
    config = BertConfig(max_position_embeddings=32, pad_token_id=SPECIAL["pad"])
    if fault is None:
        published_tokenizer.check(tmp_path, known, config, SPECIAL)
        return
    change, said = OTHERWISE[fault]
    change(tmp_path)
    with pytest.raises(published_tokenizer.OtherTokens, match=re.escape(said)):
        published_tokenizer.check(tmp_path, known, config, SPECIAL)
