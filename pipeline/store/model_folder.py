"""The folder of a model as transformers writes it, looked at without torch: what it holds, what names it."""

from __future__ import annotations

from pathlib import Path

from pipeline.store import files, model_files

TOKENIZERS = ("tokenizer.json", "vocab.txt", "vocab.json", "tokenizer.model", "spiece.model")
#: What is written beside a model and is no part of it.
_BESIDE = ("README.md", "metrics.jsonl")


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
    if any(path.glob("*.safetensors")):
        return None
    others = sorted(file.name for pattern in ("*.bin", "*.pt", "*.pth", "*.pkl") for file in path.glob(pattern))
    contents = f"only {', '.join(others[:3])}, which can run code when it is opened" if others else "no weights"
    return f"{folder!r} has no weights in safetensors, {contents}; convert them by `save_pretrained`"


def digest(folder: str) -> str:
    """Names the content of all files of the model in ``folder``, weights, tokenizer and configuration."""
    paths = sorted(path for path in Path(folder).iterdir() if path.is_file() and path.name not in _BESIDE)
    return files.fingerprint([[path.name, model_files.digest(str(path))] for path in paths])
