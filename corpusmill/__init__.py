"""corpusmill for notebooks and other programs: what a build holds, and its parts one at a time.

    import corpusmill

    build = corpusmill.open_build("data/builds/demo")
    for document in corpusmill.documents(build):
        ...

Names are loaded at their first use, so importing this takes no time; torch is never loaded. Whatever is not named here
may change with any release.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from pipeline import MillError, __version__

if TYPE_CHECKING:
    from corpusmill.builds import dataset, documents, open_build, signatures, similar, tables, whatif, why
    from corpusmill.stages import run_stage
    from corpusmill.tokenizers import load_tokenizer, train_tokenizer
    from pipeline.build.build import Build
    from pipeline.build.stage import Batch, Measured, Stage
    from pipeline.sources.base import Document, FileConfig, Rejected
    from pipeline.sources.reader import Reader
    from pipeline.sources.reading import open_file
    from pipeline.store.ledger import Rule
    from pipeline.store.packed_tokens import PackedTokens
    from pipeline.store.recipe_file import Config
    from pipeline.tokenization.encoding.sampling import Sampler

__all__ = [
    "Batch",
    "Build",
    "Config",
    "Document",
    "FileConfig",
    "Measured",
    "MillError",
    "PackedTokens",
    "Reader",
    "Rejected",
    "Rule",
    "Sampler",
    "Stage",
    "__version__",
    "dataset",
    "documents",
    "load_tokenizer",
    "open_build",
    "open_file",
    "run_stage",
    "signatures",
    "similar",
    "tables",
    "train_tokenizer",
    "whatif",
    "why",
]

#: Where each name that is loaded at its first use is defined.
_HOMES = {
    "Batch": "pipeline.build.stage",
    "Build": "pipeline.build.build",
    "Config": "pipeline.store.recipe_file",
    "Document": "pipeline.sources.base",
    "FileConfig": "pipeline.sources.base",
    "Measured": "pipeline.build.stage",
    "PackedTokens": "pipeline.store.packed_tokens",
    "Reader": "pipeline.sources.reader",
    "Rejected": "pipeline.sources.base",
    "Rule": "pipeline.store.ledger",
    "Sampler": "pipeline.tokenization.encoding.sampling",
    "Stage": "pipeline.build.stage",
    "dataset": "corpusmill.builds",
    "documents": "corpusmill.builds",
    "load_tokenizer": "corpusmill.tokenizers",
    "open_build": "corpusmill.builds",
    "open_file": "pipeline.sources.reading",
    "run_stage": "corpusmill.stages",
    "signatures": "corpusmill.builds",
    "similar": "corpusmill.builds",
    "tables": "corpusmill.builds",
    "train_tokenizer": "corpusmill.tokenizers",
    "whatif": "corpusmill.builds",
    "why": "corpusmill.builds",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return value


def __dir__() -> list[str]:
    return __all__
