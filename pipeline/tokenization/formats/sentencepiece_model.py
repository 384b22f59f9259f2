"""A trained Unigram vocabulary as a SentencePiece model file (``sentencepiece_model.proto`` of its repository).

Ids, scores and segmentations are those of tokenizer.json. SentencePiece knows normalisers as a table of rewrites, the
longest match first; ours holds what the engine makes of every character and of every decomposed form of a character.
"""

from __future__ import annotations

import struct
import unicodedata
from functools import cache

import sentencepiece

from pipeline.tokenization.character_classes import SPACE, marked_table
from pipeline.tokenization.config import TokenizerConfig
from pipeline.tokenization.formats import export
from pipeline.tokenization.formats.export import BYTE_PIECES, Vocabulary

_NORMAL, _UNKNOWN, _CONTROL, _BYTE = 1, 2, 3, 6
_UNIGRAM = 1
#: Planes that hold assigned characters which a normaliser may change; the others are empty or for private use.
_CHARACTERS = [point for point in range(0x30000) if not 0xD800 <= point < 0xE000]


def is_feasible(config: TokenizerConfig) -> bool:
    """SentencePiece has Unigram as ours, and wants an unknown token."""
    return config.algorithm == "unigram" and "unk" in config.special


def to_bytes(vocabulary: Vocabulary, config: TokenizerConfig) -> bytes:
    """The file that ``sentencepiece.SentencePieceProcessor(model_file=...)`` opens.

    Special and added tokens become control symbols, which text can never hold.
    """
    ids = export.special_ids(config)
    spans = [_field(1, _piece(p, s, config)) for p, s in zip(vocabulary.pieces, vocabulary.scores, strict=True)]
    trainer = _field(3, _UNIGRAM) + _field(4, len(vocabulary.pieces)) + _field(35, int(config.byte_fallback))
    for number, role in ((40, "unk"), (41, "bos"), (42, "eos"), (43, "pad")):
        trainer += _field(number, ids.get(role, -1))  # type: ignore[call-overload]
        if role in config.special:
            trainer += _field(number + 5, config.special[role].encode())  # type: ignore[index]
    folds = config.remove_extra_whitespaces
    normalizer = _rewrites(config.normalizer or "none", bool(config.lowercase), bool(config.strip_accents), folds)
    spaces = _field(3, int(config.add_dummy_prefix)) + _field(4, int(folds)) + _field(5, 1)  # 5: "▁" for spaces
    return b"".join(spans) + _field(2, trainer) + _field(3, normalizer + spaces)


def _piece(piece: str, score: float, config: TokenizerConfig) -> bytes:
    if piece == config.special["unk"]:
        kind = _UNKNOWN
    elif piece in config.reserved:
        kind = _CONTROL
    elif config.byte_fallback and piece in BYTE_PIECES:
        kind = _BYTE
    else:
        kind = _NORMAL
    return _field(1, piece.encode()) + _field(2, score if kind == _NORMAL else 0.0) + _field(3, kind)


@cache
def _rewrites(normalizer: str, lowercase: bool, strip_accents: bool, folds: bool) -> bytes:
    """The NormalizerSpec of one combination of normalisers, as SentencePiece's own compiler writes it.

    ``folds``: every white space character becomes a space, runs of which SentencePiece then folds.
    """
    options = {"normalizer": normalizer, "lowercase": lowercase, "strip_accents": strip_accents}
    config = TokenizerConfig.model_validate({"name": "x", "algorithm": "unigram", "vocab_size": 8, **options})
    engine = export.normalizer(config)
    rewrites = {}
    for text in _candidates():
        changed = engine.normalize_str(text) if engine else text
        if folds:
            changed = "".join(" " if marked_table()[ord(character)] & SPACE else character for character in changed)
        if changed != text:
            rewrites[text] = changed
    if not rewrites:
        return b""
    sentencepiece.set_min_log_level(2)
    compiled = sentencepiece.SentencePieceNormalizer(norm_map=sorted(rewrites.items()))
    return compiled.serialized_normalizer_spec()


@cache
def _candidates() -> list[str]:
    """Every character, and the decomposed and half decomposed forms of those that have one."""
    candidates = dict.fromkeys(map(chr, _CHARACTERS))
    for character in list(candidates):
        parts = unicodedata.normalize("NFD", character)
        if len(parts) > 1:
            candidates[parts] = None
        if len(parts) > 2:
            candidates[unicodedata.normalize("NFC", parts[:2]) + parts[2:]] = None
    candidates.pop("\x00")  # ends a string in the compiled table
    return list(candidates)


def _field(number: int, value: int | float | bytes) -> bytes:
    """One protobuf field: a varint (int), a 32-bit float, or bytes with their length."""
    if isinstance(value, float):
        return _varint(number << 3 | 5) + struct.pack("<f", value)
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value & 0xFFFFFFFFFFFFFFFF)
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    written = bytearray()
    while value > 0x7F:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    written.append(value)
    return bytes(written)
