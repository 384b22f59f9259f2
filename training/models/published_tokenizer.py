"""Whether a published folder's tokenizer, opened by transformers, gives the ids that the model was trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from tokenizers import Tokenizer
from transformers import AutoTokenizer, PreTrainedConfig

from pipeline import MillError
from training.models import architectures

_PAIR = ("One text.", "Another")


class OtherTokens(MillError):
    """The tokenizer beside a model reads text otherwise than the model was trained on; it is not published."""


class Known(NamedTuple):
    """A document's id and text, and the ids that a model was trained on; ``length``: special tokens are
    included, and the ids cut to that many (None: neither)."""

    document: str
    text: str
    ids: list[int]
    length: int | None = None


def check(
    folder: Path, known: Sequence[Known], config: PreTrainedConfig, special: Mapping[str, int] | None = None
) -> None:
    """Raise OtherTokens unless ``AutoTokenizer`` reads ``known`` alike.

    With the ids ``special`` that a model of ``config`` was pretrained on, by role, these must be its own, its bound on
    the length and its token types the model's, and its template that of tokenizer.json.
    """

    def fail(fault: str) -> NoReturn:
        raise OtherTokens(
            f"the model is not published: its tokenizer, opened by transformers, {fault}. Compare tokenizer.json and"
            " tokenizer_config.json of the tokenizer's folder with those that the corpus was packed with"
        )

    auto: Any = AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    for document, text, ids, length in known:
        how: dict[str, Any] = {"add_special_tokens": False, "split_special_tokens": True, "truncation": False}
        if length is not None:
            how = {"truncation": True, "max_length": length}
        actual = auto(text, verbose=False, **how)["input_ids"]
        if actual != ids:
            at = next(
                (i for i, (a, b) in enumerate(zip(actual, ids, strict=False)) if a != b), min(len(actual), len(ids))
            )
            here, present = (part[at] if at < len(part) else "nothing" for part in (actual, ids))
            fail(f"reads document {document!r} as {len(actual)} tokens for {len(ids)}: {here} for {present} at {at}")
    if special is None:
        return
    for role, index in special.items():
        if getattr(auto, f"{role}_token_id", index) != index:
            fail(f"takes {getattr(auto, f'{role}_token_id')} for its {role} token, and the model has read {index}")
    most = architectures.positions(config) if hasattr(config, "max_position_embeddings") else None
    if most is not None and auto.model_max_length != most:
        fail(f"states model_max_length {auto.model_max_length}, and the model has {most} positions")
    both = auto(*_PAIR)
    types = set(both.get("token_type_ids", ()))
    if types and not max(types) < getattr(config, "type_vocab_size", 0):
        fail(f"gives token types {sorted(types)}, and the model knows {getattr(config, 'type_vocab_size', 0)}")
    engine = Tokenizer.from_file(str(folder / "tokenizer.json"))
    engine.no_truncation()
    engine.no_padding()
    for text in _PAIR:
        if auto(text)["input_ids"] != engine.encode(text).ids:
            fail(f"puts other special tokens around {text!r} than tokenizer.json")
