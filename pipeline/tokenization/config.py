"""What a recipe says about tokenizers and packing."""

from __future__ import annotations

import string
import unicodedata
from typing import Annotated, Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from pipeline.store.recipe_file import Config

Algorithm = Literal["bpe", "wordpiece", "unigram"]
PreTokenizer = Literal["gpt2", "gpt2_marks", "gpt4", "bert", "whitespace", "metaspace"]
Role = Literal["bos", "eos", "unk", "pad", "cls", "sep", "mask"]
#: Those of ``pipeline.text.scripts`` as the engine names them, and Hangul, whose syllables some cut apart as well.
Script = Literal[
    "han", "hiragana", "katakana", "bopomofo", "yi", "hangul", "thai", "lao", "khmer", "myanmar", "tibetan", "javanese",
    "tai_le", "new_tai_lue", "tai_tham", "tai_viet",
]  # fmt: skip
Template = Literal["none", "bert", "gpt2", "roberta", "t5"]

#: Pre-tokenizers whose pieces are made of bytes (written in GPT-2's printable alphabet), not of characters.
BYTE_LEVEL = ("gpt2", "gpt2_marks", "gpt4")

_LATER = frozenset({"superwords", "parity"})
_PRE_TOKENIZERS: dict[str, tuple[PreTokenizer, ...]] = {
    "bpe": ("gpt2", "gpt2_marks", "gpt4", "whitespace", "bert", "metaspace"),
    "wordpiece": ("bert",),
    "unigram": ("metaspace",),
}
_SPECIAL: dict[str, dict[Role, str]] = {
    "bytes": {"eos": "<|endoftext|>"},
    "bpe": {"unk": "<unk>", "eos": "</s>", "pad": "<pad>"},
    "wordpiece": {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"},
    "unigram": {"pad": "<pad>", "eos": "</s>", "unk": "<unk>"},
}
_TEMPLATES: dict[Template, tuple[Role, ...]] = {
    "none": (),
    "bert": ("cls", "sep"),
    "gpt2": (),
    "roberta": ("cls", "sep"),
    "t5": ("eos",),
}


class SuperwordsConfig(Config):
    """SuperBPE (Liu 2025): the last part of byte-level BPE's vocabulary is learned across the spaces between words."""

    share: Annotated[
        float,
        Field(
            gt=0, lt=1, description="share of the vocabulary that is learned across spaces; 0.1 in the paper at 200k"
        ),
    ] = 0.2
    words: Annotated[int, Field(ge=2, le=16, description="most words of a piece; 4 as in the paper")] = 4


class ParityConfig(Config):
    """Parity-aware BPE (Foroutan 2025): at each merge the group that is written worst chooses its best pair."""

    by: Annotated[
        Literal["language", "domain"], Field(description="what groups documents: the language stage's, or their domain")
    ] = "language"
    parallel: Annotated[
        str | None,
        Field(
            description="file of tab-separated group and text, with the same texts in each group, by which the worst is"
            " found; default: characters a token of the corpus"
        ),
    ] = None


class TokenizerConfig(Config):
    """One tokenizer of a build. What is left out follows from ``algorithm``, as in GPT-2, BERT and T5.

    ``score`` chooses how WordPiece rates a pair: ``likelihood`` is freq(xy) / (freq(x) freq(y)) (Schuster 2012),
    ``frequency`` is the variant of Hugging Face's trainer (plain counts, as in BPE). ``limit_alphabet`` keeps the most
    frequent characters only; ``max_token_length`` counts characters (bytes where the tokenizer works on bytes).
    ``split_digits`` makes every digit, of any script, a piece of its own, ``split_cjk`` every Chinese character (BERT's
    pre-tokenizer always does), ``split_scripts`` every character of the scripts it names. ``byte_fallback`` writes
    unknown characters as <0xNN>.
    """

    name: Annotated[
        str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$", description="name of the tokenizer, and of its folder")
    ]
    algorithm: Annotated[Algorithm, Field(description="algorithm: BPE (GPT-2), WordPiece (BERT) or Unigram (T5)")]
    vocab_size: Annotated[
        int, Field(ge=8, le=1 << 24, description="entries of the vocabulary, special tokens included")
    ]
    pre_tokenizer: Annotated[
        PreTokenizer | None,
        Field(
            description="how text is cut into words first; gpt2_marks is gpt2 without cuts at vowel signs and other"
            " marks (Hindi, Tamil, Thai); default: gpt2 for bpe, bert for wordpiece, metaspace for unigram"
        ),
    ] = None
    normalizer: Annotated[
        Literal["none", "nfc", "nfkc"] | None,
        Field(description="Unicode normal form of the text; default: by algorithm, as in GPT-2, BERT and T5"),
    ] = None
    lowercase: Annotated[bool | None, Field(description="write all letters in lower case; default: by algorithm")] = (
        None
    )
    strip_accents: Annotated[bool | None, Field(description="remove accents from letters; default: by algorithm")] = (
        None
    )
    split_digits: Annotated[bool, Field(description="make each digit a piece of its own")] = False
    split_cjk: Annotated[
        bool, Field(description="make each Chinese character a piece of its own; pre-tokenizer bert always does")
    ] = False
    split_scripts: Annotated[
        list[Script], Field(description="scripts of which each character is a piece of its own")
    ] = []
    byte_fallback: Annotated[bool, Field(description="write unknown characters as their bytes, <0xNN>")] = False
    remove_extra_whitespaces: Annotated[
        bool,
        Field(
            description="with metaspace, write every run of white space as one space and none at the ends, as"
            " SentencePiece does by default; false keeps line breaks, tabs and every space, which code and tables need"
        ),
    ] = True
    add_dummy_prefix: Annotated[
        bool,
        Field(
            description="with metaspace, put a space before the text, so that its first word is written as others are"
            " (SentencePiece's default)"
        ),
    ] = True
    special_tokens: Annotated[
        dict[Role, str] | None,
        Field(description="text of the special token for each role; default: by algorithm, as in GPT-2, BERT and T5"),
    ] = None
    added_tokens: Annotated[list[str], Field(description="texts that are always one token")] = []
    template: Annotated[
        Template | None, Field(description="special tokens put around a text; default: by algorithm")
    ] = None
    score: Annotated[
        Literal["likelihood", "frequency"],
        Field(
            description="how WordPiece rates a pair: freq(xy) / (freq(x) freq(y)) (Schuster 2012), or by count as BPE"
        ),
    ] = "likelihood"
    min_frequency: Annotated[int, Field(ge=1, description="occurrences below which a pair is not merged")] = 2
    max_token_length: Annotated[
        Annotated[int, Field(ge=1)] | None,
        Field(description="longest token in characters, in bytes for byte-level tokenizers; default: any length"),
    ] = None
    limit_alphabet: Annotated[
        Annotated[int, Field(ge=1)] | None,
        Field(description="characters of the alphabet, the most frequent ones; default: all"),
    ] = None
    character_coverage: Annotated[
        float | None,
        Field(
            gt=0,
            le=1,
            description="share of the text's characters that the alphabet covers, the rarest are left out"
            " (SentencePiece: 0.9995); default: all that half of the vocabulary holds, 0.9995 of the text at least",
        ),
    ] = None
    continuing_subword_prefix: Annotated[
        str, Field(description="mark of WordPiece tokens that continue a word; BERT's")
    ] = "##"
    end_of_word_suffix: Annotated[
        str, Field(description="mark of BPE tokens that end a word, where words are split at whitespace")
    ] = "</w>"
    model_max_length: Annotated[
        int | None,
        Field(
            ge=8,
            description="tokens at which `truncation=True` cuts, stated in tokenizer_config.json; default: none stated"
            " (a model's folder states what the model can take)",
        ),
    ] = None

    superwords: Annotated[
        SuperwordsConfig | None,
        Field(
            description="pieces of several words (SuperBPE), for byte-level BPE cut by gpt2's pattern; default: none"
        ),
    ] = None

    parity: Annotated[
        ParityConfig | None,
        Field(description="merges for all languages alike (parity-aware), for byte-level BPE; default: by count alone"),
    ] = None

    @model_serializer(mode="wrap")
    def _without_what_came_later(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Fields that came later are left out at their defaults, so that tokenizers made before them stay current."""
        return {name: value for name, value in dump(self).items() if name not in _LATER or value is not None}

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, values: dict) -> dict:
        if not isinstance(values, dict) or values.get("algorithm") not in [*_PRE_TOKENIZERS]:
            return values
        algorithm = values["algorithm"]
        filled = {name: value for name, value in values.items() if value is not None}
        pre_tokenizer = filled.setdefault("pre_tokenizer", _PRE_TOKENIZERS[algorithm][0])
        is_bert = pre_tokenizer == "bert"
        filled.setdefault("normalizer", "nfkc" if algorithm == "unigram" else "none")
        filled.setdefault("lowercase", is_bert)
        filled.setdefault("strip_accents", is_bert and filled["lowercase"])
        filled.setdefault("special_tokens", _SPECIAL["bytes" if pre_tokenizer in BYTE_LEVEL else algorithm])
        template = {
            "bpe": "gpt2" if pre_tokenizer in BYTE_LEVEL else "none",
            "wordpiece": "bert",
            "unigram": "t5",
        }
        filled.setdefault("template", template[algorithm])
        return filled

    @model_validator(mode="after")
    def _fits_together(self) -> TokenizerConfig:
        allowed = _PRE_TOKENIZERS[self.algorithm]
        if self.pre_tokenizer not in allowed:
            raise ValueError(f"`pre_tokenizer` of a {self.algorithm} tokenizer is one of {', '.join(allowed)}")
        for role in _TEMPLATES[self.template or "none"]:
            if role not in self.special:
                raise ValueError(f"template {self.template!r} needs a special token for {role!r}; add it")
        if self.algorithm == "wordpiece" and "unk" not in self.special:
            raise ValueError("a wordpiece tokenizer needs a special token for 'unk'")
        if self.pre_tokenizer == "bert" and self.normalizer != "none":
            raise ValueError(
                "`normalizer` has no effect beside the bert pre-tokenizer; use lowercase and strip_accents"
            )
        if self.pre_tokenizer != "metaspace" and not (self.remove_extra_whitespaces and self.add_dummy_prefix):
            raise ValueError("`remove_extra_whitespaces` and `add_dummy_prefix` are for the metaspace pre_tokenizer")
        if self.superwords is not None and (self.pre_tokenizer != "gpt2" or self.max_token_length is not None):
            raise ValueError(
                "`superwords` are for bpe with the gpt2 pre_tokenizer, without `max_token_length`: their length is"
                " counted in words"
            )
        if self.parity is not None and (not self.byte_level or self.superwords is not None):
            raise ValueError("`parity` is for byte-level bpe without `superwords`")
        if self.byte_fallback and (self.byte_level or self.algorithm == "wordpiece"):
            raise ValueError("`byte_fallback` is for unigram and character BPE: byte-level BPE has no unknown bytes")
        if len(set(self.reserved)) != len(self.reserved):
            raise ValueError("special and added tokens must differ from each other")
        self._check_reserved()
        if self.algorithm == "unigram" and not self.byte_fallback and "unk" not in self.special:
            raise ValueError("a unigram tokenizer needs a special token for 'unk', or byte_fallback")
        return self

    def _check_reserved(self) -> None:
        """Text must not be able to hold a reserved token as an ordinary piece, which training could not prevent."""
        if self.algorithm == "wordpiece":
            prefix = self.continuing_subword_prefix
            if prefix and not _is_cut_by_bert(prefix):
                raise ValueError(f"`continuing_subword_prefix` {prefix!r} needs a punctuation mark, as ## has")
            for token in self.reserved:
                if not _is_cut_by_bert(token.removeprefix(prefix)):
                    raise ValueError(f"token {token!r} may be a word of the text; write it with marks, as [{token}]")
        for token in self.reserved:
            if len(token) < 2 or (self.word_suffix and len(token.removesuffix(self.word_suffix)) < 2):
                raise ValueError(f"token {token!r} may be a character of the text; write it with more, as <{token}>")

    @property
    def byte_level(self) -> bool:
        return self.pre_tokenizer in BYTE_LEVEL

    @property
    def special(self) -> dict[Role, str]:
        return self.special_tokens or {}

    @property
    def reserved(self) -> list[str]:
        """Special, then added tokens: the first entries of the vocabulary, in this order."""
        return [*self.special.values(), *self.added_tokens]

    @property
    def word_suffix(self) -> str:
        """What marks the end of a word in the pieces of a character BPE; empty where spaces are marked instead."""
        is_suffixed = self.algorithm == "bpe" and self.pre_tokenizer in ("whitespace", "bert")
        return self.end_of_word_suffix if is_suffixed else ""


def _is_cut_by_bert(token: str) -> bool:
    """Whether BERT's pre-tokenizer never leaves ``token`` whole: it holds a mark or a space beside something else."""
    return len(token) > 1 and any(c in string.punctuation or unicodedata.category(c)[0] in "PZ" for c in token)


class ReferenceConfig(Config):
    """A published tokenizer that the report compares ours with."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]*$", description="name of the tokenizer in the report")]
    path: Annotated[
        str,
        Field(description="tokenizer.json, vocab.txt, a SentencePiece .model, or a folder with one or GPT-2's files"),
    ]


class PackConfig(Config):
    """``heldout``: share of each domain's documents that no tokenizer and no model is trained on."""

    heldout: Annotated[
        float,
        Field(
            gt=0, lt=0.5, description="share of each domain's documents that no tokenizer and no model is trained on"
        ),
    ] = 0.01
