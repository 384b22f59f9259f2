"""Model shapes by name: the published ones, and small ones for machines without a GPU. Torch-free.

A shape is a dict: ``type`` is transformers' ``model_type``, the rest are fields of its configuration class.
The vocabulary's size comes from the tokenizer, the number of positions from the sequence length.
"""

from __future__ import annotations

from typing import Any

from pipeline import MillError

Shape = dict[str, Any]


def _gpt2(layers: int, width: int, heads: int) -> Shape:
    return {"type": "gpt2", "n_layer": layers, "n_embd": width, "n_head": heads}


def _encoder(type_: str, layers: int, width: int, heads: int, inner: int | None = None, **more: Any) -> Shape:
    shape = {"type": type_, "num_hidden_layers": layers, "hidden_size": width, "num_attention_heads": heads}
    return {**shape, "intermediate_size": inner or 4 * width, **more}


def _modernbert(layers: int, width: int, heads: int, inner: int) -> Shape:
    """Every third layer sees all of a document, the others 128 tokens: the token itself and 64 to each side."""
    return _encoder("modernbert", layers, width, heads, inner, local_attention=128, global_attn_every_n_layers=3)


def _qwen3(layers: int, width: int, heads: int, groups: int, head: int, inner: int) -> Shape:
    return _encoder("qwen3", layers, width, heads, inner, num_key_value_heads=groups, head_dim=head)


def _distilbert(layers: int, width: int, heads: int) -> Shape:
    return {"type": "distilbert", "n_layers": layers, "dim": width, "n_heads": heads, "hidden_dim": 4 * width}


def _t5(layers: int, width: int, heads: int, inner: int) -> Shape:
    return {
        "type": "t5",
        "num_layers": layers,
        "d_model": width,
        "num_heads": heads,
        "d_ff": inner,
        "d_kv": 64,
    }


def _bart(layers: int, width: int, heads: int) -> Shape:
    sides = {
        f"{side}_{field}": value
        for side in ("encoder", "decoder")
        for field, value in (("layers", layers), ("attention_heads", heads), ("ffn_dim", 4 * width))
    }
    return {"type": "bart", "d_model": width, **sides}


PRESETS: dict[str, Shape] = {
    # Radford 2019
    "gpt2": _gpt2(12, 768, 12),
    "gpt2-medium": _gpt2(24, 1024, 16),
    "gpt2-large": _gpt2(36, 1280, 20),
    "gpt2-xl": _gpt2(48, 1600, 25),
    # Touvron 2023 (blocks), at sizes that a scaling ladder starts from
    "llama-30m": _encoder("llama", 6, 384, 6, 1024, num_key_value_heads=6),
    "llama-125m": _encoder("llama", 12, 768, 12, 2048, num_key_value_heads=12),
    # Yang 2025: Llama's blocks with a norm on queries and keys (Henry 2020); the second at GPT-2's size
    "qwen3-0.6b": _qwen3(28, 1024, 16, 8, 128, 3072),
    "qwen3-125m": _qwen3(12, 768, 12, 4, 64, 2048),
    # Warner 2024
    "modernbert-base": _modernbert(22, 768, 12, 1152),
    "modernbert-large": _modernbert(28, 1024, 16, 2624),
    # Devlin 2019; mini to medium: Turc 2019
    "bert-mini": _encoder("bert", 4, 256, 4),
    "bert-small": _encoder("bert", 4, 512, 8),
    "bert-medium": _encoder("bert", 8, 512, 8),
    "bert-base": _encoder("bert", 12, 768, 12),
    "bert-large": _encoder("bert", 24, 1024, 16),
    # Liu 2019
    "roberta-base": _encoder("roberta", 12, 768, 12),
    # Lan 2020, version 2
    "albert-base": _encoder("albert", 12, 768, 12, embedding_size=128, num_hidden_groups=1),
    # Sanh 2019
    "distilbert": _distilbert(6, 768, 12),
    # Clark 2020: the discriminator; the generator is derived from it
    "electra-small": _encoder("electra", 12, 256, 4, 1024, embedding_size=128),
    "electra-base": _encoder("electra", 12, 768, 12, embedding_size=768),
    # Raffel 2020
    "t5-small": _t5(6, 512, 8, 2048),
    "t5-base": _t5(12, 768, 12, 3072),
    # Lewis 2020
    "bart-base": _bart(6, 768, 12),
    # for two CPU cores
    "gpt2-demo": _gpt2(4, 256, 4),
    "llama-demo": _encoder("llama", 4, 256, 4, 688, num_key_value_heads=4),
    "qwen3-demo": _qwen3(4, 256, 4, 2, 64, 688),
    "bert-demo": _encoder("bert", 4, 256, 4),
    "modernbert-demo": _modernbert(4, 256, 4, 688),
    "roberta-demo": _encoder("roberta", 4, 256, 4),
    "albert-demo": _encoder("albert", 4, 256, 4, embedding_size=128, num_hidden_groups=1),
    "distilbert-demo": _distilbert(2, 256, 4),
    "electra-demo": _encoder("electra", 4, 256, 4, embedding_size=128),
    "t5-demo": _t5(2, 256, 4, 1024),
    "bart-demo": _bart(2, 256, 4),
}

