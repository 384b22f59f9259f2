"""A fine-tuning that the kernel kills goes on to equal bits."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.helpers.foreign_models import bert, job, rows
from tests.training.conftest import NAMES, sentences
from tests.training.finetuning.tasks.test_texts import made, sentence
from training.finetuning.finetune import run
from training.finetuning.job import Job

CHILD = """
import os, signal, sys, torch
torch.set_num_threads(1)
from pathlib import Path
from tests.training.finetuning.test_killed import start
from training.finetuning.finetune import run
def kill(at, *_):
    if at >= 10:
        os.kill(os.getpid(), signal.SIGKILL)
run(start(Path(sys.argv[1]), sys.argv[2]), kill)
"""


def start(folder: Path, base: str) -> Job:
    """Eight steps an epoch, with dropout and a strategy that draws parameters of its own."""

    def row(draw: np.random.Generator) -> dict[str, str]:
        text, first, _ = sentence(draw)
        return {"text": text, "label": first}

    given = rows("classify", sorted(NAMES), made(64, 0, row), made(16, 1, row), made(16, 2, row))
    return job(folder, base, given, batch_size=8, epochs=3, dropout=0.1, strategy="lora")


@pytest.mark.slow
def test_sigkill_in_the_middle_and_the_same_command_again(tmp_path: Path) -> None:
    """A process of its own is killed by the kernel: nothing is closed, flushed or tidied up."""
    base = bert(tmp_path, sentences(200))
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    run(start(whole, base))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", CHILD, str(killed), base]
    assert subprocess.run(command, env=environment, check=False).returncode == -signal.SIGKILL
    assert not (killed / "model").exists()
    seen: list[int] = []
    run(start(killed, base), lambda *at: seen.append(at[0]))
    assert seen[0] > 8  # the first epoch is not trained again
    for name in ("model.safetensors", "adapter.safetensors"):
        expected, found = load_file(whole / "model" / name), load_file(killed / "model" / name)
        assert expected.keys() == found.keys()
        assert all(torch.equal(expected[tensor], found[tensor]) for tensor in expected)
