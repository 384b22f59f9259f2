"""A model that reads a text in windows: the vector of each, the vectors as one, and the model's own head on that.

The vector of a window is the state that the head would read of it: its first token's, in a decoder its last one's. So
a text of one window has by `max`, `mean` and `attention` the prediction of the plain model. Places for windows that a
text does not have are never computed and never seen.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from pipeline import MillError
from training.finetuning.forward import Known, inputs
from training.recipe.long_text import Chunks, Hierarchical, LongText

#: The module of a model that pools.
NAME = "long_text"
#: Tokens that the base reads at once. What it computes of more is computed again backwards, not kept.
_AT_ONCE = 8_192


class Max(nn.Module):
    def forward(self, vectors: Tensor, mask: Tensor) -> Tensor:
        """``vectors`` [texts, windows, width] where ``mask``, bool [texts, windows]: [texts, width]."""
        return vectors.masked_fill(~mask[..., None], float("-inf")).amax(1)


class Mean(nn.Module):
    def forward(self, vectors: Tensor, mask: Tensor) -> Tensor:
        return vectors.masked_fill(~mask[..., None], 0).sum(1) / mask.sum(1, keepdim=True)


class Attention(nn.Module):
    """Weights softmax(u tanh(W v + b)) of the vectors v: Yang et al. 2016, "Hierarchical Attention Networks", eq. 5-7.

    At first u is 0 and all weights are equal.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner = nn.Linear(width, width)
        self.query = nn.Parameter(torch.zeros(width))

    def forward(self, vectors: Tensor, mask: Tensor) -> Tensor:
        vectors = vectors.masked_fill(~mask[..., None], 0)
        scores = torch.tanh(self.inner(vectors)) @ self.query
        weights = scores.masked_fill(~mask, float("-inf")).softmax(1)
        return (weights[..., None] * vectors).sum(1)


class Transformer(nn.Module):
    """A Transformer with places for up to ``most`` vectors; the mean of what it makes of them."""

    def __init__(self, width: int, heads: int, layers: int, most: int, dropout: float) -> None:
        super().__init__()
        self.places = nn.Parameter(torch.randn(most, width) * 0.02)
        # a Sequential, because layers of a ModuleList count as the base's own where strategies go by depth
        self.blocks = nn.Sequential(
            *(
                nn.TransformerEncoderLayer(width, heads, 4 * width, dropout, F.gelu, batch_first=True, norm_first=True)
                for _ in range(layers)
            )
        )

    def forward(self, vectors: Tensor, mask: Tensor) -> Tensor:
        vectors = vectors.masked_fill(~mask[..., None], 0) + self.places[: vectors.shape[1]]
        for block in self.blocks:
            vectors = block(vectors, src_key_padding_mask=~mask)
        return Mean()(vectors, mask)


def attach(model: PreTrainedModel, config: LongText, dropout: float, seed: int) -> None:
    """Let ``model`` pool the windows of a text, where ``config`` has some; new parameters are drawn by ``seed``.

    Raises MillError for a model whose head does not read the state of one token.
    """
    if not isinstance(config, Chunks | Hierarchical):
        return
    if model.config.is_encoder_decoder or not _head_reads_one_state(model):
        raise MillError(
            f"long_text {config.kind}: the head of {type(model).__name__} does not read the state of one token, so"
            " nothing can be pooled before it; take head_tail, or a base such as BERT"
        )
    width, heads = int(model.config.hidden_size), int(model.config.num_attention_heads)
    torch.manual_seed(seed)
    if isinstance(config, Hierarchical):
        made: nn.Module = Transformer(width, heads, config.layers, config.most, dropout)
    else:
        made = {"max": Max, "mean": Mean}[config.pooling]() if config.pooling != "attention" else Attention(width)
    model.add_module(NAME, made.train(model.training))


