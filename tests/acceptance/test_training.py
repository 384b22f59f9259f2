"""Real prose: both objectives learn it from a uniform guess, and the compressed size of held-out text shows it."""

from __future__ import annotations

import gzip
import json
import math
from pathlib import Path

import numpy as np
import pytest

from tests.training.conftest import END, SPECIAL, make_build, pack, pretrain_section
from training.pretrain import pretrain

SHAPES = {
    "causal": {"type": "gpt2", "n_layer": 2, "n_embd": 64, "n_head": 2},
    "mlm": {
        "type": "bert",
        "num_hidden_layers": 2,
        "hidden_size": 64,
        "num_attention_heads": 2,
        "intermediate_size": 256,
    },
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
    section = pretrain_section(
        objective, model=SHAPES[objective], sequence_length=128, batch_size=16, steps=120, eval_tokens=20_000
    )
    summary = pretrain(make_build(str(tmp_path), section), objective)
    log = [json.loads(line) for line in (tmp_path / f"models/{objective}/metrics.jsonl").read_text().splitlines()]
    assert log[0]["loss"] == pytest.approx(math.log(320), abs=0.2)
    found = summary["evaluation"]
    if objective == "causal":
        assert found["loss"] < 0.95 * entropy(texts[-20:])
        assert found["bits_per_byte"] == pytest.approx(found["loss"] / math.log(2), rel=0.01)  # a token is a byte
    else:
        assert found["loss"] < 1.05 * entropy(texts[-20:])
