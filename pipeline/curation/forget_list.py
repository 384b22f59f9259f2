"""The list of documents that a build must never hold again, ``forgotten.json`` in its folder.

Ingest leaves out what is on it, whatever the sources still hold; so the ids come back with no later run. Everything
after ingest is remade as if the sources had never held them: see ``forget``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from pipeline.build.build import Build
from pipeline.sources.base import File
from pipeline.store import files

REMEDY = "Put back a whole copy: without this list the documents on it come back."
#: The source and file of an id: all before the first ``#`` that is not part of a file's name (``base.file_name``).
_FILE = re.compile(r"(?:[^\\#]|\\.)*", re.DOTALL)


def entries(build: Build) -> dict[str, dict[str, Any]]:
    """Each forgotten id with ``on``, a date, and ``duplicates``: by stage, ids of the documents that had lost to it.

    Raises DamagedFile, and LostFile where the build had such a list and it is not there.
    """
    path = build.path("forgotten.json")
    if not files.exists(path) and not files.is_noted(path):
        return {}
    with files.finding(path, REMEDY):
        return files.read_json(path, REMEDY)


def write(build: Build, entries: dict[str, dict[str, Any]]) -> None:
    files.write_json(build.path("forgotten.json"), entries)


def of_files(ids: Iterable[str], source: str, run: Iterable[File]) -> list[str]:
    """Those of ``ids`` that stand for documents of the files ``run``, sorted."""
    names = {f"{source}/{file.name}" for file in run}
    return sorted(name for name in ids if _FILE.match(name)[0] in names)  # type: ignore[index]
