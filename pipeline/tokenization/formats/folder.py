"""The files of a trained tokenizer: what ``tokenizers``, ``transformers``, SentencePiece and older programs read."""

from __future__ import annotations

import hashlib

from pipeline.store import files
from pipeline.tokenization.config import TokenizerConfig
from pipeline.tokenization.formats import export, sentencepiece_model
from pipeline.tokenization.formats.export import Vocabulary


def save(folder: str, vocabulary: Vocabulary, config: TokenizerConfig) -> str:
    """Write the tokenizer's files into ``folder``; returns the SHA-256 of tokenizer.json, which is written last.

    tokenizer.json and tokenizer_config.json for everyone; beside them, where the program that reads it gives the same
    ids, vocab.json and merges.txt (``GPT2Tokenizer``), vocab.txt (``BertTokenizer``), or sentencepiece.model.
    """
    content = export.to_json(vocabulary, config)
    files.write_json(files.join(folder, "tokenizer_config.json"), export.tokenizer_config(config))
    if _is_gpt2s(config):
        files.write_json(files.join(folder, "vocab.json"), {p: i for i, p in enumerate(vocabulary.pieces)})
        lines = ["#version: 0.2", *(f"{left} {right}" for left, right in vocabulary.merges)]
        _write(files.join(folder, "merges.txt"), _lines(lines))
    if _is_berts(config):
        _write(files.join(folder, "vocab.txt"), _lines(vocabulary.pieces))
    if sentencepiece_model.is_feasible(config):
        _write(files.join(folder, "sentencepiece.model"), sentencepiece_model.to_bytes(vocabulary, config))
    _write(files.join(folder, "tokenizer.json"), content)
    return hashlib.sha256(content).hexdigest()


def _is_gpt2s(config: TokenizerConfig) -> bool:
    """GPT-2's program knows one pattern, no normaliser, and no other cuts."""
    changes = config.normalizer != "none" or config.lowercase or config.strip_accents
    return config.pre_tokenizer == "gpt2" and not changes and not _has_cuts(config) and config.superwords is None


def _is_berts(config: TokenizerConfig) -> bool:
    """BERT's program sets Chinese characters apart, knows no other cuts, and one prefix."""
    cuts = config.split_digits or config.split_scripts
    return config.algorithm == "wordpiece" and not cuts and config.continuing_subword_prefix == "##"


def _has_cuts(config: TokenizerConfig) -> bool:
    return config.split_digits or config.split_cjk or bool(config.split_scripts)


def _lines(lines: list[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


def _write(path: str, content: bytes) -> None:
    with files.replacing(path) as handle:
        handle.write(content)
