"""From a step of a run back to the documents that it saw, and from a jump of the loss to what caused it.

The order of a run is a pure function of its seed (training.batches.windows), so nothing was written down while it
trained.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from pipeline import MillError
from pipeline.build.build import Build
from pipeline.store import files
from pipeline.store.packed_tokens import PackedTokens
from training import objectives
from training.batches.vocabulary import Vocabulary
from training.batches.windows import Windows
from training.objectives.base import Objective, Task
from training.pretraining import phases
from training.recipe.sections import pretrain_config, stored

WINDOW = 50  # steps whose median a loss is compared with
SHOWN = 5  # spikes, and documents of each
EXCERPT = 300  # characters


@dataclass(frozen=True)
class Seen:
    """What a step read of one document: ``tokens`` of it, which begin with ``excerpt``."""

    id: str
    source: str
    domain: str
    tokens: int
    excerpt: str


@dataclass(frozen=True)
class Spike:
    """A step (counted from 1, as in the log) whose loss lay ``jump`` nats above the ``median`` of those before it."""

    step: int
    loss: float
    median: float
    jump: float


class Lineage:
    """The way back for one run: its objective's order over its packed documents."""

    def __init__(self, objective: Objective, task: Task, packed: PackedTokens, tokenizer: str) -> None:
        self.task, self.packed = task, packed
        self.read = phases.Phases(objective, task, packed)
        files.check(files.join(tokenizer, "tokenizer.json"))
        self.tokenizer = Tokenizer.from_file(str(files.local(files.join(tokenizer, "tokenizer.json"))))

    def windows(self, step: int) -> Windows:
        """What ``step`` (from 1) reads."""
        return self.read.windows(step - 1)

    def documents(self, step: int) -> list[Seen]:
        """The documents that ``step`` (from 1) reads, those with most tokens first."""
        windows = self.windows(step)
        # without the tokens that are shown before a window: they are part of the one before
        tokens, documents = (array[:, -self.read.length(step - 1) :] for array in (windows.tokens, windows.documents))
        excerpts = []
        for row in np.unique(documents[documents >= 0]).tolist():
            ids = tokens[documents == row]
            text = self.tokenizer.decode(ids[: 2 * EXCERPT].tolist())
            name, domain = (self.packed.documents[column][row].as_py() for column in ("id", "domain"))
            excerpts.append(Seen(name, name.split("/", 1)[0], domain, len(ids), text[:EXCERPT]))
        return sorted(excerpts, key=lambda seen: (-seen.tokens, seen.id))

    def spikes(self, lines: Iterable[str]) -> list[dict[str, Any]]:
        """The largest jumps in the log ``lines`` of the run, with SHOWN documents each, as plain values."""
        jumps = spikes([json.loads(line) for line in lines])
        return [{**asdict(spike), **plain_values(self.documents(spike.step))} for spike in jumps]


def plain_values(documents: Sequence[Seen]) -> dict[str, Any]:
    """``documents`` as plain values: the first SHOWN, how many there are, and tokens by domain."""
    domains: dict[str, int] = {}
    for seen in documents:
        domains[seen.domain] = domains.get(seen.domain, 0) + seen.tokens
    return {
        "documents": [asdict(seen) for seen in documents[:SHOWN]],
        "documents_in_all": len(documents),
        "tokens_by_domain": dict(sorted(domains.items(), key=lambda item: (-item[1], item[0]))),
    }


def spikes(rows: Sequence[Mapping[str, Any]], window: int = WINDOW, most: int = SHOWN) -> list[Spike]:
    """The ``most`` steps whose loss stands out most above the median of the ``window`` steps before, in order of size.

    It stands out if it is above the median by more than five times what losses usually are apart from it (the median
    of the absolute differences). Steps without ten before them are not judged: the loss still falls steeply.
    """
    steps = [(int(row["step"]), float(row["loss"])) for row in rows if "loss" in row]
    jumps = []
    for at in range(10, len(steps)):
        before = [loss for _, loss in steps[max(0, at - window) : at]]
        middle = median(before)
        spread = median(abs(loss - middle) for loss in before)
        step, loss = steps[at]
        if loss - middle > 5 * max(spread, 1e-3):
            jumps.append(Spike(step, loss, middle, loss - middle))
    return sorted(jumps, key=lambda spike: (-spike.jump, spike.step))[:most]


def of_model(folder: str) -> tuple[Lineage, dict[str, Any]]:
    """The lineage and the summary of the pretrained model in ``folder`` of a build.

    Raises MillError where no such model is there, or where the build's tokens are no longer those that
    it was trained on.
    """
    path = Path(folder).resolve()
    root = path.parent.parent
    for needed in (path / "summary.json", root / "recipe.json"):
        if not files.exists(str(needed)):
            raise MillError(f"{needed}: not there; give the folder of a model, such as data/builds/demo/models/gpt")
    summary = files.read_json(str(path / "summary.json"))
    if summary["kind"] != "pretrain":
        raise MillError(f"{folder}: not pretrained but {summary['kind']}; ask for its base, {summary.get('base')!r}")
    if "config" not in summary:
        raise MillError(f"{folder}: trained before runs kept what they were made of; run `mill pretrain` again")
    build = Build(str(root), stored(root))
    config = pretrain_config(build.recipe.loaded).model_validate(summary["config"])
    packed = PackedTokens(build.path("tokens", config.tokenizer, "train"))
    if packed.fingerprint != summary["made_from"]["tokens"]:
        raise MillError(f"{packed.folder}: packed again since {folder} was trained; run `mill pretrain` again")
    task = Task(config, Vocabulary.of(packed), summary["seed"])
    return Lineage(objectives.of(config), task, packed, str(path)), summary
