"""The folder of a model as transformers writes it, looked at without torch: what it holds, what names it."""

from __future__ import annotations

import json
from pathlib import Path

from pipeline.store import files, model_files

TOKENIZERS = ("tokenizer.json", "vocab.txt", "vocab.json", "tokenizer.model", "spiece.model")
#: What is written beside a model and is no part of it.
_BESIDE = ("README.md", "metrics.jsonl")
#: Of a safetensors file, in bytes; that is what the format allows.
_LONGEST_HEADER = 100_000_000


def problem(folder: str) -> str | None:
    """Why ``folder`` holds no whole model that can be opened safely, and what to do; None if it does."""
    path = files.local(folder)
    if not (path / "config.json").is_file():
        return f"{folder!r} is not the folder of a model (no config.json); name one that `save_pretrained` wrote"
    if (path / "adapter.json").is_file() and not any(path.glob("model*.safetensors")):
        return f"{folder!r} is an adapter alone, not a whole model; name its base, or train it with `merge: true`"
    if unsafe := _unsafe(folder, path):
        return unsafe
    if not any((path / name).is_file() for name in TOKENIZERS):
        return f"{folder!r} has no tokenizer.json; save the model's tokenizer beside it"
    return None


def weights_problem(folder: str) -> str | None:
    """Why the weights in ``folder`` cannot be opened safely, and what to do; None if they can."""
    return _unsafe(folder, Path(folder))


def _unsafe(folder: str, path: Path) -> str | None:
    if weights := sorted(path.glob("*.safetensors")):
        return next(filter(None, (_damage(folder, file) for file in weights)), None) or _elsewhere(folder, path)
    others = sorted(file.name for pattern in ("*.bin", "*.pt", "*.pth", "*.pkl") for file in path.glob(pattern))
    contents = f"only {', '.join(others[:3])}, which can run code when it is opened" if others else "no weights"
    return f"{folder!r} has no weights in safetensors, {contents}; convert them by `save_pretrained`"


def _damage(folder: str, file: Path) -> str | None:
    """Why ``file`` is no whole safetensors file: its header, which says where each tensor ends, is looked at."""
    files.regular(str(file))
    size = file.stat().st_size - 8
    with file.open("rb") as handle:
        length = int.from_bytes(handle.read(8), "little")
        whole = 2 <= length <= min(size, _LONGEST_HEADER)
        try:
            header = json.loads(handle.read(length)) if whole else None
            ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]  # type: ignore[union-attr]
            whole = max(ends, default=0) == size - length
        except (AttributeError, LookupError, RecursionError, TypeError, ValueError):
            whole = False
    return None if whole else f"{folder!r}: {file.name} is damaged, cut off, or not in safetensors; take it again"


def _elsewhere(folder: str, path: Path) -> str | None:
    """What the index of weights in several files names beside files of the folder: others would be opened, too."""
    index = path / "model.safetensors.index.json"
    if not index.is_file():
        return None
    content = files.read_json(str(index), "Save the model again.")
    named = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(named, dict):
        return f"{folder!r}: {index.name} names no weights; save the model again"
    inside = {file.name for file in path.glob("*.safetensors")}
    if others := sorted({str(name) for name in named.values()} - inside):
        return f"{folder!r}: {index.name} names {others[0]!r}, which is no safetensors file in the folder; correct it"
    return None


def digest(folder: str) -> str:
    """Names the content of all files of the model in ``folder``, weights, tokenizer and configuration."""
    paths = sorted(path for path in Path(folder).iterdir() if path.is_file() and path.name not in _BESIDE)
    return files.fingerprint([[path.name, model_files.digest(str(path))] for path in paths])
