"""A tokenizer extended by the words of a domain, and a model with it, as one command."""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.report import formats
from pipeline.store import files, shards
from pipeline.tokenization import references
from pipeline.tokenization.extend import extend as extend_tokenizer


class NoText(ValueError):
    """The corpus holds no text of the domain."""


def extend(
    tokenizer: str, corpus: Path, output: Path, tokens: int, domain: str | None, model: Path | None
) -> list[dict[str, str]]:
    """Write the extended tokenizer, ``extension.json`` that names its new tokens, and the model if one is given, into
    the folder ``output``; returns what came of it, for people to read."""
    texts = domain_texts(corpus, domain)
    found = extend_tokenizer(references.load(tokenizer), texts, tokens)
    with files.replacing_folder(str(output)) as aside:
        if model is not None:
            from training.extend import extend_embeddings, load

            for source in (*model.glob("tokenizer_config.json"), *model.glob("special_tokens_map.json")):
                shutil.copy(source, aside)
            extend_embeddings(load(model), found.first, found.pieces).save_pretrained(aside)
        found.tokenizer.save(str(aside / "tokenizer.json"))
        entries = [
            {"id": found.first + row, "token": token, "pieces": pieces, "saved": int(saved)}
            for row, (token, pieces, saved) in enumerate(zip(found.tokens, found.pieces, found.saved, strict=True))
        ]
        files.write_json(str(aside / "extension.json"), entries)
    size = pc.sum(pc.binary_length(texts).cast(pa.int64())).as_py() or 0
    facts = {
        "text": f"{formats.count(len(texts))} documents, {formats.size(size)}",
        "new tokens": f"{formats.count(len(found.tokens))}, from id {found.first}",
        "tokens saved": formats.count(int(found.saved.sum())),
        "most useful": "  ".join(found.tokens[:8]),
    }
    return [{"name": name, "value": value} for name, value in facts.items()]


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
