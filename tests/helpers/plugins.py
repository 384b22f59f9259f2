"""A plug-in with a stage, and a package that announces one."""

from __future__ import annotations

from pathlib import Path

STAGE = """
from typing import Annotated

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from corpusmill import Batch, Config, Measured, Rule, Stage


class Shouting(Config):
    most: Annotated[int, Field(ge=0, description="exclamation marks that a text may hold")] = 1


def measure(config: Shouting, batch: Batch) -> Measured:
    return Measured({"shouts": pc.count_substring(batch.texts, "!").cast(pa.int32())})


shouting = Stage(
    "shouting",
    "Shouted texts",
    Shouting,
    signals={"shouts": pa.int32()},
    rules=lambda config: [Rule("shouting.most", "shouts", maximum=config.most)],
    measure=measure,
    about="drop texts that shout",
)
"""


def install(folder: Path, version: str, code: str, *entries: str, name: str = "shouty") -> None:
    """Install in ``folder``, one of ``sys.path``, a package of one module with the entry points ``entries``, each as
    ``group: name = module:attribute``.
    """
    for old in folder.glob(f"{name}-*.dist-info"):
        for file in old.iterdir():
            file.unlink()
        old.rmdir()
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir(parents=True)
    (folder / f"{name}_parts.py").write_text(code)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    lines = [entry.partition(": ") for entry in entries]
    (info / "entry_points.txt").write_text("".join(f"[{group}]\n{line}\n" for group, _, line in lines))
