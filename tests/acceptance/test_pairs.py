"""Pairs of texts whose label is in what they share: what a small model that is pretrained here makes of RTE, frozen."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.labelled_sets import SETS
from pipeline.tokenization.config import Role, TokenizerConfig
from tests.acceptance.test_training import ENCODER, write_build
from tests.training.conftest import _one_thread, make_build, pretrain_section
from training.finetuning import cost_ladder
from training.labelled import files
from training.pretraining.pretrain import pretrain
from training.recipe.finetuning import FinetuneConfig

__all__ = ["_one_thread"]
pytestmark = pytest.mark.slow


def test_a_frozen_encoder_that_reads_both_texts_apart_surely_beats_the_majority_on_rte(
    shared: Path, tmp_path: Path
) -> None:
    """Pretrained on the training texts alone, without their labels: some seconds."""
    entailment = next(labelled for labelled in SETS if labelled.name == "RTE")
    data = entailment.data(shared, tmp_path)
    given = {"name": "x", "base": "", "data": data, "dev_share": 0.25, **entailment.fields}
    rows = files.load(FinetuneConfig.model_validate(given), 1)
    sets = cost_ladder.sets_of(rows)
    texts = [text for name in ("text", "pair") for text in rows.train[name].to_pylist()]
    roles: dict[Role, str] = {"cls": "[CLS]", "sep": "[SEP]", "pad": "[PAD]", "mask": "[MASK]", "unk": "[UNK]"}
    tokenizer = TokenizerConfig(name="masked", algorithm="wordpiece", vocab_size=4_096, special_tokens=roles)
    write_build(tmp_path, texts, tokenizer)
    section = pretrain_section(
        "mlm",
        model={"type": "bert", **ENCODER},
        sequence_length=128,
        batch_size=16,
        steps=40,
        checkpoint_every=40,
        eval_tokens=10_000,
        initial_embeddings="cooccurrence",
    )
    pretrain(make_build(str(tmp_path), section), "mlm")
    rungs = cost_ladder.rungs([], str(tmp_path / "models" / "mlm"), 128, str(tmp_path / "work"), pairs=True)
    ladder = cost_ladder.climb(sets, (rung for rung in rungs if rung.name in ("majority", "overlap", "frozen")), 5)
    for each in ladder.measured:
        print(f"\n{each.name}: {each.accuracy}", getattr(each.fitted, "used", ""))
    assert ladder.rung("frozen").accuracy.low > ladder.rung("majority").accuracy.high
    assert cost_ladder.recommend(ladder, sets).name in ("overlap", "frozen")
