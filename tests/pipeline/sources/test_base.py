"""Names of files, ids of records, groups of files."""

from __future__ import annotations

import itertools
import re
from datetime import date
from decimal import Decimal
from pathlib import Path

import fsspec
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline import MillError
from pipeline.sources import base
from pipeline.sources.base import Document, File, Ids, NoFiles, Rejected
from pipeline.sources.jsonl import Jsonl

FILE = File("/data/a.jsonl", "a.jsonl", 0)


def config(*path: str, **fields) -> Jsonl:
    return Jsonl(name="web", path=list(path), **fields)


def names(*path: str) -> list[str]:
    return [file.name for file in base.find_files(config(*path))]


@given(st.lists(st.one_of(st.none(), st.integers(0, 5), st.sampled_from(["1", "2", "a", "a~2", "1~3", "a#1", "~1"]))))
def test_no_two_records_of_a_file_share_an_id(own_ids):
    ids = Ids("web", FILE)
    given_out = [ids.take(own, position)[0] for position, own in enumerate(own_ids, 1)]
    assert len(set(given_out)) == len(given_out)


def test_the_first_of_equal_own_ids_keeps_it_and_later_ones_say_that_they_repeat_it():
    ids = Ids("web", FILE)
    rows = [base.to_document(config("x"), FILE, ids, {"id": "k", "text": "t"}, position) for position in (1, 2, 3)]
    assert [row.id for row in rows if isinstance(row, Document)] == [
        "web/a.jsonl#k",
        "web/a.jsonl#k~2",
        "web/a.jsonl#k~3",
    ]
    assert [row.metadata for row in rows if isinstance(row, Document)] == [None] + ['{"repeated_id":"k"}'] * 2


def test_ids_stay_unique_when_a_file_has_more_records_than_are_remembered(monkeypatch):
    monkeypatch.setattr(base, "_REMEMBERED", 3)
    ids = Ids("web", FILE)
    given_out = [ids.take(own, position)[0] for position, own in enumerate(["a", "b", "c", "d", "d", "a", None], 1)]
    assert len(set(given_out)) == 7
    assert given_out[:3] == ["web/a.jsonl#a", "web/a.jsonl#b", "web/a.jsonl#c"]


@pytest.mark.parametrize("own", [None, "", "two\nlines", "x" * 201, 1.5, True, ["a"], {"a": 1}])
def test_what_cannot_serve_as_an_id_stays_in_the_metadata_and_the_position_serves(own):
    found = base.to_document(config("x"), FILE, Ids("web", FILE), {"id": own, "text": "t"}, 7)
    assert isinstance(found, Document)
    assert found.id == "web/a.jsonl#7"
    assert orjson.loads(found.metadata or "") == {"id": own}


def test_every_field_that_is_not_used_becomes_metadata():
    record = {"id": 3, "text": "t", "url": "http://x", "lang": "en", "at": date(2026, 1, 2), "n": Decimal("1.5")}
    found = base.to_document(config("x", domain_field="lang"), FILE, Ids("web", FILE), record, 1)
    assert found == Document("web/a.jsonl#3", "t", "web", "en", "http://x", '{"at":"2026-01-02","n":"1.5"}')
    found = base.to_document(config("x", metadata_fields=["lang", "none"]), FILE, Ids("web", FILE), record, 1)
    assert isinstance(found, Document)
    assert found.metadata == '{"lang":"en"}'


def test_the_domain_is_the_records_then_the_recipes_then_the_sources_name():
    def domain(record: dict, **fields) -> str:
        found = base.to_document(config("x", **fields), FILE, Ids("web", FILE), {"text": "t", **record}, 1)
        assert isinstance(found, Document)
        return found.domain

    assert domain({}) == "web"
    assert domain({}, domain="news") == "news"
    assert domain({"d": "law"}, domain="news", domain_field="d") == "law"
    assert domain({"d": 5}, domain="news", domain_field="d") == "news"


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"body": "t"}, "no field 'text'"),
        ({"text": None}, "field 'text' is null, not a text"),
        ({"text": 7}, "field 'text' is a number, not a text"),
        ({"text": ["t"]}, "field 'text' is a list, not a text"),
        ({"text": b"\xff"}, "invalid UTF-8"),
        ({"text": "t", "x": {"deep": "\ud800"}}, "metadata: str is not valid UTF-8: surrogates not allowed"),
    ],
)
def test_a_record_without_a_text_is_rejected_with_its_place_and_reason(record, reason):
    found = base.to_document(config("x"), FILE, Ids("web", FILE), record, 4, 99)
    assert isinstance(found, Rejected)
    assert found[:4] == (FILE.path, 4, 99, reason)
    found.excerpt.encode()


