"""Pretraining runs that end at any moment, and the same command again.

    python -m tests.helpers.killing moments ROOT
    python -m tests.helpers.killing steps ROOT OBJECTIVE=STEP ...

ROOT holds a build with tokens, ``build``. ``moments``: whenever a run is about to open a file to write, or to rename or
remove something, all that is on the disk is copied: what SIGKILL would leave. A process goes on from each copy. A line
of JSON tells what it left; the last line is of the run itself. ``steps``: a run of each objective is killed at a step,
and the line tells whether the next one ends as one that nobody killed.

All runs are forks of a process that has loaded torch and never used it, nor anything that starts threads, which saves
each of them some seconds.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import shutil
import signal
import sys
import threading
from pathlib import Path

import pyarrow as pa
import torch
from transformers.conversion_mapping import get_checkpoint_conversion_mapping

from pipeline.build.lock import locked
from pipeline.text import sentences
from pipeline.tokenization import pack
from pipeline.tokenization.encoding.encode import Encoder
from tests.helpers.building import forked
from tests.training.conftest import make_build, pretrain_section
from training import objectives
from training.loop import loop
from training.pretraining.pretrain import pretrain

EVENTS = {"os.rename", "os.remove", "os.rmdir", "open"}
SECTION = pretrain_section("causal", steps=4, checkpoint_every=2, eval_every=3, keep_last=1, log_every=1)


def train(root: Path, section: dict, progress: loop.Progress | None = None) -> None:
    with locked(str(root)):
        pretrain(make_build(str(root), section), section["name"], progress)


def watch(root: Path) -> None:
    """Copy ``root`` before each change of a file or folder in it, beside a note of what was about to happen."""
    count, copying, inside = 0, threading.RLock(), False

    def hook(event: str, arguments: tuple) -> None:
        nonlocal count, inside
        if event not in EVENTS or not isinstance(arguments[0], str | Path):
            return
        if event == "open" and not str(arguments[1] or "").startswith(("w", "x", "a")):
            return
        path = str(root / arguments[0])  # shutil.rmtree names files within the folder that it removes
        if not path.startswith(f"{root}/") or path.endswith(".lock"):
            return
        with copying:
            if inside:  # what is removed below
                return
            inside = True
            copy = root.with_name(f"killed-{count:04d}")
            count += 1
            while True:
                try:
                    shutil.copytree(root, copy)
                    break
                except (shutil.Error, FileNotFoundError):  # another thread has moved on in the middle of it
                    shutil.rmtree(copy, ignore_errors=True)
            copy.with_suffix(".moment").write_text(f"{event} {path.removeprefix(str(root))}")
            inside = False

    sys.addaudithook(hook)


def left(root: Path, name: str) -> dict:
    """What a run left: its weights, its checkpoints, and whatever is half written."""
    return {
        "weights": hashlib.sha256((root / f"models/{name}/model.safetensors").read_bytes()).hexdigest(),
        "checkpoints": sorted(path.name for path in (root / f"work/pretrain/{name}").glob("step-*")),
        "partial": sorted(str(path.relative_to(root)) for path in root.rglob(".*.partial")),
    }


def state(root: Path) -> str:
    """Names all that is in ``root``."""
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*")):
        digest.update(f"{path.relative_to(root)}\0{path.is_file()}\0".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest() if path.is_file() else b"")
    return digest.hexdigest()


def at_moments(built: Path) -> None:
    root = built / "run"
    shutil.copytree(built / "build", root)

    def watched() -> None:
        watch(root)
        train(root, SECTION)

    status = forked(watched)
    seen: set[str] = set()
    for copy in sorted(built.glob("killed-????")):
        at = copy.with_suffix(".moment").read_text()
        if (found := state(copy)) not in seen:
            seen.add(found)
            again = forked(lambda copy=copy: train(copy, SECTION))
            print(json.dumps({"at": at, "again": again, **left(copy, "causal")}), flush=True)
        shutil.rmtree(copy)
    print(json.dumps({"at": "", "again": status, **left(root, "causal")}), flush=True)


def at_steps(built: Path, steps: dict[str, int]) -> None:
    for objective, step in steps.items():
        optimiser = {"learning_rate": 3e-3, "algorithm": "muon" if objective in ("causal", "electra") else "adamw"}
        section = pretrain_section(objective, steps=24, log_every=1, optimiser=optimiser)
        whole, killed = (Path(shutil.copytree(built / "build", built / f"{kind}-{objective}")) for kind in ("w", "k"))
        first = built / f"{objective}.first"

        def kill(at: int, *_: object, step: int = step) -> None:
            if at >= step:
                os.kill(os.getpid(), signal.SIGKILL)

        def note(at: int, *_: object, first: Path = first) -> None:
            if not first.exists():
                first.write_text(str(at))

        forked(lambda whole=whole, section=section: train(whole, section))
        status = forked(lambda killed=killed, section=section, kill=kill: train(killed, section, kill))
        published = (killed / f"models/{objective}").exists()
        again = forked(lambda killed=killed, section=section, note=note: train(killed, section, note))
        same = left(killed, objective) == left(whole, objective)
        told = {"objective": objective, "signal": os.WTERMSIG(status), "published": published, "again": again}
        print(json.dumps({**told, "first": int(first.read_text()), "step": step, "same": same}), flush=True)


def threads() -> int:
    """Of this process, those of libraries included."""
    return sum(1 for _ in Path("/proc/self/task").iterdir())


def warm(build: Path, *models: str) -> None:
    """Load once, and not in each fork, what every run needs: modules, kernels, tables."""
    before = threads()
    objectives.load("causal")
    for kind in models:
        importlib.import_module(f"transformers.models.{kind}.modeling_{kind}")
    get_checkpoint_conversion_mapping("gpt2")
    Encoder(pack.load(str(build / "tokenizers" / "bytes" / "tokenizer.json")))
    sentences.starts(pa.array(["One. Two."]))
    assert threads() == before


if __name__ == "__main__":
    torch.set_num_threads(1)
    if sys.argv[1] == "moments":
        warm(Path(sys.argv[2]) / "build", "gpt2")
        at_moments(Path(sys.argv[2]))
    else:
        warm(Path(sys.argv[2]) / "build", "gpt2", "albert", "electra", "t5", "bart")
        pairs = (argument.split("=") for argument in sys.argv[3:])
        at_steps(Path(sys.argv[2]), {objective: int(step) for objective, step in pairs})
