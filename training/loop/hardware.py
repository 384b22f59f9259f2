"""What the hardware can do: its peak, and the precision that it multiplies fast."""

from __future__ import annotations

import ctypes
import os
import platform
from pathlib import Path
from typing import Literal

import torch

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # mallopt(3)
_NEVER = 2**31 - 1


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def device_name(where: torch.device) -> str:
    if where.type == "cuda":
        return torch.cuda.get_device_name(where)
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")
    return f"{model or platform.processor() or platform.machine()}, {torch.get_num_threads()} threads"


def autocast_dtype(precision: Literal["fp32", "bf16", "auto"], where: torch.device) -> torch.dtype | None:
    """What matrix products are computed in; None is float32.

    ``auto`` takes bf16 on a GPU, and on a CPU that has instructions for it (AVX-512 BF16 or AMX: 1.5 to 2 times faster
    on the demo's models).
    """
    if precision == "auto":
        fast = where.type == "cuda" or torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
        precision = "bf16" if fast else "fp32"
    return torch.bfloat16 if precision == "bf16" else None


def sum_in_order() -> None:
    """Have CUDA add up in the same order each time, so that a run that goes on from a checkpoint ends with equal bits.

    Compiled gradients of embeddings are otherwise sums in the order of arrival. What knows no order is left as it is.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read at the first product
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def seed(value: int, where: torch.device) -> None:
    """Seed what draws on the CPU and on ``where``.

    torch.manual_seed also asks for each kind of device that is not there, and writes down the stack: milliseconds.
    """
    torch.default_generator.manual_seed(value)
    if where.type == "cuda":
        torch.cuda.manual_seed(value)


def keep_freed_memory() -> None:
    """Have this process keep what tensors on the CPU give back, for those of the next step.

    glibc otherwise returns large blocks to the kernel, which hands out zeroed pages anew for each: some 5 % of a step
    of GPT-2 small. What the process holds stays at its peak. Without effect under other C libraries.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, _NEVER)
        libc.mallopt(_M_TRIM_THRESHOLD, _NEVER)
