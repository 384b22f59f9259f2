"""Two processes, by ``accelerate launch`` or torchrun, train what one does."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from pipeline.build.lock import locked
from tests.helpers.launched import counted_rows
from tests.training.conftest import make_build, pretrain_section
from training.__main__ import main
from training.loop.processes import Processes
from training.pretraining.pretrain import pretrain

#: DDP by one launcher, and FSDP by the other. ``--cpu`` with one machine would be one process.
TORCHRUN = ("torch.distributed.run", "--standalone", "--nproc_per_node=2")
ACCELERATE = (
    *("accelerate.commands.launch", "--num_processes=2", "--num_machines=1", "--mixed_precision=no"),
    *("--dynamo_backend=no", "--main_process_port=0", "--use_fsdp", "--fsdp_version=2"),
)


BATCH = 8


def section(objective: str, **fields) -> dict:
    # AdamW's first steps go by the sign of the gradient, which rounding may turn where it is 1e-9: hence epsilon.
    optimiser = {"learning_rate": 1e-3, "epsilon": 1e-4}
    return pretrain_section(objective, steps=6, checkpoint_every=3, eval_every=3, optimiser=optimiser, **fields)


def launch(sections: Mapping[Path, dict], launcher: Sequence[str]) -> None:
    """Train a section in the folder of builds that it stands beside, one after the other in the same processes."""
    for builds, section in sections.items():
        recipe = make_build(str(builds / "test"), section).recipe.model_dump(mode="json", exclude_none=True)
        (builds / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    runs = [f"{builds}:{section['name']}" for builds, section in sections.items()]
    command = [sys.executable, "-m", *launcher, "-m", "tests.helpers.launched", *runs]
    where = {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}  # both processes on the CPU
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **where}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-9000:]


def weights(root: Path, name: str) -> dict[str, torch.Tensor]:
    return load_file(root / "models" / name / "model.safetensors")


def assert_same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=0, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("launcher", [TORCHRUN, ACCELERATE], ids=["torchrun", "accelerate"])
def test_two_processes_train_what_one_does(packed_build: str, tmp_path: Path, launcher: tuple[str, ...]) -> None:
    """With micro-batches and without. A sharded run goes on from the checkpoint of a single process, too."""
    micro = {"causal": 2, "mlm": None}
    together = {objective: tmp_path / objective / "test" for objective in micro}
    alone = {objective: tmp_path / f"{objective}-alone" / "test" for objective in micro}
    summaries, alone_rows = {}, {}
    for objective in micro:
        for root in (alone[objective], together[objective]):
            shutil.copytree(packed_build, root)
        with counted_rows() as alone_rows[objective]:
            summaries[objective] = pretrain(make_build(str(alone[objective]), section(objective)), objective)
    moved = tmp_path / "moved" / "test"
    shutil.copytree(alone["causal"], moved)
    shutil.rmtree(moved / "models")
    shutil.rmtree(moved / "work/pretrain/causal/step-00000006")
    sections = {root.parent: section(name, micro_batch=micro[name]) for name, root in together.items()}
    launch({**sections, moved.parent: section("causal")}, launcher)
    for objective, root in together.items():
        assert_same_run(root, alone[objective], objective, summaries[objective])
        parts = [int((root.parent / f"measured-{rank}").read_text()) for rank in range(2)]
        # each time, the processes measure equally many batches
        assert max(parts) - min(parts) <= 3 * BATCH < sum(alone_rows[objective]) / 4
        assert sum(alone_rows[objective]) <= sum(parts) <= sum(alone_rows[objective]) + 3 * BATCH
    assert json.loads((moved / "models/causal/summary.json").read_text())["processes"] == 2
    assert_same(weights(moved, "causal"), weights(alone["causal"], "causal"))
    states = [json.loads(path.read_text()) for path in sorted((moved / "work/pretrain/causal").glob("*/state.json"))]
    assert [state["step"] for state in states] == [3, 6]


def assert_same_run(together: Path, alone: Path, objective: str, expected: dict) -> None:
    assert_same(weights(together, objective), weights(alone, objective))
    found = json.loads((together / "models" / objective / "summary.json").read_text())
    assert (found["processes"], expected["processes"]) == (2, 1)
    assert found["trained_tokens"] == expected["trained_tokens"]
    assert found["evaluation"]["loss"] == pytest.approx(expected["evaluation"]["loss"], abs=1e-5)
    logs = [(root / "models" / objective / "metrics.jsonl").read_text().splitlines() for root in (together, alone)]
    rows, alone_rows = ([json.loads(line) for line in lines] for lines in logs)
    assert [row["step"] for row in rows] == [row["step"] for row in alone_rows]
    for row, other in zip(rows, alone_rows, strict=True):
        assert row.get("loss") == pytest.approx(other.get("loss"), abs=1e-5)
        assert row.get("grad_norm") == pytest.approx(other.get("grad_norm"), abs=1e-5)


def test_rows_that_do_not_divide_are_refused_with_a_remedy() -> None:
    import numpy as np

    with pytest.raises(ValueError, match=r"batch_size \(9\) must be divisible by the number of processes \(2\)"):
        Processes(0, 2).part({"x": np.zeros((9, 3))})
    parts = [Processes(rank, 2).part({"x": np.arange(8)})["x"].tolist() for rank in range(2)]
    assert parts == [[0, 1, 2, 3], [4, 5, 6, 7]]


def test_a_run_is_refused_while_another_process_is_at_work_on_the_build(
    packed_build: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = Path(shutil.copytree(packed_build, tmp_path / "test"))
    recipe = make_build(str(root), section("causal")).recipe.model_dump(mode="json", exclude_none=True)
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    arguments = [str(tmp_path / "recipe.yaml"), "causal", "--builds", str(tmp_path)]
    with locked(str(root)):
        assert main(arguments) == 1
    assert f"process {os.getpid()} is at work on this build" in capsys.readouterr().err
    assert not (root / "models/causal").exists()
    assert main(arguments) == 0
