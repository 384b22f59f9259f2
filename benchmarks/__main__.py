"""`make bench`: every speed claim of this project, measured now, beside a peer in the same run where there is one.

    python -m benchmarks [NAME ...]
    python -m benchmarks NAME --option ...    one of them, with its own options

Each benchmark runs in a process of its own, on one core unless it says otherwise, over real documents of about 3 KB:
those of the acceptance data where it lies beside the checkout, else this environment's own documentation. Peers of
which the package index has a newer release are named first.
"""

from __future__ import annotations

import subprocess
import sys

from benchmarks import newer

BENCHMARKS = (
    "curation",
    "decisions",
    "dedup",
    "scaling",
    "orchestration",
    "language",
    "language_perplexity",
    "counting",
    "tokenizers",
    "vocabularies",
    "packing",
    "training",
    "learning",
    "finetuning",
    "long_documents",
    "terabyte",
    "engines",
    "plans",
)


def main(names: list[str]) -> int:
    options = names[1:] if names[1:] and names[1].startswith("-") else []
    names = names[: len(names) - len(options)]
    unknown = sorted(set(names) - set(BENCHMARKS))
    if unknown:
        print(f"no benchmark {unknown[0]!r}; there are: {', '.join(BENCHMARKS)}", file=sys.stderr)
        return 2
    newer.main()
    failed = 0
    for name in names or BENCHMARKS:
        print(f"\n== {name}", flush=True)
        failed |= subprocess.run([sys.executable, "-m", f"benchmarks.{name}", *options], check=False).returncode
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
