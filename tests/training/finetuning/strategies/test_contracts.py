"""What every strategy keeps: where it starts, what it trains, what it leaves alone, and what comes back from disk."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, DynamicCache, PreTrainedModel

from pipeline import MillError
from tests.training.conftest import SPECIAL, TINY, vocabulary
from tests.training.finetuning.strategies.conftest import LENGTH, STRATEGIES, classifier, job, read
from training.finetuning import strategies
from training.finetuning.encoded import Encoded
from training.finetuning.finetune import run
from training.finetuning.job import Job
from training.finetuning.strategies import adapter_file, adapters, depth
from training.finetuning.strategies.base import Ready, head, trained_tensors

IDS = torch.tensor([[256, 10, 20, 30, 257], [256, 40, 50, 257, 259]])
MASK = (IDS != 259).long()
CHANGING = ("prefix", "reparametrised", "prompt")  # what is read or seen is more from the first step on


def ready(model: PreTrainedModel, strategy: Any, tmp_path: Path) -> Ready:
    return strategies.prepare(read(strategy), model, 5, LENGTH, 4, str(tmp_path / "features"), "weights")


@torch.no_grad()
def logits(model: PreTrainedModel, ids: torch.Tensor = IDS, mask: torch.Tensor = MASK) -> torch.Tensor:
    return model.eval()(input_ids=ids, attention_mask=mask).logits


@pytest.mark.parametrize("name", [name for name in STRATEGIES if name not in (*CHANGING, "features", "adapters")])
def test_step_0_is_the_base(bases_of: dict[str, str], tmp_path: Path, name: str) -> None:
    model = classifier(bases_of["bert"])
    before = logits(model)
    ready(model, STRATEGIES[name], tmp_path)
    assert torch.equal(logits(model), before)


@pytest.mark.parametrize("kind", TINY)
def test_adapters_are_the_base_up_to_their_own_small_part(bases_of: dict[str, str], tmp_path: Path, kind: str) -> None:
    """Houlsby's weights are near zero, not zero; where they are, the model is the base, bit by bit."""
    ids = torch.tensor([[256, 10, 20, 257]])
    model = classifier(bases_of[kind])
    before = logits(model, ids, torch.ones_like(ids))
    ready(model, STRATEGIES["adapters"], tmp_path)
    for module in model.modules():
        if isinstance(module, adapters.Adapter):
            torch.nn.init.zeros_(module.up.weight)
    assert torch.equal(logits(model, ids, torch.ones_like(ids)), before)


def test_a_prompt_is_first_the_base_that_reads_tokens_of_its_vocabulary(
    bases_of: dict[str, str], tmp_path: Path
) -> None:
    model = classifier(bases_of["bert"])
    drawn = torch.manual_seed(5) and torch.randint(VOCABULARY, (3,))
    more = torch.cat([IDS[:, :1], drawn.expand(2, 3), IDS[:, 1:]], 1)
    expected = logits(model, more, torch.cat([torch.ones(2, 3, dtype=torch.int64), MASK], 1))
    ready(model, STRATEGIES["prompt"], tmp_path)
    assert torch.allclose(logits(model), expected, atol=1e-6)


@pytest.mark.parametrize(
    "kind", ["bert", "roberta", "distilbert", "albert", "electra", "modernbert", "gpt2", "llama", "qwen3"]
)
def test_a_head_on_features_gives_what_the_whole_model_does(
    bases_of: dict[str, str], tmp_path: Path, kind: str
) -> None:
    model = classifier(bases_of[kind])
    model.config.pad_token_id = 259
    expected = logits(model)
    tokens = [row[mask.bool()].numpy() for row, mask in zip(IDS, MASK, strict=True)]
    data = Encoded(tokens, [np.zeros_like(part) for part in tokens], np.arange(2), {}, 259)
    made = ready(model, "features", tmp_path)
    for _ in range(2):  # computed, then read
        arrays = made.examples(data, "train").arrays(np.arange(2))
        with torch.no_grad():
            found = model.eval()(
                inputs_embeds=torch.from_numpy(arrays["features"]), attention_mask=torch.from_numpy(arrays["mask"])
            ).logits
        assert torch.allclose(found, expected, atol=1e-6)
    assert len(list((tmp_path / "features").glob("*.safetensors"))) == 1
    made.finish()
    assert torch.equal(logits(model), expected)