def test_names_are_relative_to_the_folder_that_the_globs_share(tmp_path):
    for name in ("a/x.jsonl", "a/b/y.jsonl", "c/x.jsonl", "c/z.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("{}")
    assert names(f"{tmp_path}/**/*.jsonl") == ["a/b/y.jsonl", "a/x.jsonl", "c/x.jsonl"]
    assert names(f"{tmp_path}/a/*.jsonl") == ["x.jsonl"]
    assert names(f"{tmp_path}/c/*.jsonl", f"{tmp_path}/a/*.jsonl") == ["a/x.jsonl", "c/x.jsonl"]
    assert names(f"{tmp_path}/c/x.jsonl", f"{tmp_path}/c/*") == ["x.jsonl", "z.txt"]


def test_a_relative_path_gives_the_same_names(tmp_path, monkeypatch):
    (tmp_path / "a.jsonl").write_text("{}")
    monkeypatch.chdir(tmp_path)
    assert base.find_files(config("*.jsonl")) == base.find_files(config(f"{tmp_path}/*.jsonl"))
    assert names("a.jsonl") == ["a.jsonl"]


def test_files_of_two_stores_keep_apart(tmp_path):
    (tmp_path / "a.jsonl").write_text("{}")
    fsspec.filesystem("memory").pipe("/two-stores/a.jsonl", b"{}")
    found = names(f"{tmp_path}/a.jsonl", "memory://two-stores/*.jsonl")
    assert len(set(found)) == 2


@given(st.text(st.characters(exclude_categories=["Cs"])), st.text(st.characters(exclude_categories=["Cs"])))
def test_two_paths_never_have_one_name_nor_one_that_looks_like_a_record(one, other):
    assert (base.file_name(one) == base.file_name(other)) == (one == other)
    assert not re.search(r"(?<!\\)#", base.file_name(one).replace("\\\\", ""))


def test_a_file_whose_name_is_not_utf8_has_a_name_that_is(tmp_path):
    (tmp_path / "caf\udce9.jsonl").write_text("{}")
    assert names(f"{tmp_path}/*.jsonl") == ["caf\\udce9.jsonl"]


def test_a_glob_without_files_is_refused_by_name(tmp_path):
    (tmp_path / "a.jsonl").write_text("{}")
    with pytest.raises(NoFiles, match=r"source 'web': no file matches .*none\*.*correct `path`"):
        names(f"{tmp_path}/*.jsonl", f"{tmp_path}/none*.jsonl")
    with pytest.raises(NoFiles, match=r"is a folder: write .*/\*\*"):
        names(str(tmp_path))


def test_wrong_settings_are_refused():
    for fields in ({"path": []}, {"name": "a/b"}, {"name": ""}, {"max_document_bytes": "2GiB"}, {"extra": 1}):
        with pytest.raises(ValidationError):
            Jsonl.model_validate({"name": "web", "path": "x", **fields})
    assert Jsonl.model_validate({"name": "web", "path": "x"}).path == ["x"]


_FILES = st.dictionaries(st.integers(0, 999), st.integers(0, 50), max_size=40).map(
    lambda sizes: [File(f"{number:03}", f"{number:03}", sizes[number]) for number in sorted(sizes)]
)


@given(_FILES, st.integers(1, 60))
def test_groups_keep_the_order_and_a_large_file_is_one_by_itself(found, size):
    groups = list(base.group(found, size))
    assert [file for run in groups for file in run] == found
    assert all(groups)
    assert all(len(run) == 1 for run in groups if any(file.size >= size for file in run))


@given(_FILES, st.integers(0, 999), st.integers(0, 50), st.integers(1, 60))
def test_an_added_file_cuts_one_group_at_most_and_leaves_all_others(found, number, length, size):
    """Seen from behind: a removed file joins what it parted, and leaves all others."""
    added = File(f"{number:03}", f"{number:03}", length)
    before = list(base.group([file for file in found if file.name != added.name], size))
    after = list(base.group(sorted([*(file for file in found if file.name != added.name), added]), size))
    gone, made = ([run for run in one if run not in other] for one, other in ((before, after), (after, before)))
    assert len(gone) <= 1
    assert sorted(file for run in made for file in run) == sorted([added, *(file for run in gone for file in run)])


def test_groups_of_small_files_come_to_the_size_on_average():
    found = [File(f"{number}", f"{number}", 10) for number in range(20_000)]
    assert 180 < 10 * len(found) / len(list(base.group(found, 200))) < 220


def _write(root: Path, *paths: str) -> None:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text("{}")


def test_linked_folders_and_files_are_followed(tmp_path):
    _write(tmp_path, "crawl/2023/p1.jsonl", "disk2/2024/p1.jsonl", "blobs/1f")
    (tmp_path / "crawl/2024").symlink_to("../disk2/2024")
    (tmp_path / "crawl/2023/p2.jsonl").symlink_to(tmp_path / "blobs/1f")
    for glob in ("crawl/*/*.jsonl", "crawl/**/*.jsonl", "crawl/**"):
        found = base.look_for(config(f"{tmp_path}/{glob}"))
        assert [file.name for file in found.files] == ["2023/p1.jsonl", "2023/p2.jsonl", "2024/p1.jsonl"]
        assert {file.size for file in found.files} == {2}
        assert found.warnings == []


def test_loops_of_links_end_and_no_file_is_read_twice(tmp_path):
    folders = [f"f{number}" for number in range(12)]
    _write(tmp_path, *(f"{folder}/a.jsonl" for folder in folders))
    for one, other in itertools.product(folders, folders):
        (tmp_path / one / f"to_{other}").symlink_to(tmp_path / other)
    (tmp_path / "self").symlink_to("self")
    found = base.look_for(config(f"{tmp_path}/**/*.jsonl"))
    assert [file.name for file in found.files] == sorted(f"{folder}/a.jsonl" for folder in folders)
    assert "self -> self" in found.warnings[0]
    assert "read already" in found.warnings[1]


def test_dangling_links_are_named_with_their_targets(tmp_path):
    _write(tmp_path, "a/p1.jsonl")
    (tmp_path / "a/p3.jsonl").symlink_to("/nowhere/p3.jsonl")
    for glob in ("*/*.jsonl", "**/*.jsonl"):
        (said,) = base.look_for(config(f"{tmp_path}/{glob}")).warnings
        assert f"{tmp_path}/a/p3.jsonl -> /nowhere/p3.jsonl" in said
    with pytest.raises(NoFiles, match=r"p3\.jsonl -> /nowhere/p3\.jsonl"):
        names(f"{tmp_path}/a/p3.jsonl")


def test_hidden_files_are_left_out_and_counted_unless_the_pattern_names_the_dot(tmp_path):
    _write(tmp_path, "a/p1.jsonl", "a/._p1.jsonl", "a/.ipynb_checkpoints/p1-checkpoint.jsonl", ".cache/x.jsonl")
    found = base.look_for(config(f"{tmp_path}/a/**/*.jsonl"))
    assert [file.name for file in found.files] == ["p1.jsonl"]
    assert len(found.warnings) == 1
    assert "hidden files left out: 2 (" in found.warnings[0]
    assert names(f"{tmp_path}/a/._*") == ["._p1.jsonl"]
    assert names(f"{tmp_path}/**/.ipynb_checkpoints/*") == ["a/.ipynb_checkpoints/p1-checkpoint.jsonl"]
    assert names(f"{tmp_path}/.cache/*") == ["x.jsonl"]
    with pytest.raises(NoFiles, match="hidden files left out: 1 "):
        names(f"{tmp_path}/*/x.jsonl")


def test_hidden_files_of_a_store_are_left_out():
    store = fsspec.filesystem("memory")
    for path in ("/dots/a.jsonl", "/dots/._a.jsonl", "/dots/.c/b.jsonl"):
        store.pipe(path, b"{}")
    found = base.look_for(config("memory://dots/**/*.jsonl"))
    assert [file.name for file in found.files] == ["a.jsonl"]
    assert "hidden files left out: 2" in found.warnings[0]


def test_brackets_in_a_name_are_taken_as_they_are_written_if_nothing_else_matches(tmp_path):
    _write(tmp_path, "in [2024]/a.jsonl", "x[1].jsonl", "y1.jsonl", "y[1].jsonl")
    assert names(f"{tmp_path}/in [2024]/*.jsonl") == ["in [2024]/a.jsonl"]
    assert names(f"{tmp_path}/in [[]2024]/*.jsonl") == ["in [2024]/a.jsonl"]
    assert names(f"{tmp_path}/x[1].jsonl") == ["x[1].jsonl"]
    assert names(f"{tmp_path}/y[1].jsonl") == ["y1.jsonl"]
    assert names(f"{tmp_path}/[!x]?.jsonl") == names(f"{tmp_path}/[^x]?.jsonl") == ["y1.jsonl"]
    with pytest.raises(NoFiles, match=r"\[ \] is a pattern .* write \[\[\]"):
        names(f"{tmp_path}/z[1].jsonl")


def test_what_is_no_file_is_refused_in_words_that_are_right(tmp_path):
    with pytest.raises(NoFiles, match=r"'/dev/zero' \(not read, because it is not a regular file: /dev/zero\)"):
        names("/dev/zero")
    for empty in ("", " "):
        with pytest.raises(NoFiles, match="`path` is empty"):
            names(empty)
    with pytest.raises(NoFiles, match=r"write \*\*/\*\.jsonl"):
        names(f"{tmp_path}/**.jsonl")
    with pytest.raises(MillError, match=r"http://127\.0\.0\.1:9/a\.jsonl: not reached .*check its address"):
        names("http://127.0.0.1:9/a.jsonl")
