"""Datasets: what ``datasets`` reads is what becomes documents, saved on disk or streamed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import datasets
import orjson
import pytest

from pipeline.sources import hub
from pipeline.sources.base import Document, File, NoFiles, Rejected, Unread
from pipeline.sources.hub import Hub

ROWS = [{"text": f"text {i}\u2028", "id": f"own{i}", "label": i % 2, "tags": ["a"] * (i % 3)} for i in range(25)]


def read(dataset: Path, **fields) -> list[Any]:
    config = Hub.model_validate({"name": "h", "dataset": str(dataset), **fields})
    return [row for file in hub.list_files(config) for row in hub.read(config, file)]


def summary(found: list[Document | Rejected]) -> list[tuple[str, str, dict]]:
    rows = [row for row in found if isinstance(row, Document)]
    assert len(rows) == len(found)
    return [(row.id.rpartition("#")[2], row.text, orjson.loads(row.metadata or "{}")) for row in rows]


EXPECTED = [(row["id"], row["text"], {"label": row["label"], "tags": row["tags"]}) for row in ROWS]


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "cache"))


def test_a_saved_dataset_is_read_from_all_its_files(tmp_path):
    datasets.Dataset.from_list(ROWS).save_to_disk(tmp_path / "saved", num_shards=3)
    found = read(tmp_path / "saved")
    assert summary(found) == EXPECTED
    assert found[0].id == "h/train/data-00000-of-00003.arrow#own0"  # type: ignore[union-attr]


def test_of_a_saved_dataset_with_splits_the_named_one_is_read(tmp_path):
    both = datasets.DatasetDict()
    both["train"], both["test"] = datasets.Dataset.from_list(ROWS), datasets.Dataset.from_list(ROWS[:2])
    both.save_to_disk(tmp_path / "saved")
    assert summary(read(tmp_path / "saved")) == EXPECTED
    assert summary(read(tmp_path / "saved", split="test")) == EXPECTED[:2]
    with pytest.raises(NoFiles, match=r"no split 'dev'; it has train, test"):
        read(tmp_path / "saved", split="dev")


def test_a_folder_of_data_files_is_streamed_shard_by_shard(tmp_path):
    folder = tmp_path / "folder"
    for number in range(3):
        path = folder / f"train-{number}.jsonl"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in ROWS[number * 9 : number * 9 + 9]))
    config = Hub(name="h", dataset=str(folder))
    assert [file.name for file in hub.list_files(config)] == ["train-00000", "train-00001", "train-00002"]
    assert summary(read(folder)) == EXPECTED
    assert summary(read(folder, metadata_fields=["label"])) == [(i, t, {"label": m["label"]}) for i, t, m in EXPECTED]


def test_a_changed_dataset_is_noticed(tmp_path):
    def identities(dataset: str) -> list[str]:
        config = Hub(name="h", dataset=dataset)
        return [hub.identity(config, file) for file in hub.list_files(config)]

    saved, folder = tmp_path / "saved", tmp_path / "folder"
    folder.mkdir()
    seen = []
    for rows in (ROWS, ROWS[::-1]):
        datasets.Dataset.from_list(rows).save_to_disk(saved)
        (folder / "train.jsonl").write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
        seen.append((identities(str(saved)), identities(str(folder))))
        assert seen[-1] == (identities(str(saved)), identities(str(folder)))
    assert seen[0][0] != seen[1][0]
    assert seen[0][1] != seen[1][1]


def test_a_hub_dataset_is_identified_by_its_commit():
    file = File("org/name@0123abc", "train-00000", 1)
    assert hub.identity(Hub(name="h", dataset="org/name"), file) == "org/name@0123abc"


def test_a_damaged_file_is_rejected(tmp_path):
    datasets.Dataset.from_list(ROWS).save_to_disk(tmp_path / "saved")
    path = tmp_path / "saved/data-00000-of-00001.arrow"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    found = read(tmp_path / "saved")
    assert isinstance(found[-1], Unread)
    assert found[-1].missing


def test_the_library_is_imported_only_when_it_is_used():
    code = "import sys, pipeline.sources; print({'datasets', 'trafilatura', 'resiliparse'} & set(sys.modules))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "set()"


LABELS = datasets.Features(
    {
        "text": datasets.Value("string"),
        "label": datasets.ClassLabel(names=["neg", "pos"]),
        "tags": datasets.List(datasets.ClassLabel(names=["x", "y"])),
        "about": {"kind": datasets.ClassLabel(names=["m", "n"])},
    }
)
LABELLED = [
    {"text": "one", "label": 1, "tags": [1, 0], "about": {"kind": 0}},
    {"text": "two", "label": -1, "tags": [], "about": None},
]
NAMED = [
    {"label": "pos", "tags": ["y", "x"], "about": {"kind": "m"}},
    {"label": -1, "tags": [], "about": {"kind": None}},
]


def labels(found: list[Any]) -> list[dict]:
    return [orjson.loads(row.metadata) for row in found]


@pytest.mark.parametrize("form", ["saved", "saved with splits", "folder"])
def test_labels_have_their_names_wherever_they_are(form, tmp_path):
    data = datasets.Dataset.from_list(LABELLED, features=LABELS)
    if form == "saved":
        data.save_to_disk(tmp_path / "d")
    elif form == "folder":
        data.to_parquet(tmp_path / "d" / "train.parquet")
    else:
        datasets.DatasetDict({"train": data}).save_to_disk(tmp_path / "d")
    found = labels(read(tmp_path / "d"))
    assert [{**row, "about": row["about"] or {"kind": None}} for row in found] == NAMED
    assert read(tmp_path / "d", domain_field="label")[0].domain == "pos"


def test_renamed_labels_are_read_again(tmp_path):
    data = datasets.Dataset.from_list(LABELLED, features=LABELS)
    data.save_to_disk(tmp_path / "d")
    config = Hub(name="h", dataset=str(tmp_path / "d"))
    (file,) = hub.list_files(config)
    before = hub.identity(config, file)
    path = tmp_path / "d/dataset_info.json"
    path.write_text(path.read_text().replace('"pos"', '"positive"'))
    assert hub.identity(config, file) != before
    assert labels(list(hub.read(config, file)))[0]["label"] == "positive"


def test_a_split_that_is_not_there_is_refused_by_those_that_are(tmp_path):
    data = datasets.Dataset.from_list(ROWS)
    data.save_to_disk(tmp_path / "nameless")
    assert len(read(tmp_path / "nameless")) == len(ROWS)
    with pytest.raises(NoFiles, match="no split 'dev'; it was saved without splits: leave `split` out"):
        read(tmp_path / "nameless", split="dev")

    datasets.Dataset.from_list(ROWS, split=datasets.Split.TEST).save_to_disk(tmp_path / "test")
    assert len(read(tmp_path / "test", split="test")) == len(ROWS)
    with pytest.raises(NoFiles, match="no split 'train'; it has test"):
        read(tmp_path / "test")

    data.to_parquet(tmp_path / "folder" / "train.parquet")
    with pytest.raises(NoFiles, match=r"folder'.*dev.*train.*correct `split`"):
        read(tmp_path / "folder", split="dev")


@pytest.mark.parametrize("dataset", ["news/misspelt", "misspelt"])
def test_a_dataset_that_is_not_there_is_named_with_what_to_do(dataset, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")  # read when it was imported
    with pytest.raises(NoFiles, match=rf"source 'h': the dataset '{dataset}' is no folder here, .*correct `dataset`"):
        hub.list_files(Hub(name="h", dataset=dataset))


@pytest.mark.parametrize("dataset", ["./misspelt", "data/news/train", "/nowhere", "s3://bucket/news"])
def test_a_path_that_is_not_there_is_refused_before_any_work_and_without_the_hub(dataset, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = Hub(name="h", dataset=dataset)
    assert hub.is_local(config)
    with pytest.raises(NoFiles, match="neither a folder here nor the id of a dataset"):
        hub.list_files(config)


def test_an_empty_folder_is_named(tmp_path):
    with pytest.raises(NoFiles, match=rf"{tmp_path}.*correct `dataset`"):
        read(tmp_path)


def test_damage_to_a_file_of_a_folder_is_an_account_of_what_was_not_read(tmp_path):
    folder = tmp_path / "d"
    folder.mkdir()
    good, bad = folder / "train-0.jsonl", folder / "train-1.jsonl"
    good.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in ROWS))
    bad.write_bytes(b'{"text": "whole"}\n{"text": ')
    found = read(folder)
    assert len([row for row in found if isinstance(row, Document)]) >= len(ROWS)
    assert isinstance(found[-1], Unread)
    assert found[-1].bytes > 0
