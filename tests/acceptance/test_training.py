"""Real prose: every objective learns it from a uniform guess, and the compressed size of held-out text shows it."""

from __future__ import annotations

import gzip
import json
import math
from pathlib import Path

import numpy as np
import pytest

from tests.training.conftest import END, SPECIAL, make_build, pack, pretrain_section, write_tokenizer
from training.pretrain import pretrain

ENCODER = {"num_hidden_layers": 2, "hidden_size": 64, "num_attention_heads": 2, "intermediate_size": 256}
SHAPES = {
    "causal": {"type": "gpt2", "n_layer": 2, "n_embd": 64, "n_head": 2},
    "mlm": {"type": "bert", **ENCODER},
    "mlm_nsp": {"type": "bert", **ENCODER},
    "mlm_sop": {"type": "albert", **ENCODER, "embedding_size": 64},
    "electra": {"type": "electra", **ENCODER, "embedding_size": 64},
    "span_corruption": {"type": "t5", "num_layers": 2, "d_model": 64, "num_heads": 2, "d_ff": 256, "d_kv": 32},
    "denoising": {
        "type": "bart",
        "d_model": 64,
        **{
            f"{side}_{field}": value
            for side in ("encoder", "decoder")
            for field, value in (("layers", 2), ("attention_heads", 2), ("ffn_dim", 256))
        },
    },
}
#: What the loss of a part comes down to, as a share of the entropy of single bytes, which needs no context.
REACHED = {
    "causal": ("causal", 0.95),
    "mlm": ("mlm", 1.05),
    "mlm_nsp": ("mlm", 1.05),
    "mlm_sop": ("mlm", 1.05),
    "electra": ("mlm", 1.05),
    "span_corruption": ("spans", 1.05),
    "denoising": ("denoising", 1.05),
}


def prose(shared: Path, documents: int = 400, size: int = 1_000) -> list[str]:
    """The beginning of WikiText-2's validation part, in pieces."""
    with gzip.open(shared / "prose" / "encyclopedia" / "wikitext2_valid.txt.gz") as handle:
        text = handle.read(documents * size).decode("utf-8", "ignore")
    return [text[at : at + size] for at in range(0, len(text), size)]


def entropy(texts: list[str]) -> float:
    """Of single bytes, in nats: what a model without context comes to."""
    counts = np.bincount(np.frombuffer("".join(texts).encode(), np.uint8))
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log(shares)).sum())


@pytest.mark.slow
@pytest.mark.parametrize("objective", SHAPES)
def test_loss_on_real_text_falls_from_a_uniform_guess(shared: Path, tmp_path: Path, objective: str) -> None:
    texts = prose(shared)
    assert len(texts) > 100
    special = END if objective == "causal" else SPECIAL
    name = "bytes" if objective == "causal" else "masked"
    pack(str(tmp_path / f"tokens/{name}/train"), texts[:-20], special)
    pack(str(tmp_path / f"tokens/{name}/heldout"), texts[-20:], special)
    write_tokenizer(str(tmp_path / f"tokenizers/{name}"), special)
    steps = 300 if objective in ("span_corruption", "denoising") else 120  # two towers learn slower than one
    section = pretrain_section(
        objective, model=SHAPES[objective], sequence_length=128, batch_size=16, steps=steps, eval_tokens=20_000
    )
    # a quarter of this width would be a generator that learns next to nothing
    more = {"electra": {"generator": 1.0}} if objective == "electra" else {}
    summary = pretrain(make_build(str(tmp_path), {**section, **more}), objective)
    log = [json.loads(line) for line in (tmp_path / f"models/{objective}/metrics.jsonl").read_text().splitlines()]
    part, share = REACHED[objective]
    sentinels = 64 if objective == "span_corruption" else 0
    assert log[0].get(part, log[0]["loss"]) == pytest.approx(math.log(320 + sentinels), rel=0.15 if sentinels else 0.04)
    found = summary["evaluation"]
    assert found.get(part, found["loss"]) < share * entropy(texts[-20:])
    if objective == "causal":
        assert found["bits_per_byte"] == pytest.approx(found["loss"] / math.log(2), rel=0.01)  # a token is a byte
    if objective == "electra":  # better than always saying original
        replaced = 0.15 * 0.9
        assert found["discriminator"] < -(replaced * math.log(replaced) + (1 - replaced) * math.log(1 - replaced))
