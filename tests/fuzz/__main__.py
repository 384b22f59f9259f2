"""`make fuzz`: inputs made up for some minutes, guided by coverage where atheris is installed, else at random.

    python -m tests.fuzz SECONDS [TARGET ...]

Each target gets its share of the time. It begins with the corpus of the tests and what earlier runs kept in `.fuzz/`.
An input that fails is written to `.fuzz/` and named: put it into `tests/fuzz/corpus/`, where tests try it.
"""

from __future__ import annotations

import random
import subprocess
import sys
import time
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tests.fuzz.corpus import CORPUS, inputs

KEPT = Path(".fuzz")
NAMES = ("readers", "recipe", "expression", "encoders", "kernels")
#: Targets in plain Python: a kernel that atheris has instrumented does not compile.
GUIDED = ("readers", "recipe", "expression")
_LONGEST = 4096


def main(seconds: int, names: list[str]) -> int:
    failed = []
    for name in names:
        print(f"\n== {name}", flush=True)
        command = [sys.executable, "-m", "tests.fuzz", "--one", str(seconds // len(names)), name]
        if subprocess.run(command, check=False).returncode:
            failed.append(name)
    print(f"\nfailed: {', '.join(failed)}; the inputs are in {KEPT}/" if failed else "\nno fault found")
    return bool(failed)


def guided(name: str, seconds: int) -> None:
    atheris: Any = import_module("atheris")
    with atheris.instrument_imports(include=["pipeline.sources", "pipeline.stages.rules", "pipeline.store"]):
        from tests.fuzz.targets import TARGETS

    own = KEPT / name
    own.mkdir(parents=True, exist_ok=True)
    options = [f"-max_total_time={seconds}", f"-artifact_prefix={KEPT}/{name}-", f"-max_len={_LONGEST}", "-timeout=30"]
    options += ["-rss_limit_mb=4096", "-print_final_stats=1", "-verbosity=0"]
    atheris.Setup(["fuzz", *options, str(own), str(CORPUS / name)], TARGETS[name])
    atheris.Fuzz()


def at_random(name: str, seconds: int) -> int:
    """Inputs of the corpus with a few bytes changed, cut or repeated."""
    from tests.fuzz.targets import TARGETS

    source, known, ends = random.Random(), inputs(name) or [b""], time.monotonic() + seconds
    count = 0
    while time.monotonic() < ends:
        data = bytearray(source.choice(known))
        for _ in range(source.choice((1, 1, 2, 4, 16))):
            at, size = source.randrange(len(data) + 1), source.choice((1, 2, 8, 64))
            new = source.choice((source.randbytes(size), data[source.randrange(len(data) + 1) :][:size], b""))
            data[at : at + source.choice((0, size))] = new
        count += 1
        try:
            TARGETS[name](bytes(data[:_LONGEST]))
        except Exception:
            KEPT.mkdir(exist_ok=True)
            path = KEPT / f"{name}-{count}"
            path.write_bytes(data[:_LONGEST])
            print(f"{path} fails", flush=True)
            raise
    print(f"{count:,} inputs", flush=True)
    return 0


def one(seconds: int, name: str) -> int:
    if find_spec("atheris") is None or name not in GUIDED:
        return at_random(name, seconds)
    guided(name, seconds)
    return 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        sys.exit(one(int(sys.argv[2]), sys.argv[3]))
    sys.exit(main(int(sys.argv[1]), sys.argv[2:] or list(NAMES)))
