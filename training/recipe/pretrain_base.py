"""What can be known, without torch, of the model that a pretraining run starts from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.store import files
from training.recipe import base_folder
from training.recipe.model_shapes import dropout_fields
from training.recipe.pretraining import PretrainConfig

#: What the class of a model that each objective trains is called behind its type; it has the heads of the objective.
_HEADS = {
    "causal": ("LMHeadModel", "ForCausalLM"),
    "mlm": ("ForMaskedLM", "ForPreTraining"),
    "mlm_nsp": ("ForPreTraining",),
    "mlm_sop": ("ForPreTraining",),
    "span_corruption": ("ForConditionalGeneration",),
    "denoising": ("ForConditionalGeneration",),
}


def problem(run: PretrainConfig, tokenizer: str, added: Sequence[str] | None = None) -> str | None:
    """Why ``run`` cannot start from its base, and what to do; None if it can, or has none.

    ``tokenizer`` is the folder of the run's, which may not be there yet; ``added`` are tokens that its objective puts
    behind them, None: not known.
    """
    if run.base is None:
        return None
    if fault := base_folder.problem(run.base, run.sequence_length):
        return fault
    config = files.read_json(str(files.local(run.base) / "config.json"), "Save the model again.")
    if fault := _other_kind(run, config) or other_shape(run, config):
        return fault
    known = added is not None or run.like != "span_corruption"  # T5's sentinels
    return _other_tokens(run, tokenizer, added or ()) if known else None


def _other_kind(run: PretrainConfig, config: Mapping[str, Any]) -> str | None:
    kind, classes = run.shape["type"], config.get("architectures") or []
    if config.get("model_type") != kind:
        return (
            f"{run.base!r} is a model of type {config.get('model_type')!r}, and `model` is of type {kind!r}; change one"
            " of them"
        )
    if classes and not any(name.endswith(_HEADS[run.like]) for name in classes):
        return (
            f"{run.base!r} was saved as {', '.join(classes)}, and objective {run.objective!r} trains a model"
            f" {' or '.join(_HEADS[run.like])}; take the objective that the base was trained by, or another base"
        )
    return None


def other_shape(run: PretrainConfig, config: Mapping[str, Any]) -> str | None:
    """Which sizes of ``config``, as far as it has them, are not those of the run's `model`, and how it must be."""
    sizes = {name: value for name, value in run.shape.items() if name not in dropout_fields(run.shape["type"])}
    actual = {name: config[name] for name in sizes if config.get(name) is not None}
    wrong = [name for name, value in actual.items() if value != sizes[name]]
    if not wrong:
        return None
    differing = ", ".join(f"{name} {actual[name]}" for name in wrong)
    own = ", ".join(f"{name} {sizes[name]}" for name in wrong)
    right = ", ".join(f"{name}: {actual[name]}" for name in wrong)
    return f"{run.base!r} has {differing}, and `model` has {own}; set {right} in `model`, or take another base"


def _other_tokens(run: PretrainConfig, folder: str, added: Sequence[str]) -> str | None:
    path = files.join(folder, "tokenizer.json")
    if not files.exists(path):
        return None
    from tokenizers import Tokenizer

    from pipeline.tokenization.formats import references

    assert run.base is not None  # who calls has looked
    files.check(path)
    own = Tokenizer.from_file(str(files.local(path))).get_vocab()
    own |= {token: len(own) + place for place, token in enumerate(added)}
    others = references.load(str(files.local(run.base))).get_vocab()
    if own == others:
        return None
    ids, other_ids = ({at: token for token, at in vocabulary.items()} for vocabulary in (own, others))
    at = min(at for at in ids.keys() | other_ids.keys() if ids.get(at) != other_ids.get(at))
    return (
        f"{run.base!r} has {len(others)} tokens and tokenizer {run.tokenizer!r} {len(own)}: id {at} is"
        f" {_said(other_ids.get(at))} there and {_said(ids.get(at))} here. Name the tokenizer that the base was trained"
        f" with; new tokens are given to both by `mill extend-tokenizer --model`"
    )


def _said(token: str | None) -> str:
    return "no token" if token is None else repr(token)
