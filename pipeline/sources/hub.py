"""Datasets of the Hugging Face hub, streamed; and local ones as ``save_to_disk`` or ``load_dataset`` know them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import pyarrow as pa
import xxhash
from pydantic import Field

from pipeline.sources import parquet, reading
from pipeline.sources.base import File, Ids, NoFiles, Record, RecordConfig, Rejected, file_name, to_document
from pipeline.store import checksums, files

if TYPE_CHECKING:
    from datasets import IterableDataset

VERSION = 1
#: Stands for the size of a shard that the hub does not tell: a part of its own.
_UNKNOWN_SIZE = 1 << 30


class Hub(RecordConfig):
    """Documents from one split of a dataset: its id on the hub, or a local folder.

    A hub id is resolved to a commit when the build starts, so that all its documents are of one version; a new commit
    of ``revision`` is read again.
    """

    kind: Annotated[Literal["hub"], Field(description="a dataset of the Hugging Face hub, or a local one")] = "hub"
    dataset: Annotated[str, Field(description="id of the dataset on the hub, or the path of a local folder")]
    subset: Annotated[
        str | None, Field(description="configuration of the dataset, such as a language; default: the dataset's own")
    ] = None
    split: Annotated[str, Field(description="split of the dataset to read, one")] = "train"
    revision: Annotated[
        str | None,
        Field(
            description="branch, tag or commit of the dataset; default: its main branch; resolved to a commit"
            " when the build starts"
        ),
    ] = None


def list_files(config: Hub) -> list[File]:
    """The Arrow files of a saved dataset; else one entry a shard of the stream, its path naming the commit."""
    folder = Path(config.dataset)
    if (folder / "dataset_dict.json").exists():
        splits = files.read_json(str(folder / "dataset_dict.json"))["splits"]
        if config.split not in splits:
            raise NoFiles(f"source {config.name!r}: {folder} has no split {config.split!r}, but {', '.join(splits)}")
        folder /= config.split
    if (folder / "state.json").exists():
        names = [entry["filename"] for entry in files.read_json(str(folder / "state.json"))["_data_files"]]
        found = [
            File(str(folder / name), file_name(f"{config.split}/{name}"), (folder / name).stat().st_size)
            for name in names
        ]
        return sorted(found, key=lambda file: file.name)
    commit = "local" if folder.is_dir() else _commit(config)
    stream = _open(config, commit)
    size = (stream.info.download_size or 0) // stream.num_shards or _UNKNOWN_SIZE
    return [
        File(f"{config.dataset}@{commit}", f"{config.split}-{index:05d}", size) for index in range(stream.num_shards)
    ]


def identity(config: Hub, file: File) -> str:
    """The content of local files; of a hub dataset the commit."""
    if _is_saved(file):
        return reading.identity(config, file)
    folder = Path(config.dataset)
    if not folder.is_dir():
        return file.path
    digest = xxhash.xxh3_128()
    visible = (path for path in folder.rglob("*") if path.is_file() and path.parent.name != checksums.FOLDER)
    for path in sorted(visible):
        digest.update(f"{path.relative_to(folder)}\0{reading.identity(config, File(str(path), '', 0))}\0".encode())
    return digest.hexdigest()


def read(config: Hub, file: File) -> Iterator[Record]:
    if _is_saved(file):
        yield from parquet.read(config, file)
        return
    ids = Ids(config.name, file)
    stream = _open(config, file.path.rpartition("@")[2])
    shard = stream.shard(stream.num_shards, int(file.name.rpartition("-")[2]))
    position = 0
    try:
        for position, record in enumerate(shard, 1):
            yield to_document(config, file, ids, record, position)
    except (pa.ArrowException, ValueError) as error:
        yield Rejected(file.path, position + 1, None, "the dataset is damaged", str(error)[:500])


def _is_saved(file: File) -> bool:
    return file.name.endswith(".arrow")


def _commit(config: Hub) -> str:
    from huggingface_hub import HfApi

    commit = HfApi().dataset_info(config.dataset, revision=config.revision).sha
    assert commit is not None
    return commit


def _open(config: Hub, commit: str) -> IterableDataset:
    from datasets import load_dataset

    revision = None if commit == "local" else commit
    stream = load_dataset(config.dataset, config.subset, split=config.split, revision=revision, streaming=True)
    if config.metadata_fields is not None and stream.column_names is not None:
        wanted = parquet.columns(config) or set()
        stream = stream.select_columns([name for name in stream.column_names if name in wanted])
    return stream
