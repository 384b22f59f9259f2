"""A run killed (SIGKILL) whenever it opens a file to write, renames or removes something; then run once more.

    python -m tests.helpers.killing ROOT

ROOT is a build with tokens. For each moment a copy of it is trained by a process that is killed there and then by one
that is not; a line of JSON tells what the second one left. The last line is of a run that nobody killed.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import shutil
import signal
import sys
from pathlib import Path

import torch

from pipeline.build.lock import locked
from tests.helpers.building import forked
from tests.training.conftest import make_build, pretrain_section
from training.pretraining.pretrain import pretrain

EVENTS = {"os.rename", "os.remove", "os.rmdir", "open"}
SECTION = pretrain_section("causal", steps=4, checkpoint_every=2, eval_every=3, keep_last=1, log_every=1)


def train(root: Path) -> None:
    with locked(str(root)):
        pretrain(make_build(str(root), SECTION), "causal")


def watch(root: Path, moment: int, told: Path) -> None:
    """Kill this process at its ``moment``-th change of a file or folder under ``root``, and tell which one it was."""
    count = 0

    def hook(event: str, arguments: tuple) -> None:
        nonlocal count
        if event not in EVENTS or not isinstance(arguments[0], str | Path):
            return
        if event == "open" and not str(arguments[1] or "").startswith(("w", "x", "a")):
            return
        path = str(root / arguments[0])  # shutil.rmtree names files within the folder that it removes
        if not path.startswith(str(root)) or path.endswith(".lock"):
            return
        if count == moment:
            told.symlink_to(f"{event} {path.removeprefix(str(root))}")  # which opens no file
            os.kill(os.getpid(), signal.SIGKILL)
        count += 1

    sys.addaudithook(hook)


def left(root: Path) -> dict:
    """What a run left: its weights, its checkpoints, and whatever is half written."""
    return {
        "weights": hashlib.sha256((root / "models/causal/model.safetensors").read_bytes()).hexdigest(),
        "checkpoints": sorted(path.name for path in (root / "work/pretrain/causal").glob("step-*")),
        "partial": sorted(str(path.relative_to(root)) for path in root.rglob(".*.partial")),
    }


def main(built: str) -> None:
    torch.set_num_threads(1)
    for moment in itertools.count():
        root = Path(built, f"killed-{moment}")
        shutil.copytree(Path(built, "build"), root)
        told = root.with_suffix(".moment")

        def killed(root: Path = root, moment: int = moment, told: Path = told) -> None:
            watch(root, moment, told)
            train(root)

        status = forked(killed)
        at = str(told.readlink()) if told.is_symlink() else ""
        again = forked(lambda root=root: train(root))
        print(json.dumps({"at": at, "signal": os.WTERMSIG(status), "again": again, **left(root)}), flush=True)
        shutil.rmtree(root)
        if not at:
            return


if __name__ == "__main__":
    main(sys.argv[1])
