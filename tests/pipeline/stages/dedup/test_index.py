"""Curating one crawl after another comes to the same as curating all at once."""

import random

import pytest

from pipeline.build import row_numbers
from pipeline.build.build import Build
from pipeline.stages.dedup import earlier_builds, exact, exchange, index, minhash
from pipeline.stages.dedup.survivors import Highest, Sources
from pipeline.store import shards
from tests.helpers.dedup_corpus import build_of, decisions, run
from tests.pipeline.stages.dedup.test_minhash import CONFIG, SAME, corpus

STEPS = [*exact.steps(), *minhash.steps(), *index.steps()]


def kept_by(build: Build) -> set[str]:
    """The documents of ``build`` that both stages keep."""
    stages = [decisions(build, stage) for stage in build.stages]
    return {name for name in stages[0] if all(stage[name]["dropped_by"] is None for stage in stages)}


def changes(build: Build) -> dict[str, tuple[bool, str | None]]:
    table = shards.read_table(build.path("index", "changes.arrow"))
    return {entry["id"]: (entry["kept"], entry["duplicate_of"]) for entry in table.to_pylist()}


def crawls(seed: int) -> list[list[dict]]:
    """Three crawls that share exact and near duplicates in every direction."""
    documents = corpus(seed, 80)
    copies = [d | {"id": f"copy-{d['id']}"} for d in documents[5:25]]
    shuffled = random.Random(seed).sample(documents + copies, len(documents) + len(copies))
    return [shuffled[:40], shuffled[40:75], shuffled[75:]]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("seed", "changed", "direct"),
    [
        (0, {}, 64),
        (1, {"keep": "earliest"}, 3),
        (2, {"max_cluster_size": 3, "max_comparisons": 2}, 64),
        (3, {"keep": Sources(sources=["b", "a"])}, 10),
        (4, {"keep": Sources(sources=["c"]), "max_cluster_size": 3}, 64),
    ],
    ids=str,
)
def test_one_crawl_after_another_equals_all_at_once(tmp_path, monkeypatch, seed, changed, direct):
    monkeypatch.setattr(row_numbers, "PARTITION_ROWS", 30)
    monkeypatch.setattr(exchange, "DIRECT", direct)
    keep = changed.get("keep", "longest")
    sections = {"exact": exact.Config(keep=keep), "minhash": CONFIG.model_copy(update={"bands": 12, **changed})}
    parts = crawls(seed)
    together = build_of(tmp_path / "together", [d for part in parts for d in part], 11, **sections)
    run(together, STEPS)
    kept: set[str] = set()
    against: list[str] = []
    moved = 0
    for number, part in enumerate(parts):
        build = build_of(tmp_path / str(number), part, 9, **sections, against=tuple(against))
        run(build, STEPS, seed=number)
        for name, (keep, survivor) in changes(build).items():
            assert (name in kept) != keep, "a change changes something"
            kept ^= {name}
            moved += 1
            if survivor is not None:
                assert survivor != name
        kept |= kept_by(build)
        against.append(build.path("index"))
    assert kept == kept_by(together)
    assert moved > 0
    last = {d["id"] for d in parts[-1]}
    for stage in ("exact", "minhash"):
        at_once = {name: entry for name, entry in decisions(together, stage).items() if name in last}
        assert decisions(build, stage) == at_once


def test_a_duplicate_of_an_earlier_build_names_its_survivor_there(tmp_path):
    first = build_of(tmp_path / "monday", [{"id": "monday", "text": SAME + " and more"}], minhash=minhash.Config())
    run(first, [*minhash.steps(), *index.steps()])
    against = (first.path("index"),)
    second = build_of(
        tmp_path / "tuesday",
        [{"id": "same", "text": SAME}, {"id": "other", "text": "nothing in common"}],
        minhash=minhash.Config(threshold=0.5),
        against=against,
    )
    run(second, [*minhash.steps(), *index.steps()])
    entries = decisions(second, "minhash")
    assert entries["same"]["duplicate_of"] == "monday"
    assert entries["other"]["dropped_by"] is None
    assert changes(second) == {}


def test_a_longer_copy_takes_the_place_of_an_earlier_document(tmp_path):
    first = build_of(tmp_path / "monday", [{"id": "monday", "text": SAME}], exact=exact.Config())
    run(first, [*exact.steps(), *index.steps()])
    longer = [{"id": "tuesday", "text": SAME + "  \n"}]
    second = build_of(tmp_path / "tuesday", longer, exact=exact.Config(), against=(first.path("index"),))
    run(second, [*exact.steps(), *index.steps()])
    assert decisions(second, "exact")["tuesday"]["dropped_by"] is None
    assert changes(second) == {"monday": (False, "tuesday")}
    assert changes(first) == {}


def test_an_index_of_other_settings_or_an_unfinished_one_is_refused(tmp_path):
    first = build_of(tmp_path / "monday", ["one text"], minhash=minhash.Config())
    run(first, [*minhash.steps(), *index.steps()])
    against = (first.path("index"),)
    for other in ({"ngram": 4}, {"seed": 7}, {"keep": Highest(highest="quality")}):
        config = minhash.Config().model_copy(update=other)
        second = build_of(tmp_path / "tuesday", ["a text"], minhash=config, against=against)
        with pytest.raises(earlier_builds.WrongIndex, match=r"was made with minhash = .* use the same settings"):
            run(second, minhash.steps())
    (tmp_path / "monday" / "index" / "manifest.json").unlink()
    second = build_of(tmp_path / "tuesday", ["a text"], minhash=minhash.Config(), against=against)
    with pytest.raises(earlier_builds.WrongIndex, match="not a finished index"):
        run(second, minhash.steps())


def test_nothing_is_done_twice(tmp_path):
    first, second, _ = crawls(5)
    sections = {"exact": exact.Config(), "minhash": CONFIG.model_copy(update={"bands": 5})}
    monday = build_of(tmp_path / "monday", first, **sections)
    run(monday, STEPS)
    tuesday = build_of(tmp_path / "tuesday", second, **sections, against=(monday.path("index"),))
    worked, total = run(tuesday, STEPS)
    assert worked == total
    assert run(tuesday, STEPS)[0] == 0
    assert run(monday, STEPS)[0] == 0
