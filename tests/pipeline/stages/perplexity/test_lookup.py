"""Our tables and look-up beside the kenlm library, whose scores they give to the bit."""

from __future__ import annotations

import itertools
import math
import random
import re
import shutil
import subprocess
import threading
from pathlib import Path
from typing import NamedTuple

import kenlm
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import MillError
from pipeline.stages.perplexity import arpa_reader, lookup, packed, scoring, tables, train_model
from tests.helpers.kenlm_programs import kenlm_on_path, needs
from tests.helpers.reading_arpa import read

__all__ = ["kenlm_on_path"]

WORDS = [
    "the",
    "cat",
    "sleeps",
    "die",
    "katze",
    "schläft",
    "猫",
    "が",
    "寝",
    "кошка",
    "спит",
    "été",
    "🙂🙂",
    "a" * 80,
    ".",
]
ODD = ["qwx", "<unk>", "<UNK>", "<s>", "</s>", "\x01", "the\x02cat", "x" * 7, "x" * 8, "x" * 9, "\u00a0", "\u2028"]
BLANKS = [" ", "  ", "\t", " \r\v\f ", "\n"]
ANY = st.sampled_from(WORDS) | st.sampled_from(ODD) | st.text(st.characters(exclude_characters="\0", codec="utf-8"))
LINES = st.lists(st.tuples(ANY, st.sampled_from(BLANKS)).map("".join), max_size=120).map("".join)
#: Order of a model, and what is pruned.
KINDS = {"bigrams": (2, []), "trigrams": (3, [0, 1]), "5-grams": (5, []), "pruned": (5, [0, 0, 1]), "6-grams": (6, [])}


class Both(NamedTuple):
    path: str
    ours: tables.Tables
    packed: packed.Packed
    theirs: kenlm.Model


def sentences(number: int, seed: int) -> list[str]:
    """Sentences that share words, pairs and longer passages."""
    rng = random.Random(seed)
    phrases = [" ".join(rng.choices(WORDS, k=rng.randint(1, 7))) for _ in range(12)]
    return [" ".join(rng.choices([*phrases, *WORDS], k=rng.randint(0, 9))) for _ in range(number)]


@pytest.fixture(scope="module", params=KINDS, ids=str)
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Both:
    order, prune = KINDS[request.param]
    path = str(tmp_path_factory.mktemp("model") / "x.arpa")
    train_model.train(pa.array([line for line in sentences(300, 1) if line]), path, order, prune, "own")
    ours = arpa_reader.read(path)
    assert ours is not None
    return Both(path, ours, pack(ours), opened(path))


def pack(model: tables.Tables, quantised: bool = False) -> packed.Packed:
    made = packed.pack(model, quantised)
    assert made is not None
    return made


def opened(path: str) -> kenlm.Model:
    config = kenlm.Config()
    config.show_progress, config.arpa_complain = False, kenlm.ARPALoadComplain.NONE
    return kenlm.Model(path, config)


def assert_equal(ours: tables.Tables | packed.Packed, theirs: kenlm.Model, lines: list[str]) -> None:
    np.testing.assert_array_equal(lookup.log10(pa.array(lines, pa.string()), ours), [*map(theirs.score, lines)])


@given(st.lists(LINES, max_size=5))
def test_every_line_has_kenlm_s_score_to_the_bit(both: Both, lines: list[str]):
    assert_equal(both.ours, both.theirs, lines)
    assert_equal(both.packed, both.theirs, lines)


def test_lines_of_any_length_and_blocks_of_any_size_change_nothing(both: Both):
    lines = [*sentences(200, 2), " ".join(sentences(300, 3)), "", "the " * 5000]
    assert_equal(both.ours, both.theirs, lines)
    array = pa.array(lines)
    for ours in (both.ours, both.packed):
        for block in (1, 7, 1000):
            np.testing.assert_array_equal(lookup.log10(array, ours, block), lookup.log10(array, ours))
        np.testing.assert_array_equal(lookup.log10(array.slice(5, 9), ours), lookup.log10(array, ours)[5:14])