WIDTH, LAYERS, INNER, VOCABULARY, POSITIONS = 32, 2, 64, vocabulary(SPECIAL).padded, 64
HEAD = (WIDTH + 1) * 2 + (WIDTH + 1) * WIDTH  # classifier, and the pooler below it
LAYER = 4 * (WIDTH + 1) * WIDTH + 2 * INNER * WIDTH + INNER + WIDTH + 4 * WIDTH
ALL = (VOCABULARY + POSITIONS + 2 + 2) * WIDTH + LAYERS * LAYER + HEAD
COUNTS = {
    "full": ALL,
    "features": HEAD,
    "partial": LAYER + HEAD,
    "electra": ALL,
    "sun": ALL,
    "gradual_unfreezing": ALL,
    "lora": LAYERS * 2 * 4 * (WIDTH + WIDTH) + HEAD,
    # query, attention's output, both of the feed-forward part; not the pooler, which is called dense too
    "unmerged": LAYERS * 4 * (2 * 2 * WIDTH + 2 * (WIDTH + INNER)) + HEAD,
    "adapters": LAYERS * 2 * (2 * 4 * WIDTH + WIDTH + 4) + (2 * LAYERS + 1) * 2 * WIDTH + HEAD,
    "prefix": 3 * 2 * LAYERS * WIDTH + HEAD,
    "reparametrised": 3 * WIDTH + (WIDTH + 1) * 8 + (8 + 1) * 2 * LAYERS * WIDTH + HEAD,
    "prompt": 3 * WIDTH + HEAD,
    "bitfit": LAYERS * (4 * WIDTH + INNER + WIDTH + 2 * WIDTH) + WIDTH + HEAD,
}


@pytest.mark.parametrize("name", STRATEGIES)
def test_the_number_of_trained_parameters_is_its_formula(bases_of: dict[str, str], tmp_path: Path, name: str) -> None:
    model = classifier(bases_of["bert"])
    made = ready(model, STRATEGIES[name], tmp_path)
    assert made.trained == COUNTS[name]
    assert made.trained == sum(tensor.numel() for tensor in trained_tensors(model).values())


@pytest.mark.parametrize("kind", ["bert", "t5", "bart", "gpt2"])
def test_a_prefix_is_in_every_attention_of_both_sides(bases_of: dict[str, str], tmp_path: Path, kind: str) -> None:
    model = classifier(bases_of[kind])
    made = ready(model, STRATEGIES["prefix"], tmp_path)
    attentions = {"bert": 2, "gpt2": 2, "t5": 6, "bart": 6}[kind]  # a decoder's layer also reads the encoder
    inner = made.trained - sum(p.numel() for n, p in model.named_parameters() if n in head(model))
    assert inner == 3 * 2 * attentions * WIDTH


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_a_prefix_is_what_transformers_makes_of_keys_and_values_in_a_cache(
    bases_of: dict[str, str], tmp_path: Path, kind: str
) -> None:
    """In a decoder alone there is another way to the same states: a cache that is not empty at the start."""
    model, plain = classifier(bases_of[kind]).eval(), classifier(bases_of[kind]).eval()
    ready(model, STRATEGIES["prefix"], tmp_path)
    pairs: list[Any] = [module.prefix for module in model.modules() if hasattr(module, "prefix")]
    assert len(pairs) == LAYERS
    ids = IDS[:1]
    cache = DynamicCache()
    with torch.no_grad():
        for at, pair in enumerate(pairs):
            pair.keys.normal_()
            pair.values.normal_()
            cache.update(pair.keys[None], pair.values[None], at)
        expected = plain.base_model(
            input_ids=ids,
            attention_mask=torch.ones(1, 3 + ids.shape[1], dtype=torch.int64),
            past_key_values=cache,
            position_ids=torch.arange(ids.shape[1])[None],
        ).last_hidden_state
        found = model.base_model(input_ids=ids).last_hidden_state
    assert torch.allclose(found, expected, atol=1e-5)


@pytest.fixture(scope="module")
def tuned(bases_of: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Job, dict]]:
    """A whole run by a strategy, and its summary; each is made once."""

    @cache
    def made(name: str) -> tuple[Job, dict]:
        done = job(tmp_path_factory.mktemp(name), bases_of["bert"], STRATEGIES[name], dropout=0.1)
        return done, run(done)

    return made


