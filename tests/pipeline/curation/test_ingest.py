"""Ingest: nothing is lost, one answer for any shard size and order, finished shards are not written again."""

from __future__ import annotations

import gzip
import os
import random
import shutil
import tempfile
import tracemalloc
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import sources
from pipeline.build.build import Build, Outcome
from pipeline.curation import ingest
from pipeline.sources import quarantine
from pipeline.sources.base import Document, File, Flagged, NoFiles, PassedOver, Rejected, Unread
from pipeline.sources.jsonl import Jsonl
from pipeline.sources.parquet import Parquet
from pipeline.sources.text import Text
from pipeline.store import checksums, files, shards
from tests.helpers.sections import Sections


@dataclass(frozen=True)
class Recipe(Sections):
    """What ingest needs of a recipe."""

    sources: tuple[Any, ...]
    shard_bytes: int
    error_budget: float
    normalise: Any = None


def build_of(root: Path | str, sources: tuple[Any, ...], shard_bytes: int = 1000, error_budget: float = 0.5) -> Build:
    recipe: Any = Recipe(sources, shard_bytes, error_budget)
    return Build(str(root), recipe)


def carry_out(build: Build, shuffled: int | None = None) -> dict[str, list[Outcome]]:
    outcomes = {}
    for step in ingest.steps():
        items = list(step.items(build))
        if shuffled is not None:
            random.Random(shuffled).shuffle(items)
        outcomes[step.name] = [step.work(build, item) for item in items]
    return outcomes


def documents(build: Build) -> list[dict[str, Any]]:
    return [row for shard in build.shards() for row in build.documents(shard).to_pylist()]


def quarantined(build: Build) -> list[dict[str, Any]]:
    folder = build.path("quarantine")
    return [row for name in files.list_files(folder) for row in shards.read_table(files.join(folder, name)).to_pylist()]


def stamps(build: Build) -> dict[str, tuple[int, int]]:
    """What changes when a shard is written again."""
    found = [path for folder in ("documents", "quarantine") for path in Path(build.root, folder).glob("*.arrow")]
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in found}


def json_lines(texts: list[str]) -> bytes:
    return b"".join(orjson.dumps({"id": f"own{i}", "text": text}) + b"\n" for i, text in enumerate(texts))


@pytest.fixture
def inputs(tmp_path) -> tuple[Any, ...]:
    """253 JSON lines in 5 files, 12 of them bad; 7 text files, one of them bad; 40 rows of Parquet."""
    folder = tmp_path / "inputs"
    (folder / "tree/deep").mkdir(parents=True)
    for number in range(5):
        lines = json_lines([f"{number} {i} " + "word " * (i % 17) for i in range(50)]).split(b"\n")[:-1]
        for bad, line in enumerate([b"{", b'{"text": 1}', b"\xff"][: 1 + number % 3]):
            lines[7 * bad + number] = line
        data = b"\n".join(lines)
        (folder / f"{number}.jsonl.gz").write_bytes(gzip.compress(data, mtime=0))
    (folder / "0.jsonl.gz").write_bytes((folder / "0.jsonl.gz").read_bytes() + gzip.compress(b"\n{}\n{}\n{}", mtime=0))
    for number in range(6):
        (folder / f"tree/{'deep/' if number % 2 else ''}{number}.txt").write_text("A text.\n" * 40 * number)
    (folder / "tree/bad.txt").write_bytes(b"\xff\xfe")
    pq.write_table(pa.table({"text": [f"row {i} " * 9 for i in range(40)]}), folder / "rows.parquet")
    return (
        Jsonl(name="web", path=[f"{folder}/*.jsonl.gz"], domain="crawl"),
        Text(name="tree", path=[f"{folder}/tree/**/*.txt"]),
        Parquet(name="rows", path=[f"{folder}/*.parquet"]),
    )


