"""Models by transformers' own classes, so that every checkpoint opens with ``AutoModel.from_pretrained``.

A model's size N is counted by named conventions, because they differ by a factor of three on small models:

- ``total``: every parameter once (Hoffmann 2022);
- ``non_embedding``: without the tables that are looked up (Kaplan 2020);
- ``matrices_and_head``: the matrices that tokens are multiplied with, and the output head even where its weights are
  the embedding's; this is what compute is made of.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel
from transformers.models.auto import modeling_auto

from pipeline import MillError
from training.batches.vocabulary import Vocabulary
from training.models import attention
from training.recipe.model_shapes import Shape, dropout_fields

_AUTO = {
    "causal": modeling_auto.AutoModelForCausalLM,
    "masked": modeling_auto.AutoModelForMaskedLM,
    "pretraining": modeling_auto.AutoModelForPreTraining,
    "seq2seq": modeling_auto.AutoModelForSeq2SeqLM,
    "classifier": modeling_auto.AutoModelForSequenceClassification,
}


#: Fields of a configuration that others lack, by a vocabulary. Qwen3's heads are tied, as in its models below 8 B.
_TOKENS_TOO: dict[str, Callable[[Vocabulary], dict[str, Any]]] = {
    "modernbert": lambda known: {"cls_token_id": known.opening, "sep_token_id": known.closing},
    "qwen3": lambda _known: {"tie_word_embeddings": True},
}
#: Layers that read the state of a sequence's first token only.
_OF_THE_FIRST = (".pooler.", "seq_relationship.", "sop_classifier.")


@dataclass(frozen=True)
class Parameters:
    """Sizes by the three conventions of the module's docstring."""

    total: int
    non_embedding: int
    matrices_and_head: int

    def asdict(self) -> dict[str, int]:
        return asdict(self)


def configuration(shape: Shape, vocabulary: Vocabulary, positions: int, **fields: Any) -> PreTrainedConfig:
    """transformers' configuration of ``shape`` for sequences of up to ``positions`` tokens; no dropout unless set."""
    settings = {name: value for name, value in shape.items() if name != "type"}
    for name in dropout_fields(shape["type"]):
        settings.setdefault(name, 0.0)
    offset = _position_offset(shape["type"], vocabulary.pad)
    settings |= {
        "vocab_size": vocabulary.padded,
        "max_position_embeddings": positions + offset,
        "pad_token_id": vocabulary.pad,
        "bos_token_id": vocabulary.opening,
        "eos_token_id": vocabulary.closing,
    }
    settings |= _TOKENS_TOO.get(shape["type"], lambda _: {})(vocabulary) | fields
    config = AutoConfig.for_model(shape["type"], **settings)
    in_one_kernel(config)
    return config


def in_one_kernel(config: PreTrainedConfig) -> None:
    """Have a model of ``config`` compute GPT-2's activation as one kernel: the same function, three times as fast."""
    for field in ("activation_function", "hidden_act"):
        if getattr(config, field, None) == "gelu_new":
            setattr(config, field, "gelu_pytorch_tanh")


def create(kind: str, config: PreTrainedConfig, seed: int) -> PreTrainedModel:
    """A model of ``kind`` (a key of _AUTO) with weights drawn from ``seed``; float32, on the CPU."""
    torch.manual_seed(seed)
    model = _AUTO[kind].from_config(config, attn_implementation=attention.NAME)
    return model.float().train()


def recompute(module: nn.Module) -> None:
    """Have the models in ``module`` keep one state a layer of a training step, and compute the rest again for it."""
    for part in module.modules():
        if isinstance(part, PreTrainedModel) and part.supports_gradient_checkpointing:
            part.activation_checkpointing_enable({"use_reentrant": False})


def count(model: PreTrainedModel) -> Parameters:
    """N of ``model`` by the three conventions. Works on the meta device."""
    parameters = dict(model.named_parameters())  # tied weights once
    tables = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    head = model.get_output_embeddings()
    output = head.weight.numel() if head is not None else 0
    matrices = sum(
        parameter.numel()
        for parameter in parameters.values()
        if parameter.dim() >= 2 and id(parameter) not in tables and (head is None or parameter is not head.weight)
    )
    total = sum(parameter.numel() for parameter in parameters.values())
    looked_up = sum(parameter.numel() for parameter in parameters.values() if id(parameter) in tables)
    return Parameters(total, total - looked_up, matrices + output)


def output_head(model: PreTrainedModel) -> nn.Linear:
    """The layer from hidden states to logits; raises ValueError for a model without one."""
    head = model.get_output_embeddings()
    if not isinstance(head, nn.Linear):
        raise ValueError(f"{type(model).__name__} has no output head")
    return head


def dimensions(config: PreTrainedConfig) -> tuple[int, int]:
    """(layers, width) of a configuration, under transformers' common names."""
    return int(config.num_hidden_layers), int(config.hidden_size)


def positions(config: PreTrainedConfig) -> int | None:
    """How long a sequence a model of ``config`` takes, in tokens; None where its configuration sets no bound."""
    known = getattr(config, "max_position_embeddings", None)
    return None if known is None else int(known) - _position_offset(config.model_type, config.pad_token_id)


