"""Canaries: documents of known sort that a build's stages must catch, and how many of them they do.

Exact and near duplicates, repeated passages, personal data, evaluation items and other languages are planted among
copies of documents of the build, and taken through the stages that are there for them: the same steps, settings and
model files, in a room of their own (``work/canaries``). So no document of the build can lose to one, no percentile,
model, histogram or balance can feel them, and none can reach the corpus; nothing that is kept depends on them.

    canaries.json: for each stage how many were planted, reached it, and were caught; which were missed
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from itertools import islice
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from pipeline import MillError
from pipeline.build.build import Build, Made, Outcome, Step, edited, make, steps_of
from pipeline.curation.canaries import plants
from pipeline.curation.canaries.plants import Canary, Host
from pipeline.stages import registry
from pipeline.stages.decontaminate import evaluation_sets
from pipeline.store import files, ledger, model_files, recipe_file, shards
from pipeline.text.hashing import document_hash

VERSION = 2
#: What is planted for each stage.
PLANTED = {stage.name: stage.planted for stage in registry.STAGES if stage.planted is not None}
#: Hosts are documents as this stage sees them, of a size in bytes at which all that is planted finds its place.
_FIRST = "exact"
_SMALLEST, _LARGEST = 400, 40_000
_SALT = 0x63616E617279
_SHARD, _NAMED = "canaries.arrow", 10
_SHARDS = 64


class Config(recipe_file.Config):
    """``documents`` are planted for each stage that runs of language, pii, exact, minhash, passages, substring and
    decontaminate.

    A stage that catches a smaller share than ``minimum_recall`` is named in a warning, or fails the build. Near
    duplicates lie anywhere between the threshold and 1, so that MinHash finds about 95 % of them with its defaults.
    """

    documents: Annotated[int, Field(ge=1, le=1000, description="canaries to plant for each stage that has some")] = 40
    minimum_recall: Annotated[
        float, Field(ge=0, le=1, description="smallest share of its canaries that a stage must catch")
    ] = 0.8
    on_low_recall: Annotated[
        Literal["warn", "fail"], Field(description="what to do where a stage catches fewer: warn, or fail the build")
    ] = "warn"


class CanariesMissed(MillError):
    """A stage caught too few of its canaries."""


def steps() -> list[Step]:
    return [Step("canaries", "Canaries", lambda _build: ["canaries.json"], _release)]


def recall(build: Build) -> dict[str, Any] | None:
    """What ``canaries.json`` says, without its fingerprint; None if the recipe plants none."""
    if not build.section("canaries") or not files.exists(build.path("canaries.json")):
        return None
    return {
        name: value for name, value in files.read_json(build.path("canaries.json")).items() if name != "fingerprint"
    }


def _stages(build: Build) -> list[str]:
    return [name for name in build.stages if name in PLANTED]


def _release(build: Build, item: str) -> Outcome:
    config = build.recipe.canaries
    assert config
    room = _room(build)
    used = {name: room.section(name) for name in _stages(build)}
    made_by = files.fingerprint(
        "canaries",
        VERSION,
        config,
        build.recipe.seed,
        used,
        model_files.digest(model_files.locate(used["language"].model, build.root)) if "language" in used else None,
        [evaluation_sets.digest(chosen) for chosen in used["decontaminate"].sets] if "decontaminate" in used else [],
        [build.view_fingerprint(shard, _FIRST) for shard in _looked_at(build)],
    )

    def account() -> Made:
        canaries = _canaries(build, config)
        _plant(room, canaries)
        for step in (step for name in _stages(build) for step in steps_of(registry.named(name))):
            for part in step.items(room):
                step.work(room, part)
        return Outcome(), _account(room, canaries, config)

    outcome = make(build.path(item), made_by, account)
    found = files.read_json(build.path(item))
    if found["warnings"] and config.on_low_recall == "fail":
        raise CanariesMissed("\n".join(found["warnings"]))
    return Outcome(found["planted"], reused=outcome.reused)


def _room(build: Build) -> Build:
    """A build of the same recipe, without the stages that no canary is for."""
    changes: dict[str, Any] = dict.fromkeys((name for name in registry.NAMES if name not in PLANTED), None)
    changes |= {"against": [], "index": False}
    for name in (
        "exact",
        "minhash",
        "passages",
        "substring",
    ):  # which one of two survives is no matter here, and signals may be missing
        if (section := build.section(name)) is not None:
            changes[name] = section.model_copy(update={"keep": "longest"})
    fields = type(build.recipe).model_fields
    recipe = build.recipe.model_copy(update={name: value for name, value in changes.items() if name in fields})
    return Build(build.path("work", "canaries"), recipe)


def _canaries(build: Build, config: Config) -> list[Canary]:
    """All that is planted, in a fixed order."""
    recipe, found = build.recipe, []
    makers: dict[str, Iterator[Any]] = {}
    for name in _stages(build):
        rngs = plants.numbered(recipe.seed, name)
        if name == "language":
            languages = plants.unwanted(sorted(recipe.language.keep)) if recipe.language else []
            found += [plants.foreign(rng, languages) for rng in islice(rngs, config.documents if languages else 0)]
        elif name == "pii":
            kinds = (
                [kind for kind, action in recipe.pii if kind in plants.KINDS and action != "keep"] if recipe.pii else []
            )
            if kinds:
                makers[name] = ((plants.personal, rng, kinds) for rng in rngs)
        elif name == "exact" and recipe.exact:
            makers[name] = ((plants.exact, rng, recipe.exact.normalise != "none") for rng in rngs)
        elif name == "minhash" and recipe.minhash:
            makers[name] = ((plants.near, rng, recipe.minhash.ngram, recipe.minhash.threshold) for rng in rngs)
        elif name in ("passages", "substring"):
            makers[name] = ((plants.repeated, rng, name, build.section(name)) for rng in rngs)
        elif name == "decontaminate":
            items = _items(build, config.documents)
            makers[name] = ((plants.evaluation, rng, *item) for rng, item in zip(rngs, items, strict=False))
    hosts = _hosts(build, config.documents * len(makers))
    for place, host in enumerate(hosts):
        name = list(makers)[place % len(makers)]
        if made := next(makers[name], None):
            make, *rest = made
            found.append(make(host, *rest))
    return [canary for canary in found if canary is not None]


def _hosts(build: Build, count: int) -> list[Host]:
    """The documents of fit size with the lowest hashes among those that reach ``_FIRST``, each text once."""
    best: list[tuple[int, str, str]] = []
    for shard in _looked_at(build) if count else []:
        documents = build.documents(shard)
        ledgers = [build.ledger(name, shard) for name in build.stages_before(_FIRST)]
        sizes = pc.binary_length(documents["text"]).to_numpy()
        fit = ledger.alive(ledgers, len(documents)) & (sizes >= _SMALLEST) & (sizes <= _LARGEST)
        ids = documents["id"].combine_chunks()
        order = document_hash(ids, build.recipe.seed ^ _SALT)
        rows = np.flatnonzero(fit)
        rows = rows[np.argsort(order[rows])][: 2 * count]
        take = pa.array(rows, pa.int64())
        texts = edited(documents["text"].take(take).combine_chunks(), [table.take(take) for table in ledgers])[0]
        mine = zip(order[rows].tolist(), ids.take(take).to_pylist(), texts.to_pylist(), strict=True)
        best = heapq.nsmallest(2 * count, [*best, *(entry for entry in mine if len(entry[2]) >= _SMALLEST // 2)])
    once: dict[str, Host] = {}
    for _, name, text in best:
        once.setdefault(text, Host(name, text))
    return list(once.values())[:count]


def _looked_at(build: Build) -> list[str]:
    """The shards that hosts come from: all, or of a large corpus _SHARDS, evenly spread, so that size costs nothing."""
    every = build.shards()
    step = max(len(every) / _SHARDS, 1)
    return [every[int(place * step)] for place in range(min(len(every), _SHARDS))]


def _items(build: Build, count: int) -> list[tuple[str, str]]:
    """Name and text of evaluation items that can be checked, chosen by the hash of their text."""
    table = shards.read_table(build.path("work", "decontaminate.index", "items.arrow"))
    table = table.filter(pc.greater(pc.list_value_length(table["grams"]), 0))
    chosen = np.argsort(document_hash(table["text"].combine_chunks(), build.recipe.seed ^ _SALT), kind="stable")[:count]
    rows = table.take(pa.array(chosen)).to_pylist()
    return [(f"{row['set']}: {row['item']}", row["text"]) for row in rows]


def _plant(room: Build, canaries: list[Canary]) -> None:
    """Write the canaries, and the hosts that belong beside them, as the documents of ``room``."""
    hosts = {canary.host.id: canary.host.text for canary in canaries if canary.host and canary.beside}
    texts = {f"host/{name}": text for name, text in hosts.items()}
    texts |= {_name(number): canary.text for number, canary in enumerate(canaries)}
    alike = {"source": "canaries", "domain": "canaries", "url": None, "metadata": None}
    rows = [{"id": name, "text": text, **alike} for name, text in texts.items()]
    table = pa.Table.from_pylist(rows, shards.DOCUMENT_SCHEMA)
    shards.write_table(room.path("documents", _SHARD), table, files.fingerprint("canaries", list(texts.items())))
    sizes = {"documents": len(rows), "bytes": sum(len(text.encode()) for text in texts.values()), "quarantined": 0}
    files.write_json(room.path("documents", "manifest.json"), {"shards": [_SHARD], "sources": {"canaries": sizes}})


def _name(number: int) -> str:
    return f"canary/{number:05d}"


def _account(room: Build, canaries: list[Canary], config: Config) -> dict[str, Any]:
    """For each stage what was planted, what reached it, what it caught, and what it missed."""
    places = {name: row for row, name in enumerate(room.documents(_SHARD)["id"].to_pylist())}
    found: dict[str, Any] = {}
    warnings = []
    for name in (name for name in PLANTED if name in room.stages):
        mine = [(number, canary) for number, canary in enumerate(canaries) if canary.stage == name]
        alive = room.view(_SHARD, before=name).alive
        there = [(number, canary) for number, canary in mine if alive[places[_name(number)]]]
        caught = _caught(room, name, there, places)
        missed = [canary.fact for number, canary in there if number not in caught]
        share = len(caught) / len(there) if there else None
        found[name] = {
            "planted": len(mine),
            "reached": len(there),
            "caught": len(caught),
            "recall": share,
            "expected": _expected(room, there) if name == "minhash" and there else None,
            "missed": missed[:_NAMED],
        }
        if share is not None and share < config.minimum_recall:
            warnings.append(
                f"{name} caught {len(caught)} of {len(there)} planted {PLANTED[name]} ({share:.0%}), less than "
                f"canaries.minimum_recall = {config.minimum_recall:.0%}; missed: {'; '.join(missed[:3])}"
            )
    return {"planted": len(canaries), "stages": found, "warnings": warnings}


def _expected(room: Build, there: list[tuple[int, Canary]]) -> float:
    """The share of near duplicates that MinHash finds by its own formula, 1 - (1 - s^rows)^bands."""
    config = room.recipe.minhash
    assert config is not None
    found = [1 - (1 - canary.similarity**config.rows) ** config.bands for _, canary in there]
    return sum(found) / len(found)


def _caught(room: Build, name: str, there: list[tuple[int, Canary]], places: dict[str, int]) -> set[int]:
    """Numbers of the canaries that the stage caught as what they are."""
    table = room.ledger(name, _SHARD)
    dropped = table["dropped_by"].is_valid().to_numpy()
    if name == "language":
        return {number for number, _ in there if dropped[places[_name(number)]]}
    if name == "pii":
        texts = edited(room.documents(_SHARD)["text"].combine_chunks(), [table])[0]
        values = {number: canary.fact.partition(": ")[2] for number, canary in there}
        rows = {number: places[_name(number)] for number in values}
        return {number for number, row in rows.items() if dropped[row] or values[number] not in texts[row].as_py()}
    if name == "decontaminate":
        report = files.read_json(room.path("decontamination.json"))
        held = {
            (f"{chosen}: {item}", entry["document"])
            for chosen, told in report.items()
            for item, entries in told["held"].items()
            for entry in entries
        }
        return {number for number, canary in there if (canary.fact, _name(number)) in held}
    if name in ("passages", "substring"):
        view = room.view(_SHARD, before=registry.NAMES[registry.NAMES.index(name) + 1])
        left = dict(zip(view.rows.tolist(), view.texts.to_pylist(), strict=True))
        return {
            number
            for number, canary in there
            if canary.host
            and not all(canary.passage in left.get(places[at], "") for at in (_name(number), f"host/{canary.host.id}"))
        }
    clusters = table["cluster"].to_pylist()
    return {
        number
        for number, canary in there
        if canary.host
        and clusters[places[_name(number)]] is not None
        and clusters[places[_name(number)]] == clusters[places[f"host/{canary.host.id}"]]
    }
