"""Ways to read documents that are longer than a sequence, on the movie reviews of the acceptance data, in one table.

    python -m benchmarks.long_documents [TEST_SHARE]

A small BERT starts from the co-occurrences of the training reviews' tokens and learns the same reviews, in the same
order and for as many epochs, by each way. One thread. The share of the reviews that are tested on, not the development
rows, decides nothing but the width of the intervals.
"""

from __future__ import annotations

import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers.utils import logging

from benchmarks.documents import SHARED, packed
from training.finetuning.finetune import run
from training.finetuning.job import Job
from training.labelled import files
from training.labelled.rows import Labelled
from training.pretraining import initial_embeddings, pretrain
from training.recipe.finetuning import FinetuneConfig

REVIEWS = SHARED.parent / "finetune" / "movie_reviews.jsonl.gz"
LENGTH, VOCABULARY = 128, 8_000
SHAPE = {"hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 128}
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WAYS: tuple[tuple[str, Any], ...] = (
    ("head", "head"),
    ("tail", "tail"),
    ("head and tail", "head_tail"),
    ("chunks, max", {"kind": "chunks", "pooling": "max"}),
    ("chunks, mean", {"kind": "chunks", "pooling": "mean"}),
    ("chunks, attention", {"kind": "chunks", "pooling": "attention"}),
    ("hierarchical", {"kind": "hierarchical", "layers": 1}),
)
#: Ways beside which a bag of words reads the same text: the first tokens, and all.
BESIDE = ("head", "chunks, mean")


def config(how: Any, base: str, test_share: float) -> FinetuneConfig:
    return FinetuneConfig.model_validate(
        {
            **{"name": "reviews", "base": base, "label": "label", "data": {"train": str(REVIEWS)}, "long_text": how},
            **{"sequence_length": LENGTH, "epochs": 2, "batch_size": 8, "test_share": test_share, "precision": "fp32"},
            "optimiser": {"learning_rate": 1e-3, "schedule": "linear", "warmup": 0.1},
            "dropout": 0.0,  # the most of a small model's time on a CPU
        }
    )


def base(rows: Labelled, folder: Path) -> str:
    """A BERT and a WordPiece of the training rows' texts."""
    texts = rows.train["text"].to_pylist()
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))  # type: ignore[call-arg]
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=VOCABULARY, special_tokens=SPECIAL, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    ids = [encoding.ids for encoding in tokenizer.encode_batch(texts)]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)  # type: ignore
    torch.manual_seed(0)
    shape: dict[str, Any] = {**SHAPE, "vocab_size": tokenizer.get_vocab_size(), "max_position_embeddings": LENGTH}
    made = transformers.BertModel(transformers.BertConfig(**shape))
    special = {"pad": 0, "cls": 2, "sep": 3, "mask": 4}
    initial_embeddings.set_in(made, packed(str(folder / "tokens"), ids, tokenizer.get_vocab_size(), special), 0)
    made.save_pretrained(folder)
    return str(folder)


def main(test_share: float = 0.5) -> None:
    """Accuracy of each way, of a bag of words that reads as much, and seconds of processor time with all scores."""
    if not REVIEWS.exists():
        print(f"{REVIEWS} is not there: this benchmark needs the acceptance data")
        return
    torch.set_num_threads(1)
    logging.set_verbosity_error()
    with tempfile.TemporaryDirectory() as folder:
        rows = files.load(config("head", "none", test_share), 0)
        made = base(rows, Path(folder) / "base")
        weights = pretrain.weights_hash(made)
        row = "{:<20} {:>8} {:>16} {:>14} {:>10} {:>10}"
        print(f"{len(rows.train)} reviews to learn, {len(rows.dev)} to choose by, {len(rows.test)} to test")
        print(row.format("sequences of 128", "accuracy", "95 %", "bag of words", "cut, %", "seconds"))
        for name, how in WAYS:
            at, started = Path(folder) / name, time.process_time()
            settings = config(how, made, test_share)
            job = Job(settings, rows, made, 0, str(at / "model"), str(at / "work"), weights, {"base": "benchmark"})
            summary = run(replace(job, compared=name in BESIDE))
            ours, bag = (summary["scores"].get(which, {}).get("accuracy") for which in ("model", "bag_of_words"))
            interval = f"{100 * ours['low']:.1f} to {100 * ours['high']:.1f}"
            cut = 100 * summary["audit"]["truncated"]["test"]
            cells = [f"{100 * ours['value']:.1f}", interval, (bag and f"{100 * bag['value']:.1f}") or "", f"{cut:.0f}"]
            print(row.format(name, *cells, f"{time.process_time() - started:.0f}"), flush=True)


if __name__ == "__main__":
    main(*map(float, sys.argv[1:]))
