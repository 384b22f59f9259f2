"""What can be known of the folder of a model that a fine-tuning starts from, without torch."""

from __future__ import annotations

from pathlib import Path

from pipeline.store import files

_TOKENIZERS = ("tokenizer.json", "vocab.txt", "vocab.json", "tokenizer.model", "spiece.model")
#: Models whose positions begin behind the id of the padding.
_SHIFTED = ("roberta", "xlm-roberta", "camembert")


def is_folder(base: str) -> bool:
    """Whether ``base`` is the path of a folder and no name of a run: it has a slash."""
    return "/" in base


def problem(base: str, sequence_length: int = 0) -> str | None:
    """Why no fine-tuning at ``sequence_length`` can start from the folder ``base``, and what to do; None if it can."""
    folder = Path(base)
    if not (folder / "config.json").is_file():
        return f"{base!r} is not the folder of a model (no config.json); name one that `save_pretrained` wrote"
    if (folder / "adapter.json").is_file() and not any(folder.glob("model*.safetensors")):
        return f"{base!r} is an adapter alone, not a whole model; name its base, or train it with `merge: true`"
    if not any(folder.glob("*.safetensors")):
        others = sorted(path.name for pattern in ("*.bin", "*.pt", "*.pth", "*.pkl") for path in folder.glob(pattern))
        found = f"only {', '.join(others[:3])}, which can run code when it is opened" if others else "no weights"
        return f"{base!r} has no weights in safetensors, {found}; convert them by `save_pretrained`"
    if not any((folder / name).is_file() for name in _TOKENIZERS):
        return f"{base!r} has no tokenizer.json; save the model's tokenizer beside it"
    config = files.read_json(str(folder / "config.json"), "Save the model again.")
    positions = config.get("max_position_embeddings")
    if isinstance(positions, int) and config.get("model_type") in _SHIFTED:
        positions -= (config.get("pad_token_id") or 0) + 1
    if isinstance(positions, int) and sequence_length > positions:
        return f"{base!r} has {positions} positions, and sequence_length is {sequence_length}; lower it"
    return None