def test_every_record_is_a_document_or_in_quarantine(tmp_path, inputs):
    build = build_of(tmp_path / "build", inputs)
    outcomes = carry_out(build)
    manifest = files.read_json(build.path("documents", "manifest.json"))
    found, bad = documents(build), quarantined(build)
    assert {name: (total["documents"], total["quarantined"]) for name, total in manifest["sources"].items()} == {
        "web": (241, 12),
        "tree": (6, 1),
        "rows": (40, 0),
    }
    assert len(found) == sum(total["documents"] for total in manifest["sources"].values())
    assert len(bad) == sum(total["quarantined"] for total in manifest["sources"].values())
    assert len({row["id"] for row in found}) == len(found)
    size = sum(len(row["text"].encode()) for row in found)
    assert size == sum(total["bytes"] for total in manifest["sources"].values())
    assert sum(outcome.documents for outcome in outcomes["ingest"]) == len(found)
    assert sum(outcome.bytes for outcome in outcomes["ingest"]) == size
    assert {"source": "tree", "record": 1, "offset": 0, "reason": "invalid UTF-8"}.items() <= next(
        row for row in bad if row["file"].endswith("tree/bad.txt")
    ).items()


def test_shards_have_the_document_schema_and_hold_at_most_their_size(tmp_path, inputs):
    build = build_of(tmp_path / "build", inputs)
    carry_out(build)
    assert len(build.shards()) > 20
    for shard in build.shards():
        table = build.documents(shard)
        assert table.schema.remove_metadata() == shards.DOCUMENT_SCHEMA
        assert len(table) == 1 or sum(len(text.encode()) for text in table["text"].to_pylist()) <= 1000
    assert any(len(build.documents(shard)) == 1 for shard in build.shards()), "no text was larger than a shard"


def test_documents_come_in_the_order_of_recipe_file_and_record_for_any_shard_size_and_order_of_work(tmp_path, inputs):
    small = build_of(tmp_path / "small", inputs, shard_bytes=1000)
    large = build_of(tmp_path / "large", inputs, shard_bytes=1 << 20)
    carry_out(small, shuffled=1)
    carry_out(large)
    assert documents(small) == documents(large)
    assert len(small.shards()) > len(large.shards()) == 3
    ids = [row["id"] for row in documents(small)]
    assert ids[:3] == ["web/0.jsonl.gz#own1", "web/0.jsonl.gz#own2", "web/0.jsonl.gz#own3"]
    assert [row["source"] for row in documents(small)] == ["web"] * 241 + ["tree"] * 6 + ["rows"] * 40
    assert [name for name in ids if name.startswith("tree/")] == [
        f"tree/{name}.txt" for name in ("0", "2", "4", "deep/1", "deep/3", "deep/5")
    ]


def test_the_order_in_which_files_are_listed_does_not_matter(tmp_path, inputs, monkeypatch):
    build = build_of(tmp_path / "one", inputs)
    carry_out(build)
    local = type(fsspec.filesystem("file"))
    glob = local.glob
    monkeypatch.setattr(local, "glob", lambda self, *a, **k: dict(reversed(glob(self, *a, **k).items())))
    other = build_of(tmp_path / "other", inputs)
    carry_out(other)
    assert documents(other) == documents(build)


def test_a_second_run_reuses_everything(tmp_path, inputs):
    build = build_of(tmp_path / "build", inputs)
    carry_out(build)
    before = stamps(build)
    outcomes = carry_out(build)
    assert all(outcome.reused for outcome in outcomes["ingest"])
    assert stamps(build) == before


def test_an_interrupted_part_goes_on_where_it_was(tmp_path, inputs, monkeypatch):
    whole = build_of(tmp_path / "whole", inputs[:1])
    carry_out(whole)

    build = build_of(tmp_path / "build", inputs[:1])
    write_table = shards.write_table
    part = next(name for name in whole.shards() if name.endswith("-002.arrow"))

    def broken(path, table, fingerprint):
        if path.endswith(part):
            raise OSError("no space left")
        write_table(path, table, fingerprint)

    monkeypatch.setattr(shards, "write_table", broken)
    with pytest.raises(OSError, match="no space left"):
        carry_out(build)
    monkeypatch.undo()
    done = stamps(build)
    assert part.replace("-002", "-001") in done
    assert part not in done

    outcomes = carry_out(build)
    assert {name: stamp for name, stamp in stamps(build).items() if name in done} == done
    assert documents(build) == documents(whole)
    assert not all(outcome.reused for outcome in outcomes["ingest"])


