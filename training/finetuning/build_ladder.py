"""The cost ladder on the rows of a recipe's fine-tuning, for the report.

cost_ladders/<name>.json    what training.finetuning.advice says, and of what it was made
"""

from __future__ import annotations

from typing import Any

from pipeline.build.build import Build
from pipeline.store import files
from training.finetuning import advice, cost_ladder
from training.finetuning.finetune import asked, job_of
from training.loop import loop
from training.pretraining import pretrain
from training.recipe.finetuning import FinetuneConfig
from training.recipe.sections import BuildRecipe

#: Raised when equal rows would get another answer.
VERSION = 4


def climb(build: Build[BuildRecipe], name: str, progress: loop.Progress | None = None) -> dict[str, Any]:
    """Compare models on the rows of the run ``name`` within its ``cost_ladder_minutes``, or return what is there.

    ``progress`` hears of each part. What is left out depends on how fast the machine is; all else on rows and base.
    """
    config: FinetuneConfig = pretrain.find(build.recipe.finetune, name)
    assert config.cost_ladder_minutes is not None
    path = build.path("cost_ladders", f"{name}.json")
    known = asked(build, config)
    job = job_of(build, name) if known is None else None
    made_by = files.fingerprint(VERSION, known if job is None else job.trained_by, config.cost_ladder_minutes)
    if files.exists(path) and (stored := files.read_json(path))["fingerprint"] == made_by:
        return stored
    job = job or job_of(build, name)
    folder = build.path("work", "cost_ladder", name)
    length, settings = config.sequence_length, cost_ladder.settings(config)
    pairs = config.pair is not None
    rungs = cost_ladder.rungs(job.embeddings.values(), job.base, length, folder, pairs, **settings)
    parts = len(rungs) + 2  # the label audit and the learning curve
    heard: list[str] = []

    def say(part: str) -> None:
        heard.append(part)
        if progress is not None:
            progress(min(len(heard), parts), parts, {})

    said = advice.advise(job.rows, rungs, config.cost_ladder_minutes, say=say).said
    if files.exists(folder):  # of a base with an older tokenizer
        files.remove_folder(folder)
    files.write_json(path, {"fingerprint": made_by, **said})
    return files.read_json(path)