def logits(model: nn.Module, arrays: Mapping[str, Tensor]) -> Tensor:
    """Float32 [texts, labels] of a batch, of the windows of each text where it has some.

    ``windows`` is then int64 [texts, most], how many of its tokens each window has; less than 1 where there is none.
    """
    if "windows" not in arrays:
        return model(**inputs(model, arrays)).logits.float()
    if "features" in arrays:
        vectors, mask = arrays["features"], arrays["mask"].bool()
    else:
        vectors, mask = _vectors(model, arrays)
    pooled: Any = getattr(model, NAME)
    return _headed(model, pooled(vectors, mask)).float()


def place(model: nn.Module) -> slice:
    """Of the tokens of a window, the one whose state the head reads."""
    return slice(-1, None) if hasattr(model, "score") else slice(1)  # so a decoder's head is called in transformers


def _headed(model: Any, vectors: Tensor) -> Tensor:
    """What the head says of states [texts, width]: logits [texts, labels]."""
    base = model.base_model
    setattr(model, model.base_model_prefix, Known(base))
    try:
        ones = torch.ones(len(vectors), 1, dtype=torch.int64, device=vectors.device)
        return model(inputs_embeds=vectors[:, None], attention_mask=ones).logits
    finally:
        setattr(model, model.base_model_prefix, base)


def _vectors(model: Any, arrays: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """The vectors of the windows, [texts, most, width], and which there are, bool [texts, most]."""
    windows = arrays["windows"].clamp(min=0)
    mask = windows > 0
    row, _ = mask.nonzero(as_tuple=True)
    lengths, starts = windows[mask], (windows.cumsum(1) - windows)[mask]
    order = lengths.argsort(stable=True)
    groups = _groups(lengths[order].tolist())
    parts = []
    for group in groups:
        chosen = order[group]
        at = torch.arange(int(lengths[chosen[-1]]), device=windows.device)
        real = at < lengths[chosen, None]
        places = (starts[chosen, None] + at).clamp(max=arrays["tokens"].shape[1] - 1)
        tokens, types = (arrays[name][row[chosen, None], places] * real for name in ("tokens", "types"))
        tokens = tokens + ~real * (model.config.pad_token_id or 0)
        if len(groups) > 1 and torch.is_grad_enabled():
            parts.append(checkpoint(_state, model, tokens, types, real.long(), use_reentrant=False))
        else:
            parts.append(_state(model, tokens, types, real.long()))
    flat = torch.cat(parts)
    made = flat.new_zeros(*mask.shape, flat.shape[1])
    made[mask] = flat[order.argsort()]
    return made, mask


def _state(model: Any, tokens: Tensor, types: Tensor, mask: Tensor) -> Tensor:
    """The state of each window that the head reads, [windows, width]; the arguments are int64 [windows, length]."""
    states = model.base_model(**inputs(model, {"tokens": tokens, "types": types, "mask": mask})).last_hidden_state
    last = mask.sum(1) - 1
    return states[torch.arange(len(states), device=states.device), last if place(model).start == -1 else 0 * last]


def _groups(lengths: list[int]) -> list[slice]:
    """Windows of ``lengths``, which ascend, by as many as are read at once."""
    groups, start = [], 0
    for at, length in enumerate(lengths):
        if length * (at + 1 - start) > _AT_ONCE and at > start:
            groups.append(slice(start, at))
            start = at
    return [*groups, slice(start, len(lengths))]


@torch.no_grad()
def _head_reads_one_state(model: Any) -> bool:
    """Whether the head, given that state alone, says what the whole model says."""
    if model.base_model is model:
        return False
    training = model.training
    model.eval()
    tokens = torch.tensor(
        [[token for token in range(5) if token != model.config.pad_token_id][:3]], device=model.device
    )
    types, mask = torch.zeros_like(tokens), torch.ones_like(tokens)
    expected = model(**inputs(model, {"tokens": tokens, "types": types, "mask": mask})).logits
    outputs = _headed(model, _state(model, tokens, types, mask))
    model.train(training)
    return torch.allclose(outputs, expected, atol=1e-4)
