"""A copy of a build whose files are links: it costs no space, and what is written to it leaves the build as it is."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

LINKED = ("documents", "ledgers", "work", "models")


def link_tree(source: Path, target: Path) -> None:
    """The tree ``source`` as folders of links; a step that writes a file puts it in the place of the link.

    Files that stand in ``target`` already stay, links are renewed.
    """
    for folder, folders, names in os.walk(source):
        folders[:] = [name for name in folders if not name.startswith(".")]
        into = target / Path(folder).relative_to(source)
        into.mkdir(parents=True, exist_ok=True)
        for name in names:
            link = into / name
            if link.is_symlink():
                link.unlink()
            if not name.startswith(".") and not link.exists():
                link.symlink_to(Path(folder, name).resolve())


def links_out(root: Path) -> Iterator[Path]:
    """The links below ``root`` to what is not below it: who writes there writes elsewhere."""
    waiting, inside = [root] if root.is_dir() else [], root.resolve()
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                if entry.is_symlink():
                    if not Path(entry.path).resolve().is_relative_to(inside):
                        yield Path(entry.path)
                elif entry.is_dir():
                    waiting.append(Path(entry.path))
