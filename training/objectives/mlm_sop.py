"""ALBERT as published: masked n-grams, and whether two segments stand in their order.

Lan et al. 2020, "ALBERT". A and B follow each other in one document; in half of the visits they have changed places,
and the pooled state of [CLS] tells (label 0: in order). Whole words are picked in runs of n <= 3 with p(n) ~ 1/n that
hold about ``mask_share`` of the tokens and never more, then masked as in ``mlm``, token by token. Where the tokenizer's
pieces do not show where a word begins, a token counts as a word. Embeddings are factorised
and all layers share their weights: that is the model's own.
"""

from __future__ import annotations

from dataclasses import replace
from typing import cast

from pipeline.store.packed_tokens import PackedTokens
from training.batches import random_streams
from training.batches.batch import Batch
from training.batches.segment_pairs import PairOrder, Pairs
from training.batches.windows import Windows
from training.objectives import masking, mlm, mlm_nsp, whole_words
from training.objectives.base import Objective, Task


def order(task: Task, packed: PackedTokens, seed: int, repeat: bool = True) -> PairOrder:
    """Raises MillError where the tokenizer lacks a token that the objective needs."""
    masking.layout("mlm_sop", task.vocabulary)
    return PairOrder(packed, task.vocabulary, task.config.sequence_length, seed, "order", repeat)


def informed(task: Task, _packed: PackedTokens, tokenizer: str) -> Task:
    return replace(task, continuing=whole_words.continuations(tokenizer, task.vocabulary.size))


def examples(task: Task, windows: Windows) -> Batch:
    """The arrays of ``mlm_nsp``, with ``pairs`` 0 where the segments are in order."""
    tokens, vocabulary, config = windows.tokens, task.vocabulary, task.config
    drawn = random_streams.uniforms(windows.visits, (6, tokens.shape[1]), "mlm", task.seed)
    candidates = mlm_nsp.ordinary(task, windows)
    picked, labels = masking.pick_runs(
        tokens, candidates, drawn[:, :4], config.mask_share, config.ngrams.longest, task.continuing
    )
    spoilt = masking.corrupt(tokens, picked, labels, drawn[:, 4], drawn[:, 5], vocabulary, mlm.MASKED, mlm.RANDOM)
    return mlm_nsp.batch(cast(Pairs, windows), spoilt, picked, labels)


OBJECTIVE = Objective(
    name="mlm_sop",
    version=4,
    weights=mlm_nsp.OBJECTIVE.weights,
    order=order,
    create=mlm_nsp.create,
    examples=examples,
    loss=mlm_nsp.loss,
    checkpoint=mlm_nsp.OBJECTIVE.checkpoint,
    flops=mlm.flops,
    informed=informed,
    per_byte=mlm_nsp.OBJECTIVE.per_byte,
)
