"""tokenizer.json as Hugging Face ``tokenizers`` and ``transformers`` read it, from a trained vocabulary."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from tokenizers.normalizers import Normalizer

from pipeline.tokenization import character_classes
from pipeline.tokenization.config import TokenizerConfig

VERSION = 3
GPT4_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
#: GPT-2's pattern in which a mark (a vowel sign, an accent of its own) is part of its word.
MARKS_PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d| ?[\p{L}\p{M}]+| ?\p{N}+| ?[^\s\p{L}\p{M}\p{N}]+|\s+(?!\S)|\s+"
#: GPT-2's pattern in which words with one space between them are one piece.
SUPER_PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+(?: \p{L}+)*| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
#: Pieces of ``byte_fallback``: what the alphabet lacks is written with them.
BYTE_PIECES = [f"<0x{byte:02X}>" for byte in range(256)]


@dataclass(frozen=True)
class Vocabulary:
    """A trained vocabulary: ``pieces`` in the order of their ids, the reserved tokens first.

    ``merges`` (BPE) in the order in which they apply; ``scores`` (Unigram) natural logarithms of probabilities, one a
    piece, train.NEVER for reserved tokens and byte pieces, which text must never be segmented into. ``coverage``: share
    of the training text's characters that the alphabet holds (1.0 where pieces are bytes).
    """

    pieces: list[str]
    merges: list[tuple[str, str]] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    coverage: float = 1.0


def byte_alphabet() -> list[str]:
    """GPT-2's printable character for each of the 256 bytes (Radford 2019, encoder.py ``bytes_to_unicode``)."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = iter(range(256, 512))
    return [chr(byte) if byte in printable else chr(next(others)) for byte in range(256)]


def normalizer(config: TokenizerConfig) -> Normalizer | None:
    if config.pre_tokenizer == "bert":
        return normalizers.BertNormalizer(
            clean_text=True,
            handle_chinese_chars=True,
            strip_accents=bool(config.strip_accents),
            lowercase=bool(config.lowercase),
        )
    steps: list[Normalizer] = []
    if config.normalizer != "none":
        steps.append(normalizers.NFC() if config.normalizer == "nfc" else normalizers.NFKC())
    if config.lowercase:
        steps.append(normalizers.Lowercase())
    if config.strip_accents:
        steps += [normalizers.NFD(), normalizers.StripAccents()]
    return normalizers.Sequence(steps) if steps else None


def pre_tokenizer(config: TokenizerConfig) -> pre_tokenizers.PreTokenizer:
    """Cuts a text exactly as ``pretokenize`` does."""
    alone: list[pre_tokenizers.PreTokenizer] = []
    if config.split_digits:
        alone.append(pre_tokenizers.Digits(individual_digits=True))
    for name in [*["cjk"] * config.split_cjk, *config.split_scripts]:
        alone.append(pre_tokenizers.Split(Regex(f"[{character_classes.ranges(name)}]"), "isolated"))
    match config.pre_tokenizer:
        case "gpt2" if config.superwords is not None:
            pattern = pre_tokenizers.Split(Regex(SUPER_PATTERN), "isolated")
            steps = [*alone, pattern, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
        case "gpt2":
            steps = [*alone, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)]
        case "gpt2_marks":
            pattern = pre_tokenizers.Split(Regex(MARKS_PATTERN), "isolated")
            steps = [*alone, pattern, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
        case "gpt4":
            pattern = pre_tokenizers.Split(Regex(GPT4_PATTERN), "isolated")
            steps = [*alone, pattern, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
        case "bert":
            steps = [pre_tokenizers.BertPreTokenizer(), *alone]
        case "metaspace":
            scheme = "always" if config.remove_extra_whitespaces and config.add_dummy_prefix else "never"
            gaps = [] if config.remove_extra_whitespaces else [pre_tokenizers.Split(Regex(r"\s+"), "isolated")]
            steps = [pre_tokenizers.Metaspace("▁", prepend_scheme=scheme, split=True), *gaps, *alone]
        case _:
            steps = [pre_tokenizers.WhitespaceSplit(), *alone]
    return steps[0] if len(steps) == 1 else pre_tokenizers.Sequence(steps)


def _model(vocabulary: Vocabulary, config: TokenizerConfig) -> models.Model:
    ids = {piece: index for index, piece in enumerate(vocabulary.pieces)}
    unk = config.special.get("unk")
    if config.algorithm == "wordpiece":
        return models.WordPiece(
            ids,
            unk_token=unk or "",
            continuing_subword_prefix=config.continuing_subword_prefix,
            max_input_chars_per_word=100,
        )
    if config.algorithm == "unigram":
        scored = list(zip(vocabulary.pieces, vocabulary.scores, strict=True))
        return models.Unigram(scored, unk_id=ids[unk] if unk else None, byte_fallback=config.byte_fallback)
    options: dict[str, Any] = {"byte_fallback": config.byte_fallback}
    if unk and not config.byte_level:
        options["unk_token"] = unk
    if config.word_suffix:
        options["end_of_word_suffix"] = config.word_suffix
    return models.BPE(ids, vocabulary.merges, **options)


def _decoder(config: TokenizerConfig) -> decoders.Decoder:
    if config.byte_level:
        return decoders.ByteLevel()
    if config.algorithm == "wordpiece":
        return decoders.WordPiece(prefix=config.continuing_subword_prefix, cleanup=False)
    if config.word_suffix:
        return decoders.BPEDecoder(suffix=config.word_suffix)
    scheme = "always" if config.add_dummy_prefix else "never"
    spaces = decoders.Metaspace("▁", prepend_scheme=scheme, split=True)
    if not config.byte_fallback:
        return spaces
    return decoders.Sequence([decoders.ByteFallback(), spaces])


def _post_processor(vocabulary: Vocabulary, config: TokenizerConfig) -> processors.PostProcessor | None:
    """[CLS] A [SEP] B [SEP] (bert), <s> A </s></s> B </s> (roberta), A </s> B </s> (t5), offsets only (gpt2)."""
    special = config.special
    pair = {role: (token, vocabulary.pieces.index(token)) for role, token in special.items()}
    match config.template:
        case "bert":
            cls, sep = special["cls"], special["sep"]
            return processors.TemplateProcessing(
                single=f"{cls} $A {sep}",
                pair=f"{cls} $A {sep} $B:1 {sep}:1",
                special_tokens=[pair["cls"], pair["sep"]],
            )
        case "roberta":
            return processors.RobertaProcessing(pair["sep"], pair["cls"], trim_offsets=True, add_prefix_space=False)
        case "t5":
            eos = special["eos"]
            return processors.TemplateProcessing(
                single=f"$A {eos}", pair=f"$A {eos} $B {eos}", special_tokens=[pair["eos"]]
            )
        case "gpt2":
            return processors.ByteLevel(trim_offsets=False) if config.byte_level else None
        case _:
            return None


def to_tokenizer(vocabulary: Vocabulary, config: TokenizerConfig) -> Tokenizer:
    """The tokenizer as Hugging Face's engine runs it."""
    tokenizer = Tokenizer(_model(vocabulary, config))
    parts = (normalizer(config), _white_space(config) if config.pre_tokenizer == "metaspace" else None)
    steps = [part for part in parts if part is not None]
    if steps:
        tokenizer.normalizer = steps[0] if len(steps) == 1 else normalizers.Sequence(steps)  # type: ignore[assignment]
    tokenizer.pre_tokenizer = pre_tokenizer(config)  # type: ignore[assignment]
    tokenizer.decoder = _decoder(config)  # type: ignore[assignment]
    post_processor = _post_processor(vocabulary, config)
    if post_processor is not None:
        tokenizer.post_processor = post_processor  # type: ignore[assignment]
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in config.reserved])
    return tokenizer


