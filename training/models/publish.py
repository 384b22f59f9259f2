"""The folder of a published model: what ``AutoModel`` and ``AutoTokenizer`` open, and go together.

A model is trained with its vocabulary padded to the hardware's tiles. What is published has an embedding and a logit
for each token of its tokenizer and no more, so that no sampling can give an id without a token. Its tokenizer knows how
many positions the model has, whether it takes token types, and, for a decoder, pads on the left by a token it knows.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.utils import logging as transformers_logging

from pipeline.store import checksums, files
from training.models import architectures, published_tokenizer
from training.models.published_tokenizer import Known
from training.recipe import model_shapes

#: Raised when the same trained weights would be published otherwise; nothing is trained again for it.
VERSION = 1
#: Architectures that tell the segments of a pair by token types.
_TYPED = ("bert", "albert", "electra")
_DECODERS = ("gpt2", "llama", "qwen3")


def fingerprint(trained_by: str, tokenizer: str) -> str:
    """Names what makes a model's folder: the run ``trained_by`` and the files of the ``tokenizer`` in a folder."""
    paths = [str(path) for path in _files(Path(tokenizer))]
    for path in paths:
        files.check(path)
    return files.fingerprint(VERSION, trained_by, [files.file_digest(path) for path in paths])


def trim(model: PreTrainedModel, size: int, companions: Mapping[str, PreTrainedModel] | None = None) -> None:
    """Leave the first ``size`` entries of the vocabulary of ``model``, and of ``companions`` that share its embeddings.

    Other logits are as they were.
    """
    for part in (*(companions or {}).values(), model):  # a head is cut with its embeddings, so who has one comes first
        part.resize_token_embeddings(size, mean_resizing=False)


def tokenizer_config(said: Mapping[str, Any], config: PreTrainedConfig) -> dict[str, Any]:
    """``said``, a tokenizer_config.json, as it fits the model of ``config``.

    What no token is named for is padded with the end token: it is masked out, so any does.
    """
    settings = dict(said)
    if config.model_type in model_shapes.FIELDS:
        typed = ["token_type_ids"] if config.model_type in _TYPED else []
        settings["model_input_names"] = ["input_ids", *typed, "attention_mask"]
    if (length := architectures.positions(config)) is not None:
        settings["model_max_length"] = length
    ends = (said.get(f"{role}_token") for role in ("pad", "eos", "sep", "bos", "cls"))
    if (pad := next((token for token in ends if token), None)) is not None:
        settings["pad_token"] = pad
    if config.model_type in _DECODERS:
        settings.setdefault("padding_side", "left")  # so that what is generated follows the text
    return settings


def publish(
    result: str,
    model: PreTrainedModel,
    tokenizer: str,
    work: str,
    summary: dict[str, Any],
    card: str,
    companions: Mapping[str, PreTrainedModel] | None = None,
    added_tokens: Sequence[str] = (),
    write: Callable[[Path], None] | None = None,
    known: Sequence[Known] = (),
    special: Mapping[str, int] | None = None,
) -> None:
    """Write the model, its tokenizer, the log and the summary as the folder ``result``. Atomic.

    ``card`` is its README.md; ``companions`` become folders inside it; ``added_tokens`` are appended to the tokenizer's
    vocabulary. ``write`` writes the model's own files instead of ``save_pretrained``. Raises OtherTokens where the
    tokenizer would read the ``known`` documents otherwise than the model did, or name other ``special`` ids by role.
    """
    transformers_logging.disable_progress_bar()  # ours is the one to watch
    with files.replacing_folder(result) as aside:
        for folder, part in ((aside, model), *((aside / name, part) for name, part in (companions or {}).items())):
            folder.mkdir(exist_ok=True)
            copy_tokenizer(Path(tokenizer), folder, part, added_tokens)
            part.cpu().eval()
            (part.save_pretrained if write is None or part is not model else write)(folder)
            if known:
                published_tokenizer.check(folder, known, part.config, special)
        shutil.copy(files.local(files.join(work, "metrics.jsonl")), aside)
        write_summary(aside, summary)
        # not among the files that must be there as written: people edit it
        (aside / "README.md").write_text(card, encoding="utf-8")


def write_summary(folder: Path, summary: dict[str, Any]) -> None:
    """Add to ``summary`` the ``files`` that ``folder`` holds, with their bytes, and write it there as the last one."""
    paths = [path for path in folder.rglob("*") if path.is_file() and path.parent.name != checksums.FOLDER]
    names = sorted(str(path.relative_to(folder)) for path in paths)
    summary["files"] = files.sizes(str(folder), names)
    files.write_json(str(folder / "summary.json"), summary)


def copy_tokenizer(source: Path, into: Path, model: PreTrainedModel, added: Sequence[str] = ()) -> None:
    """Copy the tokenizer in ``source``, with ``added`` tokens, as it fits ``model``, which learns how it pads."""
    for path in _files(source):
        shutil.copy(path, into)
    tokenizer = Tokenizer.from_file(str(into / "tokenizer.json"))
    if added:
        tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in added])
        tokenizer.save(str(into / "tokenizer.json"))
    path = str(into / "tokenizer_config.json")
    settings = tokenizer_config(files.read_json(path) if files.exists(path) else {}, model.config)
    files.write_json(path, settings)
    pad_with(model, settings, tokenizer)


def pad_with(model: PreTrainedModel, said: Mapping[str, Any], tokenizer: Tokenizer) -> None:
    """Let a decoder pad with the token that its tokenizer, of config ``said``, pads with.

    In training it had no such token: Llama does not train the embedding of its padding, and an end token's must be.
    """
    token = said.get("pad_token")
    token = token["content"] if isinstance(token, dict) else token
    if model.config.model_type in _DECODERS and token is not None:
        model.config.pad_token_id = tokenizer.token_to_id(token)
        if model.generation_config is not None:
            model.generation_config.pad_token_id = model.config.pad_token_id


def _files(folder: Path) -> list[Path]:
    named = ("tokenizer", "special_tokens")
    return sorted(path for path in folder.glob("*.json") if path.name.startswith(named))