_DROPOUT = {
    "gpt2": ("resid_pdrop", "embd_pdrop", "attn_pdrop"),
    "llama": ("attention_dropout",),
    "qwen3": ("attention_dropout",),
    "modernbert": ("attention_dropout", "mlp_dropout", "embedding_dropout"),
    "distilbert": ("dropout", "attention_dropout"),
    "t5": ("dropout_rate",),
    "bart": ("dropout", "attention_dropout"),
}
_ENCODER_DROPOUT = ("hidden_dropout_prob", "attention_probs_dropout_prob")

#: Architectures that a recipe may name, with the fields that it may set.
FIELDS: dict[str, frozenset[str]] = {
    shape["type"]: frozenset(shape) - {"type"} | set(_DROPOUT.get(shape["type"], _ENCODER_DROPOUT))
    for shape in PRESETS.values()
}


def dropout_fields(model_type: str) -> tuple[str, ...]:
    """Names of the dropout probabilities in the configuration of ``model_type``."""
    return _DROPOUT.get(model_type, _ENCODER_DROPOUT)


#: Fields of a shape: (width, attention heads that must divide it).
_HEADS: dict[str, tuple[tuple[str, str], ...]] = {
    "gpt2": (("n_embd", "n_head"),),
    "llama": (("hidden_size", "num_attention_heads"), ("num_attention_heads", "num_key_value_heads")),
    "qwen3": (("num_attention_heads", "num_key_value_heads"),),  # a head is head_dim wide, whatever the model is
    "distilbert": (("dim", "n_heads"),),
    "t5": (),  # a head is d_kv wide, whatever the model is
    "bart": (("d_model", "encoder_attention_heads"), ("d_model", "decoder_attention_heads")),
    "albert": (("hidden_size", "num_attention_heads"), ("num_hidden_layers", "num_hidden_groups")),
}
_ENCODER_HEADS = (("hidden_size", "num_attention_heads"),)


def shape_of(model: str | Shape) -> Shape:
    """The shape that a recipe names: a preset, a preset with some fields changed, or every field spelled out.

    Raises MillError naming the preset, type or field that is unknown, missing or of no possible value, and the remedy.
    """
    if isinstance(model, str):
        model = {"preset": model}
    fields = dict(model)
    preset = fields.pop("preset", None)
    if preset is not None and preset not in [*PRESETS]:
        raise MillError(f"unknown preset {preset!r}; known: {', '.join(PRESETS)}")
    shape = {**(PRESETS[preset] if preset else {}), **fields}
    known = FIELDS.get(str(shape.get("type")))
    if known is None:
        raise MillError(f"a model needs a `preset` or a `type` of {', '.join(FIELDS)}")
    unknown = sorted(set(shape) - known - {"type"})
    if unknown:
        raise MillError(f"{shape['type']} has no field {unknown[0]!r} to set here; known: {', '.join(sorted(known))}")
    missing = sorted(known - set(shape) - set(dropout_fields(shape["type"])))
    if missing:
        raise MillError(
            f"a model of type {shape['type']} without a `preset` spells out every size, and {', '.join(missing)} is"
            f" missing: add it, or start from a preset such as {_preset_of(shape['type'])}"
        )
    _check_values(shape)
    return shape


def _preset_of(model_type: str) -> str:
    return next(name for name in reversed(PRESETS) if PRESETS[name]["type"] == model_type)


def _check_values(shape: Shape) -> None:
    drops = dropout_fields(shape["type"])
    for name, value in shape.items():
        if name == "type":
            continue
        if name in drops:
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
                raise MillError(f"{name} is a probability from 0 to below 1; found {value!r}")
        elif isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise MillError(f"{name} is a whole number of at least 1; found {value!r}")
    for whole, part in _HEADS.get(shape["type"], _ENCODER_HEADS):
        if shape[whole] % shape[part]:
            raise MillError(f"{whole} ({shape[whole]}) must be divisible by {part} ({shape[part]}); change one of them")
    if shape["type"] == "qwen3" and shape["head_dim"] % 2:
        raise MillError(f"head_dim ({shape['head_dim']}) must be even: rotary positions turn pairs; change it")
    if shape["type"] in ("llama", "modernbert") and shape["hidden_size"] // shape["num_attention_heads"] % 2:
        raise MillError(
            f"hidden_size ({shape['hidden_size']}) / num_attention_heads ({shape['num_attention_heads']}) must be even:"
            " rotary positions turn pairs; change one of them"
        )


def size_of(shape: Shape) -> tuple[int, int, int, int]:
    """(layers, width, heads, inner width) of an encoder's ``shape``."""
    names = ("num_hidden_layers", "hidden_size", "num_attention_heads", "intermediate_size")
    if shape["type"] == "distilbert":
        names = ("n_layers", "dim", "n_heads", "hidden_dim")
    layers, width, heads, inner = (shape[name] for name in names)
    return layers, width, heads, inner
