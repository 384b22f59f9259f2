"""Datasets of the Hugging Face hub, streamed; and local ones as ``save_to_disk`` or ``load_dataset`` know them."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import xxhash
from pydantic import Field

from pipeline.sources import class_labels, parquet, reading
from pipeline.sources.base import File, Ids, NoFiles, Record, RecordConfig, file_name, printable, to_document
from pipeline.store import checksums, files

if TYPE_CHECKING:
    from datasets import IterableDataset

VERSION = 2
#: Every name that can be the id of a dataset on the hub.
_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?", re.ASCII)
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


def is_local(config: Hub) -> bool:
    """Whether all of ``list_files`` can be known without asking the hub: a local folder, or no id of a dataset."""
    return Path(config.dataset).exists() or not _ID.fullmatch(config.dataset)


def list_files(config: Hub) -> list[File]:
    """The Arrow files of a saved dataset; else one entry a shard of the stream, its path naming the commit.

    Raises NoFiles if the dataset or its split is not there.
    """
    folder = Path(config.dataset)
    if not folder.is_dir():
        if is_local(config):
            what = "is a file, not a folder" if folder.exists() else "is neither a folder here nor the id of a dataset"
            raise NoFiles(f"source {config.name!r}: {config.dataset!r} {what}; correct `dataset` in the recipe")
        return _shards(config, _commit(config), None)
    if (folder / "dataset_dict.json").exists():
        splits = _stated(folder / "dataset_dict.json", "splits")
        if config.split not in splits:
            raise _no_split(config, splits)
        folder /= config.split
    if not (folder / "state.json").exists():
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        return _shards(config, "local", size)
    stated = files.read_json(str(folder / "state.json")).get("_split")
    # datasets names the split of a part of one train[:10%]; a dataset made in memory has none
    if Path(config.dataset) == folder and config.split not in (stated, str(stated or "train").partition("[")[0]):
        raise _no_split(config, [stated] if stated else [])
    names = [entry["filename"] for entry in _stated(folder / "state.json", "_data_files")]
    listed = [
        File(str(folder / name), file_name(f"{config.split}/{Path(name).name}"), (folder / name).stat().st_size)
        for name in names
    ]
    return sorted(listed, key=lambda file: file.name)


def _shards(config: Hub, commit: str, size: int | None) -> list[File]:
    """An entry for each shard of the stream; ``size`` is that of all in bytes, None for what the hub says."""
    stream = _open(config, commit)
    each = (size or stream.info.download_size or 0) // stream.num_shards or _UNKNOWN_SIZE
    return [
        File(f"{config.dataset}@{commit}", f"{config.split}-{index:05d}", each) for index in range(stream.num_shards)
    ]


def _stated(path: Path, key: str) -> list[Any]:
    value = files.read_json(str(path)).get(key)
    if not isinstance(value, list):
        raise files.DamagedFile(f"{path}: has no list {key!r}. Save the dataset again.")
    return value


def _no_split(config: Hub, splits: Iterable[object]) -> NoFiles:
    known = ", ".join(map(str, splits))
    hint = f"it has {known}" if known else "it was saved without splits: leave `split` out"
    return NoFiles(f"source {config.name!r}: the dataset {config.dataset!r} has no split {config.split!r}; {hint}")


def identity(config: Hub, file: File) -> str:
    """The content of local files, of a saved dataset its features, too; of a hub dataset the commit."""
    if _is_saved(file):
        return files.fingerprint(reading.identity(config, file), _features(file))
    folder = Path(config.dataset)
    if not folder.is_dir():
        return file.path
    digest = xxhash.xxh3_128()
    visible = (path for path in folder.rglob("*") if path.is_file() and path.parent.name != checksums.FOLDER)
    for path in sorted(visible):
        digest.update(f"{path.relative_to(folder)}\0{reading.identity(config, File(str(path), '', 0))}\0".encode())
    return digest.hexdigest()


@reading.bounded
def read(config: Hub, file: File) -> Iterator[Record]:
    if _is_saved(file):
        yield from parquet.read_rows(config, file, naming(file))
        return
    ids = Ids(config.name, file)
    with _reaching(config):
        stream = _open(config, file.path.rpartition("@")[2])
        named = class_labels.naming(dict(stream.features.to_dict())) if stream.features else None
        shard = stream.shard(stream.num_shards, int(file.name.rpartition("-")[2]))
        for position, record in enumerate(shard, 1):
            yield to_document(config, file, ids, named(record) if named else record, position)


def naming(file: File) -> class_labels.Named | None:
    """What names the labels in ``file`` of a saved dataset; None: what the file's own schema says holds."""
    features = _features(file)
    return class_labels.naming(features) if features else None


def _is_saved(file: File) -> bool:
    return file.name.endswith(".arrow")


def _features(file: File) -> dict[str, Any] | None:
    """What ``datasets`` noted of the columns of a saved dataset; None: what the file's own schema says holds."""
    path = Path(file.path).with_name("dataset_info.json")
    return files.read_json(str(path)).get("features") if path.exists() else None


def _commit(config: Hub) -> str:
    from huggingface_hub import HfApi

    with _reaching(config):
        commit = HfApi().dataset_info(config.dataset, revision=config.revision).sha
    assert commit is not None
    return commit


def _open(config: Hub, commit: str) -> IterableDataset:
    from datasets import load_dataset

    revision = None if commit == "local" else commit
    with _reaching(config):
        try:
            stream = load_dataset(config.dataset, config.subset, split=config.split, revision=revision, streaming=True)
        except ValueError as error:  # about the arguments
            remedy = "correct `split` or `subset` in the recipe"
            raise NoFiles(f"source {config.name!r}: the dataset {config.dataset!r}: {error}; {remedy}") from error
    if config.metadata_fields is not None and stream.column_names is not None:
        wanted = parquet.columns(config) or set()
        stream = stream.select_columns([name for name in stream.column_names if name in wanted])
    return stream


@contextlib.contextmanager
def _reaching(config: Hub) -> Iterator[None]:
    """Errors of the hub and of ``datasets`` become NoFiles, which names the dataset; those of content Damaged."""
    from datasets.exceptions import DatasetNotFoundError, DatasetsError
    from huggingface_hub import errors

    start = f"source {config.name!r}: the dataset {config.dataset!r}"
    try:
        yield
    except errors.GatedRepoError as error:
        remedy = "ask for access on its page, and log in with `hf auth login`"
        raise NoFiles(f"{start} is given only to those who accept its conditions; {remedy}") from error
    except errors.RevisionNotFoundError as error:
        raise NoFiles(f"{start} has no revision {config.revision!r}; correct `revision` in the recipe") from error
    except (errors.RepositoryNotFoundError, DatasetNotFoundError) as error:
        remedy = "correct `dataset` in the recipe; for a private one log in with `hf auth login`"
        raise NoFiles(f"{start} is neither a folder here nor on the hub; {remedy}") from error
    except FileNotFoundError as error:  # DataFilesNotFoundError and EmptyDatasetError among them
        if error.errno is not None:
            raise
        raise NoFiles(f"{start}: {error}; correct `dataset` in the recipe") from error
    except DatasetsError as error:
        raise reading.Damaged(printable(f"{type(error).__name__}: {error}"[:200])) from error
    except (OSError, errors.HTTPError) as error:  # pyright: ignore[reportPrivateImportUsage]  # of its HTTP library
        if Path(config.dataset).is_dir():
            raise
        remedy = "if it is a folder, correct `dataset`; else check your connection, and run the same command again"
        raise NoFiles(f"{start} is no folder here, and the hub was not reached ({error}); {remedy}") from error
