"""The characters that pieces are made of, and the strings that no piece may be.

A tokenizer's reserved entries (special and added tokens, byte pieces) stand in the vocabulary beside what is learned.
Text is text: a document that holds "</s>" is written with ordinary pieces. So no piece is learned that reads as a
reserved entry, and where the model looks for the most likely segmentation (Unigram) every character of those strings
has a piece of its own, else the entry would be the only way to write them.

NUL belongs to no alphabet: SentencePiece's files cannot hold it. It is unknown, or written as its byte piece.
"""

from __future__ import annotations

import numpy as np

from pipeline import MillError
from pipeline.text.jit import njit
from pipeline.text.utf8 import decode
from pipeline.tokenization.character_classes import SPACE, table
from pipeline.tokenization.config import TokenizerConfig
from pipeline.tokenization.formats import export
from pipeline.tokenization.formats.export import BYTE_PIECES, byte_alphabet

#: Share of the text's characters that an alphabet covers at least; SentencePiece's default character_coverage.
LEAST_COVERAGE = 0.9995


class VocabularyTooSmall(MillError):
    """The alphabet and the special tokens alone fill the vocabulary."""


def fixed(config: TokenizerConfig) -> list[str]:
    """The entries that are not learned, in the order of their ids: special and added tokens, byte pieces."""
    return [*config.reserved, *(BYTE_PIECES if config.byte_fallback else [])]


def room(config: TokenizerConfig) -> int:
    """Entries of the vocabulary that are left for the alphabet and what is learned."""
    return config.vocab_size - len(fixed(config))


def forbidden(config: TokenizerConfig) -> tuple[np.ndarray, np.ndarray]:
    """``(data, bounds)``: the bytes (uint8) of the strings that no piece may be, ``bounds`` int64 [strings + 1].

    Pieces of a byte-level tokenizer are bytes; a reserved entry is the bytes that its characters stand for there.
    """
    if config.byte_level:
        letters = {letter: byte for byte, letter in enumerate(byte_alphabet())}
        strings = [bytes(letters[c] for c in token) for token in config.reserved if all(c in letters for c in token)]
    else:
        strings = [token.encode() for token in fixed(config)]
    return np.frombuffer(b"".join(strings), np.uint8), np.cumsum([0, *map(len, strings)], dtype=np.int64)


def needed(config: TokenizerConfig) -> np.ndarray:
    """int64, ascending: the code points that the alphabet holds whatever the text, if a normalised text may hold them.

    For Unigram the characters of the reserved entries; where white space is kept, every kind of it, so that it is never
    unknown (the space itself is written as the mark).
    """
    strings: list[str] = []
    if config.algorithm == "unigram":
        strings += [token for token in fixed(config) if not any(map(str.isspace, token))]
    if not config.remove_extra_whitespaces:
        strings += ["▁", *map(chr, (point for point in np.flatnonzero(table() & SPACE) if point != 32))]
    normalizer = export.normalizer(config)
    if normalizer is not None:
        strings = [token for token in strings if normalizer.normalize_str(token) == token]
    return np.array(sorted({ord(character) for token in strings for character in token} - {0}), np.int64)


def choose(
    data: np.ndarray, offsets: np.ndarray, frequency: np.ndarray, config: TokenizerConfig
) -> tuple[np.ndarray, float]:
    """``(points, coverage)``: the code points of the alphabet, int64 ascending, and the share of the text they cover.

    The most frequent characters first (ties: the smaller). With ``character_coverage`` as many as cover that share of
    the text; without, as many as fill half of the vocabulary (so that text in many scripts leaves room for pieces), and
    more where these cover less than LEAST_COVERAGE, unless byte pieces write the rest. ``limit_alphabet`` is an upper
    bound. Raises VocabularyTooSmall if they do not fit.
    """
    totals = _character_counts(data, offsets, frequency)
    totals[0] = 0
    points = np.flatnonzero(totals)
    points = points[np.lexsort((points, -totals[points]))]
    if len(points) == 0:
        return needed(config), 1.0
    covered = np.cumsum(totals[points]) / totals.sum()
    share = config.character_coverage or (0.0 if config.byte_fallback else LEAST_COVERAGE)
    least = int(np.searchsorted(covered, share)) + 1 if share else 0
    most = max(least, 0 if config.character_coverage else room(config) // (2 * forms(config)))
    most = min(most, len(points), config.limit_alphabet or len(points))
    chosen = np.union1d(points[:most], needed(config))
    if most < 1 or len(chosen) * forms(config) > room(config):
        raise VocabularyTooSmall(_too_small(config, max(most, 1), len(chosen), covered))
    return chosen, float(covered[most - 1])


def forms(config: TokenizerConfig) -> int:
    """Entries that each character takes: a second one where it continues a word (WordPiece) or ends one (BPE)."""
    has_prefix = config.algorithm == "wordpiece" and bool(config.continuing_subword_prefix)
    return 2 if has_prefix or config.word_suffix else 1


def _too_small(config: TokenizerConfig, most: int, count: int, covered: np.ndarray) -> str:
    each, others = forms(config), len(fixed(config))
    fits = max(room(config), 0) // each - (count - most)
    remedies = [f"raise it to more than {count * each + others}"]
    if fits > 0:
        remedies.append(f"lower `character_coverage` ({covered[min(fits, len(covered)) - 1]:.2%} would just fit)")
    if config.algorithm != "wordpiece" and not config.byte_fallback:
        remedies.append("set `byte_fallback: true`")
    if config.algorithm == "bpe":
        remedies.append("use a byte-level pre_tokenizer (gpt2, gpt2_marks, gpt4)")
    return (
        f"tokenizer {config.name!r}: `vocab_size` {config.vocab_size} is less than its alphabet. {count} characters"
        f" ({covered[most - 1]:.2%} of the text) take {count * each} entries, beside {others}"
        f" special, added and byte tokens; without them text is unknown. Remedy: {'; or '.join(remedies)}"
    )


@njit(cache=True, nogil=True)
def _character_counts(data: np.ndarray, offsets: np.ndarray, frequency: np.ndarray) -> np.ndarray:
    """int64: how often each code point occurs, up to the last that does."""
    at, last = offsets[0], 0
    while at < offsets[-1]:
        point, at = decode(data, at)
        last = max(last, point)
    totals = np.zeros(last + 1, np.int64)
    for word in range(len(offsets) - 1):
        at = offsets[word]
        while at < offsets[word + 1]:
            point, at = decode(data, at)
            totals[point] += frequency[word]
    return totals
