"""Clusters side by side, and the words in which two texts differ."""

from __future__ import annotations

import html
import re
import time
from pathlib import Path

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from pipeline import report
from pipeline.build.build import Build
from pipeline.report import clusters, collect, differences, sections
from tests.helpers import small_build
from tests.helpers.small_build import document

WORDS = st.lists(st.sampled_from(["a", "<b>", "cat &", "\u202e", "x\ny", "…", "漢字"]), max_size=30).map(" ".join)


def test_words_that_differ_are_marked_and_those_that_are_missing_are_struck():
    found = differences.marked("the red <cat> sat", "the blue <cat> sat down")
    assert str(found) == "the <del>blue</del><mark>red</mark> &lt;cat&gt; sat<del> down</del>"
    assert str(differences.marked("漢字仮", "漢文仮")) == "漢<del>文</del><mark>字</mark>仮"
    assert str(differences.marked("same & same", "same & same")) == "same &amp; same"


def test_what_follows_a_cut_is_not_called_different():
    assert str(differences.marked("one two three …", "one two …")) == "one two three …"


@given(WORDS, WORDS)
def test_without_what_was_struck_a_marked_text_is_the_text(text: str, other: str):
    found = re.sub("<del>.*?</del>", "", str(differences.marked(text, other)), flags=re.DOTALL)
    assert html.unescape(re.sub("</?mark>", "", found)) == text


def test_the_time_is_bounded_for_texts_of_single_signs():
    start = time.process_time()
    differences.marked("ab" * 200_000, "ba" * 200_000)
    differences.marked("- " * 100_000, " -" * 100_000)
    assert time.process_time() - start < 20


def build_of(root: Path, shard_size: int) -> Build:
    """Ten clusters: number n has n + 1 documents, the first one kept."""
    build = small_build.open_small(root, minhash={})
    members = [(cluster, place) for cluster in range(10) for place in range(cluster + 1)]
    documents = [
        document(0, f"text of cluster {cluster} by hand {place}", id=f"web/{cluster}-{place}")
        for cluster, place in members
    ]
    small_build.write_documents(build, documents, shard_size)
    lost = {row: ("near_duplicate", 0.9, 0.8) for row, (_, place) in enumerate(members) if place}
    names = {
        "duplicate_of": pa.array([f"web/{cluster}-0" if place else None for cluster, place in members], pa.string()),
        "cluster_size": pa.array([cluster + 1 for cluster, _ in members], pa.int32()),
    }
    small_build.write_ledger(build, "minhash", names, dropped=lost)
    small_build.close(build)
    for step in report.steps():
        for item in step.items(build):
            step.work(build, item)
    return build


def test_the_largest_clusters_are_shown_however_the_corpus_is_cut(tmp_path: Path):
    found = [sections.cluster_samples(build_of(tmp_path / str(size), size)) for size in (100, 7, 1)]
    assert found[0] == found[1] == found[2]
    assert found[0] is not None
    assert [entry["survivor"] for entry in found[0]] == [f"web/{number}-0" for number in (9, 8, 7, 6, 5, 4)]
    assert [entry["size"] for entry in found[0]] == [10, 9, 8, 7, 6, 5]
    assert all(len(entry["members"]) == clusters.MEMBERS for entry in found[0])
    first = found[0][0]
    assert first["text"] == "text of cluster 9 by hand 0"
    for member in first["members"]:
        place = member["id"].partition("-")[2]
        assert str(member["marked"]) == f"text of cluster 9 by hand <del>0</del><mark>{place}</mark>"


def test_a_shard_offers_few_candidates(tmp_path: Path):
    build = build_of(tmp_path, 100)
    (table,) = collect.collected(build)
    assert len(table["clusters"][0]) == clusters.SHOWN * clusters.MEMBERS
