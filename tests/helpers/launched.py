"""Several runs by one launch: processes that import torch once for all of them.

    accelerate launch ... -m tests.helpers.launched BUILDS:RUN ...

Each is ``python -m training BUILDS/recipe.yaml RUN --builds BUILDS``.
"""

from __future__ import annotations

import sys

from training.__main__ import main as train

if __name__ == "__main__":
    for argument in sys.argv[1:]:
        builds, _, run = argument.rpartition(":")
        if status := train([f"{builds}/recipe.yaml", run, "--builds", builds]):
            sys.exit(status)