def _white_space(config: TokenizerConfig) -> Normalizer:
    """Runs of white space become one space, none at the ends (the mark itself counts as white space); or, where all of
    it is kept, spaces become marks, and one is put before the text here: Metaspace would not, were there one already.
    """
    if config.remove_extra_whitespaces:
        return normalizers.Sequence([normalizers.Replace(Regex(r"[\s▁]+"), " "), normalizers.Strip()])
    lead = [normalizers.Prepend("▁")] if config.add_dummy_prefix else []
    return normalizers.Sequence([*lead, normalizers.Replace(" ", "▁")])


def to_json(vocabulary: Vocabulary, config: TokenizerConfig) -> bytes:
    """tokenizer.json in one form, the vocabulary in the order of its ids, so that equal tokenizers are equal files."""
    value = json.loads(to_tokenizer(vocabulary, config).to_str())
    if isinstance(value["model"]["vocab"], dict):
        value["model"]["vocab"] = {piece: index for index, piece in enumerate(vocabulary.pieces)}
    return json.dumps(value, ensure_ascii=False, indent=1).encode() + b"\n"


def tokenizer_config(config: TokenizerConfig) -> dict[str, Any]:
    """tokenizer_config.json, by which ``AutoTokenizer`` knows the roles of the special tokens.

    Sequence B of a pair has type id 1 in BERT's template, so only that one states ``token_type_ids``. Without a pad
    token of its own a tokenizer pads with its end-of-text token, as is the convention for GPT-2 and Llama.
    """
    roles = {f"{role}_token": token for role, token in config.special.items()}
    if "pad" not in config.special and "eos" in config.special:
        roles["pad_token"] = config.special["eos"]
    types = ["token_type_ids"] if config.template == "bert" else []
    stated: dict[str, Any] = {} if config.model_max_length is None else {"model_max_length": config.model_max_length}
    if config.algorithm == "wordpiece":  # for BertTokenizer, which makes its own normaliser beside vocab.txt
        stated |= {"do_lower_case": config.lowercase, "strip_accents": config.strip_accents}
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_input_names": ["input_ids", *types, "attention_mask"],
        "clean_up_tokenization_spaces": False,
        **stated,
        **roles,
        "additional_special_tokens": list(config.added_tokens),
    }


def special_ids(config: TokenizerConfig) -> dict[str, int]:
    """Ids of the special tokens by role: they open the vocabulary in the order of the config."""
    return {role: index for index, role in enumerate(config.special)}
