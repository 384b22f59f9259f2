"""The processes of a training run: one, or those that ``accelerate launch`` or torchrun started, by DDP or sharded.

Every process makes its own part of each batch, and what the parts count is added up before the step, so a run is the
same for any number of them up to the order of sums. Sharding is torch's FSDP2 (Zhao et al. 2023, "PyTorch FSDP"): a
process holds its share of each parameter and its moments, and gathers one transformer block at a time. What is gathered
is gathered by all together.
"""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from pipeline import MillError

if TYPE_CHECKING:
    from accelerate import PartialState


@dataclass(frozen=True)
class Processes:
    """This process among ``count``; ``state`` is accelerate's, None where there is one process only.

    ``numbers`` is the group by which numbers on the CPU are added up, beside what the devices do.
    """

    rank: int = 0
    count: int = 1
    sharded: bool = False
    state: PartialState | None = None
    numbers: Any = None

    @property
    def first(self) -> bool:
        """Whether this process is the one that writes."""
        return self.rank == 0

    def wrap(self, module: nn.Module) -> nn.Module:
        """``module``, so that its gradients are averaged over the processes.

        Sharded in place, by the blocks that transformers names; so an optimiser is made afterwards.
        """
        if self.state is None:
            return module
        if self.sharded:
            return self._shard(module)
        from torch.nn.parallel import DistributedDataParallel

        return DistributedDataParallel(module, broadcast_buffers=False, gradient_as_bucket_view=True)

    def _shard(self, module: nn.Module) -> nn.Module:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        mesh = init_device_mesh(next(module.parameters()).device.type, (self.count,))
        blocks = {name for part in module.modules() for name in getattr(part, "_no_split_modules", None) or ()}
        holders = _holders(module)
        for part in list(module.modules()):
            # tied embeddings belong to the output head as well, so the whole module gathers them
            if type(part).__name__ in blocks and all(
                holders[parameter] == n for parameter, n in _holders(part).items()
            ):
                fully_shard(part, mesh=mesh)
        fully_shard(module, mesh=mesh)
        return module

    def part(self, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """This process's rows. Raises MillError where they do not divide by the number of processes."""
        own = own_rows(len(next(iter(arrays.values()))), self.rank, self.count)
        return {name: array[own] for name, array in arrays.items()}

    @contextlib.contextmanager
    def without_averaging(self, module: nn.Module) -> Iterator[None]:
        """Keep the gradients of the wrapped ``module`` here for now: there are more micro-batches to come."""
        wrapped = cast(Any, module)
        if self.state is None:
            yield
        elif self.sharded:
            wrapped.set_requires_gradient_sync(False)
            yield
            wrapped.set_requires_gradient_sync(True)
        else:
            with wrapped.no_sync():
                yield

    def total(self, values: Tensor) -> Tensor:
        """``values`` summed over the processes, on their device; does not wait for it."""
        if self.state is not None:
            torch.distributed.all_reduce(values)
        return values

    def summed(self, numbers: list[int]) -> list[int]:
        """``numbers`` summed over the processes. To be called by one thread of each, in the same order."""
        total = torch.tensor(numbers)
        torch.distributed.all_reduce(total, group=self.numbers)
        return total.tolist()

    def wait(self) -> None:
        """Return when all processes have come here."""
        if self.state is not None:
            self.state.wait_for_everyone()


def own_rows(rows: int, rank: int, count: int) -> slice:
    """Those of ``rows`` that the process ``rank`` of ``count`` trains on. Raises MillError where they do not divide."""
    if rows % count:
        raise MillError(
            f"batch_size ({rows}) must be divisible by the number of processes ({count}); change one of them"
        )
    return slice(rank * rows // count, (rank + 1) * rows // count)


def _holders(module: nn.Module) -> Counter[nn.Parameter]:
    """In how many modules within ``module`` each of its parameters is; more than one where it is tied."""
    return Counter(own for part in module.modules() for own in part.parameters(recurse=False))


def current() -> Processes:
    """What this process is part of, by the environment that a launcher sets, and ACCELERATE_USE_FSDP."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return Processes()
    from accelerate import PartialState

    state = PartialState(cpu=not torch.cuda.is_available())
    sharded = os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"
    return Processes(state.process_index, state.num_processes, sharded, state, _numbers())


@cache
def _numbers() -> Any:
    return torch.distributed.new_group(backend="gloo")


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
