"""A frozen base and a head: what the base makes of each example is computed once, and the head is trained on that.

Peters et al. 2019, "To Tune or Not to Tune?". The states are kept in the work folder, named by all that makes them.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from safetensors.numpy import load_file, save
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPoolingAndCrossAttentions as Outputs

from pipeline.store import files
from training.finetuning.encoded import Encoded
from training.finetuning.strategies.base import Ready, WrongStrategy, head, train_only
from training.finetuning.tasks.base import inputs
from training.loop import hardware

VERSION = 1
_ROWS = 32
_DECODERS = ("gpt2", "llama")


class _Known(nn.Module):
    """Stands for a base whose states are known: it is given them as embeddings. Its pooler is the base's own."""

    def __init__(self, base: Any) -> None:
        super().__init__()
        self.config, self.pooler = base.config, getattr(base, "pooler", None)
        self.pooler_activation = getattr(base, "pooler_activation", None)  # ALBERT's

    def forward(self, _ids: None = None, *, inputs_embeds: Tensor, **_more: Any) -> Outputs:
        if self.pooler is None:
            pooled = None
        elif self.pooler_activation is None:
            pooled = self.pooler(inputs_embeds)
        else:
            pooled = self.pooler_activation(self.pooler(inputs_embeds[:, 0]))
        return Outputs(last_hidden_state=inputs_embeds, pooler_output=pooled)  # type: ignore[arg-type]


def features(model: PreTrainedModel, folder: str, weights: str) -> Ready:
    """States are kept under ``folder``; ``weights`` names the base's. Raises WrongStrategy for a model without a head.

    A head over sequences reads one state of each: the first token's, in a decoder the last one's.
    """
    above, base = head(model), model.base_model
    if model.config.is_encoder_decoder or base is model or not above:
        raise WrongStrategy(
            f"strategy features trains a head on a frozen encoder, and {type(model).__name__} is none; take lora or"
            " partial instead"
        )
    one = type(model).__name__.endswith("ForSequenceClassification")
    kept = slice(None) if not one else slice(-1, None) if model.config.model_type in _DECODERS else slice(1)
    count = train_only(model, lambda name: name in above)
    known = _Known(base)

    def examples(data: Encoded, name: str) -> Encoded:
        digest = hashlib.blake2b(digest_size=16)
        for tokens, types in zip(data.tokens, data.types, strict=True):
            digest.update(len(tokens).to_bytes(8) + tokens.tobytes() + types.tobytes())
        made_by = files.fingerprint(VERSION, weights, digest.hexdigest(), str(kept))
        path = files.join(folder, f"{name}-{made_by[:16]}.safetensors")
        if not files.exists(path):
            setattr(model, model.base_model_prefix, base)
            found = _states(model, data, kept)
            setattr(model, model.base_model_prefix, known)
            with files.replacing(path) as handle:
                handle.write(save({"states": np.concatenate(found)}))
        files.check(path)
        states = load_file(files.local(path))["states"]
        tokens, types = [part[kept] for part in data.tokens], [part[kept] for part in data.types]
        ends = np.cumsum([len(part) for part in tokens])[:-1]
        return replace(data, tokens=tokens, types=types, targets={**data.targets, "features": np.split(states, ends)})

    def finish() -> None:
        setattr(model, model.base_model_prefix, base.to(model.device))

    setattr(model, model.base_model_prefix, known)
    return Ready(count, examples=examples, finish=finish)


@torch.no_grad()
def _states(model: PreTrainedModel, data: Encoded, kept: slice) -> list[np.ndarray]:
    """The last states of each example at the positions ``kept``: float32 [positions, width]."""
    model.to(hardware.device()).eval()  # type: ignore[arg-type]
    order = np.argsort(data.lengths, kind="stable")
    found: list[np.ndarray] = [np.empty(0)] * len(data)
    for start in range(0, len(order), _ROWS):
        chosen = order[start : start + _ROWS]
        arrays = {name: torch.from_numpy(part).to(model.device) for name, part in data.arrays(chosen).items()}
        states = model.base_model(**inputs(model, arrays)).last_hidden_state.float().cpu().numpy()
        for at, row in zip(chosen, states, strict=True):
            found[at] = row[: len(data.tokens[at])][kept].copy()
    model.train()
    return found
