"""What can be known of the folder of a model that a run starts from, without torch."""

from __future__ import annotations

from pipeline.store import files, model_folder

#: Models whose positions begin behind the id of the padding.
_SHIFTED = ("roberta", "xlm-roberta", "camembert")


def is_folder(base: str) -> bool:
    """Whether ``base`` is the path of a folder and no name of a run: it has a slash."""
    return "/" in base


def problem(base: str, sequence_length: int = 0) -> str | None:
    """Why no run at ``sequence_length`` can start from the folder ``base``, and what to do; None if it can."""
    if fault := model_folder.problem(base):
        return fault
    config = files.read_json(str(files.local(base) / "config.json"), "Save the model again.")
    if not isinstance(config, dict):
        return f"{base!r}: config.json is not the configuration of a model (no JSON object); save the model again"
    positions = config.get("n_positions" if config.get("model_type") == "gpt2" else "max_position_embeddings")
    if isinstance(positions, int) and config.get("model_type") in _SHIFTED:
        positions -= (config.get("pad_token_id") or 0) + 1
    if isinstance(positions, int) and sequence_length > positions:
        return f"{base!r} has {positions} positions, and sequence_length is {sequence_length}; lower it"
    return None
