"""Several runs by one launch: processes that import torch once for all of them.

    accelerate launch ... -m tests.helpers.launched BUILDS:RUN ...

Each is ``python -m training BUILDS/recipe.yaml RUN --builds BUILDS``; BUILDS/measured-RANK says how many held-out
rows the process measured.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch.nn.modules.module import register_module_forward_pre_hook

from training.__main__ import main as train
from training.loop import loop


@contextlib.contextmanager
def counted_rows() -> Iterator[list[int]]:
    """In the block, the rows of each batch that is measured and not trained on."""
    rows: list[int] = []

    def count(module: Any, arguments: tuple[Any, ...]) -> None:
        if isinstance(module, loop._Forward) and not module.training:
            rows.append(len(next(iter(arguments[0].values()))))

    hook = register_module_forward_pre_hook(count)
    try:
        yield rows
    finally:
        hook.remove()


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        builds, _, run = argument.rpartition(":")
        with counted_rows() as rows:
            status = train([f"{builds}/recipe.yaml", run, "--builds", builds])
        Path(builds, f"measured-{os.environ['RANK']}").write_text(str(sum(rows)))
        if status:
            sys.exit(status)
