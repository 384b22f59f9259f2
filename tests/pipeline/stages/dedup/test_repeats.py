"""Repeated passages and substrings against a suffix array, and the units they are made of against plain Python."""

import random
import re
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from pipeline.stages import registry
from pipeline.stages.dedup import exact, exchange, passages, repeats, substring
from pipeline.text import spans
from pipeline.text.folding import in_word, text_table, word_table
from pipeline.text.scripts import is_unspaced
from pipeline.text.units import code_of, split_units
from tests.helpers.dedup_corpus import build_of, decisions, run

CHARACTERS = 'aAb9_ .!?-"\n\r\t\u00a0é\u0301हि我。ไ😀'
TEXTS = st.lists(st.one_of(st.text(alphabet=CHARACTERS), st.text()), max_size=5)


@pytest.fixture(autouse=True)
def stages(monkeypatch):
    known = [stage for stage in registry.STAGES if stage.name not in ("passages", "substring")]
    at = registry.NAMES.index("minhash") + 1
    monkeypatch.setattr(registry, "STAGES", (*known[:at], passages.STAGE, substring.STAGE, *known[at:]))


def units_of(text: str, unit) -> list[tuple[int, int, int]]:
    """``(start, end, size)`` of each unit in bytes, as the kernel finds them."""
    data = np.frombuffer(text.encode(), np.uint8)
    hashes, starts, ends, sizes = (np.empty(len(data), kind) for kind in (np.uint64, np.int64, np.int64, np.int64))
    tables = word_table(), text_table(case=False)
    count = split_units(data, 0, len(data), code_of(unit), *tables, hashes, starts, ends, sizes)
    return list(zip(starts[:count].tolist(), ends[:count].tolist(), sizes[:count].tolist(), strict=True))


def tokens_of(text: str) -> list[tuple[int, int]]:
    """The definition of tokens, in characters: words, and other characters that are not whitespace."""
    found, start = [], 0
    while start < len(text):
        end = start + 1
        if joins(text[start]):
            while end < len(text) and joins(text[end]):
                end += 1
        if not text[start].isspace():
            found.append((start, end))
        start = end
    return found


def joins(character: str) -> bool:
    return in_word(character) and not is_unspaced(character)


@given(st.one_of(st.text(alphabet=CHARACTERS), st.text()))
def test_tokens_are_words_and_single_other_characters(text):
    found = [(start, end) for start, end, _ in units_of(text, "token")]
    byte = [len(text[:i].encode()) for i in range(len(text) + 1)]
    assert found == [(byte[start], byte[end]) for start, end in tokens_of(text)]


@given(st.text(alphabet=CHARACTERS), st.sampled_from(["line", "paragraph", "sentence"]))
def test_lines_paragraphs_and_sentences_cover_all_that_is_not_whitespace_without_overlap(text, unit):
    found, data = units_of(text, unit), text.encode()
    assert all(end == start for (_, end, _), (start, _, _) in pairwise(found))
    assert not found or found[-1][1] == len(data)
    assert data[: found[0][0]].decode().strip() == "" if found else text.strip() == ""
    for start, end, size in found:
        part = data[start:end].decode()
        assert len("".join(part.split())) == size > 0
        if unit == "line":
            assert "\n" not in part.strip()
        if unit == "paragraph":
            assert not re.search(r"\n\s*\n", part.strip())


def test_sentences_end_at_a_mark_before_whitespace_or_at_an_empty_line():
    text = 'He paid 3.50 today. "Really?" she said. No mark\n\nA new one\nover two lines! 好。 End'
    expected = [
        "He paid 3.50 today. ",
        '"Really?" ',
        "she said. ",
        "No mark\n\n",
        "A new one\nover two lines! ",
        "好。 ",
        "End",
    ]
    data = text.encode()
    assert [data[start:end].decode() for start, end, _ in units_of(text, "sentence")] == expected


