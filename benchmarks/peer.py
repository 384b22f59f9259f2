"""datatrove, run in a virtual environment of its own, which `make .venv-datatrove` makes: its requirements and this
project's would not go together in one."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

ENVIRONMENT = Path(__file__).resolve().parents[1] / ".venv-datatrove"
PROGRAM = Path(__file__).with_name("datatrove_peer.py")
MISSING = f"datatrove is not there: `make {ENVIRONMENT.name}` installs it"
FILTERS = ("gopher_quality", "gopher_repetition", "c4", "fineweb")


class Run(NamedTuple):
    results: list[dict[str, Any]]  # per document and name what datatrove_peer.py says
    seconds: dict[str, float]  # of processor time, per name


def installed() -> bool:
    return (ENVIRONMENT / ".installed").exists()


def run(names: Sequence[str], texts: Sequence[str]) -> Run:
    """What datatrove makes of ``texts``, on one thread. Raises RuntimeError with what it printed if it fails."""
    done = subprocess.run(
        [str(ENVIRONMENT / "bin" / "python"), "-P", str(PROGRAM), *names],  # -P: the names here hide no package
        input="".join(json.dumps(text) + "\n" for text in texts).encode(),
        capture_output=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
    )
    if done.returncode:
        raise RuntimeError(f"datatrove failed in {ENVIRONMENT}:\n{done.stderr.decode(errors='replace')[-2000:]}")
    *results, seconds = map(json.loads, done.stdout.splitlines())
    return Run(results, seconds)
