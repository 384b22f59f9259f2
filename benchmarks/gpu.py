"""Pretraining on one GPU beside Hugging Face's Trainer, as one table; where there is no GPU, at toy size to try it.

    python -m benchmarks.gpu                       # GPT-2 124M, BERT-base, T5-base, ELECTRA-base: tokens/s and MFU
    python -m benchmarks.gpu --prose FILE... [--minutes 8]   # and a GPT-2 124M trained on that text
    python -m benchmarks.gpu --toy                 # small shapes, whatever the hardware

MFU is model FLOP/s (Chowdhery 2022, appendix B) over the device's dense bf16 peak: 989 TFLOP/s on an H100 or H200. The
Trainer has no ELECTRA and no span corruption for T5, so these stand alone.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks import training
from training.loop import hardware
from training.recipe import gpu_peaks

#: objective, preset, sequence length, batch, micro-batch, whether the Trainer can do it
RUNS = (
    ("causal", "gpt2", 1024, 64, 32, True),
    ("mlm", "bert-base", 512, 128, 64, True),
    ("span_corruption", "t5-base", 512, 64, 32, False),
    ("electra", "electra-base", 512, 64, 32, False),
)
TOY = (
    ("causal", "gpt2-demo", 64, 4, 2, True),
    ("mlm", "bert-demo", 64, 4, 2, True),
    ("span_corruption", "t5-demo", 64, 4, 2, False),
    ("electra", "electra-demo", 64, 4, 2, False),
)
STEPS, TOY_STEPS = 40, 4


def child(side: str, objective: str, preset: str, length: int, batch: int, micro: int, toy: bool) -> None:
    """One measurement in this process, told as JSON."""
    task = training.prepare(objective, preset, length, batch, micro, "bf16")
    changed = {"compile": not toy, "steps": TOY_STEPS if toy else STEPS}
    task = replace(task, config=task.config.model_copy(update=changed))
    with tempfile.TemporaryDirectory() as folder:
        tokens = training.documents(f"{folder}/tokens")
        measure = training.ours if side == "ours" else training.theirs
        result = measure(task, tokens, folder)
    memory = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
    print(json.dumps({**result, "memory": memory}))


def measured(side: str, run: tuple[Any, ...], toy: bool) -> dict[str, float] | str:
    """What a child process found, or the last line of its error."""
    arguments = [side, *map(str, run[:5])]
    command = [sys.executable, "-m", "benchmarks.gpu", *(["--toy"] if toy else []), "--child", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return (done.stderr.strip() or "no message").splitlines()[-1]
    return json.loads(done.stdout.splitlines()[-1])


def table(toy: bool) -> None:
    name = hardware.device_name(hardware.device())
    peak = gpu_peaks.peak_flops(name)
    print(f"{name}; peak {peak / 1e12:,.0f} TFLOP/s, bf16" if peak else f"{name}; no peak known, so no MFU")
    row = "{:<15} {:<13} {:>12} {:>12} {:>8} {:>9} {:>10} {:>12} {:>7}"
    print(row.format("objective", "model", "batch", "tokens/s", "MFU", "waiting", "memory", "HF Trainer", "ratio"))
    for run in TOY if toy else RUNS:
        objective, preset, length, batch, _, has_peer = run
        mine = measured("ours", run, toy)
        if isinstance(mine, str):
            print(f"{objective:<15} {preset:<13} failed: {mine}", flush=True)
            continue
        other = measured("theirs", run, toy) if has_peer else None
        speed = mine["tokens_per_second"]
        theirs = other["tokens_per_second"] if isinstance(other, dict) else None
        if isinstance(other, str):
            print(f"HF Trainer failed: {other}")
        cells = (
            f"{speed:,.0f}",
            f"{mine['flops'] / peak:.1%}" if peak else "–",
            f"{mine['input_wait']:.1%}",
            f"{mine['memory'] / 2**30:.1f} GiB" if mine["memory"] else "–",
            f"{theirs:,.0f}" if theirs else "–",
            f"{speed / theirs:.2f}x" if theirs else "–",
        )
        print(row.format(objective, preset, f"{batch} x {length}", *cells), flush=True)


def train(prose: list[Path], minutes: float, folder: Path, toy: bool) -> None:
    """Build a GPT-2 from ``prose`` for about ``minutes``; print its losses and its token budget."""
    length, batch = (64, 4) if toy else (1024, 64)
    model = "gpt2-demo" if toy else "gpt2"
    result = measured("ours", (TOY if toy else RUNS)[0], toy)
    if isinstance(result, str):
        sys.exit(result)
    speed = result["tokens_per_second"]
    sources = [
        {
            "name": f"prose{at}",
            "kind": "jsonl" if ".jsonl" in path.name else "text",
            "path": str(path.resolve()),
            "domain": path.parent.name or "prose",
        }
        for at, path in enumerate(prose)
    ]
    run = {
        "name": "gpt2", "objective": "causal", "tokenizer": "bpe", "model": model, "sequence_length": length,
        "batch_size": batch, "micro_batch": batch // 2, "tokens": int(speed * minutes * 60), "compile": not toy,
        "eval_every": 100, "optimiser": {"learning_rate": 6e-4},
    }  # fmt: skip
    recipe = {
        "name": "gpu", "sources": sources, "exact": {}, "pretrain": [run],
        "tokenizers": [{"name": "bpe", "algorithm": "bpe", "vocab_size": 1_000 if toy else 50_257}],
        "budget": {"gpu": "H100"},
    }  # fmt: skip
    path = folder / "gpu.yaml"
    path.write_text(json.dumps(recipe))  # JSON is YAML
    for command in (["build", str(path)], ["budget", str(folder / "gpu" / "models" / "gpt2")]):
        options = ["--builds", str(folder)] if command[0] == "build" else []
        subprocess.run([sys.executable, "-m", "flows.cli", *command, *options], check=True)
    lines = (folder / "gpu/models/gpt2/metrics.jsonl").read_text().splitlines()
    losses = [row for row in map(json.loads, lines) if "loss" in row]
    for row in losses[:: max(1, len(losses) // 20)]:
        print(f"step {row['step']:>6}: loss {row['loss']:.3f}, {row['tokens_per_second']:,.0f} tokens/s")
    print(f"loss curve and budget: {folder / 'gpu/report/index.html'}")


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.gpu", description=__doc__.split("\n", 1)[0])  # type: ignore[union-attr]
    parser.add_argument("--toy", action="store_true")
    parser.add_argument("--prose", nargs="+", type=Path, default=[], help="files of JSON lines, or of one text each")
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--folder", type=Path, default=Path("data/builds/gpu"), help="where --prose builds")
    parser.add_argument("--child", nargs=6, help=argparse.SUPPRESS)
    given = parser.parse_args()
    toy = given.toy or not torch.cuda.is_available()
    if given.child:
        side, objective, preset, length, batch, micro = given.child
        child(side, objective, preset, int(length), int(batch), int(micro), toy)
        return
    table(toy)
    if given.prose:
        given.folder.mkdir(parents=True, exist_ok=True)
        train(given.prose, given.minutes, given.folder, toy)


if __name__ == "__main__":
    main()
