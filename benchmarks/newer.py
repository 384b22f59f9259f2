"""Which peers have a newer release than the one that is measured: claims of speed are about versions.

    python -m benchmarks.newer

The package index is asked through pip. Measured are the installed ``tokenizers`` and ``sentencepiece``, and those that
``encoders.txt`` and ``datatrove.txt`` pin for the environments of their own.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path

PINNED = {"encoders.txt": ("gigatoken", "tokenizers", "tokie"), "datatrove.txt": ("datatrove",)}
INSTALLED = ("tokenizers", "sentencepiece")


def main() -> None:
    measured = measured_versions()
    for name, versions in measured.items():
        print(line(name, versions, newest(name)), flush=True)


def measured_versions() -> dict[str, set[str]]:
    """Of each peer; of ``tokenizers`` two are."""
    measured = {name: {version(name)} for name in INSTALLED}
    for file, names in PINNED.items():
        pins = dict(re.findall(r"^([\w-]+)==([\w.]+)", Path(__file__).with_name(file).read_text("utf-8"), re.M))
        for name in names:
            measured.setdefault(name, set()).add(pins[name])
    return measured


def newest(name: str) -> str | None:
    """The newest release in the package index, release candidates included; None where it does not answer."""
    asked = [sys.executable, "-m", "pip", "index", "versions", name, "--pre", "--disable-pip-version-check"]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    match = re.match(r"[\w-]+ \((.+)\)", done.stdout)
    return match[1] if match else None


def line(name: str, measured: Iterable[str], newest: str | None) -> str:
    said = f"{name} {' and '.join(sorted(measured))}"
    if newest is None:
        return f"{said}: the package index does not answer, there may be a newer one"
    if newest in measured:
        return f"{said}: none is newer"
    return f"{said}: WARNING: {newest} is newer, these numbers are not about it"


if __name__ == "__main__":
    main()