def test_a_changed_file_is_read_again_and_only_its_part(tmp_path, inputs):
    build = build_of(tmp_path / "build", inputs)
    carry_out(build)
    before = stamps(build)
    changed = tmp_path / "inputs/tree/2.txt"
    stat = changed.stat()
    changed.write_text(changed.read_text().replace("A text", "B text"))
    os.utime(changed, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # same size, same time
    outcomes = carry_out(build)
    assert [outcome.reused for outcome in outcomes["ingest"]].count(False) == 1
    assert "B text" in next(row["text"] for row in documents(build) if row["id"] == "tree/2.txt")
    rewritten = {name for name, stamp in stamps(build).items() if before[name] != stamp}
    assert {name.split("-")[0] for name in rewritten} == {"tree"}


@pytest.mark.parametrize("change", ["shard size", "setting", "version"])
def test_what_made_a_shard_is_part_of_its_fingerprint(tmp_path, inputs, monkeypatch, change):
    carry_out(build_of(tmp_path / "build", inputs))
    build = build_of(tmp_path / "build", inputs)
    if change == "shard size":
        build = build_of(build.root, inputs, shard_bytes=999)
    elif change == "setting":
        build = build_of(build.root, (inputs[0].model_copy(update={"domain": "other"}), *inputs[1:]))
    else:
        monkeypatch.setattr(sources.jsonl, "VERSION", -1)
    outcomes = carry_out(build)
    assert not outcomes["ingest"][0].reused
    assert outcomes["ingest"][-1].reused == (change != "shard size")


def test_what_an_earlier_recipe_left_is_removed(tmp_path, inputs):
    build = build_of(tmp_path / "build", inputs)
    carry_out(build)
    smaller = build_of(build.root, inputs[2:])
    carry_out(smaller)
    assert files.list_files(build.path("documents")) == ["manifest.json", *sorted(smaller.shards())]
    assert all(name.startswith("rows-") for name in files.list_files(build.path("quarantine")))
    assert all(name.startswith(("rows-", "plan")) for name in files.list_files(build.path("work", "ingest")))


def _holds(build: Build) -> dict[str, list[str]]:
    """Which files each part holds."""
    parts = files.read_json(build.path("work", "ingest", "plan.json"))
    plans = {part: files.read_json(build.path("work", "ingest", f"{part}.files.json"))["files"] for part in parts}
    return {part: [name for _, name, _ in plan] for part, plan in plans.items()}


def _everything(build: Build) -> dict[str, bytes]:
    return {str(path.relative_to(build.root)): path.read_bytes() for path in _written(build)}


def _written(build: Build) -> list[Path]:
    found = (path for path in Path(build.root).rglob("*") if path.is_file())
    return [path for path in found if path.parent.name != checksums.FOLDER]


@pytest.mark.slow
@given(
    st.lists(st.integers(0, 30), min_size=1, max_size=12),
    st.sampled_from(["added", "removed", "changed"]),
    st.integers(0, 12),
    st.sampled_from([1024, 4096]),
)
@settings(max_examples=40)
def test_a_file_more_or_less_or_changed_reads_its_own_part_again_and_no_other(documents, what, at, shard_bytes):
    """``documents`` of about 100 bytes in each file; at which place of the sorted order the change is."""
    with tempfile.TemporaryDirectory() as folder:
        inputs, changed = Path(folder, "inputs"), f"{min(at, len(documents)):02}x.jsonl"
        inputs.mkdir()
        for number, count in enumerate(documents):
            (inputs / f"{number:02}.jsonl").write_bytes(
                json_lines([f"{number} {i} " + "word " * 14 for i in range(count)])
            )
        recipe = (Jsonl(name="web", path=[f"{inputs}/*.jsonl"]),)
        build, fresh = (build_of(f"{folder}/{name}", recipe, shard_bytes) for name in ("build", "fresh"))
        text = json_lines(["one text " * 9] * 5)
        if what != "added":
            (inputs / changed).write_bytes(text)
        carry_out(build)
        before, was = _holds(build), {path: path.stat().st_mtime_ns for path in _written(build)}
        if what == "removed":
            (inputs / changed).unlink()
        else:
            (inputs / changed).write_bytes(text.replace(b"one", b"two"))
        outcomes = carry_out(build)
        after = _holds(build)
        again = {part for part, outcome in zip(after, outcomes["ingest"], strict=True) if not outcome.reused}
        touched = {name for held in (before, after) for part in held.values() if changed in part for name in part}
        assert again == {part for part, held in after.items() if touched & set(held)}
        rewritten = {path.name for path in _written(build) if was.get(path) != path.stat().st_mtime_ns}
        assert all(name.startswith((*again, "manifest", "plan")) for name in rewritten)
        carry_out(fresh)
        assert _everything(build) == _everything(fresh)


@pytest.mark.parametrize(
    "change",
    ["grows", "shrinks", "is replaced", "is replaced for a while", "vanishes", "vanished before", "is touched"],
)
def test_a_file_that_changes_while_it_is_read_is_named_and_what_was_read_of_it_is_not_used(tmp_path, change):
    folder = tmp_path / "in"
    folder.mkdir()
    lines = {name: [b'{"text": "%s %d"}' % (name.encode(), at) for at in range(3000)] for name in "ab"}
    for name, mine in lines.items():
        (folder / f"{name}.jsonl").write_bytes(b"\n".join(mine) + b"\n")
    build = build_of(tmp_path / "build", (Jsonl(name="web", kind="jsonl", path=[f"{folder}/*.jsonl"]),))
    changed = folder / "b.jsonl"
    read = build.recipe.readers["jsonl"].read

    def reading(config, file):
        for number, record in enumerate(read(config, file)):
            if number == 1500 and file.path == str(changed):
                match change:
                    case "grows":
                        with changed.open("ab") as appended:
                            appended.write(b'{"text": "late"}\n')
                    case "shrinks":
                        os.truncate(changed, 20)
                    case "is replaced" | "is replaced for a while":
                        (folder / "other").write_bytes(changed.read_bytes().replace(b"b 2999", b"c 2999"))
                        (folder / "other").rename(changed)
                    case "vanishes":
                        changed.unlink()
                    case "is touched":
                        os.utime(changed, (1, 1))
            yield record

    (first, second) = ingest.steps()[0].items(build)
    if change == "vanished before":
        changed.unlink()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build.recipe.readers["jsonl"], "read", reading)
        ingest.steps()[0].work(build, first)
        if change == "is touched":
            ingest.steps()[0].work(build, second)
        else:
            word = "is gone since" if change.startswith("vanish") else "changed while it was read"
            with pytest.raises(ingest.SourceChanged, match=rf"source 'web': .*/b\.jsonl {word}.*run the build again"):
                ingest.steps()[0].work(build, second)
    if change == "is replaced for a while":  # what was made of the other content must not pass for this one's
        for path in (tmp_path / "build" / "documents").glob("*.arrow"):
            assert [row["text"] for row in shards.read_table(str(path)).to_pylist() if row["text"][0] == "b"] == []
        changed.write_bytes(b"\n".join(lines["b"]) + b"\n")
    carry_out(build)
    expected = [orjson.loads(line)["text"] for path in sorted(folder.glob("*.jsonl")) for line in _whole(path)]
    assert [row["text"] for row in documents(build)] == expected


