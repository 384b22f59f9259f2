"""Pretraining on one GPU beside Hugging Face's Trainer, as one table; where there is no GPU, at toy size to try it.

    python -m benchmarks.gpu --pack FOLDER [--megabytes 60]   # on a machine with the prose: its tokens, to be carried
    python -m benchmarks.gpu [--limit 480]                    # tokens/s and MFU of RUNS, as many as fit the seconds
    python -m benchmarks.gpu --tokens FOLDER [--minutes 3]    # GPT-2 124M on the carried tokens: its loss curve
    python -m benchmarks.gpu --resume                         # whether a run that was stopped ends with equal bits
    ... --toy                                                 # small shapes, whatever the hardware

MFU is model FLOP/s (Chowdhery 2022, appendix B), with attention of the pairs of tokens that packs really hold, over the
device's dense bf16 peak: 989 TFLOP/s on an H100 or H200. The Trainer has no ELECTRA and no span corruption for T5, so
these stand alone. Nothing is imported but torch, transformers, tokenizers, numba, pyarrow and, of small packages,
pydantic (with pydantic-core, annotated-types, typing-inspection) and tensorboardX.
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import training
from benchmarks.documents import packed, prose
from pipeline.store.packed_tokens import PackedTokens
from training import objectives
from training.batches import random_streams
from training.batches.vocabulary import Vocabulary
from training.loop import checkpoint, hardware, loop
from training.objectives.base import Task
from training.pretraining import evaluation
from training.recipe import gpu_peaks
from training.recipe.pretraining import PretrainConfig

#: objective, preset, sequence length, batch, micro-batch, whether the Trainer can do it
RUNS = (
    ("causal", "gpt2", 1024, 64, 32, True),
    ("mlm", "modernbert-base", 512, 128, 64, True),
    ("mlm", "bert-base", 512, 128, 64, True),
    ("span_corruption", "t5-base", 512, 64, 32, False),
    ("electra", "electra-base", 512, 64, 32, False),
)
TOY = (
    ("causal", "gpt2-demo", 64, 4, 2, True),
    ("mlm", "modernbert-demo", 64, 4, 2, True),
    ("mlm", "bert-demo", 64, 4, 2, True),
    ("span_corruption", "t5-demo", 64, 4, 2, False),
    ("electra", "electra-demo", 64, 4, 2, False),
)
STEPS, TOY_STEPS = 40, 4
GPT2 = 50_257
EVERY = 50  # one document in fifty is held out


class Stopped(Exception):
    """Ends a run before its time."""


def child(side: str, objective: str, preset: str, length: int, batch: int, micro: int, toy: bool) -> None:
    """One measurement in this process, printed as JSON."""
    task = training.prepare(objective, preset, length, batch, micro, "bf16")
    changed = {"compile": not toy, "steps": TOY_STEPS if toy else STEPS}
    task = replace(task, config=task.config.model_copy(update=changed))
    if preset == "gpt2":
        task = replace(task, vocabulary=replace(task.vocabulary, size=GPT2))
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


def table(toy: bool, limit: float) -> None:
    """A row for each of the runs that begin within ``limit`` seconds."""
    began = time.monotonic()
    name = hardware.device_name(hardware.device())
    peak = gpu_peaks.peak_flops(name)
    print(f"{name}; peak {peak / 1e12:,.0f} TFLOP/s, bf16" if peak else f"{name}; no peak known, so no MFU")
    row = "{:<15} {:<15} {:>12} {:>12} {:>8} {:>9} {:>10} {:>12} {:>7}"
    print(row.format("objective", "model", "batch", "tokens/s", "MFU", "waiting", "memory", "HF Trainer", "ratio"))
    for run in TOY if toy else RUNS:
        objective, preset, length, batch, _, has_peer = run
        if time.monotonic() - began > limit:
            print(f"{objective:<15} {preset:<15} left out: the {limit:g} seconds are over")
            continue
        mine = measured("ours", run, toy)
        if isinstance(mine, str):
            print(f"{objective:<15} {preset:<15} failed: {mine}", flush=True)
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


def pack(folder: Path, megabytes: float, entries: int) -> None:
    """Tokens of the prose under ``folder``, ``train`` and ``heldout``, by a byte-level BPE trained on it."""
    from tokenizers import ByteLevelBPETokenizer

    documents = prose(megabytes).to_pylist()
    tokenizer = ByteLevelBPETokenizer()
    tokenizer.train_from_iterator(documents, entries, show_progress=False, special_tokens=["<|endoftext|>"])
    ids = [np.array([*encoded.ids, 0]) for encoded in tokenizer.encode_batch(documents)]
    apart = [at % EVERY == 0 for at in range(len(ids))]
    for split, wanted in (("train", False), ("heldout", True)):
        part = list(itertools.compress(ids, (own == wanted for own in apart)))
        written = packed(str(folder / split), part, entries, {"eos": 0})
        print(f"{split}: {len(part):,} documents, {len(written):,} tokens")


def work_of(config: PretrainConfig, train: PackedTokens, heldout: PackedTokens) -> tuple[torch.nn.Module, loop.Work]:
    """A new model and its work: the loop's, without a build around it."""
    objective, task = objectives.of(config), Task(config, Vocabulary.of(train), 0)
    order = objective.order(task, train, random_streams.seed("order", 0), True)
    module = objective.create(task)
    windows, size = evaluation.held_out(objective, task, heldout)
    return module, loop.Work(
        batch=lambda step: objective.examples(task, order.read(evaluation.positions(config.batch_size, step))),
        loss=objective.loss,
        weights=objective.weights(task),
        evaluate=lambda measure: evaluation.evaluate(objective, task, windows, size, measure),
        documents=lambda _step: [],
        flops_per_token=training.flops(objective, task, module, order),
    )


