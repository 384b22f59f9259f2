"""What a per-document stage is: facts measured on a batch of texts, and the rules that judge them.

A stage file in ``pipeline/stages`` reads: config, signals, rules, one ``measure`` function, and a ``STAGE`` that names
them. A stage never imports another; what an earlier one measured reaches it as ``Batch.signals``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pyarrow as pa
from pydantic import BaseModel

from pipeline.build.plugins import Part
from pipeline.store.ledger import Rule

if TYPE_CHECKING:
    from pipeline.build.build import Step
    from pipeline.build.canaries import Canaries
    from pipeline.build.reuse import Reuse


class Recipe(Protocol):
    """What a build and its stages ask of the recipe; ``pipeline.curation.recipe`` has the whole of it."""

    @property
    def name(self) -> str: ...

    @property
    def seed(self) -> int: ...

    @property
    def registered(self) -> tuple[Stage, ...]:
        """The stages that it may run, in order: the program's own, and those of its plug-ins."""
        ...

    def section(self, name: str) -> Any: ...

    def stages_before(self, stage: str | None) -> tuple[str, ...]: ...

    def signals_before(self, stage: str) -> Mapping[str, pa.DataType]: ...


class Scorer(Protocol):
    """What the rooms above offer: probabilities by a model that the pipeline itself cannot open.

    A module-level function, for it travels to worker processes by name; it loads what it needs when it is called.
    """

    def __call__(self, texts: Sequence[str], folder: str, labels: Sequence[str]) -> np.ndarray:
        """float32 [texts]: how likely one of ``labels`` is under the fine-tuned classifier in ``folder``.

        A text's value depends on nothing but the text and the model.
        """
        ...


@dataclass(frozen=True)
class Batch:
    """The documents of one shard that are still alive, as a stage sees them.

    ``texts`` is one contiguous array without nulls, the cuts of earlier stages already made. ``documents`` holds the
    other columns of the shard for the same rows, ``signals`` what earlier stages measured on them. ``models`` maps the
    names that ``Stage.models`` asked for to local paths of checked files. ``scorer`` is the build's.
    """

    texts: pa.StringArray
    documents: Mapping[str, pa.Array] = field(default_factory=dict)
    signals: Mapping[str, pa.Array] = field(default_factory=dict)
    models: Mapping[str, str] = field(default_factory=dict)
    scorer: Scorer | None = None


@dataclass(frozen=True)
class Measured:
    """One array a signal, as long as the batch; ``spans`` (ledger.SPANS) are the byte ranges of each text to cut.

    ``overwrites`` are ranges of each text and the ASCII string to write over them, as ``spans.overwrite`` takes them;
    of what is written, ``spans`` may cut some.
    """

    signals: dict[str, pa.Array]
    spans: pa.ListArray | None = None
    overwrites: tuple[pa.ListArray, pa.StringArray] | None = None


def _measures_nothing(_config: Any, batch: Batch) -> Measured:
    raise TypeError(f"this stage does not measure single documents, of which it was given {len(batch.texts)}")


@dataclass(frozen=True)
class Stage(Part):
    """A stage of curation: a section of the recipe, and the steps that carry it out.

    ``name`` is the section's, ``config`` its model, ``about`` one sentence on what the section does.
    ``check(config, recipe)`` raises MillError where the rest of the recipe does not fit the section. A per-document
    stage has ``measure``, and one step unless ``steps`` gives others; for the rest of the stages ``steps`` gives all.
    ``version`` is raised whenever the same text and config would give other signals; it is part of every fingerprint.
    ``measure(config, batch)`` must be a pure function of its arguments and the model files.
    ``rules(config)`` are tried in order; the first that fails is the verdict.
    ``measured(config)`` names those of ``signals`` that are measured under it; all if it is not given. With
    ``of_signals`` the stage reads what others measured, and no text: it is cheap to run again.
    ``after`` is the stage that a plug-in's follows; ``pii`` if it is not given, so that ``rules`` may judge by it.
    ``models(config)`` maps a name to the path of each model file needed, or to its name in ``store/models.lock``.
    ``reuse(old, new)``, for a stage with steps: what of its measurements under one config holds under another;
    None: nothing.
    ``canaries``: the documents that it must catch; None for a stage that has none.
    ``compares``: it looks at documents beside others.
    ``subject``: its rules are named with it, ``perplexity too high``; of others the name says enough without.
    """

    title: str
    config: type[BaseModel]
    version: int = 0
    signals: Mapping[str, pa.DataType] = field(default_factory=dict)
    rules: Callable[[Any], Sequence[Rule]] = lambda _config: ()
    measure: Callable[[Any, Batch], Measured] = _measures_nothing
    models: Callable[[Any], Mapping[str, str]] = lambda _config: {}
    measured: Callable[[Any], Collection[str]] | None = None
    of_signals: bool = False
    steps: Callable[[], Sequence[Step]] | None = None
    reuse: Callable[[Any, Any], Reuse | None] = lambda _old, _new: None
    canaries: Canaries | None = None
    about: str = ""
    check: Callable[[Any, Recipe], None] = lambda _config, _recipe: None
    after: str | None = None
    compares: bool = False
    subject: bool = False

    def __post_init__(self) -> None:
        if self.per_document:
            object.__setattr__(self, "__module__", self.measure.__module__)

    @property
    def per_document(self) -> bool:
        return self.measure is not _measures_nothing

    def __reduce__(self) -> str | tuple[Any, ...]:
        """Travels to worker processes by name, as functions do: ``STAGE`` of the module of ``measure``."""
        return "STAGE" if self.plugin is None else super().__reduce__()
