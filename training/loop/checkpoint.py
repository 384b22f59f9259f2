"""Checkpoints: everything that a run needs to go on exactly as if it had not been stopped.

One folder a step, ``step-00000100``, written aside and renamed:

    model.safetensors      parameters (tied ones once) and persistent buffers
    optimiser.safetensors  the optimisers' moments, by parameter
    state.json             step, fingerprint of what makes the run, and what the loop carries along

There is no state of a random generator to keep: every draw is a function of the run's seed and the step. No pickle.

The loop copies the tensors into memory of the host and goes on; a thread writes the copies. So while a checkpoint is
written the host holds weights and moments once more: on the CPU twice as much of them as otherwise.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from pipeline import MillError
from pipeline.store import files
from training.loop import optimisers as all_optimisers
from training.loop.processes import like, whole

_PREFIX = "step-"
#: What each optimiser keeps of a parameter.
_MOMENTS = {torch.optim.AdamW: ("exp_avg", "exp_avg_sq", "step"), torch.optim.Muon: ("momentum_buffer",)}
_REMEDY = "Delete the folder of this checkpoint and run the same command again."


@dataclass(frozen=True)
class Snapshot:
    """What a checkpoint of ``step`` will hold: copies that later steps do not change, once ``arrived`` has come."""

    step: int
    weights: dict[str, Tensor]
    moments: dict[str, Tensor]
    arrived: torch.cuda.Event | None


@dataclass(frozen=True)
class Checkpoint:
    """A complete checkpoint on disk; ``extra`` is what the loop gave to ``save``."""

    folder: Path
    step: int
    fingerprint: str
    extra: dict[str, Any]


class WrongCheckpoint(MillError):
    """A checkpoint does not fit the model or the optimiser it is restored into."""


def copied(
    step: int, model: nn.Module, optimisers: Sequence[torch.optim.Optimizer], keep: bool = True
) -> Snapshot | None:
    """Copies of what ``model`` and ``optimisers`` hold after ``step`` steps; None unless ``keep``.

    Called by all processes of a run, because shards are gathered. Does not wait for a GPU.
    """
    weights = _on_host(model_tensors(model), keep)
    moments = _on_host(_optimiser_tensors(model, optimisers), keep)
    if not keep:
        return None
    arrived = None
    if any(tensor.is_pinned() for tensor in weights.values()):
        arrived = torch.cuda.Event()
        arrived.record()
    return Snapshot(step, weights, moments, arrived)


def save(folder: str, snapshot: Snapshot, fingerprint: str, extra: dict[str, Any]) -> Checkpoint:
    """Write ``snapshot`` under ``folder``: on the disk when this returns. Atomic; ``extra`` must be plain JSON."""
    target = path_of(folder, snapshot.step)
    if snapshot.arrived is not None:
        snapshot.arrived.synchronize()
    with files.replacing_folder(target) as aside:
        save_file(snapshot.weights, aside / "model.safetensors")
        save_file(snapshot.moments, aside / "optimiser.safetensors")
        state = {"step": snapshot.step, "fingerprint": fingerprint, "extra": extra}
        (aside / "state.json").write_text(json.dumps(state, indent=2, sort_keys=True), encoding="utf-8")
        for path in aside.iterdir():
            _flush(path)
    return Checkpoint(files.local(target), snapshot.step, fingerprint, extra)


def path_of(folder: str, step: int) -> str:
    return files.join(folder, f"{_PREFIX}{step:08d}")


def usable(folder: str, made_by: Callable[[int], str], steps: int) -> list[Checkpoint]:
    """The complete checkpoints that a run of ``steps`` steps can go on from, oldest first; others are passed over.

    ``made_by`` names what makes the run's weights after a number of steps. Raises LostFile or DamagedFile for one whose
    state cannot be read.
    """
    root = files.local(folder)
    checkpoints = []
    for path in sorted(root.glob(f"{_PREFIX}*")) if root.is_dir() else []:
        with files.finding(str(path / "state.json"), _REMEDY):
            state = files.read_json(str(path / "state.json"), _REMEDY)
        checkpoints.append(Checkpoint(path, state["step"], state["fingerprint"], state["extra"]))
    return [entry for entry in checkpoints if entry.step <= steps and entry.fingerprint == made_by(entry.step)]


def restore(checkpoint: Checkpoint, model: nn.Module, optimisers: Sequence[torch.optim.Optimizer]) -> None:
    """Set ``model`` and ``optimisers`` to what they were; raises WrongCheckpoint if names or shapes differ."""
    _copy(checkpoint, "model.safetensors", model_tensors(model))
    stored = _load(checkpoint, "optimiser.safetensors")
    owners = all_optimisers.of_parameters(optimisers)
    trained = {name: (parameter, owners[parameter]) for name, parameter in _trained(model).items()}
    expected = {f"{moment}/{name}" for name, (_, owner) in trained.items() for moment in _MOMENTS[type(owner)]}
    if set(stored) != expected:
        raise WrongCheckpoint(f"{checkpoint.folder}/optimiser.safetensors: not of this model; delete the folder")
    for name, (parameter, owner) in trained.items():
        moments = {moment: stored[f"{moment}/{name}"] for moment in _MOMENTS[type(owner)]}
        step = moments.pop("step", None)
        owner.state[parameter] = {moment: like(value, parameter) for moment, value in moments.items()}
        if step is not None:
            owner.state[parameter]["step"] = step.to(parameter.device if _fused(owner) else "cpu")


def restore_model(checkpoint: Checkpoint, model: nn.Module) -> None:
    """Set the weights of ``model`` only; raises WrongCheckpoint if names or shapes differ."""
    _copy(checkpoint, "model.safetensors", model_tensors(model))


def prune(
    checkpoints: list[Checkpoint], keep_last: int, wanted: Collection[int | None], delete: bool = True
) -> list[Checkpoint]:
    """Delete all but the last ``keep_last`` and those of the steps ``wanted``; return what is left."""
    kept = [c for c in checkpoints if c.step in wanted or c in checkpoints[-keep_last:]]
    for checkpoint in checkpoints:
        if delete and checkpoint not in kept:
            files.remove_folder(str(checkpoint.folder))
    return kept


def model_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and persistent buffers of ``model`` by name, tied ones once."""
    persistent = model.state_dict(keep_vars=True)
    buffers = {name: buffer for name, buffer in model.named_buffers() if name in persistent}
    return {**{name: parameter.data for name, parameter in model.named_parameters()}, **buffers}


