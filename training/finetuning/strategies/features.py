"""A frozen base and a head: what the base makes of each example is computed once, and the head is trained on that.

Peters et al. 2019, "To Tune or Not to Tune?". The states are kept in the work folder, named by all that makes them.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import torch
from safetensors.numpy import load_file, save
from transformers import PreTrainedModel

from pipeline.store import files
from training.finetuning.encoded import Encoded
from training.finetuning.forward import Known, inputs
from training.finetuning.long_text import pooling, windows
from training.finetuning.strategies.base import Ready, WrongStrategy, head, train_only
from training.loop import hardware

VERSION = 1
_ROWS = 32


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
    kept = pooling.place(model) if one else slice(None)
    count = train_only(model, lambda name: name in above)
    known = Known(base)

    def examples(data: Encoded, name: str) -> Encoded:
        chunked = "windows" in data.targets  # one state of each window
        read = windows.split(data) if chunked else data
        digest = hashlib.blake2b(digest_size=16)
        for tokens, types in zip(read.tokens, read.types, strict=True):
            digest.update(len(tokens).to_bytes(8) + tokens.tobytes() + types.tobytes())
        made_by = files.fingerprint(VERSION, weights, digest.hexdigest(), str(kept))
        path = files.join(folder, f"{name}-{made_by[:16]}.safetensors")
        if not files.exists(path):
            setattr(model, model.base_model_prefix, base)
            parts = _states(model, read, kept)
            setattr(model, model.base_model_prefix, known)
            with files.replacing(path) as handle:
                handle.write(save({"states": np.concatenate(parts)}))
        files.check(path)
        states = load_file(files.local(path))["states"]
        if chunked:
            tokens = types = [np.zeros_like(of) for of in data.targets["windows"]]
        else:
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
    parts: list[np.ndarray] = [np.empty(0)] * len(data)
    for start in range(0, len(order), _ROWS):
        chosen = order[start : start + _ROWS]
        arrays = {name: torch.from_numpy(part).to(model.device) for name, part in data.arrays(chosen).items()}
        states = model.base_model(**inputs(model, arrays)).last_hidden_state.float().cpu().numpy()
        for at, row in zip(chosen, states, strict=True):
            parts[at] = row[: len(data.tokens[at])][kept].copy()
    model.train()
    return parts