def _whole(path: Path) -> list[bytes]:
    return [line for line in path.read_bytes().splitlines() if line.endswith(b"}")]


def test_a_removed_file_takes_its_documents_with_it(tmp_path, inputs):
    build = build_of(tmp_path / "build", inputs)
    carry_out(build)
    (tmp_path / "inputs/3.jsonl.gz").unlink()
    carry_out(build)
    fresh = build_of(tmp_path / "fresh", inputs)
    carry_out(fresh)
    assert documents(build) == documents(fresh)
    assert not any(row["id"].startswith("web/3.") for row in documents(build))


def test_sources_build_and_result_may_lie_in_an_object_store(inputs, tmp_path):
    store = fsspec.filesystem("memory")
    for path in (tmp_path / "inputs").glob("*.jsonl.gz"):
        store.pipe(f"/ingest-in/{path.name}", path.read_bytes())
    remote = Jsonl(name="web", path=["memory://ingest-in/*.jsonl.gz"], domain="crawl")
    build = build_of("memory://ingest-out", (remote,))
    local = build_of(tmp_path / "local", inputs[:1])
    carry_out(build)
    carry_out(local)
    assert documents(build) == documents(local)
    assert all(outcome.reused for outcome in carry_out(build)["ingest"])
    store.pipe("/ingest-in/0.jsonl.gz", gzip.compress(b'{"text": "changed"}'))
    assert not carry_out(build)["ingest"][0].reused
    assert documents(build)[0]["text"] == "changed"


