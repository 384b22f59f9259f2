"""A kind of source that a plug-in adds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from pipeline.build.plugins import Part
from pipeline.sources import base, reading
from pipeline.sources.base import File, Record, SourceConfig


@dataclass(frozen=True)
class Reader(Part):
    """A kind of source: ``name`` is its ``kind`` in a recipe, ``config`` the model of its entry, with that ``kind``.

    ``read(config, file)`` yields every record of one file, in order: a Document; Rejected for a bad record. What is
    raised because of a file's content is the end of the file, and counted as what could not be read.
    ``version`` is raised whenever the same file would give other documents.
    ``list_files(config)`` are the files, sorted by name, each name once; those that ``path`` of a FileConfig matches.
    ``identity(config, file)`` changes whenever the file's content does.
    """

    config: type[SourceConfig]
    read: Callable[[Any, File], Iterator[Record]]
    version: int = 0
    list_files: Callable[[Any], list[File]] = base.find_files
    identity: Callable[[Any, File], str] = reading.identity

    def __post_init__(self) -> None:
        if not hasattr(self.read, "__wrapped__"):  # by ``bounded``
            object.__setattr__(self, "read", reading.bounded(self.read))

    @property
    def VERSION(self) -> Any:
        """As the modules of this package have it, for fingerprints."""
        return self.version if self.plugin is None else [self.version, self.plugin.made_by]