def suffix_array_cuts(documents: list[list[str]], length: int) -> list[list[bool]]:
    """Which tokens of ``documents``, in order of preference, a suffix array says to cut."""
    sequence: list[tuple] = []
    for number, tokens in enumerate(documents):
        sequence += [(1, token) for token in tokens] + [(0, str(number))]  # a separator equals no other
    suffixes = sorted(range(len(sequence)), key=lambda i: sequence[i:])
    group, groups = [suffixes[0]] if suffixes else [], []
    for before, after in pairwise(suffixes):
        if sequence[before : before + length] != sequence[after : after + length]:
            groups.append(group)
            group = []
        group.append(after)
    groups.append(group)
    cut = [False] * len(sequence)
    for members in groups:
        window = sequence[members[0] : members[0] + length] if members else []
        if len(window) < length or any(kind == 0 for kind, _ in window):
            continue
        first = min(members)
        for at in members:
            if at >= first + length:
                cut[at : at + length] = [True] * length
    marks, found = iter(cut), []
    for tokens in documents:
        found.append([next(marks) for _ in tokens])
        next(marks)
    return found


def preference(texts: list[str]) -> list[int]:
    key = lambda i: (-len(texts[i].encode()), xxhash.xxh64_intdigest(f"doc-{i:05d}".encode()))  # noqa: E731
    return sorted(range(len(texts)), key=key)


REPETITIVE = st.lists(st.text(alphabet="ab. 我", max_size=25), min_size=1, max_size=6)


def cut_tokens(text: str, ranges: list[dict] | None) -> list[bool]:
    byte = [len(text[:i].encode()) for i in range(len(text) + 1)]
    inside = [
        sum(max(0, min(byte[end], r["end"]) - max(byte[start], r["start"])) for r in ranges or [])
        for start, end in tokens_of(text)
    ]
    return [cut == byte[end] - byte[start] for cut, (start, end) in zip(inside, tokens_of(text), strict=True)]


@pytest.mark.slow
@given(REPETITIVE, st.integers(1, 5), st.integers(1, 3))
def test_substring_cuts_what_a_suffix_array_shows_to_occur_before(tmp_path_factory, texts, length, shard_size):
    build = build_of(
        tmp_path_factory.mktemp("build"), texts, shard_size, substring=substring.Config(length=length, min_words_left=0)
    )
    run(build, substring.steps())
    entries = decisions(build, "substring")
    order = preference(texts)
    expected = suffix_array_cuts([[texts[i][a:b] for a, b in tokens_of(texts[i])] for i in order], length)
    for i, marks in zip(order, expected, strict=True):
        entry = entries[f"doc-{i:05d}"]
        if marks and all(marks):
            assert (entry["dropped_by"], entry["spans"]) == ("substring_repeated", [])
        else:
            assert entry["dropped_by"] is None
            cut = [*entry["spans"], *entry["overwrites"]]
            assert cut_tokens(texts[i], sorted(cut, key=lambda part: part["start"])) == marks
        assert entry["substring_fraction"] == (sum(marks) / len(marks) if marks else 0)
        assert bool(entry["substring_survivors"]) == any(marks)


def paragraphs(seed: int, documents: int) -> list[str]:
    draw = random.Random(seed)
    stock = [f"paragraph number {i} " + " ".join(f"w{draw.randint(0, 99)}" for _ in range(20)) for i in range(60)]
    return [
        "\n\n".join([*draw.sample(stock, 5), "Short.", f"unique words of document {i} " * 3]) for i in range(documents)
    ]


def test_each_paragraph_stays_exactly_once_and_short_ones_stay_everywhere(tmp_path):
    texts = paragraphs(1, 40)
    build = build_of(tmp_path, texts, 7, passages=passages.Config())
    run(build, passages.steps())
    kept = [text for shard in build.shards() for text in build.view(shard).texts.to_pylist()]
    before = {part.strip() for text in texts for part in text.split("\n\n")}
    after = [part.strip() for text in kept for part in text.split("\n\n") if part.strip()]
    assert set(after) == before
    assert sorted(part for part in after if part != "Short.") == sorted(before - {"Short."})
    assert after.count("Short.") == len(texts)


def test_every_cut_names_the_documents_that_keep_the_passage(tmp_path):
    texts = paragraphs(2, 30)
    build = build_of(tmp_path, texts, 4, passages=passages.Config(keep="earliest"))
    run(build, passages.steps())
    for name, entry in decisions(build, "passages").items():
        own = texts[int(name[4:])].split("\n\n")
        keepers = []
        for part in own[:5]:
            first = next(i for i, text in enumerate(texts) if part in text.split("\n\n"))
            if f"doc-{first:05d}" != name and f"doc-{first:05d}" not in keepers:
                keepers.append(f"doc-{first:05d}")
        assert entry["passages_survivors"] == keepers


