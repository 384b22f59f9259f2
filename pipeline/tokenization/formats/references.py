"""Published vocabularies as tokenizers, to compare ours with: GPT-2's, BERT's, ALBERT's and any tokenizer.json."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from pipeline import MillError
from pipeline.store import files

_BPE_FILES = (("encoder.json", "vocab.bpe"), ("vocab.json", "merges.txt"))
_GPT2_ROLES = {"bos": "<|endoftext|>", "eos": "<|endoftext|>", "unk": "<|endoftext|>"}
_BERT_ROLES = {"unk": "[UNK]", "sep": "[SEP]", "pad": "[PAD]", "cls": "[CLS]", "mask": "[MASK]"}


class UnknownVocabulary(MillError):
    """A path holds no vocabulary that can be read."""


def load(path: str) -> Tokenizer:
    """The vocabulary in ``path``, a folder or a file, for text that is not trusted (no special token is read from it).

    Read are tokenizer.json, GPT-2's encoder.json with vocab.bpe (or vocab.json with merges.txt), BERT's vocab.txt, and
    SentencePiece's unigram models. Whether BERT's and ALBERT's lower-case is seen from their pieces. Raises
    UnknownVocabulary, naming the path and what it may hold.
    """
    paths = [Path(file) for file in files_of(path)]
    for file in paths:
        files.check(str(file))
    names = {file.name: file for file in paths}
    pair = next((pair for pair in _BPE_FILES if pair[0] in names and names[pair[0]].with_name(pair[1]).exists()), None)
    model = next((file for file in paths if file.suffix == ".model"), None)
    tokenizer = None
    if whole := next((file for file in paths if file.name.startswith("tokenizer") and file.suffix == ".json"), None):
        tokenizer = Tokenizer.from_file(str(whole))
    elif pair is not None:
        tokenizer = _gpt2(names[pair[0]], names[pair[0]].with_name(pair[1]))
    elif "vocab.txt" in names:
        tokenizer = _bert(names["vocab.txt"])
    elif model is not None:
        tokenizer = _sentencepiece(model)
    if tokenizer is None:
        raise UnknownVocabulary(
            f"{path}: no vocabulary there; a reference is a tokenizer.json, a folder with encoder.json and vocab.bpe"
            " (or vocab.json and merges.txt), a vocab.txt, or a SentencePiece .model"
        )
    tokenizer.encode_special_tokens = True
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def files_of(path: str) -> list[str]:
    """The files that ``load`` may read, for a fingerprint."""
    place = Path(path).expanduser()
    if not place.exists():
        raise UnknownVocabulary(f"{path}: no such file or folder; give the path of a vocabulary")
    known = {"tokenizer.json", "vocab.txt", *(name for pair in _BPE_FILES for name in pair)}
    if place.is_file():
        return [str(place)]
    return [str(file) for file in sorted(place.iterdir()) if file.name in known or file.suffix == ".model"]


def _gpt2(vocabulary: Path, merges: Path) -> Tokenizer:
    ids = json.loads(vocabulary.read_text(encoding="utf-8"))
    lines = [
        line for line in merges.read_text(encoding="utf-8").split("\n") if line and not line.startswith("#version")
    ]
    pairs = [(left, right) for left, right in (line.split(" ") for line in lines)]
    tokenizer = Tokenizer(models.BPE(ids, pairs))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # type: ignore[assignment]
    tokenizer.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    tokenizer.add_special_tokens(sorted(set(_GPT2_ROLES.values()) & set(ids)))
    return tokenizer


def _bert(path: Path) -> Tokenizer:
    pieces = path.read_text(encoding="utf-8").split("\n")
    ids = {piece: index for index, piece in enumerate(pieces) if piece}
    lower = _is_lower(ids)
    tokenizer = Tokenizer(models.WordPiece(ids, unk_token="[UNK]", max_input_chars_per_word=100))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lower)  # type: ignore[assignment]
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()  # type: ignore[assignment]
    tokenizer.decoder = decoders.WordPiece(cleanup=False)  # type: ignore[assignment]
    tokenizer.add_special_tokens([token for token in _BERT_ROLES.values() if token in ids])
    if "[CLS]" in ids and "[SEP]" in ids:
        ends = [(token, ids[token]) for token in ("[CLS]", "[SEP]")]
        pair = "[CLS] $A [SEP] $B:1 [SEP]:1"
        tokenizer.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", pair, ends)  # type: ignore[assignment]
    return tokenizer


def special_roles(tokenizer: Tokenizer) -> dict[str, str]:
    """The special tokens of GPT-2's or BERT's vocabulary by role (bos, sep, pad, ...); {} for other vocabularies."""
    for roles in (_GPT2_ROLES, _BERT_ROLES):
        if all(tokenizer.token_to_id(token) is not None for token in roles.values()):
            return roles
    return {}


def _sentencepiece(path: Path) -> Tokenizer:
    """A unigram model with its own normalisation; lower-casing and accents as ALBERT's tokenizer prepares its text."""
    from sentencepiece import sentencepiece_model_pb2

    content = sentencepiece_model_pb2.ModelProto()  # pyright: ignore[reportAttributeAccessIssue]
    content.ParseFromString(path.read_bytes())
    if content.trainer_spec.model_type != content.trainer_spec.UNIGRAM:
        raise UnknownVocabulary(f"{path}: a SentencePiece model of another kind than unigram")
    scored = [(piece.piece, piece.score) for piece in content.pieces]
    tokenizer = Tokenizer(models.Unigram(scored, content.trainer_spec.unk_id, content.trainer_spec.byte_fallback))
    steps: list[normalizers.Normalizer] = []
    if _is_lower(piece for piece, _ in scored):
        steps += [normalizers.NFKD(), normalizers.StripAccents(), normalizers.Lowercase()]
    if content.normalizer_spec.precompiled_charsmap:
        steps.append(normalizers.Precompiled(content.normalizer_spec.precompiled_charsmap))
    steps += [normalizers.Replace(Regex(" {2,}"), " "), normalizers.Strip()]
    tokenizer.normalizer = normalizers.Sequence(steps)  # type: ignore[assignment]
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace("▁", prepend_scheme="always")  # type: ignore[assignment]
    return tokenizer


def _is_lower(pieces: Iterable[str]) -> bool:
    """Whether no piece of text holds an upper-case letter; special tokens stand in brackets."""
    return not any(any("A" <= letter <= "Z" for letter in piece) for piece in pieces if piece[:1] not in ("[", "<"))
