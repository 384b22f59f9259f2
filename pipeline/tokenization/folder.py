"""The files of a trained tokenizer: what ``tokenizers``, ``transformers``, SentencePiece and older programs read."""

from __future__ import annotations

import hashlib

from pipeline.store import files
from pipeline.tokenization import export, sentencepiece_model
from pipeline.tokenization.config import TokenizerConfig
from pipeline.tokenization.export import Vocabulary


def save(folder: str, vocabulary: Vocabulary, config: TokenizerConfig) -> str:
    """Write the tokenizer's files into ``folder``; returns the SHA-256 of tokenizer.json, which is written last.

    tokenizer.json and tokenizer_config.json for everyone; beside them vocab.json and merges.txt (BPE), vocab.txt
    (WordPiece), or sentencepiece.model (Unigram with an unknown token).
    """
    content = export.to_json(vocabulary, config)
    files.write_json(files.join(folder, "tokenizer_config.json"), export.tokenizer_config(config))
    if config.algorithm == "bpe":
        files.write_json(files.join(folder, "vocab.json"), {p: i for i, p in enumerate(vocabulary.pieces)})
        lines = ["#version: 0.2", *(f"{left} {right}" for left, right in vocabulary.merges)]
        _write(files.join(folder, "merges.txt"), _lines(lines))
    if config.algorithm == "wordpiece":
        _write(files.join(folder, "vocab.txt"), _lines(vocabulary.pieces))
    if sentencepiece_model.is_feasible(config):
        _write(files.join(folder, "sentencepiece.model"), sentencepiece_model.to_bytes(vocabulary, config))
    _write(files.join(folder, "tokenizer.json"), content)
    return hashlib.sha256(content).hexdigest()


def _lines(lines: list[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


def _write(path: str, content: bytes) -> None:
    with files.replacing(path) as handle:
        handle.write(content)
