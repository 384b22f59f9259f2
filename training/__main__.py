"""One pretraining run of a recipe in several processes, on one or more machines that share the build's folder.

    mill tokenize RECIPE
    accelerate launch [--num_processes N] [--use_fsdp --fsdp_version 2 ...] -m training RECIPE RUN
    [ACCELERATE_USE_FSDP=true] torchrun --nproc_per_node N -m training RECIPE RUN      # the same by torch's launcher
    mill build RECIPE       # goes on from there: the model is current

Plain ``python -m training RECIPE RUN`` is the same run in one process.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline import MillError
from pipeline.build.build import Build
from pipeline.build.lock import locked
from pipeline.curation import recipe as recipes
from pipeline.store import messages
from training.loop import processes
from training.pretraining.pretrain import pretrain
from training.recipe.sections import BuildRecipe


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser("python -m training", description=__doc__.split("\n", 1)[0] if __doc__ else None)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("run", help="a name in the recipe's `pretrain` section")
    parser.add_argument("--builds", type=Path, default=Path("data/builds"))
    options = parser.parse_args(arguments)
    try:
        recipe = recipes.load(options.recipe, BuildRecipe)
        if ":/" in str(options.builds):  # a Path has one slash left
            raise MillError("--builds: several processes train in a folder, not in an object store; copy the build")
        build = Build(str((options.builds / recipe.name).resolve()), recipe)
        # The first of the processes holds the lock for all; where it is refused, the launcher ends the others.
        with locked(build.root) if processes.current().first else contextlib.nullcontext():
            pretrain(build, options.run, _tell)
    except (MillError, OSError) as error:
        text = messages.message(error)
        if text is None:
            raise
        print(f"error: {text}", file=sys.stderr)
        return 1
    return 0


def _tell(step: int, steps: int, metrics: Mapping[str, Any]) -> None:
    share = f", {metrics['mfu']:.1%} MFU" if metrics["mfu"] else ""
    left = (steps - step) * metrics["tokens"] / metrics["tokens_per_second"]
    speed = f"{metrics['tokens_per_second']:,.0f} tokens/s{share}"
    print(f"step {step} of {steps}: loss {metrics['loss']:.4f}, {speed}, {left:,.0f} s left", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
