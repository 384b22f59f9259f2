"""Which part of compiled GPT-2 is wrong on a GPU: it with one part exchanged at a time, each beside the CPU's float32.

A line a variant: how far loss and gradient are off, the parameter that is off most, and whether three calls gave equal
bits. What is right where the plain one is wrong names the fault. ``python -m benchmarks.gpu --suspects``.
"""

from __future__ import annotations

import contextlib
import copy
import tempfile
from collections.abc import Callable, Iterator
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from benchmarks import training
from training import objectives
from training.loop import hardware
from training.models import attention, losses

#: name: (preset, precision, backend of torch.compile or None, tokens, what is exchanged)
VARIANTS: dict[str, tuple[str, str, str | None, int, str]] = {
    "as it is": ("gpt2-demo", "bf16", "inductor", 512, ""),
    "float32": ("gpt2-demo", "fp32", "inductor", 512, ""),
    "not compiled": ("gpt2-demo", "bf16", None, 512, ""),
    "traced, not compiled": ("gpt2-demo", "bf16", "aot_eager", 512, ""),
    "one block": ("gpt2-demo", "bf16", "inductor", 128, ""),
    "no flex attention": ("gpt2-demo", "bf16", "inductor", 512, "matrix"),
    "sees both sides": ("gpt2-demo", "bf16", "inductor", 512, "both"),
    "queries, keys, values apart": ("gpt2-demo", "bf16", "inductor", 512, "apart"),
    "linear layers": ("gpt2-demo", "bf16", "inductor", 512, "linear"),
    "another activation": ("gpt2-demo", "bf16", "inductor", 512, "gelu"),
    "loss in chunks": ("gpt2-demo", "bf16", "inductor", 512, "chunks"),
    "Llama": ("llama-demo", "bf16", "inductor", 512, ""),
    "Qwen3": ("qwen3-demo", "bf16", "inductor", 512, ""),
}


class _Linear(nn.Linear):
    """GPT-2's layer with its weights as rows of outputs, as BERT has them."""

    def __init__(self, layer: Conv1D) -> None:
        super().__init__(layer.nx, layer.nf)
        self.weight.data, self.bias.data = layer.weight.data.t().contiguous(), layer.bias.data


def _apart(query: Tensor, key: Tensor, value: Tensor, *rest: Any, **options: Any) -> Any:
    """Flex attention of copies, through an operator that torch.compile does not remove."""
    own = (torch.ops.aten.clone(part, memory_format=torch.contiguous_format) for part in (query, key, value))
    return _FLEX(*own, *rest, **options)


_FLEX, _MASK = attention.flex_attention, attention.mask


@contextlib.contextmanager
def _exchanged(what: str) -> Iterator[None]:
    changes: dict[str, tuple[Any, str, Any]] = {
        "matrix": (attention, "mask", lambda sight, causal, _blocks, reach=None: _MASK(sight, causal, False, reach)),
        "both": (attention, "mask", lambda sight, _causal, blocks, reach=None: _MASK(sight, False, blocks, reach)),
        "apart": (attention, "flex_attention", _apart),
        "chunks": (losses, "CUDA_CHUNK", 256),
    }  # fmt: skip
    with patch.object(*changes[what]) if what in changes else contextlib.nullcontext():
        yield


def _changed(module: Any, what: str) -> Any:
    for part in list(module.modules()):
        if what == "gelu" and hasattr(part, "act"):
            part.act = nn.GELU()
        for name, layer in list(part.named_children()):
            if what == "linear" and isinstance(layer, Conv1D):
                setattr(part, name, _Linear(layer))
    return module


def measure(variant: str, toy: bool) -> dict[str, Any]:
    """What the docstring of the module says of one of VARIANTS."""
    preset, precision, backend, length, what = VARIANTS[variant]
    device = hardware.device()
    task = training.prepare("causal", preset, 64 if toy else length, 4, 4, "fp32")
    with tempfile.TemporaryDirectory() as folder:
        tokens = training.documents(f"{folder}/tokens")
        kind = objectives.load("causal")
        batch = kind.examples(task, kind.order(task, tokens, 0, True).read(np.arange(4)))
    module = _changed(kind.create(task), what)
    arrays = {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in batch.arrays.items()}
    with _exchanged(what):
        wanted = _call(kind.loss, copy.deepcopy(module), arrays, None)
        run = kind.loss if backend is None or toy else torch.compile(kind.loss, dynamic=False, backend=backend)
        own, moved = module.to(device), {name: tensor.to(device) for name, tensor in arrays.items()}
        dtype = torch.bfloat16 if precision == "bf16" and not toy else None
        calls = [_call(run, own, moved, dtype) for _ in range(3)]
    loss, gradients = calls[0]
    far = {name: float((gradients[name] - value).norm() / wanted[1][name].norm()) for name, value in wanted[1].items()}
    whole = torch.cat([gradients[name].flatten() for name in wanted[1]])
    right = torch.cat([value.flatten() for value in wanted[1].values()])
    return {
        "loss": abs(loss - wanted[0]) / abs(wanted[0]),
        "gradient": float((whole - right).norm() / right.norm()),
        "worst": max(far, key=lambda name: far[name]),
        "losses": len({other for other, _ in calls}) == 1,
        "gradients": all(torch.equal(value, other[name]) for _, other in calls for name, value in gradients.items()),
    }


def _call(
    loss: Callable[..., dict[str, Tensor]], module: Any, arrays: dict[str, Tensor], dtype: torch.dtype | None
) -> tuple[float, dict[str, Tensor]]:
    module.zero_grad()
    device = next(iter(arrays.values())).device.type
    with torch.autocast(device, dtype, enabled=dtype is not None):
        total = loss(module, arrays)["causal"]
    total.backward()
    return float(total.detach()), {name: part.grad.cpu().double() for name, part in module.named_parameters()}


def line(variant: str, outcome: dict[str, Any] | str) -> str:
    if isinstance(outcome, str):
        return f"{variant:<30} failed: {outcome}"
    bits = ["equal" if outcome[name] else "OTHER" for name in ("losses", "gradients")]
    return (
        f"{variant:<30} loss {outcome['loss']:.1e}  gradient {outcome['gradient']:.1e}  bits: loss {bits[0]}, gradient"
        f" {bits[1]}; worst {outcome['worst']}"
    )
