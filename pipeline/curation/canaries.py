"""Canaries: documents of a known kind that a build's stages must catch, and how many of them they do.

Exact and near duplicates, repeated passages, personal data, evaluation items and other languages are planted among
copies of documents of the build, and taken through the stages that are there for them: the same steps, settings and
model files, in a room of their own (``work/canaries``). So no document of the build can lose to one, no percentile,
model, histogram or balance can feel them, and none can reach the corpus; nothing that is kept depends on them.

    canaries.json: for each stage how many were planted, reached it, and were caught; which were missed
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from pipeline import MillError
from pipeline.build.build import Build, Made, Outcome, Step, edited, make, steps_of
from pipeline.build.canaries import SALT, Canaries, Canary, Host, Room
from pipeline.stages import registry
from pipeline.store import files, ledger, recipe_file, shards
from pipeline.text.hashing import document_hash

VERSION = 2
#: Hosts are documents as registry.FIRST_TO_COMPARE sees them, of a size in bytes at which all that is planted finds its
#: place.
_SMALLEST, _LARGEST = 400, 40_000
_SHARD, _NAMED = "canaries.arrow", 10
_SHARDS = 64


class Config(recipe_file.Config):
    """``documents`` are planted for each stage that runs and has canaries.

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


def of_stage(build: Build, name: str) -> Canaries | None:
    """What the canaries of a stage are; None if it has none."""
    return registry.named(build.recipe.registered, name).canaries


def _registered(build: Build) -> dict[str, Canaries]:
    """The canaries of every stage that has some, whether the recipe runs it or not."""
    return {stage.name: stage.canaries for stage in build.recipe.registered if stage.canaries is not None}


def _run(build: Build) -> dict[str, Canaries]:
    """Those of the stages that the recipe runs, in order."""
    return {name: own for name, own in _registered(build).items() if name in build.stages}


def _versions(build: Build) -> Iterator[list[Any]]:
    """What the canaries of plug-ins' stages come of, beside their sections."""
    for name in _run(build):
        stage = registry.named(build.recipe.registered, name)
        if stage.plugin is not None:
            yield [name, stage.version, stage.plugin.made_by]


def _release(build: Build, item: str) -> Outcome:
    config = build.recipe.canaries
    assert config
    room = _room(build)
    used = {name: room.build.section(name) for name in _run(build)}
    made_by = files.fingerprint(
        "canaries",
        VERSION,
        config,
        build.recipe.seed,
        used,
        *(own.inputs(build) for own in _registered(build).values() if own.inputs),
        *_versions(build),
        [build.view_fingerprint(shard, registry.FIRST_TO_COMPARE) for shard in _looked_at(build)],
    )

    def account() -> Made:
        canaries = _canaries(build, config)
        _write(room, canaries)
        for step in (step for name in _run(build) for step in steps_of(registry.named(build.recipe.registered, name))):
            for part in step.items(room.build):
                step.work(room.build, part)
        return Outcome(), _account(room, canaries, config)

    outcome = make(build.path(item), made_by, account)
    result = files.read_json(build.path(item))
    if result["warnings"] and config.on_low_recall == "fail":
        raise CanariesMissed("\n".join(result["warnings"]))
    return Outcome(result["planted"], reused=outcome.reused)


def _room(build: Build) -> Room:
    """A build of the same recipe, without the stages that have no canaries."""
    sections = {name: own.section(build.section(name)) for name, own in _run(build).items()}
    changes = {**dict.fromkeys(build.stages), **sections, "against": [], "index": False}
    fields = type(build.recipe).model_fields
    recipe = build.recipe.model_copy(update={name: value for name, value in changes.items() if name in fields})
    return Room(Build(build.path("work", "canaries"), recipe), _SHARD)


#: By the id of its document: the stage that each canary is for, and the canary.
Planted = Mapping[str, tuple[str, Canary]]


