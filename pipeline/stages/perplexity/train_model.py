"""Train a language model into an ARPA file: by ``lmplz`` where it is on the PATH, by our own estimator elsewhere.

The two agree to 0.00001 in every logarithm, except that ``lmplz`` counts the last n-gram of each order in its sorting
wrongly towards the discounts (by its count in the text instead of the adjusted one), which is felt in tiny texts only.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import pyarrow as pa
from pydantic import AfterValidator

from pipeline import MillError
from pipeline.stages.perplexity import arpa, kneser_ney
from pipeline.store import files

Estimator = Literal["auto", "lmplz", "own"]


def _rising(prune: list[int]) -> list[int]:
    if prune[:1] not in ([], [0]) or prune != sorted(prune):
        raise MillError("prune: a count for each order, the first 0, none smaller than the one before")
    return prune


#: n-grams of order k seen at most ``prune[k - 1]`` times are left out, as in lmplz; the last holds for higher orders.
Prune = Annotated[list[int], AfterValidator(_rising)]
#: Memory that lmplz sorts in; it goes to disk beyond that.
_LMPLZ_MEMORY = "1G"


def choose(estimator: Estimator) -> Estimator:
    """What ``auto`` comes to here. Raises MillError if lmplz is asked for and not on the PATH."""
    if estimator == "own":
        return "own"
    if shutil.which("lmplz"):
        return "lmplz"
    if estimator == "lmplz":
        raise MillError("lmplz is not on the PATH; build it from the kenlm sources, or set `estimator: own`")
    return "own"


def train(sentences: pa.StringArray, path: str, order: int, prune: Sequence[int], estimator: Estimator) -> None:
    """Write to ``path`` the model of ``order`` of ``sentences`` (words parted by single spaces; at least one).

    Orders whose discounts cannot be computed take those of ``lmplz --discount_fallback``. Raises MillError with
    lmplz's last words when it fails.
    """
    if choose(estimator) == "lmplz":
        _lmplz(sentences, path, order, prune)
        return
    model = kneser_ney.estimate(sentences, order, prune, kneser_ney.FALLBACK)
    with files.replacing(path) as handle:
        arpa.write(model, handle)


def _lmplz(sentences: pa.StringArray, path: str, order: int, prune: Sequence[int]) -> None:
    with tempfile.TemporaryDirectory() as aside:
        text, made = Path(aside, "text"), Path(aside, "arpa")
        with text.open("wb") as handle:
            for start in range(0, len(sentences), 1 << 16):
                handle.write("\n".join([*sentences.slice(start, 1 << 16).to_pylist(), ""]).encode())
        command = ["lmplz", "--order", str(order), "--text", str(text), "--arpa", str(made), "--temp_prefix", aside]
        command += ["--memory", _LMPLZ_MEMORY, "--discount_fallback"]
        command += ["--prune", *map(str, prune)] if prune else []
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise MillError(f"lmplz failed: {' '.join(done.stderr.strip().splitlines()[-3:])}")
        with files.replacing(path) as handle, made.open("rb") as source:
            shutil.copyfileobj(source, handle)
