"""What a fine-tuning forgets: the loss that its base was pretrained on, on held-out text, before and after.

After means the base's own language-model head on the fine-tuned encoder, adapters included, its embeddings tied as the
base ties them. A masked model has 15 % of the tokens of each sequence masked, always the same ones (Devlin 2019
without the draws of random and kept tokens); a causal one predicts each next token.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForMaskedLM, AutoTokenizer, PreTrainedModel

from pipeline import MillError
from pipeline.store import files
from pipeline.store.packed_tokens import PackedTokens
from training.batches import random_streams
from training.finetuning import bases
from training.finetuning.encoded import filled
from training.finetuning.forward import typed

#: Sequences that are read, at most, and their tokens.
_SEQUENCES, _LENGTH, _ROWS = 64, 128, 8
_MASKED, _IGNORED = 0.15, -100
_TEXT = 1 << 20  # bytes of a text file


def check(held_out: str | None) -> None:
    """Raise MillError unless ``held_out`` is there, or is None."""
    if held_out is not None and not Path(files.local(held_out)).exists():
        raise MillError(f"held_out: no file {held_out!r}; correct its path, or leave it out")


def measured(model: PreTrainedModel, base: str, tokenizer: str, held_out: str | None, length: int) -> dict[str, Any]:
    """``before`` and ``after`` in nats a token, with the ``kind`` of loss; or why it is ``not_measured``.

    ``model`` is the fine-tuned one of the model in ``base``, whose tokenizer is in the folder ``tokenizer``;
    ``held_out`` is a folder of packed tokens or a text file; sequences have up to ``length`` tokens.
    """
    if held_out is None:
        return {"not_measured": "no held-out text is given (`held_out`)"}
    config = AutoConfig.from_pretrained(files.local(base), trust_remote_code=False)
    kind = next(iter(getattr(config, "architectures", None) or [""]))
    causal = kind.endswith(("LMHeadModel", "ForCausalLM"))
    masked = kind.endswith(("ForMaskedLM", "ForPreTraining")) and not kind.startswith("Electra")
    if not causal and not masked:
        return {"not_measured": f"{kind or 'the base'} has no head for masked or next tokens"}
    reader: Any = AutoTokenizer.from_pretrained(files.local(tokenizer), trust_remote_code=False)
    if masked and reader.mask_token_id is None:
        return {"not_measured": "the tokenizer has no mask token"}
    lengths = min(length, _LENGTH) - reader.num_special_tokens_to_add()
    runs = _sequences(held_out, reader, lengths)
    if not runs:
        return {"not_measured": f"{held_out} has no text"}
    auto: Any = AutoModelForCausalLM if causal else AutoModelForMaskedLM
    whole: Any = bases.opened(auto, base, config, 0).to(model.device).eval()  # type: ignore[arg-type]
    batches = [_batch(runs[at : at + _ROWS], at, None if causal else reader) for at in range(0, len(runs), _ROWS)]
    before = _loss(whole, batches, causal)
    training = model.training
    model.eval()  # adapters and dropout are of this one
    setattr(whole, whole.base_model_prefix, model.base_model)
    whole.tie_weights()
    after = _loss(whole, batches, causal)
    model.train(training)
    return {"kind": "next token" if causal else "masked tokens", "before": before, "after": after}


def _sequences(held_out: str, reader: Any, length: int) -> list[list[int]]:
    """The first sequences of the held-out text, of ``length`` tokens of one document each, with special tokens."""
    if Path(files.local(held_out)).is_dir():
        packed = PackedTokens(held_out)
        bounds = zip(packed.starts[:-1], packed.starts[1:], strict=True)
        documents = (packed.tokens(int(start), int(end)).tolist() for start, end in bounds)
    else:
        with files.opened(held_out) as handle:
            lines = handle.read(_TEXT).decode("utf-8", "replace").splitlines()
        backend = reader.backend_tokenizer
        backend.no_truncation()
        documents = (backend.encode(line, add_special_tokens=False).ids for line in lines if line.strip())
    before, after = _around(reader.backend_tokenizer)
    made: list[list[int]] = []
    for ids in documents:
        parts = [ids[at : at + length] for at in range(0, len(ids), length)]
        made += [[*before, *part, *after] for part in parts if len(part) > 1]
        if len(made) >= _SEQUENCES:
            break
    return made[:_SEQUENCES]


def _around(tokenizer: Any) -> tuple[list[int], list[int]]:
    """The special tokens before and after a text."""
    encoding = tokenizer.encode("a")
    own = [part is not None for part in encoding.sequence_ids]
    if not any(own):
        return [], []
    return encoding.ids[: own.index(True)], encoding.ids[len(own) - own[::-1].index(True) :]


def _batch(sequences: list[list[int]], first: int, masking: Any | None) -> tuple[Tensor, Tensor, Tensor]:
    """Tokens, what is to be predicted, and the mask of ``sequences``, int64 [n, length].

    ``masking`` is the tokenizer whose mask token stands for those that are predicted; None predicts each next token.
    ``first`` is the number of the first sequence: it decides which of its tokens are masked.
    """
    tokens, labels = [], []
    for number, ids in enumerate(sequences, first):
        row = np.array(ids, np.int64)
        if masking is None:
            wanted = np.append(row[1:], _IGNORED)
        else:
            special = np.isin(row, masking.all_special_ids)
            own = np.flatnonzero(~special) if (~special).any() else np.arange(len(row))
            draw = random_streams.generator("forgetting", number)
            chosen = draw.choice(own, max(1, round(_MASKED * len(own))), replace=False)
            wanted = np.full_like(row, _IGNORED)
            wanted[chosen] = row[chosen]
            row[chosen] = masking.mask_token_id
        tokens.append(row)
        labels.append(wanted)
    mask = filled([np.ones_like(row) for row in tokens], 0)
    arrays = (filled(tokens, 0), filled(labels, _IGNORED), mask)
    one, other, third = (torch.from_numpy(array) for array in arrays)
    return one, other, third


@torch.no_grad()
def _loss(model: Any, batches: list[tuple[Tensor, Tensor, Tensor]], causal: bool) -> float:
    """Nats a token that is predicted."""
    total, count = 0.0, 0
    for batch in batches:
        tokens, labels, mask = (part.to(model.device) for part in batch)
        more = {"token_type_ids": torch.zeros_like(tokens)} if typed(model) else {}
        more |= {"use_cache": False} if causal else {}
        logits = model(input_ids=tokens, attention_mask=mask, **more).logits
        chosen = labels != _IGNORED
        total += float(F.cross_entropy(logits[chosen].float(), labels[chosen], reduction="sum"))
        count += int(chosen.sum())
    return total / count