def flops_per_token(
    model: PreTrainedModel,
    sequence_length: int,
    head_share: float = 1.0,
    pieces: np.ndarray | None = None,
    causal: bool = False,
) -> float:
    """Floating-point operations of forward and backward for one input token (Chowdhery 2022, appendix B).

    6 for each parameter that it is multiplied with, and 12 x width x length for attention in each layer.
    ``head_share`` is the share of the positions at which the output head, its transform included, is computed; what is
    computed of [CLS] alone counts once a sequence. Layers that share weights count each time they run. ``pieces`` int64
    [n] are tokens of pieces of documents that see themselves alone, only backwards if ``causal``; without them a
    sequence counts as one, seen from everywhere, as is usual for MFU.
    """
    config = model.config
    layers, _ = dimensions(config)
    repeats = layers // getattr(config, "num_hidden_groups", layers)
    tables = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    inner = {id(parameter) for parameter in model.base_model.parameters()}
    head = model.get_output_embeddings()
    products = head.weight.numel() * head_share if head is not None else 0.0
    for name, parameter in model.named_parameters():
        if parameter.dim() < 2 or id(parameter) in tables or (head is not None and parameter is head.weight):
            continue
        if any(part in name for part in _OF_THE_FIRST):
            share = 1 / sequence_length
        elif id(parameter) in inner:
            share = repeats if ".albert_layer_groups." in name else 1
        else:
            share = head_share
        products += parameter.numel() * share
    return 6 * products + 12 * _attention_width(config) * sum(_seen(config, sequence_length, pieces, causal))


def _attention_width(config: PreTrainedConfig) -> int:
    """Numbers in the queries of a token."""
    return int(config.num_attention_heads) * (
        getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    )


def _seen(config: PreTrainedConfig, length: float, pieces: np.ndarray | None, causal: bool) -> list[float]:
    """How many tokens one attends to, by layer: in a sequence of ``length`` at most, or in ``pieces`` on average."""
    layers, reach = dimensions(config)[0], _reach(config)
    local: float = length if reach is None else min(length, 2 * reach + 1)
    if pieces is not None:
        near = np.minimum(pieces - 1, length if reach is None else reach)  # as far as any token of the piece sees
        local = float((pieces + near * (2 * pieces - near - 1)).sum() / pieces.sum())
        length = float((pieces * (pieces + 1) / 2 if causal else pieces**2).sum() / pieces.sum())
    kinds = getattr(config, "layer_types", None) or ["full_attention"] * layers
    return [local if kind == "sliding_attention" else length for kind in kinds]


def hidden_states(
    model: PreTrainedModel,
    tokens: Tensor,
    segments: Tensor,
    positions: Tensor,
    causal: bool,
    types: Tensor | None = None,
) -> Tensor:
    """Last hidden states [batch, length, width] of packed documents that do not see each other.

    ``tokens``, ``segments`` and ``positions`` are int64 [batch, length]; tokens attend within their segment only.
    ``types``, alike, are token types; all 0 if absent.
    """
    offset = _position_offset(model.config.model_type, model.config.pad_token_id)
    more: dict[str, Any] = {"use_cache": False} if causal else {}
    if types is not None:
        more["token_type_ids"] = types
    blocks = segments.is_cuda and not attention_drops(model)
    mask: Any = attention.mask(segments, causal, blocks)
    if (reach := _reach(model.config)) is not None:
        mask = {"full_attention": mask, "sliding_attention": attention.mask(segments, causal, blocks, reach)}
    outputs = model.base_model(tokens, attention_mask=mask, position_ids=positions + offset, **more)
    return outputs.last_hidden_state


def _reach(config: PreTrainedConfig) -> int | None:
    """How far a token of a local layer sees to each side; None for a model without local layers."""
    return int(config.sliding_window) if config.model_type == "modernbert" else None


def _position_offset(model_type: str, pad: int | None) -> int:
    """RoBERTa's positions start after the id of the padding."""
    if model_type not in ("roberta", "xlm-roberta", "camembert"):
        return 0
    if pad is None:
        raise MillError("roberta needs a tokenizer with a padding token; add `pad` to its `special_tokens`")
    return pad + 1


def attention_drops(model: PreTrainedModel) -> bool:
    """Whether attention has dropout now."""
    names = [name for name in dropout_fields(model.config.model_type) if "att" in name or name == "dropout_rate"]
    return model.training and any(getattr(model.config, name) for name in names)


def _distilbert_head(model: Any, hidden: Tensor) -> Tensor:
    return model.vocab_projector(model.vocab_layer_norm(model.activation(model.vocab_transform(hidden))))


_MASKED_HEADS: dict[str, Callable[[Any, Tensor], Tensor]] = {
    # BertForPreTraining holds the same head beside that of next-sentence prediction
    "bert": lambda model, hidden: model.cls.predictions(hidden),
    "roberta": lambda model, hidden: model.lm_head(hidden),
    "albert": lambda model, hidden: model.predictions(hidden),
    "distilbert": _distilbert_head,
    "modernbert": lambda model, hidden: model.decoder(model.head(hidden)),
    "electra": lambda model, hidden: model.generator_lm_head(model.generator_predictions(hidden)),
}


def masked_logits(model: PreTrainedModel, hidden: Tensor) -> Tensor:
    """Logits [n, vocabulary] of the masked-LM head at chosen hidden states [n, width]."""
    return _MASKED_HEADS[model.config.model_type](model, hidden)
