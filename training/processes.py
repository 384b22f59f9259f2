"""The processes of a training run: one, or those that ``accelerate launch`` started, by DDP or fully sharded (FSDP2).

Every process makes the same batches and takes its own part of each, so a run is the same for any number of them up to
the order of sums. What is gathered (a sharded tensor in whole) is gathered by all processes together.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from accelerate import Accelerator


@dataclass(frozen=True)
class Processes:
    """This process among ``count``; ``accelerator`` is None where it is the only one."""

    rank: int = 0
    count: int = 1
    accelerator: Accelerator | None = None

    @property
    def first(self) -> bool:
        """Whether this process is the one that writes."""
        return self.rank == 0

    def prepare(self, module: nn.Module, optimiser: torch.optim.Optimizer) -> tuple[nn.Module, torch.optim.Optimizer]:
        """``module`` wrapped so that its gradients are averaged over the processes; the optimiser of its parameters."""
        if self.accelerator is None:
            return module, optimiser
        wrapped, prepared = self.accelerator.prepare(module, optimiser)
        return wrapped, prepared.optimizer

    def part(self, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """This process's rows. Raises ValueError where they do not divide by the number of processes."""
        rows = len(next(iter(arrays.values())))
        if rows % self.count:
            raise ValueError(f"batch_size {rows} is no multiple of {self.count} processes; change one of them")
        own = slice(self.rank * rows // self.count, (self.rank + 1) * rows // self.count)
        return {name: array[own] for name, array in arrays.items()}

    def without_averaging(self, module: nn.Module) -> contextlib.AbstractContextManager[None]:
        """Keep the gradients of ``module`` here for now: there are more micro-batches to come."""
        return contextlib.nullcontext() if self.accelerator is None else self.accelerator.no_sync(module)

    def total(self, values: Tensor) -> Tensor:
        """``values`` summed over the processes, on their device; does not wait for it."""
        if self.accelerator is not None:
            torch.distributed.all_reduce(values)
        return values

    def wait(self) -> None:
        """Return when all processes have come here."""
        if self.accelerator is not None:
            self.accelerator.wait_for_everyone()


def current() -> Processes:
    """What this process is part of, by the environment that ``accelerate launch`` sets.

    Raises ValueError for FSDP1, whose flattened parameters have no names to keep in a checkpoint.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return Processes()
    from accelerate import Accelerator, DistributedDataParallelKwargs
    from accelerate.utils import DistributedType

    averaging = DistributedDataParallelKwargs(broadcast_buffers=False, gradient_as_bucket_view=True)
    accelerator = Accelerator(mixed_precision="no", kwargs_handlers=[averaging])  # the loop sets the precision itself
    plugin = accelerator.state.fsdp_plugin
    if accelerator.distributed_type == DistributedType.FSDP and plugin is not None:
        if not accelerator.is_fsdp2:
            raise ValueError("FSDP 1 is not supported: give accelerate launch --fsdp_version 2")
        plugin.cpu_ram_efficient_loading = False  # every process has made the same weights from the seed
    return Processes(accelerator.process_index, accelerator.num_processes, accelerator)


def whole(tensor: Tensor) -> Tensor:
    """``tensor`` itself, or what all processes' shards of it come to."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor  # type: ignore[operator]


def like(whole_tensor: Tensor, example: Tensor) -> Tensor:
    """``whole_tensor`` on the device of ``example``, and sharded as that is."""
    from torch.distributed.tensor import DTensor, distribute_tensor

    moved = whole_tensor.to(example.device)
    if isinstance(example, DTensor):
        return distribute_tensor(moved, example.device_mesh, example.placements, src_data_rank=None)
    return moved