@pytest.mark.slow
@pytest.mark.parametrize("name", STRATEGIES)
def test_what_is_frozen_keeps_its_bits_and_what_is_small_is_kept_small(
    bases_of: dict[str, str], tmp_path: Path, tuned: Callable[[str], tuple[Job, dict]], name: str
) -> None:
    base = classifier(bases_of["bert"])
    before = {n: parameter.clone() for n, parameter in base.named_parameters()}
    ready(base, STRATEGIES[name], tmp_path)
    frozen = set(before) - set(trained_tensors(base))
    done, summary = tuned(name)
    # in three epochs gradual unfreezing does not come to the embeddings
    trained = LAYERS * LAYER + HEAD if name == "gradual_unfreezing" else COUNTS[name]
    assert summary["strategies"][0]["trained"] == trained
    assert summary["strategies"][0]["peak_bytes"] > 0
    whole, small = (Path(done.result, file) for file in ("model.safetensors", "adapter.safetensors"))
    assert whole.exists() == (name not in ("unmerged", "adapters", *CHANGING))
    assert small.exists() == (name in ("lora", "unmerged", "adapters", "bitfit", *CHANGING))
    if whole.exists():
        after = load_file(whole)
        merged = {n for n in frozen if name == "lora" and n.endswith(("query.weight", "value.weight"))}
        assert all(torch.equal(after[n], before[n]) for n in frozen - merged)
        assert all(not torch.equal(after[n], before[n]) for n in merged)
    if small.exists():
        kept = load_file(small)
        assert not frozen & set(kept)
        assert sum(tensor.numel() for tensor in kept.values()) <= COUNTS[name]
        again = adapter_file.load(done.result)
        assert ("adapter_file.load" in Path(done.result, "README.md").read_text()) == (not whole.exists())
        if whole.exists():
            opened = AutoModelForSequenceClassification.from_pretrained(done.result)
            assert torch.allclose(logits(again), logits(opened), atol=1e-5)


@pytest.mark.parametrize("name", ["unmerged", "adapters", "prefix", "reparametrised", "prompt", "bitfit", "lora"])
def test_an_adapter_on_its_base_is_the_model_that_was_trained(
    bases_of: dict[str, str], tmp_path: Path, name: str
) -> None:
    model, strategy = classifier(bases_of["bert"]), read(STRATEGIES[name])
    made = ready(model, STRATEGIES[name], tmp_path)
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    trained = logits(model)
    made.simplify()
    tensors = trained_tensors(model)
    made.finish()
    assert torch.allclose(logits(model), trained, atol=1e-5)  # LoRA's merged, the prefix' network gone
    adapter_file.write(tmp_path, model, tensors, strategy, bases_of["bert"], LENGTH)
    assert torch.allclose(logits(adapter_file.load(str(tmp_path))), trained, atol=1e-6)


def test_an_adapter_is_refused_on_another_base(bases_of: dict[str, str], tmp_path: Path) -> None:
    model = classifier(bases_of["bert"])
    ready(model, "bitfit", tmp_path)
    adapter_file.write(tmp_path, model, trained_tensors(model), read("bitfit"), bases_of["bert"], LENGTH)
    with pytest.raises(MillError, match="other weights"):
        adapter_file.load(str(tmp_path), bases_of["electra"])


@pytest.mark.slow
@pytest.mark.parametrize("name", STRATEGIES)
def test_a_killed_run_goes_on_to_the_same_bits(
    bases_of: dict[str, str], tmp_path: Path, tuned: Callable[[str], tuple[Job, dict]], name: str
) -> None:
    class Killed(BaseException):
        pass

    def stop(step: int, _steps: int, _metrics: dict) -> None:
        if step >= 10:
            raise Killed

    killed = job(tmp_path, bases_of["bert"], STRATEGIES[name], dropout=0.1)
    with pytest.raises(Killed):
        run(killed, stop)
    run(killed)
    whole, _ = tuned(name)
    for path in Path(whole.result).glob("*.safetensors"):
        expected, found = load_file(path), load_file(Path(killed.result, path.name))
        assert expected.keys() == found.keys()
        assert all(torch.equal(expected[n], found[n]) for n in expected)


