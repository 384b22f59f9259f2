"""One check of a tokenizer's folder: every file is opened by the program it is for, and all give the same ids."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import sentencepiece
from tokenizers import Tokenizer
from transformers import AutoTokenizer, BertTokenizer, GPT2Tokenizer

from pipeline.tokenization import pack
from pipeline.tokenization.config import TokenizerConfig
from pipeline.tokenization.encoding.encode import Encoder
from pipeline.tokenization.formats.export import Vocabulary

#: Control characters, emoji, literal special tokens, white space, what no alphabet holds.
SAMPLE = [
    "",
    " ",
    "a\x00b \x00 new\x00",
    "\x01\x02 fast\x7f\x1c\x85x",
    "😉👩‍👩‍👧🦜 ẞΩ계",
    "runs   of    spaces  ",
    "  x):\n\treturn  low\r\n\n    # wider\n",
    "<s>a</s> b</s>c <pad><unk>x <|endoftext|>",
    "[CLS] new [SEP][MASK]low[PAD] [UNK]",
    "<extra_id_0> x<extra_id_0>y [NEW] <0x41><0x00> ##ing </w>low</w>",
    "Ünïcode e\u0301t ﬁne ½ ① naïve être 計算機",
    "\u3000wide\u2003\xa0gaps\u2028",
    "▁mark a▁b ▁▁",
    "The LOWEST of 12345 it's can't, 3.14!",
]


def check(folder: str, vocabulary: Vocabulary, config: TokenizerConfig, texts: list[str]) -> set[str]:
    """Assert what this module says, on ``texts`` and SAMPLE; returns which of the optional files were there."""
    texts = [*texts, *SAMPLE]
    assert len(set(vocabulary.pieces)) == len(vocabulary.pieces)
    engine = Tokenizer.from_file(f"{folder}/tokenizer.json")
    assert [engine.id_to_token(i) for i in range(engine.get_vocab_size())] == vocabulary.pieces
    auto = AutoTokenizer.from_pretrained(folder)
    for text in texts:
        assert auto(text)["input_ids"] == engine.encode(text).ids, text
    engine.encode_special_tokens = True
    expected = [engine.encode(text, add_special_tokens=False).ids for text in texts]
    for text, ids in zip(texts, expected, strict=True):
        assert auto(text, add_special_tokens=False, split_special_tokens=True)["input_ids"] == ids, text
        reserved = set(ids) & {i for i, token in enumerate(config.reserved) if token != config.special.get("unk")}
        assert not reserved, (text, engine.encode(text).tokens)
    encoder = Encoder(pack.load(f"{folder}/tokenizer.json"))
    (block,) = encoder.encode(pa.array(texts))
    assert block.tokens.tolist() == [index for ids in expected for index in ids]
    return {name for name in _PROGRAMS if _same_ids(Path(folder) / name, texts, expected, config)}


def _same_ids(path: Path, texts: list[str], expected: list[list[int]], config: TokenizerConfig) -> bool:
    if not path.exists():
        return False
    program = _PROGRAMS[path.name](path, config)
    for text, ids in zip(texts, expected, strict=True):
        found = program(text)
        if path.suffix == ".model":  # equally likely segmentations fall out differently in 32-bit and 64-bit sums
            found, ids = sorted(found), sorted(ids)
        assert found == ids, (path.name, text)
    return True


def _sentencepiece(path: Path, _config: TokenizerConfig):
    return sentencepiece.SentencePieceProcessor(model_file=str(path)).encode


def _bert(path: Path, config: TokenizerConfig):
    options = {"do_lower_case": config.lowercase, "strip_accents": config.strip_accents}
    program = BertTokenizer(vocab=str(path), **options, **_roles(config))
    whole = BertTokenizer.from_pretrained(str(path.parent))

    def encode(text: str) -> list[int]:
        ids = program(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        assert whole(text, add_special_tokens=False, split_special_tokens=True)["input_ids"] == ids
        return ids

    return encode


def _gpt2(path: Path, config: TokenizerConfig):
    program = GPT2Tokenizer(vocab=str(path), merges=str(path.with_name("merges.txt")), **_roles(config))
    return lambda text: program(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]


def _roles(config: TokenizerConfig) -> dict[str, Any]:
    return {f"{role}_token": token for role, token in config.special.items()}


_PROGRAMS = {"sentencepiece.model": _sentencepiece, "vocab.txt": _bert, "vocab.json": _gpt2}
