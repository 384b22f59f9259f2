"""Texts to token ids, straight over Arrow buffers: the same ids as ``tokenizers`` gives, at many times its rate.

Text is cut by the compiled scanners of ``pretokenize`` where no later step of the tokenizer looks across, and each
*distinct* piece is encoded once, by the kernels of ``segment`` or, where those pass, by the tokenizer itself; what
remains a token is a look-up in a hash table and a copy.

Where a tokenizer's parts are not among those below, the text is encoded by ``tokenizers`` as it stands. Known are:

- byte-level BPE cut by the pattern of GPT-2 (marks among the letters or not), GPT-4 or superwords, with or without
  single digits: normalised in bulk, then cut by that pattern;
- BERT's normaliser and pre-tokenizer: cut at white space, punctuation marks and CJK characters;
- white space and Metaspace: cut at white space, which neither normalisation nor the model reaches across;
- Metaspace that keeps white space, or marks not every word: normalised in bulk, then cut before every space.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from itertools import chain
from typing import Any, NamedTuple, get_args

import numpy as np
import orjson
import pyarrow as pa
from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.normalizers import BertNormalizer

from pipeline.text.buffers import text_buffers
from pipeline.tokenization import character_classes
from pipeline.tokenization.config import Script
from pipeline.tokenization.encoding import normalise, pieces, pretokenize, segment
from pipeline.tokenization.formats.export import GPT4_PATTERN, MARKS_PATTERN, SUPER_PATTERN

_BLOCK = 8 << 20  # bytes of text that are encoded at once
_FIRST_ROOM = 1 << 14  # pieces that a cache has room for at first
_MOST_WORDS, _MOST_BYTES = 1 << 20, 1 << 28  # above which a new cache is begun
_DIGITS = {"type": "Digits", "individual_digits": True}
_ALONE = ("cjk", *get_args(Script))  # classes of characters that are not ASCII
_GPT4_SPLIT = {"type": "Split", "pattern": {"Regex": GPT4_PATTERN}, "behavior": "Isolated", "invert": False}
_MARKS_SPLIT = _GPT4_SPLIT | {"pattern": {"Regex": MARKS_PATTERN}}
_SUPER_SPLIT = _GPT4_SPLIT | {"pattern": {"Regex": SUPER_PATTERN}}
_FOLD = {"type": "Replace", "pattern": {"Regex": r"[\s▁]+"}, "content": " "}
_GAPS = [_FOLD, {"type": "Strip", "strip_left": True, "strip_right": True}]  # export's normaliser before Metaspace
_BYTE_LEVEL = (pretokenize.GPT2, pretokenize.GPT4, pretokenize.SUPER)
_MARK = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}  # or this, where white space is kept
_PREFIX = {"type": "Prepend", "prepend": "▁"}
_OTHER_SPACE = {"type": "Split", "pattern": {"Regex": r"\s+"}, "behavior": "Isolated", "invert": False}

# The engine starts a thread per core in each process; the build's runner already runs one process per core.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


class Encoded(NamedTuple):
    """Tokens of some texts end to end (the narrowest unsigned dtype that holds the vocabulary) and int64 ``lengths``.

    ``sentences`` uint32: the token of its text at which each sentence starts; ``counts`` int64: how many each text has.
    """

    tokens: np.ndarray
    lengths: np.ndarray
    sentences: np.ndarray
    counts: np.ndarray


class Encoder:
    """A tokenizer and the pieces it has encoded so far. For one thread; memory is bounded (about 0.5 GB at most).

    The tokenizer must not extract special tokens from text (``pack.load`` sets it so), nor pad or truncate.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.vocab_size = tokenizer.get_vocab_size()
        self.dtype = np.dtype("<u2" if self.vocab_size <= 1 << 16 else "<u4")
        content = orjson.loads(tokenizer.to_str())
        self._cut = cut_of(content)
        self._pieces_by, self._normalizer, self._word_normalizer = tokenizer, None, None
        self.model, self._alone, self._outside = None, np.uint8(0), np.uint8(0)
        self._classes = self._word_classes = character_classes.table()
        if self._cut is not None:
            self._prepare(content, self._cut)
        self._cache = pieces.empty(_FIRST_ROOM)
        self._codes = np.zeros(0, np.int64)

    def _prepare(self, content: dict, cut: Cut) -> None:
        """What the kernels use of a tokenizer.json."""
        self.model = model_of(content, cut)
        steps = _flat(content["normalizer"], "normalizers")
        known = _normalizer([step for step in steps if step["type"] in normalise.KNOWN])
        if cut.whole_text:  # its pieces are normalised already, but for their spaces
            self._normalizer = known
            self._pieces_by = Tokenizer.from_str(self.tokenizer.to_str())
            self._pieces_by.normalizer = _normalizer([step for step in steps if step in (_FOLD, _MARK)])
            self._pieces_by.encode_special_tokens = self.tokenizer.encode_special_tokens
        elif not self.byte_level:
            self._word_normalizer = self.tokenizer.normalizer if cut.kind == pretokenize.BERT_MARKS else known
        singles = cut.digits * character_classes.DIGIT | bool(cut.alone) * character_classes.SCRIPT
        if self.byte_level:
            self._alone, self._classes = np.uint8(singles), character_classes.table(cut.alone, cut.marks)
        elif cut.kind in (pretokenize.SPACED, pretokenize.GAPPED):
            self._classes = character_classes.marked_table()
        marks = character_classes.PUNCTUATION | character_classes.CJK | character_classes.CONTROL
        self._outside = np.uint8(character_classes.SPACE | singles | (cut.kind == pretokenize.BERT_MARKS) * marks)
        self._word_classes = character_classes.marked_table(cut.alone)

    @property
    def compiled(self) -> bool:
        """Whether the kernels know this tokenizer; if not, ``tokenizers`` encodes every text."""
        return self._cut is not None

    @property
    def byte_level(self) -> bool:
        return self._cut is not None and self._cut.kind in _BYTE_LEVEL

    def words(self, texts: pa.StringArray | pa.LargeStringArray) -> Iterator[tuple[list[int], int]]:
        """The distinct pieces of ``texts`` as ids, and how often each occurs; for a tokenizer that is ``compiled``."""
        assert self._cut is not None
        fresh = Encoder(self.tokenizer)
        texts, _ = self._prepared(texts, (np.zeros(0, np.int64), np.zeros(len(texts) + 1, np.int64)))
        data, offsets = text_buffers(texts)
        counts = nothing = np.zeros(0, np.int64)
        for first in range(0, len(texts), 1000):
            bounds = offsets[first : first + 1001]
            codes, _, _ = fresh._look_up(data, bounds, nothing, np.zeros_like(bounds))
            totals = np.bincount(~codes, minlength=len(counts))  # what is not learned yet has no other codes
            totals[: len(counts)] += counts
            counts = totals
        fresh._learn()
        bounds = fresh._cache.id_ends
        for piece, count in enumerate(counts.tolist()):
            yield fresh._cache.ids[bounds[piece] : bounds[piece + 1]].tolist(), count

    def encode(
        self, texts: pa.StringArray, eos: int | None = None, places: tuple[np.ndarray, np.ndarray] | None = None
    ) -> Iterator[Encoded]:
        """Blocks in the order of ``texts``; ``eos``, if any, closes every text. ``places`` are sentences.starts's."""
        _, offsets = text_buffers(texts)
        spots, bounds = places or (np.zeros(0, np.int64), np.zeros(len(texts) + 1, np.int64))
        first = 0
        while first < len(texts):
            stop = max(first + 1, int(np.searchsorted(offsets, offsets[first] + _BLOCK)))
            stop = min(stop, len(texts))
            part = spots[bounds[first] : bounds[stop]], bounds[first : stop + 1] - bounds[first]
            yield self._block(texts.slice(first, stop - first), -1 if eos is None else eos, *part)
            first = stop

    def _block(self, texts: pa.StringArray, eos: int, spots: np.ndarray, bounds: np.ndarray) -> Encoded:
        if self._cut is None:
            return self._by_engine(texts, eos, spots, bounds)
        texts, spots = self._prepared(texts, (spots, bounds))
        return self._by_kernel(texts, eos, spots, bounds)

    def _prepared(
        self, texts: pa.StringArray | pa.LargeStringArray, places: tuple[np.ndarray, np.ndarray]
    ) -> tuple[pa.StringArray | pa.LargeStringArray, np.ndarray]:
        """The texts as they are cut, and where the places of normalise.normalise are in them."""
        assert self._cut is not None
        spots, _ = places
        if self._normalizer is not None:
            texts, spots = normalise.normalise(texts, self._normalizer, places)
        if self._cut.prefixed:
            texts, spots = normalise.prefixed(texts), spots + 1
        return texts, spots

    def _by_kernel(
        self, texts: pa.StringArray | pa.LargeStringArray, eos: int, spots: np.ndarray, bounds: np.ndarray
    ) -> Encoded:
        assert self._cut is not None
        if self._cache.size[0] > _MOST_WORDS or self._cache.key_ends[self._cache.size[0]] > _MOST_BYTES:
            self._cache = pieces.empty(_FIRST_ROOM)
        data, offsets = text_buffers(texts)
        codes, cuts, opened = self._look_up(data, offsets, spots, bounds)
        self._learn()
        room = int(offsets[-1] - offsets[0]) + len(texts) + 3
        while True:
            tokens = np.empty(room, self.dtype)
            lengths, sentences, counts = pieces.write(
                codes, cuts, opened, self._cache.ids, self._cache.id_ends, eos, tokens
            )
            if len(lengths) == len(texts):
                return Encoded(tokens[: int(lengths.sum())], lengths, sentences, counts)
            room *= 2  # more tokens than bytes: a normaliser has made more of them

    def _look_up(
        self, data: np.ndarray, offsets: np.ndarray, spots: np.ndarray, bounds: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """``(codes, cuts, opened)`` of ``pieces.look_up``; the codes hold until the next call.

        Their memory is kept for it: to be given new memory takes a tenth of the time of encoding.
        """
        assert self._cut is not None
        room, size = self._codes, int(offsets[-1] - offsets[0])
        if size > len(room):
            room = np.empty(size + size // 8, np.int64)  # what is not used costs no memory
            if size <= 2 * _BLOCK:  # not what one very long text takes
                self._codes = room
        codes, cuts, opened, self._cache = pieces.look_up(
            data, offsets, self._classes, self._cut.kind, self._alone, spots, bounds, self._cache, room
        )
        return codes, cuts, opened

    def _learn(self) -> None:
        """Give the pieces of the cache that have no ids yet theirs."""
        cache = self._cache
        known, done = cache.size
        if known == done:
            return
        bounds = cache.key_ends[done : known + 1]
        ids, lengths = np.zeros(0, np.uint32), np.full(known - done, -1, np.int64)
        if self.model is not None:
            ids, lengths = segment.segment(cache.keys, bounds, self.model)
        rest = lengths < 0
        if rest.any():
            keys = pa.LargeStringArray.from_buffers(len(rest), pa.py_buffer(bounds), pa.py_buffer(cache.keys))
            ids, lengths = _merged(ids, lengths, *self._normalised_first(keys.filter(pa.array(rest))))
        self._cache = pieces.learn(cache, ids, lengths)

    def _normalised_first(self, words: pa.LargeStringArray) -> tuple[np.ndarray, np.ndarray]:
        """``ids`` and ``lengths`` of the pieces that are not plain ASCII: by the kernels once they are normalised, else
        by the tokenizer itself."""
        ids, lengths = np.zeros(0, np.uint32), np.full(len(words), -1, np.int64)
        if self.model is not None:
            plain = words
            if isinstance(self._word_normalizer, BertNormalizer):
                plain = pa.array(map(self._word_normalizer.normalize_str, words.to_pylist()), words.type)
            elif self._word_normalizer is not None:
                plain, _ = normalise.normalise(words, self._word_normalizer)
            ids, lengths = segment.segment(*text_buffers(plain), self.model, self._word_classes, self._outside)
        rest = lengths < 0
        if rest.any():
            encodings = self._pieces_by.encode_batch_fast(
                words.filter(pa.array(rest)).to_pylist(), add_special_tokens=False
            )
            encoded = [piece.ids for piece in encodings]
            sizes = np.fromiter(map(len, encoded), np.int64, len(encoded))
            made = np.fromiter(chain.from_iterable(encoded), np.uint32, int(sizes.sum()))
            return _merged(ids, lengths, made, sizes)
        return ids, lengths

    def _by_engine(self, texts: pa.StringArray, eos: int, spots: np.ndarray, bounds: np.ndarray) -> Encoded:
        """By ``tokenizers`` alone; for the sentences it must also say which characters each token is made of."""
        if len(spots) == 0:
            encoded = [e.ids for e in self.tokenizer.encode_batch_fast(texts.to_pylist(), add_special_tokens=False)]
            starts = [np.zeros(0, np.uint32) for _ in encoded]
        else:
            encoded, starts = [], []
            for row, text in enumerate(texts.to_pylist()):
                encoding = self.tokenizer.encode(text, add_special_tokens=False)
                encoded.append(encoding.ids)
                starts.append(sentence_tokens(text, encoding, spots[bounds[row] : bounds[row + 1]]))
        if eos >= 0:
            encoded = [[*ids, eos] for ids in encoded]
        lengths = np.fromiter(map(len, encoded), np.int64, len(encoded))
        tokens = np.fromiter(chain.from_iterable(encoded), self.dtype, int(lengths.sum()))
        counts = np.fromiter(map(len, starts), np.int64, len(starts))
        return Encoded(tokens, lengths, np.concatenate([np.zeros(0, np.uint32), *starts]), counts)


def _merged(
    ids: np.ndarray, lengths: np.ndarray, others: np.ndarray, other_lengths: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """``ids`` and ``lengths`` with those of others for the pieces whose length is -1."""
    left = lengths < 0
    lengths[left] = other_lengths
    both = np.empty(len(ids) + len(others), np.uint32)
    at = np.repeat(left, lengths)
    both[at], both[~at] = others, ids
    return both, lengths


class Cut(NamedTuple):
    """How a tokenizer's texts may be cut: a kind of ``pretokenize``, and whether digits stand alone in its pre-tokens.

    ``whole_text``: its cut looks across words, so texts are normalised before it. ``alone``: the classes and scripts of
    which every character stands alone as well. ``prefixed``: a space is put before the text. ``marks``: marks are
    letters.
    """

    kind: int
    digits: bool
    whole_text: bool
    alone: tuple[str, ...] = ()
    prefixed: bool = False
    marks: bool = False


def cut_of(tokenizer: dict) -> Cut | None:
    """How to cut for a tokenizer, given the content of its tokenizer.json; None if it has parts that are not known."""
    normalizer, steps = (
        _flat(tokenizer["normalizer"], "normalizers"),
        _flat(tokenizer["pre_tokenizer"], "pretokenizers"),
    )
    if any(not token["special"] for token in tokenizer["added_tokens"]) or tokenizer["model"].get("dropout"):
        return None
    alone = tuple(name for name in _ALONE if _single(name) in steps)
    rest = [step for step in steps if step != _DIGITS and step not in map(_single, alone)]
    has_digits, plain = _DIGITS in steps, all(step["type"] in normalise.KNOWN for step in normalizer)
    match [step["type"] for step in rest]:
        case ["ByteLevel"] if plain and rest[0]["use_regex"] and not rest[0]["add_prefix_space"]:
            return Cut(pretokenize.GPT2, has_digits, bool(normalizer), alone)
        case ["Split", "ByteLevel"] if plain and rest[0] == _GPT4_SPLIT and not rest[1]["use_regex"]:
            return Cut(pretokenize.GPT4, has_digits, bool(normalizer), alone)
        case ["Split", "ByteLevel"] if plain and rest[0] == _MARKS_SPLIT and not rest[1]["use_regex"]:
            return Cut(pretokenize.GPT2, has_digits, bool(normalizer), alone, marks=True)
        case ["Split", "ByteLevel"] if plain and rest[0] == _SUPER_SPLIT and not rest[1]["use_regex"]:
            return Cut(pretokenize.SUPER, has_digits, bool(normalizer), alone)
        case ["BertPreTokenizer"] if [step["type"] for step in normalizer] == ["BertNormalizer"]:
            cleans = normalizer[0]["clean_text"] and normalizer[0]["handle_chinese_chars"]
            return Cut(pretokenize.BERT_MARKS, has_digits, False, alone) if cleans else None
        case ["WhitespaceSplit"] if plain:
            return Cut(pretokenize.WORDS, has_digits, False, alone)
        case ["Metaspace"] if rest[0]["prepend_scheme"] == "always" and rest[0]["split"]:
            plain = all(step["type"] in normalise.KNOWN for step in normalizer[:-2])
            return Cut(pretokenize.WORDS, has_digits, False, alone) if normalizer[-2:] == _GAPS and plain else None
        case ["Metaspace"] if rest[0]["prepend_scheme"] == "never" and rest[0]["split"] and normalizer[-2:] == _GAPS:
            plain = all(step["type"] in normalise.KNOWN for step in normalizer[:-2])
            return Cut(pretokenize.GAPPED, has_digits, True, alone) if plain else None
        case ["Metaspace", "Split"] if rest[0]["prepend_scheme"] == "never" and rest[1] == _OTHER_SPACE:
            prefixed = normalizer[-2:] == [_PREFIX, _MARK]
            plain = all(step["type"] in normalise.KNOWN for step in normalizer[: -2 if prefixed else -1])
            is_known = rest[0]["split"] and normalizer[-1:] == [_MARK] and plain
            return Cut(pretokenize.SPACED, has_digits, True, alone, prefixed) if is_known else None
    return None


def _normalizer(steps: list[dict]) -> Any:
    """The normalizer of these steps of a tokenizer.json; None without any."""
    if not steps:
        return None
    content = json.loads(Tokenizer(BPE()).to_str())
    return Tokenizer.from_str(
        json.dumps(content | {"normalizer": {"type": "Sequence", "normalizers": steps}})
    ).normalizer


def _single(name: str) -> dict:
    """The step of a pre-tokenizer that sets every character of a class or script alone, as export writes it."""
    pattern = {"Regex": f"[{character_classes.ranges(name)}]"}
    return {"type": "Split", "pattern": pattern, "behavior": "Isolated", "invert": False}


def model_of(tokenizer: dict, cut: Cut) -> segment.Model | None:
    """The kernels' model for a tokenizer that may be cut as ``cut`` says; None if they do not know its kind."""
    normalizer = _flat(tokenizer["normalizer"], "normalizers")
    marked = any(step["type"] == "Metaspace" for step in _flat(tokenizer["pre_tokenizer"], "pretokenizers"))
    lower = any(step["type"] == "Lowercase" or step.get("lowercase", False) for step in normalizer)
    byte_level = cut.kind in _BYTE_LEVEL
    spaced = cut.kind in (pretokenize.SPACED, pretokenize.GAPPED)
    return segment.model_of(tokenizer, marked, byte_level, lower and not cut.whole_text, cut.digits, spaced)


def _flat(part: dict | None, name: str) -> list[dict]:
    """The steps of a normaliser or pre-tokenizer, sequences opened."""
    if part is None:
        return []
    return [inner for step in part[name] for inner in _flat(step, name)] if part["type"] == "Sequence" else [part]


def sentence_tokens(text: str, encoding, spots: np.ndarray) -> np.ndarray:
    """uint32: for each byte of ``spots`` the first token of the first pre-token that ends after it, by ``tokenizers``'s
    ``encoding`` of ``text``."""
    if len(spots) == 0 or len(encoding.ids) == 0:
        return np.zeros(0, np.uint32)
    places = np.cumsum((np.frombuffer(text.encode(), np.uint8) & 0xC0) != 0x80) - 1
    ends = np.maximum.accumulate(np.array(encoding.offsets, np.int64)[:, 1])
    words = np.array([-1 if word is None else word for word in encoding.word_ids], np.int64)
    chosen = np.searchsorted(ends, places[spots], "right")
    chosen = np.searchsorted(words, words[chosen[chosen < len(words)]])
    chosen[:1] = 0  # the first sentence opens the text, the white space before it included
    return np.unique(np.append(0, chosen)).astype(np.uint32)