def test_the_cuts_are_the_same_for_any_order_shard_size_and_partition(tmp_path, monkeypatch):
    documents = [{"id": f"d{i}", "text": text} for i, text in enumerate(paragraphs(3, 30))]
    outcomes = []
    sizes = [(100, 1 << 28, 64), (4, 1000, 64), (11, 5000, 64), (3, 500, 2), (1, 8000, 8)]
    for number, (shard_size, partition_bytes, direct) in enumerate(sizes):
        monkeypatch.setattr(exchange, "DIRECT", direct)
        monkeypatch.setattr(repeats, "PARTITION_BYTES", partition_bytes)
        shuffled = random.Random(number).sample(documents, len(documents))
        build = build_of(tmp_path / str(number), shuffled, shard_size, substring=substring.Config(length=10))
        run(build, substring.steps(), seed=number)
        outcomes.append(decisions(build, "substring"))
    assert all(outcome == outcomes[0] for outcome in outcomes)
    assert any(entry["spans"] for entry in outcomes[0].values())


def test_a_document_within_others_is_dropped_and_the_whole_stays(tmp_path):
    whole = " ".join(f"word{i}" for i in range(60))
    texts = [" ".join(f"word{i}" for i in range(10, 40)), whole, "other text"]
    build = build_of(tmp_path, texts, substring=substring.Config(length=20))
    run(build, substring.steps())
    [entry, *others] = decisions(build, "substring").values()
    assert entry["dropped_by"] == "substring_repeated"
    assert (entry["value"], entry["threshold"]) == (1, 1)
    assert entry["substring_survivors"] == ["doc-00001"]
    assert all(other["dropped_by"] is None and other["spans"] == [] for other in others)


def test_cuts_of_both_stages_add_up_and_earlier_drops_take_no_part(tmp_path):
    shared = "a paragraph that stands in two documents and is long enough to be cut"
    tail = " ".join(f"tail{i}" for i in range(12))
    texts = [f"{shared}\n\none {tail} one end of it", f"{shared}\n\ntwo {tail} two", f"{shared}\n\ntwo {tail} two"]
    build = build_of(
        tmp_path,
        texts,
        2,
        exact=exact.Config(),
        passages=passages.Config(),
        substring=substring.Config(length=12, min_words_left=0),
    )
    run(build, [*exact.steps(), *passages.steps(), *substring.steps()])
    kept = [text for shard in build.shards() for text in build.view(shard).texts.to_pylist()]
    assert kept == [texts[0], "two two"]
    dead = [e for e in decisions(build, "passages").values() if e["passages_fraction"] is None]
    assert len(dead) == 1


def test_nothing_is_done_twice_and_a_lost_file_is_made_again_with_the_same_content(tmp_path):
    build = build_of(tmp_path, paragraphs(4, 20), 6, passages=passages.Config())
    worked, total = run(build, passages.steps())
    assert worked == total
    before = decisions(build, "passages")
    assert run(build, passages.steps())[0] == 0
    for lost in sorted((tmp_path / "work").rglob("*.arrow"))[::2]:
        if lost.is_file():
            lost.unlink()
    assert 0 < run(build, passages.steps())[0] < total
    assert decisions(build, "passages") == before


