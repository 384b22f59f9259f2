"""How far off plans are: ten builds, each planned from a sample of its own text and then carried out.

    python -m benchmarks plans [--sample 32MB] [--builds 10] [--steps]

The text is that of ``benchmarks.synthetic_web``, of a size that takes 10 to 40 seconds: of a shorter build half is the
start of its processes, and whether it starts them at all depends on whether one step takes a second. Each build has two
worker processes and begins in a fresh process, as `mill build` does. Compared are processor time with the start of the
processes, the most memory of one process, and disk. Processor time, so that other work on the machine distorts little;
it still slows what shares a core with it, so each build is made twice, and how far those two are apart is shown.
"""

from __future__ import annotations

import argparse
import tempfile
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

from benchmarks import synthetic_web
from benchmarks.curation import claim
from benchmarks.terabyte import bytes_of
from flows import build as builds
from flows.execution import progress
from flows.execution.open_build import open_build
from flows.execution.run_steps import loaded
from pipeline.build import row_numbers
from pipeline.curation import costs, plan
from pipeline.store import model_files

WORKERS = 2
WITHIN, LEAST = 0.10, 0.9
FILES = 8
DEDUP = "exact: {}\nminhash: {}\n"
FILTERS = f"heuristics: {{}}\npii: {{}}\n{DEDUP}substring: {{}}\n"
WEB = f'language: {{keep: {{"*": 0}}}}\n{FILTERS}balance: {{}}\n'
TOKENIZER = "exact: {}\ntokenizers: [{name: bpe, algorithm: bpe, vocab_size: 8000}]\n"
#: Of each build its stages, megabytes of text and of a shard.
BUILDS = [
    (DEDUP, 100, 64),
    (DEDUP, 200, 16),
    (DEDUP, 400, 64),
    (FILTERS, 100, 8),
    (FILTERS, 200, 64),
    (FILTERS, 300, 16),
    (WEB, 100, 16),
    (WEB, 250, 32),
    (TOKENIZER, 60, 8),
    (TOKENIZER, 150, 16),
]


class Compared(NamedTuple):
    """Seconds of processor time, bytes of memory and of disk: planned, and taken; and the seconds of each step."""

    seconds: tuple[float, float]
    memory: tuple[float, float]
    disk: tuple[float, float]
    steps: dict[str, tuple[float, float]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sample", type=bytes_of, default="32MB")
    parser.add_argument("--builds", type=int, default=len(BUILDS))
    parser.add_argument("--steps", action="store_true", help="show each step that is further off than 0.1 s")
    options = parser.parse_args()
    model_files.pull(["lid.176"])
    errors, apart = [], []
    print(
        f"| {'stages':60} | text | shard | planned, s | taken, s | off | again, s | memory, MB | off | disk, MB | off |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    prose = synthetic_web.model()
    for stages, megabytes, shard in BUILDS[: options.builds]:
        with tempfile.TemporaryDirectory() as folder:
            synthetic_web.save(prose, Path(folder, "model"))
            recipe = write(Path(folder), stages, megabytes, shard)
            with ProcessPoolExecutor(1, get_context("spawn")) as pool:
                pool.submit(measure, recipe, options.sample).result()
            until = "tokenize" if "tokenizers" in stages else "curate"
            both = []
            for name in ("builds", "again"):
                with ProcessPoolExecutor(1, get_context("spawn")) as pool:
                    both.append(pool.submit(carry_out, recipe, until, recipe.parent / name).result())
        compared, again = both
        errors.append(off(compared.seconds))
        names = ", ".join(line.partition(":")[0] for line in stages.splitlines())
        cells = [
            f"{pair[0] / unit:.{digits}f} | {pair[1] / unit:.{digits}f} | {off(pair):+.0%}"
            for pair, unit, digits in ((compared.seconds, 1, 1), (compared.memory, 1e6, 0), (compared.disk, 1e6, 0))
        ]
        cells.insert(1, f"{again.seconds[1]:.1f}")
        apart.append(off((again.seconds[1], compared.seconds[1])))
        print(f"| {names:60} | {megabytes} MB | {shard} MB | {' | '.join(cells)} |", flush=True)
        if options.steps:
            for name, (planned, took) in compared.steps.items():
                if abs(planned - took) > 0.1:
                    print(f"    {name:24} {planned:6.2f} {took:6.2f}")
    within = sum(abs(error) <= WITHIN for error in errors)
    equal = sum(abs(error) <= WITHIN for error in apart)
    text = f"{within} of {len(errors)} builds planned within {WITHIN:.0%} (two equal builds: {equal} of {len(apart)})"
    claim(text, within / len(errors), LEAST, "of them")


def off(pair: tuple[float, float]) -> float:
    return pair[0] / pair[1] - 1


def write(folder: Path, stages: str, megabytes: int, shard: int) -> Path:
    """A recipe over ``megabytes`` of JSON lines in FILES files."""
    model = folder / "model"
    documents = megabytes * 1_000_000 * synthetic_web.FILE_DOCUMENTS // synthetic_web.write(folder / "first", model, 0)
    (folder / "first").unlink()
    for number in range(FILES):
        synthetic_web.write(folder / f"{number}.jsonl", model, number, documents // FILES)
    source = f'sources: [{{name: web, kind: jsonl, path: "{folder}/?.jsonl", domain: web}}]'
    recipe = folder / "plan.yaml"
    recipe.write_text(f"name: plan\nshard_bytes: {shard}MB\n{source}\n{stages}")
    return recipe


def measure(recipe: Path, sample: int) -> None:
    plan.measure(open_build(recipe, recipe.parent / "builds"), sample, loaded)


def carry_out(recipe: Path, until: builds.Stop, folder: Path) -> Compared:
    """The build of ``recipe`` in ``folder``, beside what was planned for it."""
    with progress.reporting(progress.Reporter()) as shown, costs.watching(children=True) as most:
        builds.build(recipe, until, WORKERS, "processes", folder)
    build = open_build(recipe, folder)
    rates = plan.read(open_build(recipe, recipe.parent / "builds"))
    assert rates is not None
    size = row_numbers.corpus_size(build, "bytes")
    planned = plan.of(rates, size, build.recipe.shard_bytes, WORKERS, len(build.shards()))
    took = shown.processor
    seconds = plan.error(planned, took)
    assert seconds is not None
    disk = float(sum(path.stat().st_size for path in Path(build.root).rglob("*") if path.is_file()))
    steps = {name: (value + rates["steps"][name]["start"], took[name]) for name, value in planned.steps.items()}
    return Compared(seconds, (planned.memory, float(most[0])), (planned.disk, disk), steps)


if __name__ == "__main__":
    main()
