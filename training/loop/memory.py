"""The most memory that a run had at once: of the GPU, or resident in this process."""

from __future__ import annotations

import ctypes
import gc
import platform
from pathlib import Path

import torch

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def forget_peak() -> None:
    """Give back what is free, and measure the peak from now on (on Linux; elsewhere it is of the whole process)."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)
    if _CLEAR.exists():
        _CLEAR.write_text("5")  # proc(5): resets the peak resident set


def peak() -> int:
    """Bytes: of the GPU where there is one, else the peak resident set with base, libraries and data; 0 if unknown."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    lines = _STATUS.read_text().splitlines() if _STATUS.exists() else []
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), 0)
