"""Tokenizers from texts, without a build."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from corpusmill import texts as given
from corpusmill.texts import Texts
from pipeline import MillError
from pipeline.curation.recipe import checked
from pipeline.tokenization.config import TokenizerConfig
from pipeline.tokenization.formats import export, references
from pipeline.tokenization.formats.folder import save
from pipeline.tokenization.training import counts, train


def train_tokenizer(
    texts: Texts, *, vocab_size: int, algorithm: str = "bpe", folder: str | Path | None = None, **fields: Any
) -> Tokenizer:
    """A tokenizer of ``vocab_size`` entries, trained on ``texts`` exactly as a build trains one on its corpus.

    ``algorithm`` is ``bpe`` (byte-level, as GPT-2), ``wordpiece`` (BERT) or ``unigram`` (T5); ``fields`` are others of
    a recipe's ``tokenizers`` (``mill fields tokenizers``): ``pre_tokenizer="gpt4"``, ``byte_fallback=True``. ``texts``
    are strings, an Arrow array of them or a table with the column ``text``, read once, in bounded memory; their order
    changes nothing. With ``folder``, the files that a build writes are written there: tokenizer.json and, where another
    program's own format gives the same ids, that too.

    Returns a ``tokenizers.Tokenizer``: ``tokenizer.encode("a text").ids``. As in training, special tokens that stand
    in a text are read as text; ``tokenizer.encode_special_tokens = False`` reads them as tokens.
    Raises MillError for a wrong field, no text, or a vocabulary that cannot hold the alphabet.
    """
    values = {"name": "tokenizer", "algorithm": algorithm, "vocab_size": vocab_size, **fields}
    config = checked(values, TokenizerConfig)
    table = counts.merge(counts.count(block["text"].combine_chunks(), config) for block in given.blocks(texts))
    if len(table) == 0:
        raise MillError("there is no text to train a tokenizer on")
    vocabulary = train.train(table, config)
    if folder is not None:
        save(str(folder), vocabulary, config)
    tokenizer = Tokenizer.from_buffer(export.to_json(vocabulary, config))
    tokenizer.encode_special_tokens = True
    return tokenizer


def load_tokenizer(path: str | Path) -> Tokenizer:
    """The tokenizer in ``path``, a ``tokenizers.Tokenizer`` without truncation and padding.

    ``path`` is a folder of a build (``data/builds/demo/tokenizers/bpe``), of ``train_tokenizer`` or of another program,
    or a file: tokenizer.json, GPT-2's vocab.json with merges.txt, BERT's vocab.txt, a SentencePiece unigram model.
    Special tokens that stand in a text are read as text; ``tokenizer.encode_special_tokens = False`` reads them as
    tokens. Raises MillError, naming the path and what it may hold.
    """
    return references.load(str(path))
