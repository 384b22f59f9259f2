"""What each part of a build was made from, and the fingerprint that names it.

An output's fingerprint is of all that decides it, that of a stage of its settings alone. What a model or packed tokens
name as their origin is looked for among the parts that are here now: one that is not was replaced since.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from pipeline.build.build import Build
from pipeline.stages import registry, titles
from pipeline.store import files
from pipeline.text import formats

SPLITS = ("train", "heldout")


class Part(NamedTuple):
    """``origin`` are names of other parts; ``fingerprint`` is None of a source, which we did not make."""

    kind: str
    name: str
    origin: str
    holds: str
    fingerprint: str | None


def lineage(build: Build) -> list[Part] | None:
    """The parts in the order in which they are made; None if there is no document yet."""
    if not files.exists(build.path("documents", "manifest.json")):
        return None
    return [*_sources(build), *_stages(build), *_made(build)]


def _sources(build: Build) -> Iterator[Part]:
    for name, entry in files.read_json(build.path("documents", "manifest.json"))["sources"].items():
        read = formats.several(entry["files"], "file") if "files" in entry else ""
        yield Part("source", name, read, _amount(entry), None)


def _stages(build: Build) -> Iterator[Part]:
    before = "documents of the sources"
    account = _read(build, "funnel.json") or {"stages": []}
    kept = {entry["stage"]: _amount(entry) for entry in account["stages"]}
    for name in build.stages:
        stage = registry.named(build.recipe.registered, name)
        made_by = files.fingerprint(name, stage.version, stage.plugin and stage.plugin.made_by, build.section(name))
        yield Part("stage", titles.title(name), before, kept.get(name, ""), made_by)
        before = titles.title(name)


def _made(build: Build) -> Iterator[Part]:
    known: dict[str, str] = {}  # fingerprint -> name of the part
    if corpus := _read(build, "corpus", "manifest.json"):
        known[corpus["fingerprint"]] = "corpus"
        yield Part("corpus", "corpus", "documents that every stage kept", _amount(corpus), corpus["fingerprint"])
    for config in build.section("tokenizers") or []:
        if made := _read(build, "tokenizers", config.name, "manifest.json"):
            known[made["sha256"]] = config.name
            holds = f"{formats.count(made['vocab_size'])} entries"
            yield Part("tokenizer", config.name, "corpus", holds, made["sha256"])
        for split in SPLITS:
            if packed := _read(build, "tokens", config.name, split, "manifest.json"):
                known[packed["fingerprint"]] = f"tokens {config.name}, {split}"
                holds = formats.several(packed["tokens"], "token")
                origin = f"corpus, {_named(known, packed['tokenizer'])}"
                yield Part("tokens", f"{config.name}, {split}", origin, holds, packed["fingerprint"])
    for section in ("pretrain", "finetune"):
        for run in build.section(section) or []:
            if made := _read(build, "models", run.name, "summary.json"):
                known[made.get("fingerprint", "")] = run.name
                if "/" in str(made.get("base", "")):  # a folder, which no run here has made
                    known[made["made_from"]["base"]] = made["base"]
                origins = [made.get("made_from", {}).get(key) for key in ("base", "corpus", "tokenizer", "tokens")]
                origin = ", ".join(_named(known, entry) for entry in origins if entry)
                holds = formats.several(made["steps"], "step") if "steps" in made else ""
                yield Part("model", run.name, origin or str(made.get("base", "")), holds, made.get("fingerprint"))


def _amount(entry: Mapping[str, int]) -> str:
    return f"{formats.several(entry['documents'], 'document')}, {formats.size(entry['bytes'])}"


def _named(known: dict[str, str], fingerprint: str) -> str:
    return known.get(fingerprint, f"{fingerprint[:12]} (not here any more)")


def _read(build: Build, *names: str) -> dict[str, Any] | None:
    path = build.path(*names)
    return files.read_json(path) if files.exists(path) else None
