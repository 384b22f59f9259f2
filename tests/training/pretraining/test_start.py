"""A run that starts from a model of somebody else: what it starts from, and what it refuses."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForMaskedLM, AutoModelForSeq2SeqLM, AutoTokenizer

from pipeline import MillError
from pipeline.store import recipe_file
from pipeline.store.packed_tokens import PackedTokens
from tests.training.conftest import TINY, make_build, pretrain_section
from training import objectives
from training.batches.vocabulary import Vocabulary
from training.batches.windows import IGNORE, NOTHING
from training.objectives.base import Task
from training.pretraining import start
from training.pretraining.phases import Phases
from training.pretraining.pretrain import pretrain
from training.recipe import preflight
from training.recipe.pretraining import PretrainConfig

AUTO = {"causal": AutoModelForCausalLM, "mlm": AutoModelForMaskedLM, "span_corruption": AutoModelForSeq2SeqLM,
        "denoising": AutoModelForSeq2SeqLM}  # fmt: skip
#: Tokens with [SEP] and others; spare rows; positions for twice the run's sequences; GPT-2's and BERT's own dropout.
SPECIAL = {"pad_token_id": 259, "bos_token_id": 256, "eos_token_id": 257}


@pytest.fixture
def root(packed_build: str, tmp_path: Path) -> str:
    shutil.copytree(packed_build, tmp_path / "build")
    return str(tmp_path / "build")


def foreign(
    folder: Path, root: str, kind: str = "gpt2", objective: str = "causal", rows: int = 300, **sizes: int
) -> str:
    """A model of ``kind`` as transformers alone makes it, with ``rows`` of embeddings and larger weights than new ones.

    Larger, because new weights predict nearly the same whatever they see.
    """
    torch.manual_seed(4)
    sizes = sizes or {name: value for name, value in TINY[kind].items() if name != "type"}
    own = {} if kind == "gpt2" else SPECIAL | ({"decoder_start_token_id": 259} if kind in ("t5", "bart") else {})
    config = AutoConfig.for_model(kind, **sizes, vocab_size=rows, max_position_embeddings=400, **own)
    model = AUTO[objective].from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.mul_(4)
    model.save_pretrained(folder)
    name = "bytes" if objective == "causal" else "masked"
    AutoTokenizer.from_pretrained(f"{root}/tokenizers/{name}").save_pretrained(folder)
    return str(folder)


def run(root: str, base: str, objective: str = "causal", **fields: Any) -> dict[str, Any]:
    return pretrain(make_build(root, pretrain_section(objective, base=base, **fields)), objective)


def first_loss(root: str, name: str) -> float:
    lines = Path(root, "models", name, "metrics.jsonl").read_text().splitlines()
    return next(row["loss"] for row in map(json.loads, lines) if row.get("step") == 1 and "loss" in row)


def alone(model: Any, arrays: dict[str, np.ndarray]) -> float:
    """The mean cross-entropy of the labels of ``arrays``, where transformers reads each document by itself."""
    nats, count = 0.0, 0
    tokens, segments, labels = (torch.from_numpy(arrays[name]) for name in ("tokens", "segments", "labels"))
    for row in range(len(tokens)):
        wanted = torch.full_like(tokens[row], IGNORE)
        if "picked" in arrays:
            real = labels[row] != IGNORE
            wanted[torch.from_numpy(arrays["picked"])[row][real]] = labels[row][real]
        else:
            wanted = labels[row]
        for segment in set(segments[row].tolist()) - {NOTHING}:
            piece = segments[row] == segment
            with torch.no_grad():
                logits = model(input_ids=tokens[row][piece][None]).logits[0]
            nats += float(F.cross_entropy(logits, wanted[piece], ignore_index=IGNORE, reduction="sum"))
            count += int((wanted[piece] != IGNORE).sum())
    return nats / count


@pytest.mark.parametrize(
    ("kind", "objective"),
    [
        *((kind, "causal") for kind in ("gpt2", "llama", "qwen3")),
        *((kind, "mlm") for kind in ("bert", "roberta", "distilbert", "modernbert")),
    ],
)
def test_the_first_loss_is_that_of_transformers(root: str, tmp_path: Path, kind: str, objective: str) -> None:
    base = foreign(tmp_path / "base", root, kind, objective)
    section = pretrain_section(objective, base=base, model=TINY[kind], steps=1)
    config = PretrainConfig.model_validate(section)
    packed = PackedTokens(f"{root}/tokens/{config.tokenizer}/train")
    task = Task(config, Vocabulary.of(packed), seed=0)
    batch = Phases(objectives.of(config), task, packed).batch(0)
    expected = alone(AUTO[objective].from_pretrained(base).eval(), dict(batch.arrays))
    summary = pretrain(make_build(root, section), objective)
    assert first_loss(root, objective) == pytest.approx(expected, rel=2e-5)
    assert summary["base"] == base


@pytest.mark.parametrize(("kind", "objective"), [("t5", "span_corruption"), ("bart", "denoising")])
def test_every_weight_of_an_encoder_decoder_is_there(root: str, tmp_path: Path, kind: str, objective: str) -> None:
    base = foreign(tmp_path / "base", root, kind, objective, rows=512)
    config = PretrainConfig.model_validate(pretrain_section(objective, base=base))
    task = Task(config, Vocabulary.of(PackedTokens(f"{root}/tokens/masked/train")), seed=0)
    module, wanted = start.module(objectives.of(config), task), AUTO[objective].from_pretrained(base)
    weights = module.state_dict()
    assert weights.keys() == wanted.state_dict().keys()
    assert all(torch.equal(weights[name], tensor) for name, tensor in wanted.state_dict().items())


def test_it_goes_on_and_what_comes_of_it_names_its_base(root: str, tmp_path: Path) -> None:
    base = foreign(tmp_path / "base", root)
    summary = run(root, base, steps=40)
    rows = [json.loads(line) for line in Path(root, "models/causal/metrics.jsonl").read_text().splitlines()]
    losses = [row["loss"] for row in rows if "loss" in row]
    assert losses[-1] < losses[0] - 0.5
    assert summary["made_from"]["base"]
    assert base in Path(root, "models/causal/README.md").read_text()
    model = AutoModelForCausalLM.from_pretrained(f"{root}/models/causal")
    assert model.config.vocab_size == 257  # the spare rows are cut
    assert model.config.n_positions == 400
    assert model.config.eos_token_id == 256


def test_a_stopped_run_ends_with_equal_weights(root: str, tmp_path: Path) -> None:
    base = foreign(tmp_path / "base", root)
    run(root, base, steps=8)
    whole = load_file(f"{root}/models/causal/model.safetensors")
    shutil.rmtree(f"{root}/models/causal")
    shutil.rmtree(f"{root}/work/pretrain/causal/step-00000008")
    steps: list[int] = []
    build = make_build(root, pretrain_section(base=base, steps=8))
    pretrain(build, "causal", lambda step, *_: steps.append(step))
    assert min(steps) > 4
    ends = load_file(f"{root}/models/causal/model.safetensors")
    assert all(torch.equal(whole[name], tensor) for name, tensor in ends.items())


def test_other_weights_are_another_run(root: str, tmp_path: Path) -> None:
    base = foreign(tmp_path / "base", root)
    first = run(root, base, steps=2)
    assert run(root, base, steps=2) == first
    path = Path(base, "model.safetensors")
    weights = load_file(path)
    weights["transformer.h.0.mlp.c_fc.bias"][0] += 1e-3
    save_file(weights, path, {"format": "pt"})
    changed = run(root, base, steps=2)
    assert changed["fingerprint"] != first["fingerprint"]
    assert changed["made_from"]["base"] != first["made_from"]["base"]


@pytest.mark.parametrize("objective", ["causal", "span_corruption"])
def test_a_model_of_ours_is_a_base_too(root: str, tmp_path: Path, objective: str) -> None:
    """T5's sentinels, which stand behind the tokenizer's ids in its folder, are no other tokens."""
    before = pretrain(make_build(root, pretrain_section(objective, steps=4)), objective)["evaluation"]["loss"]
    shutil.move(f"{root}/models/{objective}", tmp_path / "ours")
    after = run(root, str(tmp_path / "ours"), objective, steps=1, optimiser={"learning_rate": 1e-12})
    # padded rows, which took a part of each distribution (of 320 or 384 entries at most), were cut
    assert before - 0.3 < after["evaluation"]["loss"] < before


def test_the_run_of_the_guide(root: str, tmp_path: Path) -> None:
    guide = (Path(__file__).parents[3] / "docs" / "guide.md").read_text("utf-8")
    (block,) = re.findall(r"^### Starting from a model.*?^```yaml\n(.*?)^```", guide, re.M | re.S)
    (section,) = recipe_file.read(block, "guide")[1]["pretrain"]
    sizes = {name: value for name, value in section["model"].items() if name != "type"}
    section |= {"base": foreign(tmp_path / "general", root, **sizes), "tokenizer": "bytes", "steps": 2}
    summary = pretrain(make_build(root, section | {"precision": "fp32"}), "law")
    assert summary["base"] == section["base"]


def other_tokens(base: Path) -> None:
    path = base / "tokenizer.json"
    said = json.loads(path.read_text())
    said["model"]["vocab"] = {{"!": "?", "?": "!"}.get(t, t): at for t, at in said["model"]["vocab"].items()}
    path.write_text(json.dumps(said))


def pickles(base: Path) -> None:
    path = base / "model.safetensors"
    torch.save(load_file(path), base / "pytorch_model.bin")
    path.unlink()


def configured(**fields: Any) -> Callable[[Path], None]:
    def change(base: Path) -> None:
        path = base / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | fields))

    return change


def without_embeddings(base: Path) -> None:
    weights = load_file(base / "model.safetensors")
    del weights["transformer.wpe.weight"]
    save_file(weights, base / "model.safetensors", {"format": "pt"})


WRONG: dict[str, tuple[Callable[[Path], None], str]] = {
    "no folder": (shutil.rmtree, r"no config\.json.*name one that `save_pretrained` wrote"),
    "no safetensors": (pickles, r"only pytorch_model\.bin, which can run code.*convert them"),
    "other tokens": (other_tokens, r"257 tokens and tokenizer 'bytes' 257: id 33 is '\?' there and '!' here"),
    "another shape": (configured(n_embd=64), r"has n_embd 64, and `model` has n_embd 32; set n_embd: 64 in `model`"),
    "another type": (configured(model_type="bert"), r"of type 'bert', and `model` is of type 'gpt2'; change one"),
    "another head": (
        configured(architectures=["GPT2ForSequenceClassification"]),
        r"saved as GPT2ForSequenceClassification, and objective 'causal' trains .*take the objective",
    ),
    "few positions": (configured(n_positions=16), r"has 16 positions, and sequence_length is 32; lower it"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_does_not_fit_is_one_message_before_any_work(root: str, tmp_path: Path, what: str) -> None:
    base = foreign(tmp_path / "base", root)
    spoil, message = WRONG[what]
    spoil(Path(base))
    build = make_build(root, pretrain_section(base=base))
    found = [problem for problem in preflight.problems(build) if problem.startswith("pretrain")]
    assert len(found) == 1
    with pytest.raises(MillError, match=message) as raised:
        pretrain(build, "causal")
    assert found[0].removeprefix("pretrain[0].base: ") in str(raised.value)
    assert not Path(root, "work/pretrain/causal").exists()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (configured(n_inner=64), "cannot be opened.*do not belong together"),
        (without_embeddings, r"has no weights transformer\.wpe\.weight, which objective 'causal' trains; take"),
    ],
)
def test_weights_that_do_not_fit_are_refused(
    root: str, tmp_path: Path, spoil: Callable[[Path], None], message: str
) -> None:
    base = foreign(tmp_path / "base", root)
    spoil(Path(base))
    with pytest.raises(MillError, match=message):
        run(root, base)


def test_too_few_rows_are_refused(root: str, tmp_path: Path) -> None:
    with pytest.raises(MillError, match="embeddings of 200 tokens, and tokenizer 'bytes' has 257"):
        run(root, foreign(tmp_path / "base", root, rows=200))


@pytest.mark.parametrize(
    ("objective", "fields", "message"),
    [
        ("electra", {}, "ELECTRA trains two models; leave out `base`"),
        ("distillation", {}, "a student starts from its teacher; leave out `base`"),
        ("causal", {"initial_embeddings": "cooccurrence"}, "leave out `initial_embeddings`"),
    ],
)
def test_who_starts_otherwise_takes_no_base(objective: str, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        PretrainConfig.model_validate(pretrain_section(objective, base="models/some", **fields))
