"""A build that forgets documents is the build that never had them."""

from __future__ import annotations

import json
import multiprocessing
import re
import shutil
from concurrent.futures import ProcessPoolExecutor
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from pipeline import report
from pipeline.build import find_documents
from pipeline.build.build import Build
from pipeline.build.lock import BuildBusy, locked
from pipeline.curation import forget_list
from pipeline.curation import recipe as recipes
from pipeline.questions import diff, forget, why
from pipeline.sources.base import File
from pipeline.store import files
from tests.helpers import building
from tests.helpers.asking import TOPICS
from tests.helpers.dedup_corpus import run

DAY = date(2026, 11, 25)
MARK = "Unforgettable"
KEEP = ["longest", "earliest", {"highest": "mean_word_length"}, {"sources": ["second", "first"]}]


def lines() -> dict[str, dict[str, dict[str, Any]]]:
    """The records of two sources by id: topics, copies of some, near copies of others; each topic bears a MARK."""
    chosen = [(name, text[:3000]) for name, text in sorted(TOPICS.items()) if len(text) > 1500][:30]
    topics = [(name, f"{text}\nNumber {MARK}{i:03d} ends it.") for i, (name, text) in enumerate(chosen)]
    first = {name: {"id": name, "text": text} for name, text in topics}
    second = {f"copy-{name}": {"id": f"copy-{name}", "text": text} for name, text in topics[:12]}
    for extra in ("one", "another"):
        for name, text in topics[8:20]:
            second[f"{extra}-{name}"] = {"id": f"{extra}-{name}", "text": f"{text}\nAnd {extra} line at its end."}
    return {"first": first, "second": second}


def write(folder: Path, without: set[str] = frozenset()) -> None:  # type: ignore[assignment]
    for source, records in lines().items():
        kept = [
            json.dumps(record) for name, record in records.items() if f"{source}/{source}.jsonl#{name}" not in without
        ]
        (folder / f"{source}.jsonl").write_text("\n".join([*kept, "not json"]), "utf-8")


def recipe_over(folder: Path, keep: Any = "longest", **changes: Any) -> recipes.Recipe:
    values = {
        "name": "forgetful",
        "shard_bytes": "24KiB",
        "error_budget": 0.2,
        "sources": [{"name": name, "kind": "jsonl", "path": f"{folder}/{name}.jsonl"} for name in ("first", "second")],
        "normalise": {},
        "heuristics": {"gopher_quality": {"min_words": 260, "min_words_with_letter": 0.3, "min_stop_words": 0}},
        "exact": {"keep": keep},
        "minhash": {"keep": keep},
        "passages": {"unit": "line"},
        "index": True,
        "balance": {"max_epochs": 0.95},
        "corpus": {"parquet": True},
        **changes,
    }
    return recipes.Recipe.model_validate(values)


