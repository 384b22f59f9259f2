"""A tokenizer extended by the words of a domain, and a model with it, as one command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from tokenizers import Tokenizer

from pipeline import MillError
from pipeline.store import files, shards
from pipeline.text import formats
from pipeline.tokenization.extend import extend as extend_tokenizer
from pipeline.tokenization.formats import references


class NoText(MillError):
    """The corpus holds no text of the domain."""


def extend(
    tokenizer: str, corpus: Path, output: Path, tokens: int, domain: str | None, model: Path | None
) -> list[dict[str, str]]:
    """Write the extended tokenizer, ``extension.json`` that names its new tokens, and the model if one is given, into
    the folder ``output``; returns what came of it, for people to read."""
    return extend_by(domain_texts(corpus, domain), tokenizer, output, tokens, model)


def extend_by(
    texts: pa.LargeStringArray, tokenizer: str, output: Path, tokens: int, model: Path | None
) -> list[dict[str, str]]:
    """``extend`` by words of ``texts``."""
    before = references.load(tokenizer)
    added = extend_tokenizer(before, texts, tokens)
    config = _config(before, Path(tokenizer), model)
    with files.replacing_folder(str(output)) as aside:
        if model is not None:
            from training.models import publish
            from training.models.new_tokens import extend_embeddings, load

            extended = extend_embeddings(load(model), added.first, added.pieces)
            config = publish.tokenizer_config(config, extended.config)
            publish.pad_with(extended, config, added.tokenizer)
            extended.save_pretrained(aside)
        added.tokenizer.save(str(aside / "tokenizer.json"))
        files.write_json(str(aside / "tokenizer_config.json"), config)
        entries = [
            {"id": added.first + row, "token": token, "pieces": pieces, "saved": int(saved)}
            for row, (token, pieces, saved) in enumerate(zip(added.tokens, added.pieces, added.saved, strict=True))
        ]
        files.write_json(str(aside / "extension.json"), entries)
    size = pc.sum(pc.binary_length(texts).cast(pa.int64())).as_py() or 0
    saved = int(added.saved.sum())
    words = (added.tokenizer.decode([added.first + row]) for row in range(min(8, len(added.tokens))))
    facts = {
        "text": f"{formats.count(len(texts))} documents, {formats.size(size)}",
        "new tokens": f"{formats.count(len(added.tokens))}, from id {added.first}",
        "tokens of the text": f"{formats.count(added.written)} before, {formats.count(added.written - saved)} now,"
        f" {formats.share(saved, added.written)} fewer",
        "most useful": "  ".join(json.dumps(word, ensure_ascii=False) for word in words),
    }
    return [{"name": name, "value": value} for name, value in facts.items()]


def _config(tokenizer: Tokenizer, *folders: Path | None) -> dict[str, Any]:
    """tokenizer_config.json of an extended tokenizer: the roles of its special tokens as the first of ``folders`` has
    them that says so. Its class is the one that takes tokenizer.json as it is: GPT-2's own would apply merges alone.
    """
    named: dict[str, Any] = {f"{role}_token": token for role, token in references.special_roles(tokenizer).items()}
    paths = (folder / "tokenizer_config.json" for folder in folders if folder is not None)
    if path := next((path for path in paths if path.is_file()), None):
        kept = ("model_max_length", "model_input_names", "padding_side", "chat_template", "additional_special_tokens")
        said = json.loads(path.read_text(encoding="utf-8"))
        tokens = {name: value for name, value in said.items() if name.endswith("_token") and value is not None}
        named = {name: said[name] for name in kept if name in said}
        for name, value in tokens.items():  # written as a string, or with how it is looked for; add_bos_token is a flag
            if not isinstance(value, bool):
                named[name] = value["content"] if isinstance(value, dict) else value
    return {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False, **named}


def domain_texts(corpus: Path, domain: str | None) -> pa.LargeStringArray:
    """The texts of a build's ``corpus`` folder, of one domain if it is named. Raises NoText if there is none."""
    manifest = files.join(str(corpus), "manifest.json")
    if not files.exists(manifest):
        raise NoText(f"{corpus}: no corpus of a build; give its `corpus` folder, such as data/builds/demo/corpus")
    tables = [
        shards.read_table(files.join(str(corpus), name), ["text", "domain"])
        for name in files.read_json(manifest)["shards"]
    ]
    table = pa.concat_tables(tables)
    known = sorted(pc.unique(table["domain"]).to_pylist())
    if domain is not None:
        table = table.filter(pc.equal(table["domain"], domain))
    if len(table) == 0:
        raise NoText(f"{corpus}: no text of domain {domain!r}; there is {', '.join(known) or 'none at all'}")
    return table["text"].cast(pa.large_string()).combine_chunks()
