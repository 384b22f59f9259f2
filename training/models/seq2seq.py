"""Encoder-decoder models on packed documents: T5 and BART.

Arrays, int64: ``tokens`` and ``segments`` [n, source] for the encoder; ``decoder_tokens``, ``decoder_segments`` and
``labels`` [n, target] for the decoder. A token attends within its segment only, on both sides and across. BART's
``positions`` and ``decoder_positions``, alike, count from 0 in each segment; T5 goes by distances, which are the same.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any, cast

import numpy as np
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.models.bart.modeling_bart import BartLearnedPositionalEmbedding

from training.batches.windows import IGNORE, NOTHING
from training.models import architectures, attention
from training.models.losses import linear_cross_entropy


class _Placed(BartLearnedPositionalEmbedding):
    """BART's position embeddings at ``places`` (int64 [n, length]), which its encoder and decoder cannot be given."""

    places: Tensor

    def forward(self, *_: Any, **__: Any) -> Tensor:
        return nn.Embedding.forward(self, self.places + self.offset)


@contextlib.contextmanager
def _placed(part: Any, places: Tensor | None) -> Iterator[None]:
    """Let ``part``, an encoder or a decoder, place its tokens at ``places``; None: it knows no places."""
    if places is None:
        yield
        return
    table = part.embed_positions
    table.__class__, table.places = _Placed, places
    try:
        yield
    finally:
        table.__class__ = BartLearnedPositionalEmbedding
        del table.places


def restarted(segments: np.ndarray) -> np.ndarray:
    """Places within the segments of ``segments`` [n, length], each counted from 0, int64."""
    place = np.arange(segments.shape[1])
    begins = np.diff(segments, axis=1, prepend=NOTHING - 1) != 0
    return place - np.maximum.accumulate(np.where(begins, place, 0), axis=1)


def shifted(labels: np.ndarray, segments: np.ndarray, start: int) -> np.ndarray:
    """The decoder's inputs, int64 [n, target]: the label before, or ``start`` where a segment begins."""
    begins = np.diff(segments, axis=1, prepend=NOTHING) != 0
    before = np.roll(labels, 1, axis=1)
    return np.where(begins | (before == IGNORE), start, before)


def answerable(labels: np.ndarray, segments: np.ndarray, source: np.ndarray) -> np.ndarray:
    """``labels`` [n, target] without those whose segment has no token in the encoder (``source`` [n, source])."""
    shown = np.zeros((len(segments), max(segments.max(), source.max()) + 2), bool)
    shown[np.arange(len(source))[:, None], source] = True
    return np.where(np.take_along_axis(shown, segments, axis=1), labels, IGNORE)


def hidden_states(model: PreTrainedModel, arrays: Mapping[str, Tensor]) -> Tensor:
    """Last hidden states of the decoder [n, target, width], scaled as the model's head takes them."""
    source, target = arrays["segments"], arrays["decoder_segments"]
    encoder, decoder = cast(Any, model).get_encoder(), cast(Any, model).get_decoder()
    blocks = source.is_cuda and not architectures.attention_drops(model)
    across = attention.across(target, source, blocks)
    with _placed(encoder, arrays.get("positions")):
        encoded = encoder(arrays["tokens"], attention_mask=attention.mask(source, False, blocks)).last_hidden_state
    with _placed(decoder, arrays.get("decoder_positions")):
        hidden = decoder(
            arrays["decoder_tokens"],
            attention_mask=attention.mask(target, True, blocks),
            encoder_hidden_states=encoded,
            encoder_attention_mask=across,
            use_cache=False,
        ).last_hidden_state
    return hidden * model.config.d_model**-0.5 if getattr(model.config, "scale_decoder_outputs", False) else hidden


def loss(module: nn.Module, arrays: Mapping[str, Tensor]) -> Tensor:
    """Sum of the cross-entropy of the labels, in nats."""
    model = cast(PreTrainedModel, module)
    hidden = hidden_states(model, arrays).flatten(0, 1)
    return linear_cross_entropy(hidden, architectures.output_head(model).weight, arrays["labels"].flatten())


def flops(module: nn.Module, source: int, target: int, share: float | None = None) -> float:
    """Floating-point operations of forward and backward for one example of ``source`` and ``target`` tokens.

    6 for each parameter that a token is multiplied with: the decoder's keys and values across are made of the encoder's
    tokens. 12 x layers x width for each pair of tokens that attend: all, or ``share`` of them, and of the decoder's own
    half of that.
    """
    model = cast(PreTrainedModel, module)
    tables = {id(part.weight) for part in model.modules() if isinstance(part, nn.Embedding)}
    products = 0
    for name, parameter in model.named_parameters():
        if parameter.dim() < 2 or id(parameter) in tables or parameter is architectures.output_head(model).weight:
            continue
        crossing = any(
            part in name for part in ("EncDecAttention.k", "EncDecAttention.v", "encoder_attn.k", "encoder_attn.v")
        )
        in_decoder = "decoder." in name and not crossing
        products += parameter.numel() * (target if in_decoder else source)
    products += cast(Tensor, architectures.output_head(model).weight).numel() * target
    layers, width = architectures.dimensions(model.config)
    pairs: float = source**2 + target**2 + source * target
    if share is not None:
        pairs = share * (source**2 + target**2 / 2 + source * target)
    return 6 * products + 12 * layers * width * pairs
