"""One fine-tuning, with all that it comes of."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from pipeline import MillError
from pipeline.store import files
from training.labelled.rows import Labelled
from training.recipe.finetuning import FinetuneConfig

#: Raised when what is asked for would give another model or other answers of it, or its documents other rows.
VERSION = 10


@dataclass(frozen=True)
class Job:
    """One fine-tuning: ``config`` on ``rows`` from the folder ``base``, published as the folder ``result``.

    ``work`` is the folder of its checkpoints. ``started_from`` names the weights in ``base``; ``made_from`` is what the
    summary says of the origin of rows and base; ``embeddings`` are folders of word vectors to compare with, by name.
    ``held_out`` is a text file or a folder of packed tokens on which the pretraining loss is measured.
    ``features`` is where the states of a frozen base are kept, by default under ``work``. Without ``compared`` a
    classifier gets its scores alone: no baselines, no label audit. ``corpus`` is the folder of the documents that
    ``adapt`` reads.
    """

    config: FinetuneConfig
    rows: Labelled
    base: str
    seed: int
    result: str
    work: str
    started_from: str
    made_from: dict[str, Any]
    embeddings: dict[str, str] = field(default_factory=dict)
    features: str | None = None
    compared: bool = True
    held_out: str | None = None
    corpus: str | None = None

    @property
    def made_of(self) -> tuple[Any, ...]:
        """What the weights depend on beside ``config``."""
        return VERSION, self.seed, self.started_from, self.rows.fingerprint

    @property
    def trained_by(self) -> str:
        compared = [files.read_json(files.join(f, "summary.json"))["fingerprint"] for f in self.embeddings.values()]
        adapted = [] if self.config.adapt is None else [corpus_fingerprint(self)]
        return files.fingerprint(*self.made_of, *adapted, self.config.of_result(), compared)


def corpus_fingerprint(job: Job) -> str:
    """Names the documents that ``adapt`` reads. Raises MillError where there are none."""
    path = files.join(job.corpus or "", "manifest.json")
    if job.corpus is None or not files.exists(path):
        where = "`adapt.corpus`" if job.corpus is None else job.corpus
        raise MillError(
            f"finetune {job.config.name!r}: {where}: no corpus of a build; name its `corpus` folder in `adapt.corpus`,"
            " such as data/builds/legal/corpus"
        )
    return files.read_json(path)["fingerprint"]
