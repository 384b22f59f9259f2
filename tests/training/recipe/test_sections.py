"""What a build writes of its recipe, it reads."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline import MillError
from pipeline.curation import recipe as recipes
from tests.training.conftest import TINY, TRAINED, make_build, pretrain_section, recipe
from training.recipe.finetuning import AdaptConfig, FinetuneConfig
from training.recipe.objectives import OBJECTIVES, PAIRED, ROLES, SECTIONS
from training.recipe.run import OptimiserConfig
from training.recipe.sections import (
    AblationConfig,
    BuildRecipe,
    EmbeddingConfig,
    LadderConfig,
    PretrainConfig,
    stored,
)

RECIPES = sorted(Path("data/recipes").glob("*.yaml"))
STAGES = (
    *("normalise", "urls", "language", "heuristics", "perplexity", "bad_words", "pii", "exact", "minhash"),
    *("substring", "balance"),
)


def assert_reads_itself(written: BuildRecipe) -> None:
    text = json.dumps(written.model_dump(mode="json"))
    assert BuildRecipe.model_validate(json.loads(text)) == written
    assert recipes.parse(text, BuildRecipe) == written  # JSON is YAML
    short = json.dumps(written.model_dump(mode="json", exclude_defaults=True))
    assert BuildRecipe.model_validate(json.loads(short)) == written
    for run in written.pretrain:  # as a model's summary keeps it
        assert PretrainConfig.model_validate(run.model_dump(mode="json", exclude_defaults=True)) == run


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_the_recipes_that_come_with_it_read_themselves(path: Path) -> None:
    assert len(RECIPES) >= 2
    assert_reads_itself(recipes.load(path, BuildRecipe))


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_recipes_of_these_tests_read_themselves(objective: str) -> None:
    assert_reads_itself(make_build("", pretrain_section(objective)).recipe)


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_at_its_defaults_reads_itself(stage: str) -> None:
    written = {"language": {}, stage: {"lists": {"*": "x"}} if stage == "bad_words" else {}}
    assert_reads_itself(recipe(**written))


def test_sections_whose_fields_exclude_each_other_read_themselves() -> None:
    assert_reads_itself(recipe(balance={"tokenizer": "tokenizer.json"}, canaries=False, index=True, exact={}))
    assert_reads_itself(recipe(balance={"strategy": "weights", "weights": {"tales": 1}, "budget": {"parameters": 9}}))
    base = pretrain_section("mlm")
    assert_reads_itself(
        make_build("", base, finetune=[{"name": "x", "base": "mlm", "label": "kind", "sequence_length": 32}]).recipe
    )
    more = {"ladder": {"tokenizer": "bytes"}, "ablation": {"tokenizer": "bytes", "tokens": 9}}
    assert_reads_itself(recipe(**more, embeddings=[{"name": "w", "method": "glove"}], budget={"gpu": "A100"}))


LENGTH = {"steps": st.integers(1, 10**9), "tokens": st.integers(1, 10**12), "epochs": st.floats(0.01, 100)}
OPTIONS = {
    "ngrams": st.fixed_dictionaries({"longest": st.integers(1, 9)}),
    "electra": st.fixed_dictionaries({"generator": st.sampled_from([0.5, 1.0]), "weight": st.floats(0, 99)}),
    "span_corruption": st.fixed_dictionaries({"noise": st.floats(0.05, 0.5), "mean_length": st.floats(1, 9)}),
    "denoising": st.fixed_dictionaries(
        {"noise": st.sampled_from(["infilling", "masking", "deletion", "none"]), "rotate": st.floats(0, 1)}
    ),
    "distillation": st.fixed_dictionaries({"teacher": st.just("elsewhere"), "temperature": st.floats(0.1, 9)}),
}


@st.composite
def entries(draw: st.DrawFn) -> dict:
    """A `pretrain` entry of any objective, its own options now given and now left out."""
    objective = draw(st.sampled_from(sorted(OBJECTIVES)))
    length = draw(st.sampled_from(sorted(LENGTH)))
    entry = {
        "name": "run",
        "objective": objective,
        "tokenizer": "bytes" if objective == "causal" else "masked",
        "model": TINY[draw(st.sampled_from(OBJECTIVES[objective]))],
        "sequence_length": draw(st.integers(16, 4096)),
        length: draw(LENGTH[length]),
    }
    more = {
        "precision": st.sampled_from(["fp32", "bf16", "auto"]),
        "mask_share": st.floats(0.01, 0.9),
        "eval_every": st.integers(1, 9),
        "seed": st.integers(0, 2**32 - 1),
        "optimiser": st.fixed_dictionaries({"learning_rate": st.floats(1e-6, 1), "warmup": st.floats(0, 0.9)}),
    }
    if objective not in PAIRED:
        more["packing"] = st.sampled_from(["concatenate", "best_fit", "full_sentences"])
    if objective in SECTIONS and objective != "distillation":
        more[SECTIONS[objective]] = OPTIONS[SECTIONS[objective]]
    chosen = draw(st.sets(st.sampled_from(sorted(more))))
    entry |= {name: draw(more[name]) for name in sorted(chosen)}
    if objective == "distillation":
        entry["distillation"] = draw(OPTIONS["distillation"])
    return entry


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(entry=entries())
def test_any_pretraining_run_reads_itself(entry: dict) -> None:
    assert_reads_itself(recipe(pretrain=[entry]))


def test_layers_that_transformers_does_not_compute_again_are_refused() -> None:
    with pytest.raises(ValueError, match="`recompute` has no effect on albert; leave it out"):
        recipe(pretrain=[pretrain_section("mlm_sop", recompute=True)])
    plain, asked = (
        recipe(pretrain=[pretrain_section("mlm", **more)]).pretrain[0] for more in ({}, {"recompute": True})
    )
    assert plain.of_result() == asked.of_result()  # the weights are the same
    assert "recompute" not in plain.model_dump()


@pytest.mark.parametrize("objective", PAIRED)
def test_packing_of_pairs_is_refused(objective: str) -> None:
    section = pretrain_section(objective, packing="best_fit")
    with pytest.raises(ValueError, match="`packing` has no effect on pairs of segments; leave it out"):
        recipe(pretrain=[section])


def test_every_objective_has_a_shape_to_test() -> None:
    assert set(TRAINED) == set(OBJECTIVES)
    assert set(TINY) == {type_ for types in OBJECTIVES.values() for type_ in types}


def test_a_recipe_in_yaml_is_the_one_that_is_written(tmp_path: Path) -> None:
    written = make_build("", pretrain_section("mlm_nsp")).recipe
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(written.model_dump(mode="json")))
    assert recipes.load(path, BuildRecipe) == written


def test_a_recipe_of_another_version_is_refused_with_the_remedy(tmp_path: Path) -> None:
    written = make_build("", pretrain_section("mlm")).recipe.model_dump(mode="json")
    (tmp_path / "recipe.json").write_text(json.dumps({**written, "was_once": 1}))
    with pytest.raises(MillError, match=r"recipe.json: this version .* \(was_once: .*\); run `mill build`"):
        stored(tmp_path)


def changed(type_: str, **fields) -> dict:
    return {**TINY[type_], **fields}


def without(type_: str, field: str) -> dict:
    return {name: value for name, value in TINY[type_].items() if name != field}


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (changed("gpt2", n_head=3), r"n_embd (32) must be divisible by n_head (3)"),
        (changed("llama", num_attention_heads=3), r"hidden_size (32) must be divisible by num_attention_heads (3)"),
        (changed("llama", num_attention_heads=8, num_key_value_heads=3), "must be divisible by num_key_value_heads"),
        (changed("llama", num_attention_heads=32, num_key_value_heads=32), "must be even: rotary positions turn pairs"),
        (changed("bert", num_attention_heads=5), r"hidden_size (32) must be divisible by num_attention_heads (5)"),
        (changed("distilbert", n_heads=3), r"dim (32) must be divisible by n_heads (3)"),
        (changed("bart", decoder_attention_heads=3), r"d_model (32) must be divisible by decoder_attention_heads (3)"),
        (changed("albert", num_hidden_groups=3), r"num_hidden_layers (2) must be divisible by num_hidden_groups (3)"),
        (changed("bert", num_hidden_layers=0), "num_hidden_layers is a whole number of at least 1; found 0"),
        (changed("gpt2", n_embd=-32), "n_embd is a whole number of at least 1; found -32"),
        (changed("t5", num_heads=0), "num_heads is a whole number of at least 1; found 0"),
        (changed("bert", hidden_size=True), "hidden_size is a whole number of at least 1; found True"),
        (changed("bert", hidden_size="many"), "found 'many'"),
        (changed("bert", hidden_dropout_prob=1), "hidden_dropout_prob is a probability from 0 to below 1; found 1"),
        (without("bert", "intermediate_size"), "intermediate_size is missing: add it, or start from a preset such as"),
        (without("llama", "num_key_value_heads"), "num_key_value_heads is missing: add it"),
    ],
)  # fmt: skip
def test_shapes_that_no_model_has_are_refused(model: dict, message: str) -> None:
    objective = next(name for name, types in OBJECTIVES.items() if model["type"] in types)
    with pytest.raises(ValueError, match=f"(?s)pretrain.0.model.*{re.escape(message)}"):
        recipe(pretrain=[pretrain_section(objective, model=model)])


def special(**roles: str) -> list[dict]:
    return [{"name": "t", "algorithm": "bpe", "vocab_size": 300, "special_tokens": roles}]


@pytest.mark.parametrize(
    ("objective", "roles", "missing"),
    [
        *((name, {"cls": "[C]", "sep": "[S]"}, "mask") for name in ROLES if ("mask",) in ROLES[name]),
        ("mlm", {"sep": "[S]", "mask": "[M]"}, "cls or bos or eos"),
        ("mlm", {"cls": "[C]", "mask": "[M]"}, "sep or eos"),
        ("causal", {"unk": "[U]"}, "cls or bos or eos"),
        ("span_corruption", {"eos": "[E]"}, "pad"),
    ],
)  # fmt: skip
def test_a_tokenizer_without_the_tokens_of_an_objective_is_refused(objective: str, roles: dict, missing: str) -> None:
    section = pretrain_section(objective, tokenizer="t")
    with pytest.raises(ValueError, match=f"objective '{objective}' of a .* needs a tokenizer with a {missing} token"):
        recipe(tokenizers=special(**roles), pretrain=[section])


def test_what_else_is_known_beforehand_is_refused_beforehand() -> None:
    electra = pretrain_section("electra", electra={"generator": 0.4}, model=changed("electra", num_attention_heads=4))
    with pytest.raises(ValueError, match=r"electra.generator 0.4 makes a width of 13, which 2 attention heads do not"):
        recipe(pretrain=[electra])
    tuned = {"name": "x", "base": "causal", "label": "kind", "sequence_length": 32}
    with pytest.raises(ValueError, match=r"base 'causal' is trained by 'causal', and a classifier needs an encoder"):
        recipe(pretrain=[pretrain_section(), pretrain_section("mlm")], finetune=[tuned])
    writing = {**tuned, "task": "text2text", "base": "mlm", "data": {"train": "rows.jsonl"}}
    with pytest.raises(ValueError, match=r"text2text needs an encoder-decoder .*; take span_corruption"):
        recipe(pretrain=[pretrain_section("mlm"), pretrain_section("span_corruption")], finetune=[writing])
    with pytest.raises(ValueError, match="'gone' is not in this recipe; there is mlm"):
        recipe(pretrain=[pretrain_section("mlm")], finetune=[{**tuned, "base": "gone"}])
    with pytest.raises(ValueError, match="sequence_length 33 is more than the 32 that its base 'mlm' has"):
        recipe(pretrain=[pretrain_section("mlm")], finetune=[{**tuned, "base": "mlm", "sequence_length": 33}])
    with pytest.raises(ValueError, match="label"):
        recipe(pretrain=[pretrain_section("mlm")], finetune=[{"name": "x", "base": "mlm", "sequence_length": 32}])


@pytest.mark.parametrize("change", [{"n_layers": 4}, {"dim": 64}, {"n_heads": 4}, {"hidden_dim": 32}])
def test_a_student_that_does_not_fit_its_teacher_is_refused(change: dict) -> None:
    make_build("", pretrain_section("distillation"))
    with pytest.raises(ValueError, match=r"width, heads, inner width .* as its teacher 'teacher' has them"):
        make_build("", pretrain_section("distillation", model=changed("distilbert", **change)))
    with pytest.raises(ValueError, match=r"sequence_length 64 must be .* at most 32, as its teacher"):
        make_build("", pretrain_section("distillation", sequence_length=64))


@pytest.mark.parametrize("section", ["finetune", "adapt", "embeddings", "ladder", "ablation"])
def test_what_is_not_set_of_an_optimiser_keeps_the_default_of_its_section(section: str) -> None:
    kind, fields = {
        "finetune": (FinetuneConfig, {"name": "x", "base": "./b", "label": "l"}),
        "adapt": (AdaptConfig, {}),
        "embeddings": (EmbeddingConfig, {"name": "x", "method": "elmo"}),
        "ladder": (LadderConfig, {"tokenizer": "t"}),
        "ablation": (AblationConfig, {"tokenizer": "t", "tokens": 1}),
    }[section]
    plain = kind.model_validate(fields).optimiser
    assert plain != OptimiserConfig()
    changed = kind.model_validate({**fields, "optimiser": {"beta1": 0.8}}).optimiser
    assert changed.model_dump() == {**plain.model_dump(), "beta1": 0.8}