def test_above_the_error_budget_the_build_stops_and_says_why(tmp_path):
    lines = [b'{"text": "good"}'] * 90 + [b"{"] * 6 + [b'{"text": 1}'] * 3 + [b"[]"] * 2 + [b"\xff"]
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(lines))
    source = Jsonl(name="web", path=[str(tmp_path / "a.jsonl")])
    carry_out(build_of(tmp_path / "enough", (source,), error_budget=12 / 102))
    build = build_of(tmp_path / "build", (source,), error_budget=0.117)
    with pytest.raises(quarantine.ErrorBudgetExceeded) as error:
        carry_out(build)
    message = str(error.value)
    assert "source 'web': 12 of 102 records are bad (11.76%), more than the error budget of 11.70%" in message
    first, second, third, rest = (line for line in message.split("\n") if line.startswith("  "))
    assert first == f"  6 x invalid JSON: unexpected end of data (first: {tmp_path}/a.jsonl, record 91)"
    assert second == f"  3 x field 'text' is a number, not a text (first: {tmp_path}/a.jsonl, record 97)"
    remedy = "`jq -c '.[]'` makes JSON lines of a list"
    assert third == f"  2 x a list, not an object (first: {tmp_path}/a.jsonl, record 100; {remedy})"
    assert rest == "  1 x other faults"
    assert "raise `error_budget`" in message
    assert not files.exists(build.path("documents", "manifest.json"))


def test_a_source_without_files_is_refused(tmp_path, inputs):
    build = build_of(tmp_path / "build", (*inputs, Text(name="none", path=[f"{tmp_path}/none*"])))
    with pytest.raises(NoFiles, match="source 'none'"):
        carry_out(build)


def test_all_bad_records_are_counted_though_only_the_first_are_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(quarantine, "MAX_QUARANTINED", 10)
    (tmp_path / "a.jsonl").write_bytes(b"{\n" * 500)
    build = build_of(tmp_path / "build", (Jsonl(name="web", path=[f"{tmp_path}/*.jsonl"]),), error_budget=1)
    carry_out(build)
    total = files.read_json(build.path("documents", "manifest.json"))["sources"]["web"]
    assert (total["documents"], total["quarantined"], len(quarantined(build))) == (0, 500, 10)
    assert build.shards() == []


class Stub:
    """A reader whose files hold what is given, by name."""

    VERSION = 1

    def __init__(self, records: dict[str, list[Any]], size: int):
        self._records, self._size = records, size

    def list_files(self, _source):
        return [File(name, name, self._size) for name in self._records]

    def identity(self, _source, file):
        return file.name

    def read(self, _source, file):
        yield from self._records[file.name]


