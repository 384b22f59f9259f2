"""What accelerators can do at most. Torch-free: budgets are made for machines that are not here."""

from __future__ import annotations

#: Dense bf16 peak in FLOP/s, by a part of the device's name (vendors' data sheets, without sparsity).
PEAKS: dict[str, float] = {
    "GB200": 2500e12,
    "B200": 2250e12,
    "H200": 989e12,
    "H100 NVL": 835e12,
    "H100 PCIe": 756e12,
    "H100": 989e12,
    "A100": 312e12,
    "L40S": 362e12,
    "A10G": 70e12,
    "L4": 121e12,
    "RTX 4090": 165e12,
    "V100": 125e12,
    "T4": 65e12,
    "MI300X": 1307e12,
}


def peak_flops(name: str) -> float | None:
    """The bf16 peak of the device called ``name``; None where the table does not know it (every CPU)."""
    return next((peak for part, peak in PEAKS.items() if part.lower() in name.lower()), None)
