"""What the filters of datatrove 0.10.1 count: Gopher quality, Gopher repetition, C4 and FineWeb quality in one pass.

The kernels count; ratios are made of the counts where the rules are. Words are those of ``pipeline.text.words``.
Documents of any size are read in linear time; repeated n-grams and lines are looked for among the first
``ngrams.MOST_WORDS`` words and ``lines.MOST_LINES`` lines.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy import uint64

from pipeline.text import c4, characters, english, ngrams, spans
from pipeline.text.buffers import text_buffers
from pipeline.text.characters import ALONE, CLUSTER, LETTER, SYMBOL, TERMINAL, kind
from pipeline.text.hashing import short_key
from pipeline.text.jit import njit
from pipeline.text.kernels import ZERO, between32, borrow, frozen, text_data, trailing_zeros
from pipeline.text.lines import (
    MOST_LINES,
    clear_set,
    count_byte,
    count_characters,
    find_byte,
    line_end,
    set_size,
    strip,
    times_met,
)
from pipeline.text.utf8 import previous
from pipeline.text.words import (
    CAPACITY,
    next_sentence,
    plain_run,
    split,
    split_again,
    with_memory,
    word_slot,
    word_tables,
)

_FIELDS = """
    characters words real_words spaced_words spaced_characters letter_words stop_words
    hashes ellipses lines bullet_lines ellipsis_lines
    paragraphs repeated_paragraphs repeated_paragraph_characters
    split_lines repeated_lines repeated_line_characters compared_characters
    full_lines ended_lines short_lines repeated_full_characters newlines
    kept_lines sentences lorem_ipsum curly_bracket