def settings(toy: bool, **fields: Any) -> PretrainConfig:
    objective, preset, length, batch, micro, _ = (TOY if toy else RUNS)[0]
    return PretrainConfig.model_validate(
        {
            "name": "gpt2", "objective": objective, "tokenizer": "bpe", "model": preset, "sequence_length": length,
            "batch_size": batch, "micro_batch": micro, "compile": not toy, "precision": "bf16", "log_every": 20,
            "eval_tokens": 2_000 if toy else 200_000,
            "optimiser": {"learning_rate": 6e-4, "warmup": 0.05, "algorithm": "muon"}, **fields,
        }
    )  # fmt: skip


def plan_of(config: PretrainConfig, folder: str, **changed: Any) -> loop.Plan:
    own = {"log_every": config.log_every, "checkpoint_every": 10**9, **changed}
    return loop.Plan(
        folder, "gpt2", config.steps or 1, 0, config.micro_batch or config.batch_size, config.optimiser,
        config.precision, config.compile, **own,
    )  # fmt: skip


def train(tokens: Path, minutes: float, toy: bool) -> None:
    """GPT-2 on the tokens for about ``minutes``: speed is measured first, so that the schedule ends with them."""
    speed = measured("ours", (TOY if toy else RUNS)[0], toy)
    if isinstance(speed, str):
        sys.exit(speed)
    config = settings(toy, steps=1)
    steps = max(10, int(speed["tokens_per_second"] * minutes * 60 / (config.batch_size * config.sequence_length)))
    config = settings(toy, steps=steps, eval_every=max(1, steps // 5))
    module, work = work_of(config, PackedTokens(str(tokens / "train")), PackedTokens(str(tokens / "heldout")))
    with tempfile.TemporaryDirectory() as folder:
        loop.train(module, work, plan_of(config, folder, eval_every=config.eval_every))
        rows = [json.loads(line) for line in Path(folder, "metrics.jsonl").read_text().splitlines()]
    losses = [row for row in rows if "loss" in row]
    for row in losses[:: max(1, len(losses) // 20)]:
        mfu = f", MFU {row['mfu']:.1%}" if row["mfu"] else ""
        print(f"step {row['step']:>6}: loss {row['loss']:.3f}, {row['tokens_per_second']:,.0f} tokens/s{mfu}")
    for row in (row for row in rows if "evaluation" in row):
        print(f"step {row['step']:>6}: held-out loss {row['evaluation']['loss']:.3f}")


def resume(toy: bool) -> bool:
    """Whether a run that was stopped after four of six steps ends with the weights of one that was not."""
    config = settings(toy, model="gpt2-demo", sequence_length=128, batch_size=8, micro_batch=4, steps=6)
    ends = []
    with tempfile.TemporaryDirectory() as folder:
        own = training.documents(f"{folder}/tokens")
        special = Vocabulary(training.VOCABULARY, **training.SPECIAL)
        config = config.model_copy(update={"eval_tokens": 2_000})
        objective, task = objectives.of(config), Task(config, special, 0)
        order = objective.order(task, own, 0, True)

        def stop(step: int, _steps: int, _metrics: dict[str, Any]) -> None:
            if step >= 4:
                raise Stopped

        def batch(step: int) -> Any:
            return objective.examples(task, order.read(np.arange(8) + step * 8))

        for name, progress in (("whole", None), ("stopped", stop), ("stopped", None)):
            module = objective.create(task)
            weights = objective.weights(task)
            work = loop.Work(batch, objective.loss, weights, lambda _: {"loss": 0.0}, lambda _: [], 1.0)
            plan = plan_of(config, f"{folder}/{name}", log_every=1, checkpoint_every=2)
            try:
                loop.train(module, work, plan, progress)
            except Stopped:
                continue
            ends.append({name: tensor.cpu() for name, tensor in checkpoint.model_tensors(module).items()})
    return all(torch.equal(tensor, ends[1][name]) for name, tensor in ends[0].items())


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.gpu", description=__doc__.split("\n", 1)[0])  # type: ignore[union-attr]
    parser.add_argument("--toy", action="store_true")
    parser.add_argument("--pack", type=Path, help="folder to write the prose's tokens to")
    parser.add_argument("--megabytes", type=float, default=60.0, help="of prose to pack")
    parser.add_argument("--tokens", type=Path, help="folder that --pack wrote")
    parser.add_argument("--minutes", type=float, default=3.0, help="of training on --tokens")
    parser.add_argument("--limit", type=float, default=480.0, help="seconds after which no row of the table begins")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--child", nargs=6, help=argparse.SUPPRESS)
    given = parser.parse_args()
    toy = given.toy or not torch.cuda.is_available()
    if given.child:
        side, objective, preset, length, batch, micro = given.child
        child(side, objective, preset, int(length), int(batch), int(micro), toy)
    elif given.pack:
        pack(given.pack, given.megabytes, 1_000 if given.toy else GPT2)
    elif given.tokens:
        train(given.tokens, given.minutes, toy)
    elif given.resume:
        print("a stopped run ends with " + ("equal bits" if resume(toy) else "OTHER weights"))
    else:
        table(toy, given.limit)


if __name__ == "__main__":
    main()