@given(TEXTS, st.sampled_from(["token", "line", "paragraph", "sentence"]), st.randoms(use_true_random=False))
def test_any_cut_leaves_whole_characters(texts, unit, draw):
    config = repeats.Repeats(unit=unit, length=1, minimum=0)
    array = pa.array(texts, pa.string())
    _, units, _ = repeats.passages(array, config)
    chosen = np.array(sorted(draw.sample(range(len(units)), len(units) // 2)), np.int64)
    ranges, _ = repeats.cut_units(array, config, chosen)
    spans.cut(array, ranges).validate(full=True)


def test_a_corpus_without_documents_has_no_repeats(tmp_path):
    build = build_of(tmp_path, [], substring=substring.Config())
    run(build, substring.steps())
    assert decisions(build, "substring") == {}


def test_a_rest_of_a_few_words_is_dropped_by_a_rule_but_not_where_others_keep_their_passage(tmp_path):
    shared = " ".join(f"word{i}" for i in range(60))
    texts = [
        f"{shared} {' '.join(f'own{i}' for i in range(40))}",
        f"Account {shared} resources of nobody",
        f"{shared[:-7]} x",
    ]
    build = build_of(tmp_path, texts, substring=substring.Config(length=20))
    run(build, substring.steps())
    first, second, third = decisions(build, "substring").values()
    assert first["dropped_by"] is None
    for entry, words in ((second, 4), (third, 1)):
        assert entry["dropped_by"] == "substring_remainder"
        assert (entry["value"], entry["threshold"], entry["substring_words_left"]) == (words, 10, words)
        assert not entry["spans"]
    # the first paragraph is kept here for another document, so that the short rest stays
    known, kept = (
        "a paragraph of forty characters or more that is known",
        "a paragraph kept in one short document and nowhere else",
    )
    texts = [f"{known}\n\n{'long ' * 40}", f"{known}\n\n{kept}", f"{kept}\n\nx"]
    build = build_of(tmp_path / "keeper", texts, 1, passages=passages.Config())
    run(build, passages.steps())
    found = [entry["dropped_by"] for entry in decisions(build, "passages").values()]
    assert found == [None, None, "passages_remainder"]
    kept_texts = [text for shard in build.shards() for text in build.view(shard).texts.to_pylist()]
    assert kept_texts == [texts[0], kept]


def test_a_few_words_between_two_cuts_go_with_them_but_not_where_others_keep_their_passage(tmp_path):
    one, two = (" ".join(f"{name}{i}" for i in range(30)) for name in ("one", "two"))
    head, tail, long = (" ".join(f"{name}{i}" for i in range(20)) for name in ("head", "tail", "long"))
    texts = [
        f"{one} {' '.join(f'first{i}' for i in range(90))} {two}",
        f"{head} {one} a piece of six words here {two} {tail}",
        f"{head[::-1]} {one} {long} {two} {tail[::-1]}",
    ]
    build = build_of(tmp_path, texts, substring=substring.Config(length=20))
    run(build, substring.steps())
    kept = [text for shard in build.shards() for text in build.view(shard).texts.to_pylist()]
    assert kept == [texts[0], f"{head} {tail}", f"{head[::-1]} {long} {tail[::-1]}"]
    assert [entry["substring_fragments"] for entry in decisions(build, "substring").values()] == [0, 1, 0]
    # the piece is the only copy that others' passages are kept in
    known, other = "a paragraph of forty characters or more that is known", "another paragraph of as many characters"
    piece = "a paragraph kept in one document, of nine words"
    texts = [f"{known}\n\n{other}.\n\n{'long ' * 60}", f"{known}\n\n{piece}\n\n{other}.", f"{piece}\n\nx"]
    build = build_of(tmp_path / "keeper", texts, 1, passages=passages.Config(minimum=30))
    run(build, passages.steps())
    assert build.view(build.shards()[1]).texts.to_pylist() == [piece]


def test_words_do_not_grow_together_and_seams_are_tidy(tmp_path):
    shared = "/".join(f"seg{i}" for i in range(60))
    tail = " ".join(f"own{i}" for i in range(12))
    spaced = " ".join(f"word{i}" for i in range(60))
    texts = [
        f"{'first ' * 90}/{shared}/ {spaced}",
        f"{tail} Account/{shared}/resources {tail}x",
        f"{tail} Account {spaced} resources {tail}y",
        f"{tail} Account ({spaced}\n\nMore.\n {tail}z",
    ]
    build = build_of(tmp_path, texts, substring=substring.Config(length=20))
    run(build, substring.steps())
    kept = [text for shard in build.shards() for text in build.view(shard).texts.to_pylist()]
    assert kept[1:] == [
        f"{tail} Account resources {tail}x",
        f"{tail} Account resources {tail}y",
        f"{tail} Account (\n\nMore.\n {tail}z",
    ]
    ledger = decisions(build, "substring")
    cut = sum(part["end"] - part["start"] for entry in ledger.values() for part in entry["spans"] or [])
    assert sum(len(text.encode()) for text in texts) == sum(len(text.encode()) for text in kept) + cut