"""
#: One record a document. ``words`` counts punctuation marks too, ``real_words`` does not, ``spaced_words`` only those
#: in scripts that separate words; ``lines`` end at any line break, ``split_lines`` at newlines, empty ones left out,
#: of which ``full_lines`` are not all whitespace.
COUNTS = np.dtype([(name, np.int64) for name in _FIELDS.split()])


class Settings(NamedTuple):
    """How texts of one sort (a language, say) are counted.

    ``stop_words`` (at most 64) are told apart by case; short lines have up to ``short_line`` characters; C4's lines are
    judged if there are ``line_rules``, for all sorts or none; ``units`` as ``ngrams.lengths`` takes it.
    """

    stop_words: tuple[str, ...] = ()
    short_line: int = 30
    line_rules: c4.LineRules | None = None
    units: float = 1.0


PLAIN = Settings()


class Counted(NamedTuple):
    """What was counted in n documents: ``counts`` COUNTS [n]; ``top`` and ``twice`` int64 [n, 9, 2] as
    ``ngrams.repeats`` fills them, zeros if n-grams were not asked for; ``spans`` what C4's line rules cut, None without
    line rules."""

    counts: np.ndarray
    top: np.ndarray
    twice: np.ndarray
    spans: pa.ListArray | None


def count(
    texts: pa.StringArray,
    settings: Settings | Sequence[Settings] = PLAIN,
    duplicates_from: int | None = 2,
    sorts: np.ndarray | None = None,
) -> Counted:
    """Counts the documents ``texts``, all by ``settings``, or text i by ``settings[sorts[i]]`` (int64 [n]).

    N-grams are counted unless ``duplicates_from`` is None, repeated ones from that length on.
    """
    listed = [settings] if isinstance(settings, Settings) else settings
    with_c4 = listed[0].line_rules is not None
    no_rules = c4.LineRules(c4.NO_MARKS, 0, 0, False, False, False)
    data, offsets = text_buffers(texts)
    counts = np.zeros(len(texts), COUNTS)
    top = np.zeros((len(texts), 9, 2), np.int64)
    twice = np.zeros((len(texts), 9, 2), np.int64)
    cut_offsets, cuts = _count(
        text_data(data),
        offsets,
        characters.table(),
        english.lookup(),
        np.zeros(len(texts), np.int64) if sorts is None else sorts,
        word_tables([entry.stop_words for entry in listed]),
        np.array([entry.short_line for entry in listed], np.int64),
        duplicates_from or 0,
        np.stack([ngrams.lengths(entry.units) for entry in listed]),
        np.array([tuple(entry.line_rules or no_rules) for entry in listed], c4.LINE_RULES),
        with_c4,
        _workspace(int(np.diff(offsets).max(initial=1))),
        counts,
        top,
        twice,
    )
    cut_spans = spans.from_ranges(cut_offsets, cuts[:, 0], cuts[:, 1]) if with_c4 else None
    return Counted(counts, top, twice, cut_spans)


class _Workspace(NamedTuple):
    words: np.ndarray  # WORD: the words of a line, and those of runs that came before
    runs: np.ndarray  # uint64: which runs these are
    lines: np.ndarray  # uint64: a set of lines
    stops_met: np.ndarray  # int64: the text that a stop word was met in last
    scratch: np.ndarray  # uint8: a line without its citation marks
    grams: ngrams.Workspace


def _workspace(longest: int) -> _Workspace:
    """For texts of up to ``longest`` bytes. Memory is touched only as it is used."""
    return _Workspace(
        *with_memory(),
        np.empty(set_size(longest), np.uint64),
        np.full(256, -1, np.int64),
        np.empty(longest, np.uint8),
        ngrams.workspace(longest),
    )


@njit(cache=True, nogil=True)
def _count(
    data, offsets, table, slots, sorts, stop_tables, short_lines, duplicates_from, sizes, all_rules, with_c4, space,
    counts, top, twice,
):  # fmt: skip
    data, table, slots = borrow(data), borrow(table), borrow(slots)
    words, runs = borrow(space.words), borrow(space.runs)
    stop_met, members = borrow(space.stops_met), borrow(space.lines)
    keys, ahead, scratch = borrow(space.grams.keys), borrow(space.grams.ahead), borrow(space.scratch)
    ahead[0] = 0
    cuts, total_cuts = np.empty((1024, 2), np.int64), ZERO
    cut_offsets = np.zeros(len(offsets), np.int64)
    for text in range(len(offsets) - 1):
        begin, end = offsets[text], offsets[text + 1]
        row, sort = counts[text], sorts[text]
        stops, short_line, rules = borrow(stop_tables[sort]), short_lines[sort], all_rules[sort]
        row.characters = count_characters(data, begin, end)
        row.hashes = count_byte(data, begin, end, ord("#"))
        row.newlines = count_byte(data, begin, end, ord("\n"))
        row.ellipses = _count_ellipses(data, begin, end)
        compared, compared_end = 0, begin
        at, cursor, newline, newline_end, cut = begin, begin, begin, begin, ZERO
        if total_cuts == len(cuts):  # a text of which nothing is kept is a cut, too
            cuts = c4.with_room(cuts, total_cuts, 1)
        mine = cuts[total_cuts:]
        while at < end:
            stop, resume = line_end(data, at, end, table)
            first, last = strip(data, at, stop, table)
            row.lines += 1
            row.bullet_lines += _starts_with_bullet(data, first, last)
            row.ellipsis_lines += _ends_with_ellipsis(data, first, last)
            sentences, ended = 0, False
            at = first
            real, spaced_characters, lettered, unspaced = 0, 0, 0, 0
            while at < last:
                letters, mark, key, after = plain_run(data, at, last, table, slots)
                if letters > 0:
                    sentences, ended = sentences + (ended or sentences == 0), False
                    real, lettered, spaced_characters = real + 1, lettered + 1, spaced_characters + letters
                    _meet(key, text, stops, stop_met, row)
                    compared, compared_end = _compare(key, letters, at + letters, compared, compared_end, keys, ahead)
                if letters >= 0:
                    if mark:
                        at += letters
                        this = np.int64(table[data[at]])
                        sentences, ended = next_sentence(sentences, ended, 1, this)
                        is_real = not this & SYMBOL
                        real, spaced_characters = real + is_real, spaced_characters + is_real
                        key = short_key(data, at, 1)
                        _meet(key, text, stops, stop_met, row)
                        compared, compared_end = _compare(key, 1, at + 1, compared, compared_end, keys, ahead)
                    row.words += (letters > 0) + mark
                    at = after
                    continue
                one, many, base, at = split_again(data, at, after, table, slots, words, runs)
                for k in range(one, one + many):
                    word = words[k]
                    sentences, ended = next_sentence(sentences, ended, word.characters, word.every)
                    is_real = not word.every & SYMBOL
                    is_unspaced = is_real and word.some & (ALONE | CLUSTER) > 0
                    real += is_real
                    unspaced += is_unspaced
                    spaced_characters += (is_real and not is_unspaced) * word.characters
                    lettered += word.some & LETTER > 0
                    _meet(word.key, text, stops, stop_met, row)
                    compared, compared_end = _compare(
                        word.key, word.characters, base + word.end, compared, compared_end, keys, ahead
                    )
                row.words += many
            row.real_words += real
            row.spaced_words += real - unspaced
            row.spaced_characters += spaced_characters
            row.letter_words += lettered
            if with_c4:
                flags, size = c4.judge_line(data, first, last, rules, table, scratch)
                row.lorem_ipsum |= flags & c4.LOREM_IPSUM > 0
                row.curly_bracket |= flags & c4.CURLY_BRACKET > 0
                if flags & c4.KEPT:
                    if size >= 0:
                        sentences = _count_sentences(frozen(scratch), ZERO, size, table, slots, words[:CAPACITY])
                    row.kept_lines += 1
                    row.sentences += max(1, sentences)
                    if cut + last - first + 4 > len(mine):
                        cuts = c4.with_room(cuts, total_cuts + cut, last - first + 4)
                        mine = cuts[total_cuts:]
                    if cursor > begin:
                        cursor, cut = c4.keep(data, newline, newline_end, begin, cursor, mine, cut, table)
                    cursor, cut = c4.keep_line(data, first, last, size >= 0, begin, cursor, mine, cut, table)
                    paired = resume - stop == 2 and data[stop] == ord("\r")
                    newline, newline_end = stop + paired, resume
            at = resume
        if with_c4:
            cut = c4.finish(data, begin, end, cursor, mine, cut, table)
            for k in range(cut):
                mine[k, 0], mine[k, 1] = mine[k, 0] - begin, mine[k, 1] - begin
        total_cuts += cut
        cut_offsets[text + 1] = total_cuts
        _count_newline_lines(data, begin, end, short_line, table, members, row)
        if duplicates_from:
            _count_paragraphs(data, begin, end, table, members, row)
            whole = compared < len(keys)
            row.compared_characters = row.characters if whole else count_characters(data, begin, compared_end)
            ngrams.repeats(space.grams, compared, duplicates_from, sizes[sort], top[text], twice[text])
    return cut_offsets, cuts[:total_cuts]


@njit(cache=True, nogil=True, forceinline=True)
def _meet(key, text, stops, stop_met, row):
    """Counts a stop word, once a text."""
    slot = word_slot(key, stops)
    if slot >= 0 and stop_met[slot] != text:
        stop_met[slot] = text
        row.stop_words += 1


@njit(cache=True, nogil=True, forceinline=True)
def _compare(key, characters, word_end, compared, compared_end, keys, ahead):
    """Puts a word among those whose n-grams are counted, if there is room; how many these are, and the end of them."""
    if compared == len(keys):
        return compared, compared_end
    keys[compared], ahead[compared + 1] = key, ahead[compared] + characters
    return compared + 1, word_end


@njit(cache=True, nogil=True)
def _count_sentences(data, at, end, table, slots, words):
    sentences, ended = 0, False
    while at < end:
        many, at = split(data, at, end, table, slots, words)
        for k in range(many):
            sentences, ended = next_sentence(sentences, ended, words[k].characters, words[k].every)
    return sentences


@njit(cache=True, nogil=True)
def _count_newline_lines(data, begin, end, short_line, table, members, row):
    """The lines of FineWeb and of Gopher repetition: what lies between newlines, empty lines left out."""
    members = clear_set(members, row.newlines + 1)
    at = begin
    while at < end:
        stop = find_byte(data, at, end, ord("\n"))
        if stop > at:
            row.split_lines += 1
            met = row.split_lines <= MOST_LINES and times_met(data, at, stop, members) > 0
            size = count_characters(data, at, stop)
            row.repeated_lines += met
            row.repeated_line_characters += met * size
            first, last = strip(data, at, stop, table)
            if first < last:
                row.full_lines += 1
                row.ended_lines += kind(data, previous(data, stop), table) & TERMINAL > 0
                row.short_lines += size <= short_line
                row.repeated_full_characters += met * size
        at = stop + 1
    if begin < end:  # splitting at newlines leaves an empty line before a leading and after a trailing one
        row.split_lines += (data[begin] == ord("\n")) + (data[end - 1] == ord("\n"))
        row.repeated_lines += data[begin] == ord("\n") and data[end - 1] == ord("\n")


@njit(cache=True, nogil=True)
def _count_paragraphs(data, begin, end, table, members, row):
    """What lies between two newlines or more, in the text without whitespace at both ends."""
    members = clear_set(members, row.newlines // 2 + 1)
    at, end = strip(data, begin, end, table)
    row.paragraphs = at == end
    while at < end:
        stop = find_byte(data, at, end, ord("\n"))
        while stop < end and data[stop + 1] != ord("\n"):
            stop = find_byte(data, stop + 1, end, ord("\n"))
        row.paragraphs += 1
        if row.paragraphs <= MOST_LINES and times_met(data, at, stop, members) > 0:
            row.repeated_paragraphs += 1
            row.repeated_paragraph_characters += count_characters(data, at, stop)
        at = stop
        while at < end and data[at] == ord("\n"):
            at += 1


@njit(cache=True, nogil=True)
def _count_ellipses(data, begin, end):
    """``...`` (without overlap) and U+2026."""
    count, at = 0, begin
    while at + 3 <= end:
        if at + 34 <= len(data):
            places = _each32(data, at, 0x2E, 0x2E, 0x2E) | _each32(data, at, 0xE2, 0x80, 0xA6)
            at += np.int64(trailing_zeros(places | uint64(1 << 32)))
            if not places:
                continue
            count += at + 3 <= end
            at += 3
            continue
        dots = data[at] == 0x2E and data[at + 1] == 0x2E and data[at + 2] == 0x2E
        ellipsis = dots or (data[at] == 0xE2 and data[at + 1] == 0x80 and data[at + 2] == 0xA6)
        count += ellipsis
        at += 3 if ellipsis else 1
    return count


@njit(cache=True, nogil=True, inline="always")
def _each32(data, at, first, second, third):
    """Bit k says whether the three bytes from ``at + k`` on are these; 34 must be inside the array."""
    places = between32(data, at, 0, first, first) & between32(data, at + 1, 0, second, second)
    return places & between32(data, at + 2, 0, third, third)


@njit(cache=True, nogil=True)
def _starts_with_bullet(data, start, end):
    if start == end:
        return False
    return data[start] == ord("-") or (data[start] == 0xE2 and data[start + 1] == 0x80 and data[start + 2] == 0xA2)


@njit(cache=True, nogil=True)
def _ends_with_ellipsis(data, start, end):
    if end - start < 3:
        return False
    last = data[end - 3 : end]
    return (last[0] == last[1] == last[2] == ord(".")) or (last[0] == 0xE2 and last[1] == 0x80 and last[2] == 0xA6)