def test_what_is_no_document_is_counted_by_kind_and_what_was_not_read_weighs_by_its_size(tmp_path, monkeypatch):
    files_of = {
        "a": [
            *(Document(f"s/a#{i}", "text", "s", "d") for i in range(40)),
            Rejected("a", 41, 0, "null", count=10),
            PassedOver("a", 51, None, "application/pdf", bytes=700),
            PassedOver("a", 52, None, "request", bytes=30),
        ],
        "b": [
            Flagged("b", 1, None, "truncated page"),
            *(Document(f"s/b#{i}", "text", "s", "d") for i in range(25)),
            PassedOver("b", 26, None, "application/pdf", bytes=5),
            Unread("b", 26, 500, "the end is missing", 500, 1000),
        ],
    }
    monkeypatch.setitem(sources.READERS, "text", Stub(files_of, 1000))
    source = Text(name="s", path=["x"])
    build = build_of(tmp_path / "build", (source,), shard_bytes=1000, error_budget=0.36)
    carry_out(build)
    total = files.read_json(build.path("documents", "manifest.json"))["sources"]["s"]
    assert (total["documents"], total["quarantined"]) == (65, 10)
    assert total["passed_over"] == {
        "application/pdf": {"count": 2, "bytes": 705, "file": "a", "record": 51},
        "request": {"count": 1, "bytes": 30, "file": "a", "record": 52},
    }
    assert total["flagged"] == {"truncated page": {"count": 1, "file": "b", "record": 1}}
    assert total["unread"]["count"] == 1
    assert total["unread"]["stretches"] == [files_of["b"][-1]._asdict()]
    # 75 records in 1,500 bytes: the other 500 held about 25, and 35 of 100 records are lost
    build = build_of(tmp_path / "other", (source,), shard_bytes=1000, error_budget=0.34)
    with pytest.raises(quarantine.ErrorBudgetExceeded) as error:
        carry_out(build)
    message = str(error.value)
    assert "source 's': about 35 of 100 records are bad or were not read (35.00%)" in message
    assert "b: ends after record 26, 500 of 1,000 bytes not read (the end is missing)" in message
    assert "10 x null (first: a, record 41)" in message


def test_a_source_of_which_nothing_could_be_read_is_beyond_every_budget(tmp_path, monkeypatch):
    reader = Stub({"a": [Unread("a", 0, 0, "damaged", 1000, 1000)]}, 1000)
    monkeypatch.setitem(sources.READERS, "text", reader)
    build = build_of(tmp_path / "build", (Text(name="s", path=["x"]),), error_budget=0.99)
    with pytest.raises(quarantine.ErrorBudgetExceeded, match=r"a: nothing is read, 1,000 of 1,000 bytes"):
        carry_out(build)


@given(st.lists(st.text(st.characters()) | st.just("x\ud800y")))
def test_lone_surrogates_of_any_source_go_to_quarantine(texts):
    records = [Document(f"s/{i}", text, "s", "d") for i, text in enumerate(texts)]
    last = Rejected("x", len(texts) + 1, None, "the last \ud800 one", "excerpt")
    source = Text(name="s", path=["x"])
    account = quarantine.Account("s")
    reader = Stub({"x": [*records, last]}, 0)
    run = [File("x", "x", 0)]
    tables = list(ingest._tables(reader, source, run, 10, account, ingest.LeftOut(), None))
    good = [text for text in texts if not any(0xD800 <= ord(c) <= 0xDFFF for c in text)]
    assert [text for table in tables for text in table["text"].to_pylist()] == good
    assert account.report["quarantined"] == len(texts) - len(good) + 1


def test_memory_does_not_grow_with_the_file(tmp_path):
    path = tmp_path / "a.jsonl"
    peaks = []
    for megabytes in (4, 16):
        with path.open("wb") as handle:
            for _ in range(megabytes * 1000):
                handle.write(orjson.dumps({"text": "x" * 980}) + b"\n")
        build = build_of(tmp_path / "build", (Jsonl(name="web", path=[str(path)]),), shard_bytes=1 << 20)
        tracemalloc.start()
        carry_out(build)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        shutil.rmtree(build.root)
    assert peaks[1] < peaks[0] * 1.5