def _canaries(build: Build, config: Config) -> Planted:
    """All that is planted, in a fixed order."""
    made: list[tuple[str, Canary | None]] = []
    makers = {}
    for name, own in _run(build).items():
        planting = own.plant(build, [_choices(build, name, number) for number in range(config.documents)])
        if planting is None:
            continue
        if own.hosted:
            makers[name] = planting
        else:
            made += [(name, maker(Host("", ""))) for maker in planting]
    hosts = _hosts(build, config.documents * len(makers))
    for place, host in enumerate(hosts):
        name = list(makers)[place % len(makers)]
        if maker := next(makers[name], None):
            made.append((name, maker(host)))
    whole = [(name, canary) for name, canary in made if canary is not None]
    return {f"canary/{number:05d}": entry for number, entry in enumerate(whole)}


def _choices(build: Build, stage: str, number: int) -> random.Random:
    """The random draws of a canary, the same for the same seed."""
    return random.Random(f"canary {build.recipe.seed} {stage} {number}")


def _hosts(build: Build, count: int) -> list[Host]:
    """The documents of fit size with the lowest hashes among those that reach registry.FIRST_TO_COMPARE.

    Each text once.
    """
    best: list[tuple[int, str, str]] = []
    for shard in _looked_at(build) if count else []:
        documents = build.documents(shard)
        ledgers = [build.ledger(name, shard) for name in build.stages_before(registry.FIRST_TO_COMPARE)]
        sizes = pc.binary_length(documents["text"]).to_numpy()
        fit = ledger.alive(ledgers, len(documents)) & (sizes >= _SMALLEST) & (sizes <= _LARGEST)
        ids = documents["id"].combine_chunks()
        order = document_hash(ids, build.recipe.seed ^ SALT)
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


def _write(room: Room, canaries: Planted) -> None:
    """Write the canaries, and the hosts that belong beside them, as the documents of ``room``."""
    texts = {room.host_id(canary): canary.host.text for _, canary in canaries.values() if canary.host and canary.beside}
    texts |= {name: canary.text for name, (_, canary) in canaries.items()}
    alike = {"source": "canaries", "domain": "canaries", "url": None, "metadata": None}
    rows = [{"id": name, "text": text, **alike} for name, text in texts.items()]
    table = pa.Table.from_pylist(rows, shards.DOCUMENT_SCHEMA)
    made_by = files.fingerprint("canaries", list(texts.items()))
    shards.write_table(room.build.path("documents", room.shard), table, made_by)
    sizes = {"documents": len(rows), "bytes": sum(len(text.encode()) for text in texts.values()), "quarantined": 0}
    manifest = {"shards": [room.shard], "sources": {"canaries": sizes}}
    files.write_json(room.build.path("documents", "manifest.json"), manifest)


def _account(room: Room, canaries: Planted, config: Config) -> dict[str, Any]:
    """For each stage what was planted, what reached it, what it caught, and what it missed."""
    rows = room.rows(list(canaries))
    stages: dict[str, Any] = {}
    warnings = []
    for name, own in _run(room.build).items():
        planted = {number: canary for number, (stage, canary) in canaries.items() if stage == name}
        alive = room.build.view(room.shard, before=name).alive
        reached = {number: canary for number, canary in planted.items() if alive[rows[number]]}
        caught = own.caught(room, reached)
        missed = [canary.fact for number, canary in reached.items() if number not in caught]
        share = len(caught) / len(reached) if reached else None
        chances = [canary.chance for canary in reached.values() if canary.chance is not None]
        stages[name] = {
            "planted": len(planted),
            "reached": len(reached),
            "caught": len(caught),
            "recall": share,
            "expected": sum(chances) / len(chances) if chances else None,
            "missed": missed[:_NAMED],
        }
        if share is not None and share < config.minimum_recall:
            warnings.append(
                f"{name} caught {len(caught)} of {len(reached)} planted {own.kind} ({share:.0%}), less than "
                f"canaries.minimum_recall = {config.minimum_recall:.0%}; missed: {'; '.join(missed[:3])}"
            )
    return {"planted": len(canaries), "stages": stages, "warnings": warnings}
