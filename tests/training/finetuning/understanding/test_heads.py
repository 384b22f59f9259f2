from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import nn
from transformers import BertConfig, BertModel

from tests.training.finetuning.understanding.conftest import classified, job_on
from training.finetuning.encoded import Reader
from training.finetuning.understanding import heads
from training.finetuning.understanding.states import Base

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "wave", "boat", "."]


def known() -> Base:
    """A BERT of one layer and two heads: one attends evenly, the other by the key alone, ``[SEP]`` three times as much.

    Word embeddings are unit vectors, kept as they are; the query is constant, and the key of [SEP] is ln 3 long.
    """
    torch.manual_seed(0)
    shape: dict[str, Any] = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    shape |= {"intermediate_size": 8, "max_position_embeddings": 16, "vocab_size": len(WORDS)}
    model: Any = BertModel(BertConfig(**shape)).eval()
    model.set_attn_implementation("eager")
    model.embeddings.LayerNorm = nn.Identity()
    with torch.no_grad():
        model.embeddings.word_embeddings.weight.copy_(torch.eye(len(WORDS), 8))
        model.embeddings.position_embeddings.weight.zero_()
        model.embeddings.token_type_embeddings.weight.zero_()
        attention = model.encoder.layer[0].attention.self
        for part in (attention.query, attention.key):
            part.weight.zero_()
            part.bias.zero_()
        attention.query.bias[4] = 2.0  # sqrt of the head's width of 4: the second head scores what its key says
        attention.key.weight[4, WORDS.index("[SEP]")] = math.log(3)
    tokenizer = Tokenizer(models.WordLevel({word: at for at, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", None, [("[CLS]", 2), ("[SEP]", 3)])
    return Base(model, Reader(tokenizer, 16, 0))


def test_patterns_equal_those_by_hand() -> None:
    """[CLS] wave . [SEP] beside a longer text: 4 + 6 tokens, the shorter one padded."""
    base = known()
    texts = ["wave .", "boat wave . ."]
    found = heads.summary(base, base.reader.read(texts), texts)
    even, keyed = ({name: of[0][head] for name, of in found["patterns"].items()} for head in (0, 1))
    pairs, every = 3 + 5, 4 + 6
    assert found["tokens"] == every
    assert even == pytest.approx(
        {
            "next": (3 / 4 + 5 / 6) / pairs,
            "previous": (3 / 4 + 5 / 6) / pairs,
            "same": (1 + 1) / every,
            "first": (1 + 1) / every,
            "separator": (1 + 1) / every,
            "punctuation": (1 + 2) / every,
            "entropy": (4 * math.log(4) + 6 * math.log(6)) / every,
        }
    )
    # weights 1/6, 1/6, 1/6, 3/6 and 1/8 five times, 3/8: from each token the same
    entropies = math.log(6) - 3 / 6 * math.log(3), math.log(8) - 3 / 8 * math.log(3)
    assert keyed == pytest.approx(
        {
            "next": (2 / 6 + 3 / 6 + 4 / 8 + 3 / 8) / pairs,
            "previous": (3 / 6 + 5 / 8) / pairs,
            "same": (3 / 6 + 3 / 6 + 5 / 8 + 3 / 8) / every,
            "first": (4 / 6 + 6 / 8) / every,
            "separator": (4 * 3 / 6 + 6 * 3 / 8) / every,
            "punctuation": (4 * 1 / 6 + 6 * 2 / 8) / every,
            "entropy": (4 * entropies[0] + 6 * entropies[1]) / every,
        },
        abs=1e-6,
    )
    assert found["even"] == pytest.approx(even)


def test_padding_changes_nothing(bert: str, tmp_path: Path) -> None:
    """Each text by itself, weighed by its tokens, is what they are together."""
    job = job_on(classified(), bert, tmp_path)
    together = heads.run(job)
    base = heads.base_of(job, "eager")
    texts = job.rows.test["text"].to_pylist()
    alone = [heads.summary(base, base.reader.read([text]), [text]) for text in texts]
    total = sum(each["tokens"] for each in alone)
    for name in ("same", "first", "separator", "punctuation", "entropy"):
        parts = [torch.tensor(each["patterns"][name]) * each["tokens"] / total for each in alone]
        assert together["patterns"][name] == pytest.approx(torch.stack(parts).sum(0).numpy(), abs=1e-6), name
    assert together["texts"] == len(texts)


def test_each_row_of_weights_adds_up_to_the_mass_that_is_named() -> None:
    """Random weights: what is on the diagonals of a text of three tokens, and its entropy."""
    weights = torch.tensor([[[[0.2, 0.3, 0.5, 0.0], [0.1, 0.6, 0.3, 0.0], [0.7, 0.1, 0.2, 0.0], [0.4, 0.3, 0.2, 0.1]]]])
    mask = torch.tensor([[1, 1, 1, 0]])
    marked = torch.tensor([[[0, 0], [0, 1], [1, 0], [0, 0]]])
    found = dict(zip(heads.PATTERNS, heads.pattern_sums(weights.double(), mask, marked)[0].tolist(), strict=True))
    rows = weights[0, 0, :3, :3].double()
    entropy = -(rows * rows.log()).sum().item()
    expected = {"next": 0.6, "previous": 0.2, "same": 1.0, "first": 1.0, "separator": 1.0, "punctuation": 1.0}
    assert found == pytest.approx({**expected, "entropy": entropy}, abs=1e-6)
    assert heads.pattern_counts(mask).tolist() == [2, 2, 3, 3, 3, 3, 3]