def facts(build: Build) -> tuple[dict, dict, dict]:
    """The corpus, every verdict by document, and the account without what was forgotten."""
    verdicts = {}
    for shard in build.shards():
        ids = build.documents(shard)["id"].to_pylist()
        for stage in build.stages:
            for name, row in zip(ids, build.ledger(stage, shard).to_pylist(), strict=True):
                verdicts[stage, name] = (row["dropped_by"], row.get("duplicate_of"), row["value"])
    account = files.read_json(build.path("funnel.json"))
    return building.curated(build), verdicts, {name: part for name, part in account.items() if name != "forgotten"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> tuple[Path, recipes.Recipe]:
    """A folder with a finished build in ``build``."""
    folder = tmp_path_factory.mktemp("forget")
    write(folder)
    recipe = recipe_over(folder)
    build, _ = building.make(recipe, folder / "build")
    run(build, report.steps())
    return folder, recipe


def chosen(build: Build) -> list[str]:
    """One document for each fate: survivors of both stages, a duplicate, a short one, one without duplicates."""
    found: dict[str, str] = {}
    _, verdicts, _ = facts(build)
    for (stage, name), (rule, survivor, _) in sorted(verdicts.items()):
        if survivor:
            found.setdefault(f"survivor of {stage}", survivor)
        if rule:
            found.setdefault(rule, name)
    survivors = {survivor for _, survivor, _ in verdicts.values()}
    found["alone"] = next(name for name in sorted(building.curated(build)) if name not in survivors)
    assert len(found) >= 6, found
    return list(dict.fromkeys(found.values()))


@pytest.mark.slow
@pytest.mark.parametrize("keep", KEEP, ids=str)
def test_forgetting_equals_a_build_from_sources_without_the_documents(tmp_path, keep):
    write(tmp_path)
    recipe = recipe_over(tmp_path, keep)
    build, _ = building.make(recipe, tmp_path / "build")
    ids = chosen(build)
    read = files.read_json(build.path("funnel.json"))["stages"][0]
    assert forget.record(build, ids, DAY) == ids
    building.make(recipe, tmp_path / "build")

    (tmp_path / "without").mkdir()
    write(tmp_path / "without", set(ids))
    other, _ = building.make(recipe_over(tmp_path / "without", keep), tmp_path / "other")
    assert facts(build) == facts(other)

    account = files.read_json(build.path("funnel.json"))
    gone = [sum(entry[unit] for entry in account["forgotten"].values()) for unit in ("documents", "bytes")]
    assert gone[0] == len(ids)
    assert account["stages"][0]["documents"] + gone[0] == read["documents"]
    assert gone[1] > 0


@pytest.mark.slow
def test_a_duplicate_takes_the_place_of_the_survivor_and_why_says_so(finished, tmp_path):
    folder, recipe = finished
    shutil.copytree(folder / "build", tmp_path / "build")
    build = Build(str(tmp_path / "build"), recipe)
    _, verdicts, _ = facts(build)
    lost: dict[str, set[str]] = {}
    for (stage, name), (_, survivor, _) in verdicts.items():
        if survivor and stage in ("exact", "minhash"):
            lost.setdefault(survivor, set()).add(name)
    survivor = max((name for name in lost if len(lost[name]) > 1), key=lambda name: (len(lost[name]), name))
    forget.record(build, [survivor], DAY)
    waiting = why.forgotten_document(build, survivor)
    assert waiting is not None
    assert not waiting.carried_out
    building.make(recipe, tmp_path / "build")
    told = why.forgotten_document(build, survivor)
    assert told is not None
    assert (told.carried_out, told.on) == (True, "2026-11-25")
    assert told.heirs
    assert {heir.id for heir in told.heirs} <= lost[survivor]
    for heir in told.heirs:
        assert heir.dropped_by == why.why(build, heir.id).dropped_by
    with pytest.raises(find_documents.UnknownDocument):
        why.why(build, survivor)
    causes = {entry.cause: entry for entry in diff.diff(Build(str(folder / "build"), recipe), build)}
    assert causes["the second build has forgotten it"].examples == (survivor,)


def marks(build: Build) -> set[str]:
    """The marks that stand in any file of the build's folder."""
    texts = [(Path(build.root) / name).read_bytes() for name in building.outputs(Path(build.root))]
    return {mark.decode() for text in texts for mark in re.findall(MARK.encode() + rb"\d+", text)}


def test_no_file_of_the_build_holds_the_text_or_the_shards_that_are_gone(finished, tmp_path):
    folder, recipe = finished
    shutil.copytree(folder / "build", tmp_path / "build")
    build = Build(str(tmp_path / "build"), recipe)
    assert len(marks(build)) == 30
    kept, names = building.curated(build), build.shards()
    spared = sorted(kept)[-3:]
    ids = [name for shard in names for name in build.documents(shard)["id"].to_pylist()]
    forget.record(build, [name for name in ids if name not in spared], DAY)
    building.make(recipe, tmp_path / "build")
    run(build, report.steps())
    assert sorted(name for shard in build.shards() for name in build.documents(shard)["id"].to_pylist()) == spared
    assert marks(build) == {mark for name in spared for mark in re.findall(rf"{MARK}\d+", kept[name][0])}
    gone = set(names) - set(build.shards())
    assert gone
    left = {path.name for path in Path(build.root).rglob("*.arrow")}
    assert not left & gone


def test_what_is_forgotten_stays_so_whatever_is_run_later(finished, tmp_path):
    folder, recipe = finished
    shutil.copytree(folder / "build", tmp_path / "build")
    build = Build(str(tmp_path / "build"), recipe)
    ids = chosen(build)[:2]
    forget.record(build, ids, DAY)
    _, outcomes = building.make(recipe, tmp_path / "build")
    assert not all(outcome.reused for outcome in outcomes["ingest"])
    before = building.outputs(tmp_path / "build")
    building.make(recipe, tmp_path / "build")
    assert building.outputs(tmp_path / "build") == before
    assert forget.record(build, ids, DAY) == []
    larger = recipe.model_copy(update={"shard_bytes": 1 << 20, "normalise": None})
    again, _ = building.make(larger, tmp_path / "build")
    assert not find_documents.locate(again, ids)


def test_an_unknown_id_is_refused_with_the_nearest_and_nothing_is_forgotten(finished):
    folder, recipe = finished
    build = Build(str(folder / "build"), recipe)
    known = chosen(build)[0]
    with pytest.raises(find_documents.UnknownDocument, match="Nearest: "):
        forget.record(build, [known, known + "x"], DAY)
    assert forget_list.entries(build) == {}


def test_an_id_belongs_to_the_file_whose_name_it_begins_with():
    run = [File("/a", "a.txt", 1), File("/b", r"b\#1.txt", 1), File("/c", "c\\\\", 1)]
    ids = ["s/a.txt", "s/a.txt#1#2", r"s/b\#1.txt#x", "s/c\\\\#1", "s/a.txtx#1", "s/b#1", "t/a.txt"]
    assert forget_list.of_files(ids, "s", run) == sorted(ids[:4])


def _record(build: Build, ids: list[str]) -> None:
    """Put each of ``ids`` on the list, trying again while another process holds the lock."""
    for name in ids:
        while True:
            try:
                forget.record(build, [name], DAY)
            except BuildBusy:
                continue
            break


def test_two_at_once_lose_no_id(finished, tmp_path):
    folder, recipe = finished
    shutil.copytree(folder / "build", tmp_path / "build")
    build = Build(str(tmp_path / "build"), recipe)
    ids = sorted(building.curated(build))[:12]
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as both:
        for done in [both.submit(_record, build, part) for part in (ids[::2], ids[1::2])]:
            done.result(120)  # raises what the other process raised
    assert sorted(forget_list.entries(build)) == ids


def test_forgetting_is_refused_and_changes_nothing_while_the_build_is_at_work(finished):
    folder, recipe = finished
    build = Build(str(folder / "build"), recipe)
    name = sorted(building.curated(build))[0]
    with locked(build.root), pytest.raises(BuildBusy, match="is at work on this build; wait for it or stop it"):
        forget.record(build, [name], DAY)
    assert forget_list.entries(build) == {}


def test_given_a_line_to_say_so_it_waits_for_the_process_at_work(finished, tmp_path):
    folder, recipe = finished
    shutil.copytree(folder / "build", tmp_path / "build")
    build = Build(str(tmp_path / "build"), recipe)
    name = sorted(building.curated(build))[0]
    context = multiprocessing.get_context("fork")
    free, said = context.Event(), []

    def hold(taken):
        with locked(build.root):
            taken.set()
            free.wait(60)

    taken = context.Event()
    other = context.Process(target=hold, args=(taken,))
    other.start()
    assert taken.wait(60)

    def on_wait(line: str) -> None:
        said.append((line, forget_list.entries(build)))
        free.set()

    assert forget.record(build, [name], DAY, on_wait) == [name]
    other.join(60)
    assert said == [(f"{build.root}: process {other.pid} is at work on this build; waiting for it", {})]