def _trained(model: nn.Module) -> dict[str, nn.Parameter]:
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def _optimiser_tensors(model: nn.Module, optimisers: Sequence[torch.optim.Optimizer]) -> dict[str, Tensor]:
    owners = all_optimisers.of_parameters(optimisers)
    return {
        f"{moment}/{name}": value
        for name, parameter in _trained(model).items()
        for moment, value in owners[parameter].state[parameter].items()
    }


def _fused(optimiser: torch.optim.Optimizer) -> bool:
    return bool(optimiser.defaults.get("fused"))


def _on_host(tensors: dict[str, Tensor], keep: bool) -> dict[str, Tensor]:
    """Copies of the whole tensors, gathered one by one; none of them unless ``keep``."""
    gathered = ((name, whole(tensor.detach())) for name, tensor in tensors.items())
    return {name: _host_copy(tensor) for name, tensor in gathered if keep}


def _host_copy(tensor: Tensor) -> Tensor:
    """A contiguous copy in memory of the host, of a tensor on a GPU in pinned memory and perhaps still on its way."""
    copy = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=tensor.is_cuda)
    return copy.copy_(tensor, non_blocking=tensor.is_cuda)


def _copy(checkpoint: Checkpoint, name: str, into: dict[str, Tensor]) -> None:
    stored = _load(checkpoint, name)
    wrong = _differing(stored, into)
    if wrong:
        raise WrongCheckpoint(f"{checkpoint.folder}/{name}: {wrong[0]} does not fit the model; delete the folder")
    with torch.no_grad():
        for key, tensor in into.items():
            tensor.copy_(like(stored[key], tensor))


def _load(checkpoint: Checkpoint, name: str) -> dict[str, Tensor]:
    path = checkpoint.folder / name
    files.check(str(path), _REMEDY)
    with files.finding(str(path), _REMEDY):
        return load_file(path)


def _differing(stored: dict[str, Tensor], expected: dict[str, Tensor]) -> list[str]:
    names: Iterable[str] = sorted(set(stored) | set(expected))
    return [
        name
        for name in names
        if name not in stored or name not in expected or stored[name].shape != expected[name].shape
    ]


def _flush(path: Path) -> None:
    with path.open("rb") as handle:
        os.fsync(handle.fileno())
