"""Tiny models with tokenizers, as transformers alone writes them, and labelled rows to fine-tune them on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
import transformers
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from training.finetuning.finetune import Job
from training.labelled.rows import Labelled, identity
from training.recipe.finetuning import FinetuneConfig

_SIZES = {"num_hidden_layers": 2, "hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64}


def bert(folder: Path, texts: Sequence[str], **sizes: Any) -> str:
    """A BERT of 64 positions with a WordPiece of the words of ``texts``."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))  # type: ignore[call-arg]
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False, strip_accents=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer.train_from_iterator(
        texts, trainers.WordPieceTrainer(vocab_size=2_000, special_tokens=special, show_progress=False)
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    fields = {**_SIZES, "max_position_embeddings": 64, "vocab_size": tokenizer.get_vocab_size(), "pad_token_id": 0}
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    return _save(folder, tokenizer, names | {"mask_token": "[MASK]"}, transformers.BertForMaskedLM, fields | sizes)


def roberta(folder: Path, texts: Sequence[str]) -> str:
    """A RoBERTa of 64 positions with a BPE of the bytes of ``texts``."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=["<s>", "<pad>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    fields = dict(
        **_SIZES,
        max_position_embeddings=66,
        vocab_size=tokenizer.get_vocab_size(),
        pad_token_id=1,
        bos_token_id=0,
        eos_token_id=2,
        type_vocab_size=1,
    )
    names = {"bos_token": "<s>", "cls_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>", "sep_token": "</s>"}
    return _save(folder, tokenizer, names, transformers.RobertaForMaskedLM, fields)


def t5(folder: Path, texts: Sequence[str], vocabulary: int = 300, **sizes: Any) -> str:
    """A T5 with a Unigram of ``texts``."""
    tokenizer = _unigram(texts, vocabulary)
    small = {"num_layers": 2, "d_model": 32, "num_heads": 2, "d_ff": 64, "d_kv": 16, "dropout_rate": 0.0}
    fields = dict(
        **(small | sizes),
        vocab_size=tokenizer.get_vocab_size(),
        pad_token_id=0,
        eos_token_id=1,
        decoder_start_token_id=0,
    )
    names = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    return _save(folder, tokenizer, names, transformers.T5ForConditionalGeneration, fields)


def bart(folder: Path, texts: Sequence[str]) -> str:
    """A BART of 64 positions with a Unigram of ``texts``."""
    tokenizer = _unigram(texts)
    sides = {
        f"{side}_{name}": value
        for side in ("encoder", "decoder")
        for name, value in (("layers", 2), ("attention_heads", 2), ("ffn_dim", 64))
    }
    fields = dict(
        **sides,
        d_model=32,
        max_position_embeddings=64,
        vocab_size=tokenizer.get_vocab_size(),
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=1,
        decoder_start_token_id=1,
        forced_eos_token_id=1,
    )
    names = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    return _save(folder, tokenizer, names, transformers.BartForConditionalGeneration, fields)


def _unigram(texts: Sequence[str], vocabulary: int = 300) -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=vocabulary, special_tokens=["<pad>", "</s>", "<unk>"], unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)]
    )
    return tokenizer


def _save(folder: Path, tokenizer: Tokenizer, names: dict[str, str], kind: Any, fields: dict[str, Any]) -> str:
    torch.manual_seed(0)
    kind(kind.config_class(**fields)).save_pretrained(folder)
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)  # type: ignore
    return str(folder)


def rows(task: Any, labels: list[str], train: list[dict], dev: list[dict], test: list[dict]) -> Labelled:
    """Labelled rows of the columns in ``train``, ``dev`` and ``test``; each is a group of its own unless it says."""
    tables = {}
    for name, part in (("train", train), ("dev", dev), ("test", test)):
        ids = [f"{name}:{number:05d}" for number in range(len(part))]
        full = [{"id": id_, "group": id_, "place": id_, **row} for id_, row in zip(ids, part, strict=True)]
        tables[name] = pa.Table.from_pylist(full)
    return Labelled(task, labels, **tables, fingerprint=identity(task, tables), audit={})


def job(folder: Path, base: str, labelled: Labelled, **config: Any) -> Job:
    """Fine-tuning of ``base`` on ``labelled`` into ``folder``."""
    settings = {
        **{"name": folder.name, "base": base, "label": "label", "task": labelled.task, "data": {"train": "rows"}},
        **{"sequence_length": 32, "batch_size": 16, "epochs": 6, "dropout": 0.0, "precision": "fp32"},
        **config,
    }
    settings["optimiser"] = {"learning_rate": 3e-3, "warmup": 0.1, **settings.get("optimiser", {})}
    return Job(
        config=FinetuneConfig.model_validate(settings),
        rows=labelled,
        base=base,
        seed=1,
        result=str(folder / "model"),
        work=str(folder / "work"),
        started_from="test",
        made_from={"base": "test"},
    )
