"""What a build warns of: sources that gave nothing, and rules that take most of a language, a source or a domain."""

from __future__ import annotations

import itertools
from pathlib import Path

import pyarrow as pa
import pytest

from pipeline.build.build import Build
from pipeline.curation import write_corpus
from pipeline.curation.write_corpus import NothingLeft
from pipeline.report import sections
from pipeline.stages import language, registry, titles
from pipeline.store import files
from tests.helpers import small_build
from tests.helpers.small_build import document

COUNT = 60


def make(
    root: Path,
    languages: list[str],
    dropped: dict[int, str],
    keep: dict[str, float] | None = None,
    sources: list[str] | None = None,
    shard_size: int = 25,
) -> Build:
    """Documents in ``languages``, some of which near-duplicate removal drops by the rules ``dropped`` names."""
    config = language.Config() if keep is None else language.Config(keep=keep)
    build = small_build.open_small(root, language=config, exact={})
    of = sources or ["web"] * len(languages)
    small_build.write_documents(
        build,
        [document(number, f"text {number}", source=of[number], domain=of[number]) for number in range(len(languages))],
        shard_size,
    )
    signals = {"language": pa.array(languages), "language_score": pa.array([0.9] * len(languages))}
    small_build.write_ledger(build, "language", signals, language.rules(config))
    small_build.write_ledger(build, "exact", {}, dropped={row: (rule, 1.0, 0.0) for row, rule in dropped.items()})
    return build


def warnings(build: Build) -> list[str]:
    small_build.close(build)
    return sections.warnings(build)


def test_a_rule_that_takes_most_of_a_language_is_warned_of_with_its_share(tmp_path: Path):
    languages = ["de", "en"] * COUNT
    dropped = {row: "exact.one" if row % 4 else "exact.two" for row in range(0, 2 * COUNT, 2) if row < 100}
    (told,) = warnings(make(tmp_path, languages, dropped, keep={"en": 0.5, "de": 0.5}))
    assert "Exact duplicates drops more than half of 1 language: de 50 of 60 (" in told
    assert "exact.one 41.7 %" in told
    assert "exact.two 41.7 %" in told
    assert "`exact` section" in told


def test_languages_without_reference_rules_are_warned_of_like_others(tmp_path: Path):
    codes = ["km", "my", "lo", "bo"]
    dropped = {row: "exact.one" for row in range(4 * COUNT) if row % 4 == 3 and row % 12 != 3}
    (told,) = warnings(make(tmp_path, codes * COUNT, dropped, keep={"*": 0}))
    assert "Exact duplicates drops more than half of 1 language: bo 40 of 60 (" in told


def test_half_of_a_language_and_small_groups_go_without_a_word(tmp_path: Path):
    half = dict.fromkeys(range(0, COUNT, 2), "exact.one")
    assert warnings(make(tmp_path / "half", ["en", "de"] * COUNT, half, keep={"*": 0.5})) == []
    few = ["sv"] * 10 + ["en"] * COUNT
    assert warnings(make(tmp_path / "few", few, dict.fromkeys(range(10), "exact.one"), keep={"*": 0.5})) == []


def test_the_default_of_english_alone_says_what_it_dropped_and_how_to_keep_it(tmp_path: Path):
    (told,) = warnings(make(tmp_path, ["en"] * COUNT + ["fr"] * 15 + ["zh"] * 20, {}))
    assert "35 of 95 documents in 2 other languages" in told
    assert "zh 20, fr 15" in told
    assert "`language: {keep: {en: 0.65, zh: 0.5, fr: 0.5}}`" in told


def test_languages_that_a_recipe_chose_to_drop_are_not_warned_of_unless_a_source_is_lost(tmp_path: Path):
    languages = ["en"] * COUNT + ["fr"] * 30
    assert warnings(make(tmp_path / "one", languages, {}, keep={"en": 0.6})) == []
    sources = ["a"] * COUNT + ["b"] * 30
    (told,) = warnings(make(tmp_path / "two", languages, {}, keep={"en": 0.6}, sources=sources))
    assert "source 'b': none of its 30 documents is in the corpus" in told
    assert "language.not_wanted 100 %" in told


def test_a_language_that_is_kept_in_vain_is_named(tmp_path: Path):
    (told,) = warnings(make(tmp_path, ["en"] * COUNT, {}, keep={"en": 0.6, "sw": 0.5, "*": 0.5}))
    assert told == "no document is in 'sw', which `language.keep` names"


def test_a_source_without_a_document_and_what_ingest_says_of_a_source_are_warned_of(tmp_path: Path):
    build = make(tmp_path, ["en"] * 3, {})
    manifest = files.read_json(build.path("documents", "manifest.json"))
    manifest["sources"]["web"]["warnings"] = ["source 'web': 2 links lead nowhere"]
    void = {"files": 2, "documents": 0, "bytes": 0, "quarantined": 4}
    manifest["sources"]["void"] = {**manifest["sources"]["web"], "warnings": [], **void}
    files.write_json(build.path("documents", "manifest.json"), manifest)
    ingest, void = warnings(build)
    assert ingest == "source 'web': 2 links lead nowhere"
    assert void.startswith("source 'void' has no document (2 files read, 4 records quarantined)")


def test_warnings_do_not_depend_on_how_the_corpus_is_cut_into_shards(tmp_path: Path):
    languages = list(itertools.islice(itertools.cycle(["de", "en", "fr"]), 3 * COUNT))
    dropped = {row: "exact.one" for row in range(len(languages)) if row % 3 == 0}
    builds = [
        make(tmp_path / str(size), languages, dropped, keep={"*": 0.5}, shard_size=size) for size in (1000, 25, 7)
    ]
    found = [warnings(build) for build in builds]
    assert found[0]
    assert found[0] == found[1] == found[2]


def test_a_recipe_that_drops_everything_names_the_rules_that_did(tmp_path: Path):
    build = make(tmp_path, ["fr"] * 30 + ["en"] * 10, dict.fromkeys(range(30, 40), "exact.one"))
    with pytest.raises(NothingLeft) as caught:
        small_build.close(build)
    assert "drops every document it reads, 40 in all" in str(caught.value)
    assert "30 by language.not_wanted (`language`, 75.0%)" in str(caught.value)
    assert "10 by exact.one (`exact`, 25.0%)" in str(caught.value)


def test_without_a_document_no_rule_is_blamed(tmp_path: Path):
    build = small_build.open_small(tmp_path)
    small_build.write_documents(build, [], 10)
    (step, manifest) = write_corpus.steps()
    assert step.items(build) == []
    with pytest.raises(NothingLeft, match=r"no document was read from 'web': check the paths"):
        manifest.work(build, "manifest.json")


def test_every_stage_has_a_title_and_a_sentence_and_no_rule_repeats_it():
    assert all(stage.title and stage.about for stage in registry.STAGES)
    assert titles.title("minhash") == "Near-duplicates"
    assert titles.rule("urls.blocklist") == "blocklist"