def test_entries_whose_lines_are_full_are_found_in_the_next(both: Both, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(packed, "_FILLED", 0.97)
    full = pack(both.ours)
    lines = full.tables.memory[: full.tables.starts[1]].reshape(-1, packed.LINE)
    assert (lines[:, -1] >> 31).any()
    assert_equal(full, both.theirs, [*sentences(200, 2), *ODD, *WORDS])
    assert_equal(full, both.theirs, sentences(300, 1))


def test_a_model_with_entries_alike_is_not_packed(both: Both):
    memory = both.ours.memory.copy()
    width = int(both.ours.widths[2])
    bigrams = memory[both.ours.starts[2] :][: int(both.ours.slots[2]) * width].reshape(-1, width)
    first, second = np.flatnonzero(bigrams[:, :2].any(1))[:2]
    bigrams[second, :2] = bigrams[first, 0], bigrams[first, 1] ^ 1  # the lowest bit of the half that chooses the line
    for quantised in (False, True):
        assert packed.pack(both.ours._replace(memory=memory), quantised) is None


def test_a_model_that_cannot_be_packed_is_scored_from_its_tables(
    both: Both, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(packed, "pack", lambda *_: None)
    path = str(shutil.copy(both.path, tmp_path / "copy.arpa"))  # models that were read are kept by their paths
    texts = ["the cat sleeps", "die katze ."]
    found, tokens = scoring.perplexity(pa.array(texts), path)
    np.testing.assert_allclose(found, 10 ** (-np.array([*map(both.theirs.score, texts)]) / tokens), rtol=1e-6)


def test_quantised_scores_are_those_of_the_model_with_the_means_of_its_bins(both: Both, tmp_path: Path):
    path = tmp_path / "coded.arpa"
    path.write_text("\n".join(by_hand(Path(both.path).read_text("utf-8").split("\n"))), "utf-8", newline="")
    lines = [*sentences(300, 1), *sentences(200, 2), *ODD]
    found = lookup.log10(pa.array(lines), pack(both.ours, True))
    np.testing.assert_allclose(found, [*map(opened(str(path)).score, lines)], rtol=1e-5)
    differ = (found != lookup.log10(pa.array(lines), both.ours)).any()
    assert differ == (max(read(Path(both.path)).counts[1:]) > packed.CODES)  # fewer values are all kept


def by_hand(lines: list[str]) -> list[str]:
    """The lines of an ARPA file with its probabilities and backoffs but those of unigrams in bins: 256 of
    probabilities, 254 of backoffs that are not 0; each number that of the nearest bin's mean."""
    order, rows = 0, {}
    for at, line in enumerate(lines):
        order = int(line[1]) if line.endswith("-grams:") else order
        if order > 1 and "\t" in line:
            rows.setdefault(order, []).append(at)
    out = [*lines]
    for each in rows.values():
        fields = [lines[at].split("\t") for at in each]
        for column, bins in ((0, 256), (2, 254)):
            values = [float(row[column]) for row in fields if len(row) > column and float(row[column])]
            ordered = sorted(values)
            edges = [len(ordered) * k // bins for k in range(bins + 1)]
            means = [math.fsum(ordered[a:b]) / (b - a) for a, b in itertools.pairwise(edges) if b > a]
            for row in fields:
                if len(row) > column and float(row[column]):
                    value = float(row[column])
                    row[column] = repr(min(means, key=lambda mean, value=value: abs(mean - value)))
        for at, row in zip(each, fields, strict=True):
            out[at] = "\t".join(row)
    return out


@needs("build_binary")
@pytest.mark.usefixtures("kenlm_on_path")
def test_quantised_scores_are_those_of_kenlm_s_quantised_build(both: Both, tmp_path: Path):
    path = str(tmp_path / "x.bin")
    command = ["build_binary", "-q", "8", "-b", "8", "trie", both.path, path]
    subprocess.run(command, check=True, capture_output=True)
    lines = [*sentences(300, 1), *sentences(200, 2), *ODD]
    found = lookup.log10(pa.array(lines), pack(both.ours, True))
    np.testing.assert_allclose(found, [*map(opened(path).score, lines)], rtol=1e-5)


@needs("build_binary")
@pytest.mark.usefixtures("kenlm_on_path")
@pytest.mark.parametrize("space", ["1.5", "1.01", "3.7"])
def test_a_binary_that_kenlm_made_is_read_in_place(both: Both, tmp_path: Path, space: str):
    path = str(tmp_path / "x.bin")
    subprocess.run(["build_binary", "-p", space, "probing", both.path, path], check=True, capture_output=True)
    ours = tables.open_binary(path)
    assert ours is not None
    assert_equal(ours, both.theirs, [*sentences(200, 2), *ODD, " ".join(ODD)])


@needs("build_binary")
@pytest.mark.usefixtures("kenlm_on_path")
def test_other_types_of_binaries_are_left_to_kenlm(both: Both, tmp_path: Path):
    texts = pa.array(["the cat sleeps .\ndie katze", "猫"])
    for number, kind in enumerate((["trie"], ["-q", "8", "trie"], ["-r", both.path, "probing"])):
        path = str(tmp_path / f"{number}.bin")
        made = subprocess.run(["build_binary", *kind, both.path, path], check=False, capture_output=True)
        if made.returncode == 0:
            assert tables.open_binary(path) is None
            found, wanted = (scoring.perplexity(texts, model)[0] for model in (path, both.path))
            np.testing.assert_allclose(found, wanted, rtol=0.3)


@needs("build_binary")
@pytest.mark.usefixtures("kenlm_on_path")
def test_a_damaged_binary_is_named_with_the_remedy(both: Both, tmp_path: Path):
    path = tmp_path / "x.bin"
    subprocess.run(["build_binary", "probing", both.path, str(path)], check=True, capture_output=True)
    whole = path.read_bytes()
    ours = tables.open_binary(str(path))
    assert ours is not None
    first, end = 4 * int(ours.starts[0]), 4 * len(ours.memory)
    damages = [whole[:size] for size in (40, 60, 90, 110, 130, end // 2, end - 1)]
    damages += [whole[:at] + b"\xff" * 4 + whole[at + 4 :] for at in (50, 60, 88, 108, 116, first - 4)]
    damages.append(whole[:first] + b"\xff" * (end - first))
    for damaged in damages:
        path.write_bytes(damaged)
        with pytest.raises(MillError, match=r"x\.bin: .*build_binary probing"):
            scoring.perplexity(pa.array(["the cat"]), str(path))


def test_threads_share_one_model_and_get_what_one_of_them_gets(both: Both):
    lines = pa.array(sentences(500, 4))
    alone, scores = lookup.log10(lines, both.packed), []
    threads = [threading.Thread(target=lambda: scores.append(lookup.log10(lines, both.packed))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(scores) == 4
    for others in scores:
        np.testing.assert_array_equal(others, alone)


@given(st.randoms(use_true_random=False))
def test_an_arpa_file_that_is_changed_scores_as_in_kenlm_or_is_left_to_it(small: list[str], tmp_path_factory, rng):
    lines = list(small)
    for _ in range(rng.randint(1, 2)):
        at = rng.randrange(len(lines))
        words = re.split("([\t =])", lines[at])
        word = rng.randrange(len(words))
        change = rng.randrange(6)
        if change == 0:
            del lines[at]
        elif change == 1:
            lines.insert(at, rng.choice(["", "# a comment", "\\end\\", lines[at]]))
        elif change == 2:
            words[word] = rng.choice(["", " ", "\t", "the", "qwx", "<unk>", "0", "1", "-0", "5", "\r"])
            lines[at] = "".join(words)
        elif change == 3:
            numbers = ["-1e-05", "-.5", "-5.", "-0.0", "+1", "1e-7", "-1.2345678", "-0.1E1", "-1e400", "nan", "-inf"]
            words[word] = rng.choice([*numbers, "-123456789012345678901234567890", "-0.30103001", "-3.4e+1", "--1"])
            lines[at] = "".join(words)
        elif change == 4:
            lines[at] = lines[at][: rng.randint(0, len(lines[at]))]
        else:
            lines[at] += rng.choice(["\t0", "\t-0.5", " ", "\r", "\t"])
    path = tmp_path_factory.getbasetemp() / "changed.arpa"
    path.write_text("\n".join(lines), "utf-8", newline="")
    ours = arpa_reader.read(str(path))
    if ours is not None:
        assert_equal(ours, opened(str(path)), [*sentences(20, 5), "a b a", "b", "qwx a"])


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    path = tmp_path_factory.mktemp("small") / "x.arpa"
    train_model.train(pa.array(["a b a c", "the a b", "c a b a"]), str(path), 3, [], "own")
    assert arpa_reader.read(str(path)) is not None
    return path.read_text("utf-8").split("\n")


@given(st.integers(0, 2**64 - 1), st.integers(1, 2**40))
def test_a_slot_is_the_rest_of_a_division(key: int, slots: int):
    for number in (key, key // slots * slots, 2**64 - 1):
        reciprocal = min(2**64 // slots, 2**64 - 1)
        assert tables.first_slot(np.uint64(number), np.uint64(slots), np.uint64(reciprocal)) == number % slots
