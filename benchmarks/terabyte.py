"""The price of a terabyte: text of a crawl's statistics, curated end to end on two cores, and what each stage costs.

    python -m benchmarks terabyte [--size 1GB] [--predict 100MB] [--folder FOLDER] [--without substring]
    python -m benchmarks terabyte [--size 10GB] --only exact --superwords 200000

The text is that of ``benchmarks.synthetic_web``. A corpus of ``--predict`` bytes is curated first; what it says of the
large one is compared with what that takes. With ``--superwords`` a tokenizer of that many entries is learned from all
that is kept, which is then packed. Processor time counts, so other work on the machine distorts little.
Memory is the most that one process held (without pages of mapped files), times two. datatrove's filters and MinHash
signatures run on a sample of the same text where its environment is there (``make .venv-datatrove``).
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from pydantic import ByteSize, TypeAdapter

from benchmarks import peer, synthetic_web
from pipeline.build.build import Build, Step
from pipeline.curation import costs, recipe, steps
from pipeline.curation.costs import StepCost
from pipeline.store import files, model_files
from pipeline.text import formats
from pipeline.tokenization import steps as tokenization

WORKERS = 2
#: Of a rented core, on demand, in dollars; a general-purpose machine of a large provider in 2026 asks 0.03 to 0.05.
CORE_HOUR = 0.04
#: Disk that a build takes, in bytes a byte of text, with room.
DISK, SUBSTRING_DISK = 4.0, 6.0
PEER_MEGABYTES = 2
TB = 1e12
TOKENIZER = "tokenizers: [{{name: superwords, algorithm: bpe, vocab_size: {}, superwords: {{}}}}]"
SECTIONS = {
    "language": "{keep: {en: 0.3}}",
    "heuristics": (
        "{gopher_quality: {}, gopher_repetition: {}, fineweb: {},"
        " c4: {end_punctuation: false, drop_curly_bracket: false}}"
    ),
    "pii": "{}",
    "exact": "{}",
    "minhash": "{}",
    "substring": "{}",
    "balance": "{}",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=bytes_of, default="1GB", help="JSON lines to curate")
    parser.add_argument("--predict", type=bytes_of, default=None, help="the smaller corpus; a tenth if absent")
    parser.add_argument("--folder", type=Path, default=None, help="where text and builds go; removed in the end")
    parser.add_argument("--without", action="append", default=[], choices=[*SECTIONS])
    parser.add_argument("--only", action="append", default=[], choices=[*SECTIONS], help="leave out all other stages")
    parser.add_argument("--superwords", type=int, help="entries of a tokenizer of superwords, learned at the end")
    parser.add_argument("--core-hour", type=float, default=CORE_HOUR, help="dollars")
    options = parser.parse_args()
    sections = [name for name in options.only or SECTIONS if name not in options.without]
    if "language" in sections:
        model_files.pull(["lid.176"])
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        least = options.size * (SUBSTRING_DISK if "substring" in sections else DISK)
        if (free := shutil.disk_usage(folder).free) < least:
            raise SystemExit(
                f"{folder}: {formats.size(free)} are free, and {formats.size(least)} are needed; choose another"
                " --folder, a smaller --size or --without substring"
            )
        synthetic_web.save(synthetic_web.model(), Path(folder, "model"))
        text = [f"{name}: {SECTIONS[name]}" for name in sections]
        if options.superwords:
            text.append(TOKENIZER.format(options.superwords))
        small = measured(Path(folder), options.predict or options.size // 10, text)
        large = measured(Path(folder), options.size, text)
        show(small, large, options.core_hour)
        if not options.only:
            datatrove(Path(folder, "model"), options.core_hour)


def bytes_of(text: str) -> int:
    return int(TypeAdapter(ByteSize).validate_python(text))


class Measured:
    """A corpus, curated: ``text`` bytes, and the costs of its steps."""

    def __init__(self, text: int, documents: int, kept: int, rows: list[StepCost]) -> None:
        self.text, self.documents, self.kept, self.steps = text, documents, kept, rows

    @property
    def stages(self) -> dict[str, StepCost]:
        """The costs of each stage: those of its steps together."""
        grouped: dict[str, list[StepCost]] = defaultdict(list)
        for cost in self.steps:
            grouped[cost.step.partition(".")[0]].append(cost)
        return {name: total(name, rows) for name, rows in grouped.items()}


def total(name: str, rows: Iterable[StepCost]) -> StepCost:
    """Costs of steps that run one after the other, together."""
    listed = list(rows)
    return StepCost(
        name,
        sum(cost.items for cost in listed),
        sum(cost.processor for cost in listed),
        sum(cost.clock for cost in listed),
        sum(cost.longest for cost in listed),
        max(cost.memory for cost in listed),
        sum(cost.written for cost in listed),
        sum(cost.opened for cost in listed),
    )


def measured(folder: Path, size: int, sections: list[str]) -> Measured:
    """Make ``size`` bytes of JSON lines, curate them by ``sections`` of a recipe, and remove both."""
    here = folder / str(size)
    here.mkdir()
    source = f'sources: [{{name: web, kind: jsonl, path: "{here}/*.jsonl"}}]'
    build = Build(f"{here}/build", recipe.parse("\n".join(["name: terabyte", source, *sections]), recipe.Recipe))
    with costs.processes(WORKERS) as pool:
        _bytes_of_a_file(pool, here)  # loads the kernel
        began = time.perf_counter()
        written = _write(pool, here, size)
        rate = written / 1e6 / (time.perf_counter() - began)
        print(f"{formats.size(written)} of JSON lines written, {rate:.0f} MB/s by the clock", flush=True)
        warm_up(pool, folder, sections)
        rows = []
        for cost in costs.carry_out(build, _steps(build), pool):
            rows.append(cost)
            print(
                f"  {cost.step:24} {cost.items:6} items {cost.processor:9.1f} s of processor time {cost.clock:8.1f} s"
                f" {cost.memory / 1e9:6.2f} GB {formats.size(cost.written):>9} {cost.opened:9,} opened",
                flush=True,
            )
    funnel = files.read_json(build.path("funnel.json"))["stages"]
    first, last = funnel[0], funnel[-1]
    shutil.rmtree(here)
    return Measured(first["bytes"], first["documents"], last["bytes"], rows)


def _write(pool: ProcessPoolExecutor, folder: Path, size: int) -> int:
    """Whole files of ``synthetic_web`` until ``size`` is reached, the last one cut to fit."""
    documents = size * synthetic_web.FILE_DOCUMENTS // _bytes_of_a_file(pool, folder)
    counts = [synthetic_web.FILE_DOCUMENTS] * (documents // synthetic_web.FILE_DOCUMENTS)
    counts += [documents % synthetic_web.FILE_DOCUMENTS] if documents % synthetic_web.FILE_DOCUMENTS else []
    paths = [folder / f"{number:06d}.jsonl" for number in range(len(counts))]
    saved = [folder.parent / "model"] * len(paths)
    return sum(pool.map(synthetic_web.write, paths, saved, range(len(counts)), counts))


def _bytes_of_a_file(pool: ProcessPoolExecutor, folder: Path) -> int:
    path = folder / "first"
    size = pool.submit(synthetic_web.write, path, folder.parent / "model", 0).result()
    path.unlink()
    return size


def warm_up(pool: ProcessPoolExecutor, folder: Path, sections: list[str]) -> None:
    """Load or compile the kernels in every process, which is not what is measured."""
    here = folder / "warm"
    here.mkdir()
    synthetic_web.write(here / "0.jsonl", folder / "model", 0, 500)
    text = "\n".join(["name: warm", f'sources: [{{name: web, kind: jsonl, path: "{here}/*.jsonl"}}]', *sections])
    list(pool.map(_build, [text] * WORKERS, [str(here)] * WORKERS))
    shutil.rmtree(here)


def _steps(build: Build) -> list[Step]:
    return [*steps.steps(build.recipe), *(tokenization.steps() if build.recipe.tokenizers else [])]


def _build(text: str, folder: str) -> None:
    own = Build(f"{folder}/build-{os.getpid()}", recipe.parse(text, recipe.Recipe))
    for step in _steps(own):
        for item in step.items(own):
            step.work(own, item)
    time.sleep(1)  # so that the other process takes the other


def show(small: Measured, large: Measured, core_hour: float) -> None:
    """The price list of ``large``, and how far off ``small`` was about it."""
    times = large.text / small.text
    print(
        f"\n{formats.size(large.text)} of text, {large.documents:,} documents, {large.kept / large.text:.0%} kept;"
        f" ${core_hour:g} a core-hour; predicted from {formats.size(small.text)}\n"
    )
    print(
        "| stage | core-hours a TB | $ a TB | memory of two processes | disk, bytes a byte | opened a GB | predicted |"
    )
    print("|---|---|---|---|---|---|---|")
    before, after = small.stages, large.stages
    every = {**after, "all": total("all", large.steps)}
    for name, cost in every.items():
        smaller = before[name] if name in before else total("all", small.steps)
        hours = cost.processor / 3600 * TB / large.text
        off = smaller.processor * times / cost.processor - 1 if cost.processor else 0.0
        print(
            f"| {name} | {hours:.1f} | {hours * core_hour:.2f} | {WORKERS * cost.memory / 1e9:.2f} GB"
            f" | {cost.written / large.text:.2f} | {cost.opened / large.text * 1e9:.0f} | {off:+.1%} |"
        )
    one, other = (each.steps for each in (small, large))
    memory = [WORKERS * max(cost.memory for cost in rows) / 1e9 for rows in (one, other)]
    per_mb = [sum(c.processor for c in rows) / of.text * 1e6 for rows, of in ((one, small), (other, large))]
    print(f"\nmemory {memory[0]:.2f} GB, {memory[1]:.2f} GB; processor time a MB {per_mb[0]:.4f} s, {per_mb[1]:.4f} s")
    clock = sum(cost.clock for cost in other)
    print(f"by the clock {clock:.0f} s, {large.text / 1e6 / clock:.1f} MB/s with {WORKERS} processes")


def datatrove(model: Path, core_hour: float) -> None:
    """What datatrove takes for its filters and signatures on a sample of the text."""
    if not peer.installed():
        print(f"\n{peer.MISSING}")
        return
    data = synthetic_web.lines(synthetic_web.load(model), 0, PEER_MEGABYTES * 1_000_000 // 2700, 1)
    texts = [json.loads(line)["text"] for line in data.decode().split("\n") if line]
    size = sum(len(text.encode()) for text in texts)
    print(
        f"\ndatatrove on {formats.size(size)} of the same text:\n\n| part | core-hours a TB | $ a TB |\n|---|---|---|"
    )
    for name, seconds in peer.run([*peer.FILTERS, "minhash"], texts).seconds.items():
        hours = seconds / 3600 * TB / size
        print(f"| {name} | {hours:,.0f} | {hours * core_hour:,.0f} |")


if __name__ == "__main__":
    main()
