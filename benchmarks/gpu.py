"""Pretraining on one GPU beside Hugging Face's Trainer, as one table; where there is no GPU, at toy size to try it.

    python -m benchmarks.gpu --pack FOLDER [--megabytes 60]   # on a machine with the prose: its tokens, to be carried
    python -m benchmarks.gpu --suspects                       # which part of compiled GPT-2 is wrong: a minute
    python -m benchmarks.gpu [--only MODEL ...] [--tokens FOLDER --minutes 3] [--profile FOLDER] [--toy]

The third prints what the card does at most; tokens/s and MFU of each of GROUPS; with ``--tokens`` the loss curve of
GPT-2 124M on them; how far compiled losses and gradients in bf16 are from those of the CPU in float32; and whether a
run that was stopped ends with equal bits. With ``--profile`` the kernels of a step, by their time, go to a file a run.
``--toy`` takes small shapes, whatever the hardware. Models compile side by side, each in a process of its own that
waits, when it is warm, until it may measure alone; of its steps the median counts, on a CPU the fastest.

MFU is model FLOP/s (Chowdhery 2022, appendix B), with attention of the pairs of tokens that packs really hold, over the
device's dense bf16 peak: 989 TFLOP/s on an H100 or H200. The Trainer has no ELECTRA and no span corruption for T5, so
these stand alone. Nothing is imported but torch, transformers, tokenizers, numba, pyarrow and, of small packages,
pydantic (with pydantic-core, annotated-types, typing-inspection) and tensorboardX.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import itertools
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import gpu_suspects, training
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

#: objective, preset, sequence length, batch, micro-batch, whether the Trainer can do it; a group fits into 80 GB
GROUPS = (
    (("causal", "gpt2", 1024, 64, 32, True), ("mlm", "modernbert-base", 512, 128, 64, True)),
    (
        ("mlm", "bert-base", 512, 128, 64, True),
        ("span_corruption", "t5-base", 512, 64, 32, False),
        ("electra", "electra-base", 512, 64, 32, False),
    ),
)
TOY = (
    (("causal", "gpt2-demo", 64, 4, 2, True), ("mlm", "modernbert-demo", 64, 4, 2, True)),
    (
        ("mlm", "bert-demo", 64, 4, 2, True),
        ("span_corruption", "t5-demo", 64, 4, 2, False),
        ("electra", "electra-demo", 64, 4, 2, False),
    ),
)
STEPS, TOY_STEPS = 18, 6
WARM = 3  # steps before a process says that it is ready
PROFILED = 3
GPT2 = 50_257
EXPECTED = 500_000  # tokens/s of GPT-2, for the length of its schedule; it ends with its minutes all the same
EVERY = 50  # one document in fifty is held out
_READY, _RESULT = "ready", "result "  # how lines of a child begin; libraries print others
_TITLES = ("objective", "model", "batch", "tokens/s", "MFU", "waiting", "memory", "HF Trainer", "ratio")
_ROW = "{:<15} {:<15} {:>12} {:>12} {:>8} {:>9} {:>10} {:>12} {:>7}"


class Stopped(Exception):
    """Ends a run before its time."""


class _Child:
    """A process that runs one of CHILDREN: it compiles at once, and measures when it may."""

    def __init__(self, what: str, toy: bool, **given: Any) -> None:
        self.name = f"{what} {given.get('preset', '')}".strip()
        command = [sys.executable, "-m", "benchmarks.gpu", *(["--toy"] if toy else []), "--child", what]
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self.process = subprocess.Popen(
            [*command, json.dumps(given)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, text=True
        )
        self.last = ""

    def wait_until_ready(self) -> None:
        """Return when it waits, or has measured already, or has failed."""
        assert self.process.stdout is not None
        while not self.last.startswith((_READY, _RESULT)) and (line := self.process.stdout.readline()):
            self.last = line.strip()

    def result(self) -> dict[str, Any] | str:
        """What it measured, or the last line of its error."""
        self.wait_until_ready()
        if self.last == _READY:
            assert self.process.stdin is not None
            self.process.stdin.write("go\n")
            self.process.stdin.flush()
            self.last = ""
            self.wait_until_ready()
        if self.last.startswith(_RESULT):
            return json.loads(self.last.removeprefix(_RESULT))  # the process ends by itself
        self.process.wait()
        self.errors.seek(0)
        message = self.errors.read().strip() or "no message"
        print(message[-3000:], file=sys.stderr)
        return message.splitlines()[-1]


def _ready() -> None:
    """In a child: say so, and wait until it may go on."""
    if torch.cuda.is_available():
        time.sleep(1)  # the last steps are under way
        torch.cuda.empty_cache()
    print(_READY, flush=True)
    sys.stdin.readline()


def _speed(
    side: str, objective: str, preset: str, length: int, batch: int, micro: int, toy: bool, profile: str | None = None
) -> dict[str, Any]:
    """Speeds of our loop or of the Trainer, and the most memory that either took."""
    task = training.prepare(objective, preset, length, batch, micro, "bf16")
    changed = {"compile": not toy, "steps": TOY_STEPS if toy else STEPS}
    task = replace(task, config=task.config.model_copy(update=changed))
    if preset == "gpt2":
        task = replace(task, vocabulary=replace(task.vocabulary, size=GPT2))
    recorder = _Recorder(Path(profile, f"{side}-{preset}.txt"), task.config.steps or 1) if profile else None

    def at_step(step: int) -> None:
        if step == WARM:
            _ready()
        if recorder is not None:
            recorder.at_step(step)

    with tempfile.TemporaryDirectory() as folder:
        tokens = training.documents(f"{folder}/tokens")
        measure = training.ours if side == "ours" else training.theirs
        result = measure(task, tokens, folder, at_step)
    memory = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
    return {**result, "memory": memory}


class _Recorder:
    """Writes the kernels of the last steps but one of a run to ``path``; to be asked before each step."""

    def __init__(self, path: Path, steps: int) -> None:
        self.path, self.begin = path, steps - PROFILED - 1
        activity = torch.profiler.ProfilerActivity
        kinds = [activity.CUDA] if torch.cuda.is_available() else [activity.CPU]
        self.profiler = torch.profiler.profile(activities=kinds)

    def at_step(self, step: int) -> None:
        if step == self.begin:
            self.profiler.start()
        elif step == self.begin + PROFILED:
            self.profiler.stop()
            order = "self_device_time_total" if torch.cuda.is_available() else "self_cpu_time_total"
            table = self.profiler.key_averages().table(sort_by=order, row_limit=60, max_name_column_width=110)
            self.path.write_text(f"{PROFILED} steps\n{table}\n")


def _ceilings(toy: bool) -> dict[str, float]:
    """TFLOP/s of a large product in bf16, and TB/s of a large copy, read and written: the medians of ten."""
    if not torch.cuda.is_available():
        return {}
    side = 1024 if toy else 8192
    left, right = (torch.randn(side, side, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    block = torch.randn(side, side, 16, device="cuda", dtype=torch.bfloat16)
    target = torch.empty_like(block)
    product, copy_ = _seconds(lambda: left @ right), _seconds(lambda: target.copy_(block))
    return {"tflops": 2 * side**3 / product / 1e12, "tbytes": 2 * block.nbytes / copy_ / 1e12}


def _seconds(work: Callable[[], Any]) -> float:
    times = []
    for _ in range(13):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        work()
        end.record()
        torch.cuda.synchronize()
        times.append(begin.elapsed_time(end) / 1e3)
    return float(np.median(times[3:]))


def _errors(toy: bool) -> dict[str, Any]:
    """|a - b| / |b| of loss and gradient by preset: of this device, compiled in bf16, and of the CPU in float32."""
    cuda, far = torch.cuda.is_available(), {}
    for objective, preset, *_ in itertools.chain(*TOY):
        task = training.prepare(objective, preset, 64 if toy else 512, 4, 4, "fp32")
        with tempfile.TemporaryDirectory() as folder:
            tokens = training.documents(f"{folder}/tokens")
            kind = objectives.load(objective)
            batch = kind.examples(task, kind.order(task, tokens, 0, True).read(np.arange(4)))
        module = kind.create(task)
        sides = []
        for device in (torch.device("cpu"), hardware.device()):
            own = copy.deepcopy(module).to(device)
            arrays = {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in batch.arrays.items()}
            fast = cuda and device.type == "cuda"
            loss = torch.compile(kind.loss, dynamic=False) if fast else kind.loss
            with torch.autocast(device.type, torch.bfloat16, enabled=fast):
                losses = loss(own, {name: array.to(device) for name, array in arrays.items()})
            weights = kind.weights(task)
            total = torch.stack([weights[name] * nats for name, nats in losses.items()]).sum()
            total.backward()
            gradients = [own.grad.flatten().cpu() for own in own.parameters() if own.grad is not None]
            sides.append((float(total), torch.cat(gradients).double()))
        (wanted, gradient), (measured, others) = sides
        far[preset] = (abs(measured - wanted) / abs(wanted), float((others - gradient).norm() / gradient.norm()))
    return far


def _table(results: Mapping[str, Any], group: list[tuple[Any, ...]], peak: float | None) -> None:
    for objective, preset, length, batch, *_ in group:
        mine, other = results[f"ours {preset}"], results.get(f"theirs {preset}")
        if isinstance(other, str):
            print(f"{objective:<15} {preset:<15} HF Trainer failed: {other}")
        theirs = other["tokens_per_second"] if isinstance(other, dict) else None
        if isinstance(mine, str):
            print(f"{objective:<15} {preset:<15} failed: {mine}", flush=True)
            continue
        speed = mine["tokens_per_second"]
        cells = (
            f"{speed:,.0f}",
            f"{mine['flops'] / peak:.1%}" if peak else "–",
            f"{mine['input_wait']:.1%}",
            f"{mine['memory'] / 2**30:.1f} GiB" if mine["memory"] else "–",
            f"{theirs:,.0f}" if theirs else "–",
            f"{speed / theirs:.2f}x" if theirs else "–",
        )
        print(_ROW.format(objective, preset, f"{batch} x {length}", *cells), flush=True)


def everything(toy: bool, only: list[str], tokens: Path | None, minutes: float, profile: Path | None) -> None:
    """All measurements; the second group of processes compiles while the first is measured."""
    name = hardware.device_name(hardware.device())
    peak = gpu_peaks.peak_flops(name)
    print(f"{name}; peak {peak / 1e12:,.0f} TFLOP/s, bf16" if peak else f"{name}; no peak known, so no MFU")
    if profile:
        profile.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    chosen: tuple[tuple[tuple[Any, ...], ...], ...] = TOY if toy else GROUPS
    groups = [[run for run in group if not only or run[1] in only] for group in chosen]
    first = _Child("ceilings", toy)
    children = [_started(group, toy, profile) for group in groups[:1]]
    trained = _Child("train", toy, tokens=str(tokens), minutes=minutes) if tokens else None
    _tell(first.name, first.result(), peak)
    for child in [*children[0], *([trained] if trained else [])]:
        child.wait_until_ready()
    print(f"compiled after {time.monotonic() - began:,.0f} s")
    children += [_started(group, toy, profile) for group in groups[1:]]
    others = [_Child("errors", toy), _Child("resume", toy)]
    print(_ROW.format(*_TITLES))
    _table({child.name: child.result() for child in children[0]}, groups[0], peak)
    if trained:
        _tell(trained.name, trained.result(), peak)
    for group, own in zip(groups[1:], children[1:], strict=True):
        for child in own:
            child.wait_until_ready()
        _table({child.name: child.result() for child in own}, group, peak)
    for child in others:
        child.wait_until_ready()
        _tell(child.name, child.result(), peak)
    print(f"all after {time.monotonic() - began:,.0f} s")


def _started(runs: list[tuple[Any, ...]], toy: bool, profile: Path | None) -> list[_Child]:
    children = []
    for objective, preset, length, batch, micro, has_peer in runs:
        shape = {"objective": objective, "preset": preset, "length": length, "batch": batch, "micro": micro}
        children.append(_Child("ours", toy, **shape, profile=str(profile) if profile else None))
        children += [_Child("theirs", toy, **shape)] if has_peer else []
    return children


def _tell(name: str, result: dict[str, Any] | str, peak: float | None) -> None:
    if isinstance(result, str):
        print(f"{name} failed: {result}")
    elif name == "ceilings" and result:
        print(f"a product of 8192 x 8192 in bf16: {result['tflops']:,.0f} TFLOP/s; a copy: {result['tbytes']:.2f} TB/s")
    elif name == "resume":
        print("a stopped run ends with " + ("equal bits" if result["equal"] else "OTHER weights"))
    elif name == "errors":
        for preset, (loss, gradient) in result.items():
            print(f"{preset}: loss within {loss:.1e} of the CPU's in float32, gradient within {gradient:.1e}")
    elif name == "train":
        _curve(result["rows"], peak)


def _curve(rows: list[dict[str, Any]], peak: float | None) -> None:
    losses = [row for row in rows if "loss" in row]
    for row in losses[20 :: max(1, len(losses) // 20)]:  # the first waited
        mfu = f", MFU {row['flops'] / peak:.1%}" if peak else ""
        print(f"step {row['step']:>6}: loss {row['loss']:.3f}, {row['tokens_per_second']:,.0f} tokens/s{mfu}")
    for row in (row for row in rows if "evaluation" in row):
        print(f"step {row['step']:>6}: held-out loss {row['evaluation']['loss']:.3f}")


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
    objective, preset, length, batch, micro, _ = (TOY if toy else GROUPS)[0][0]
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


def _train(tokens: str, minutes: float, toy: bool) -> dict[str, Any]:
    """The log of GPT-2 on the tokens: as many steps as ``minutes`` are expected to hold, and no longer than these."""
    config = settings(toy, steps=1)
    steps = max(10, int(EXPECTED * minutes * 60 / (config.batch_size * config.sequence_length)))
    config = settings(toy, steps=10 if toy else steps, eval_every=3 if toy else steps // 5)
    own, heldout = (PackedTokens(str(Path(tokens, split))) for split in ("train", "heldout"))
    module, work = work_of(config, own, heldout)
    began = [0.0]

    def batch(step: int) -> Any:
        if step == WARM:
            _ready()
            began[0] = time.monotonic()
        elif step > WARM and time.monotonic() - began[0] > minutes * 60:
            raise Stopped
        return work.batch(step)

    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(Stopped):
        plan = plan_of(config, folder, eval_every=config.eval_every)
        try:
            loop.train(module, replace(work, batch=batch), plan)
        finally:
            rows = [json.loads(line) for line in Path(folder, "metrics.jsonl").read_text().splitlines()]
    return {"rows": rows}


def _resume(toy: bool) -> dict[str, Any]:
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
    return {"equal": all(torch.equal(tensor, ends[1][name]) for name, tensor in ends[0].items())}


CHILDREN: dict[str, Callable[..., dict[str, Any]]] = {
    "ours": lambda **given: _speed("ours", **given),
    "theirs": lambda **given: _speed("theirs", **given),
    "ceilings": _ceilings,
    "errors": _errors,
    "resume": _resume,
    "train": _train,
    "suspects": gpu_suspects.measure,
}


def suspects(toy: bool) -> None:
    """All variants side by side, each in a process of its own."""
    children = {name: _Child("suspects", toy, variant=name) for name in gpu_suspects.VARIANTS}
    for name, child in children.items():
        print(gpu_suspects.line(name, child.result()), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.gpu", description=__doc__.split("\n", 1)[0])  # type: ignore[union-attr]
    parser.add_argument("--toy", action="store_true")
    parser.add_argument("--suspects", action="store_true", help="compiled GPT-2 with one part exchanged at a time")
    parser.add_argument("--pack", type=Path, help="folder to write the prose's tokens to")
    parser.add_argument("--megabytes", type=float, default=60.0, help="of prose to pack")
    parser.add_argument("--only", nargs="*", default=[], metavar="MODEL", help="presets to measure; all if absent")
    parser.add_argument("--tokens", type=Path, help="folder that --pack wrote, to train on")
    parser.add_argument("--minutes", type=float, default=3.0, help="of training on --tokens")
    parser.add_argument("--profile", type=Path, help="folder for the kernels of a step of each run")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    toy = given.toy or not torch.cuda.is_available()
    if given.child:
        what, arguments = given.child
        print(_RESULT + json.dumps(CHILDREN[what](**json.loads(arguments), toy=toy)), flush=True)
    elif given.suspects:
        suspects(toy)
    elif given.pack:
        pack(given.pack, given.megabytes, 1_000 if given.toy else GPT2)
    else:
        everything(toy, given.only, given.tokens, given.minutes, given.profile)


if __name__ == "__main__":
    main()