def test_rates_by_depth(bases_of: dict[str, str], tmp_path: Path) -> None:
    """Both conventions on two layers: embeddings, layer 1, layer 2, head."""
    model = classifier(bases_of["bert"])
    of = depth.depth(model)
    names = [
        "bert.embeddings.word_embeddings.weight",
        "bert.encoder.layer.0.output.dense.weight",
        "bert.encoder.layer.1.output.dense.bias",
        "classifier.weight",
    ]
    assert [of(name) for name in names] == [0, 1, 2, 3]
    electra = ready(model, "layerwise_decay", tmp_path).rates
    assert [electra.factor(of(name), 0) for name in names] == pytest.approx([0.8**4, 0.8**3, 0.8**2, 1])
    sun = ready(model, STRATEGIES["sun"], tmp_path).rates
    assert [sun.factor(of(name), 0) for name in names] == pytest.approx([0.95**2, 0.95, 1, 1])
    ulmfit = ready(model, "gradual_unfreezing", tmp_path).rates  # four steps an epoch
    assert [ulmfit.factor(of(name), 3) for name in names] == [0, 0, 0, 1]
    assert [ulmfit.factor(of(name), 4) for name in names] == pytest.approx([0, 0, 1 / 2.6, 1])
    assert [ulmfit.factor(of(name), 12) for name in names] == pytest.approx([2.6**-3, 2.6**-2, 1 / 2.6, 1])


@pytest.mark.parametrize(
    ("kind", "strategy", "message"),
    [
        ("bert", {"kind": "partial", "layers": 3}, "has 2 of its own"),
        ("albert", {"kind": "partial", "layers": 2}, "share weights"),
        ("llama", "bitfit", "no biases"),
        ("bart", "features", "take lora"),
        ("bert", {"kind": "lora", "targets": ["nowhere"]}, "nowhere"),
        ("bert", {"kind": "prompt", "tokens": 60}, "lower `sequence_length`"),
    ],
)
def test_where_a_strategy_makes_no_sense_it_says_so(
    bases_of: dict[str, str], tmp_path: Path, kind: str, strategy: Any, message: str
) -> None:
    with pytest.raises(MillError, match=message):
        ready(classifier(bases_of[kind]), strategy, tmp_path)


def test_gradual_unfreezing_keeps_lower_layers_until_their_epoch(bases_of: dict[str, str], tmp_path: Path) -> None:
    made = job(tmp_path, bases_of["bert"], "gradual_unfreezing", epochs=2)
    assert run(made)["strategies"][0]["trained"] == LAYER + HEAD
    before, after = (load_file(Path(folder, "model.safetensors")) for folder in (bases_of["bert"], made.result))
    changed = {n for n in before if not torch.equal(before[n], after[f"bert.{n}"])}
    assert any("layer.1." in n for n in changed)
    assert not any("layer.0." in n or "embeddings" in n for n in changed)


def test_a_prefix_that_no_query_attends_to_leaves_the_base(bases_of: dict[str, str], tmp_path: Path) -> None:
    """In an encoder, which has no cache: keys are solved for that every query of these texts scores at -100."""
    base, model = classifier(bases_of["bert"]), classifier(bases_of["bert"])
    before = logits(base)
    ready(model, STRATEGIES["prefix"], tmp_path)
    assert not torch.allclose(logits(model), before, atol=1e-3)
    queries: dict[str, torch.Tensor] = {}
    for name, module in base.named_modules():
        if name.endswith("attention.self.query"):
            module.register_forward_hook(lambda _m, _i, out, name=name: queries.update({name: out}))
    logits(base)
    for name, found in queries.items():
        pair: Any = model.get_submodule(name.removesuffix(".query")).prefix
        heads, _, width = pair.keys.shape
        rows = found[MASK.bool()].view(-1, heads, width).transpose(0, 1)  # [heads, queries, width]
        wanted = torch.full((heads, rows.shape[1], 1), -100.0 * width**0.5)
        key = torch.linalg.lstsq(rows.double(), wanted.double()).solution.transpose(1, 2).float()
        with torch.no_grad():
            pair.keys.copy_(key.expand_as(pair.keys))
    assert torch.allclose(logits(model), before, atol=1e-5)
