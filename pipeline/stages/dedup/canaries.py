"""Canaries of deduplication: copies, near copies, and documents that share a passage."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from pipeline.build.build import Build
from pipeline.build.canaries import RARE_WORDS, Canaries, Canary, Host, Maker, Room
from pipeline.text.shingles import shingle_sets

if TYPE_CHECKING:
    from pipeline.stages.dedup.minhash import Config as MinHash
    from pipeline.stages.dedup.repeats import Repeats

_WORD = re.compile(r"[^\W\d_]+")


def _keep_longest(config: Any) -> Any:
    """Which of two is kept is no matter here, and the signals of earlier stages may be missing."""
    return config.model_copy(update={"keep": "longest"})


def copies() -> Canaries:
    """Those of exact deduplication."""
    return Canaries("exact duplicates", _copies, partial(_in_the_cluster_of_its_host, "exact"), section=_keep_longest)


def near_copies() -> Canaries:
    """Those of near-duplicate removal."""
    caught = partial(_in_the_cluster_of_its_host, "minhash")
    return Canaries("near duplicates", _near_copies, caught, section=_keep_longest)


def shared_passages(stage: str, kind: str) -> Canaries:
    """Those of a stage that cuts what occurs again."""
    return Canaries(kind, partial(_shared_passages, stage), partial(_cut_once, stage), section=_keep_longest)


def _copies(build: Build, choices: Sequence[random.Random]) -> Iterator[Maker]:
    spaced = build.section("exact").normalise != "none"
    return (partial(copy, rng=rng, spaced=spaced) for rng in choices)


def copy(host: Host, rng: random.Random, spaced: bool) -> Canary:
    """A copy; with ``spaced`` every second time in other whitespace."""
    text = host.text.replace(" ", "  ") if spaced and rng.random() < 0.5 else host.text
    return Canary(text, f"a copy of {host.id}", host, beside=True)


def _near_copies(build: Build, choices: Sequence[random.Random]) -> Iterator[Maker]:
    return (partial(near_copy, rng=rng, config=build.section("minhash")) for rng in choices)


def near_copy(host: Host, rng: random.Random, config: MinHash) -> Canary | None:
    """The host with some words changed, at a similarity between the threshold and 1; None if it is too short."""
    words = list(_WORD.finditer(host.text))
    wanted = config.threshold + (1 - config.threshold) * rng.random()
    changes = min(len(words), max(1, int(len(words) * (1 - wanted) / (1 + wanted) / config.ngram)))
    while changes:
        text = host.text
        for word in sorted(rng.sample(words, changes), key=lambda match: -match.start()):
            text = text[: word.start()] + rng.choice(RARE_WORDS) + text[word.end() :]
        similarity = jaccard(host.text, text, config.ngram)
        if config.threshold <= similarity < 1:
            fact = f"{host.id} with {changes} words changed, Jaccard {similarity:.2f}"
            chance = 1 - (1 - similarity**config.rows) ** config.bands
            return Canary(text, fact, host, beside=True, chance=chance)
        changes //= 2
    return None


def jaccard(one: str, other: str, ngram: int) -> float:
    """The similarity of the sets of word n-grams of two texts."""
    hashes, offsets = shingle_sets(pa.array([one, other]), ngram)
    a, b = (hashes[offsets[i] : offsets[i + 1]] for i in (0, 1))
    both = len(np.intersect1d(a, b))
    return both / max(len(a) + len(b) - both, 1)


def _in_the_cluster_of_its_host(stage: str, room: Room, canaries: Mapping[str, Canary]) -> set[str]:
    clusters = room.ledger(stage)["cluster"].to_pylist()
    rows = room.rows([*canaries, *map(room.host_id, canaries.values())])
    return {
        name
        for name, canary in canaries.items()
        if clusters[rows[name]] is not None and clusters[rows[name]] == clusters[rows[room.host_id(canary)]]
    }


def _shared_passages(stage: str, build: Build, choices: Sequence[random.Random]) -> Iterator[Maker]:
    return (partial(shared_passage, rng=rng, config=build.section(stage)) for rng in choices)


def shared_passage(host: Host, rng: random.Random, config: Repeats) -> Canary | None:
    """The words of the host in another order and a passage of them; beside it the host with the same passage.

    The passage is as many units as ``config`` cuts, with tokens in the midst of a line. None if the host has no words.
    """
    words = _WORD.findall(host.text)
    if not words:
        return None
    if config.unit == "token":
        passage = " ".join(rng.choices(words, k=config.length + 5))
        before, after = "\n", " "
    else:
        size = max(12, 1 + config.minimum // config.length)
        between = {"sentence": " ", "line": "\n", "paragraph": "\n\n"}[config.unit]
        passage = between.join(" ".join(rng.choices(words, k=size)) + "." for _ in range(config.length))
        before = after = "\n\n"
    more = max(len(words), 2 * len(passage.split()))  # so that the two are no near duplicates
    first, last = (" ".join(rng.choices(words, k=more // 2 + 1)) for _ in range(2))
    beside = Host(host.id, f"{host.text}{before}{passage}{after}{words[0]}")
    text = f"{first}.{before}{passage}{after}{last}."
    return Canary(text, f"a passage that is also in {host.id}", beside, beside=True, passage=passage)


def _cut_once(stage: str, room: Room, canaries: Mapping[str, Canary]) -> set[str]:
    """Those whose passage is no longer whole in both documents."""
    left = room.texts_after(stage)
    return {
        name
        for name, canary in canaries.items()
        if not all(canary.passage in left.get(document, "") for document in (name, room.host_id(canary)))
    }
