"""A copy of a build whose files are links: it costs no space, and what is written to it leaves the build as it is."""

from __future__ import annotations

import os
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
