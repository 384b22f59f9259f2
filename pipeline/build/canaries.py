"""What a stage says of its canaries: documents of known kind that it must catch.

``pipeline.curation.canaries`` plants them and counts how many each stage catches.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import pyarrow as pa

from pipeline.build.build import Build, edited
from pipeline.store import ledger

#: Which documents become hosts, and which evaluation items are planted, is chosen by hashes of their own.
SALT = 0x63616E617279
#: To put into texts where these hardly have them.
RARE_WORDS = ("harbour", "lantern", "meadow", "pebble", "quarry", "saffron", "thimble", "willow")


@dataclass(frozen=True)
class Host:
    """A document of the build that a canary is made from."""

    id: str
    text: str


@dataclass(frozen=True)
class Canary:
    """``text`` is planted; ``fact`` is what was planted, by which it is known when found.

    ``beside``: the host is planted with it, as what it is a duplicate of. ``passage``: what both hold.
    ``chance``: the probability that the stage finds it, where its method gives one.
    """

    text: str
    fact: str
    host: Host | None = None
    beside: bool = False
    passage: str = ""
    chance: float | None = None


@dataclass(frozen=True)
class Room:
    """The build whose stages see the canaries, and the hosts beside them; all are in ``shard``."""

    build: Build
    shard: str

    def rows(self, ids: Sequence[str]) -> dict[str, int]:
        """The row of each of these documents."""
        places = {name: row for row, name in enumerate(self.build.documents(self.shard)["id"].to_pylist())}
        return {name: places[name] for name in ids}

    def ledger(self, stage: str) -> pa.Table:
        return self.build.ledger(stage, self.shard)

    def texts_after(self, stage: str) -> dict[str, str]:
        """Id and text of each document that ``stage`` and those before it leave."""
        ledgers = [self.ledger(name) for name in (*self.build.stages_before(stage), stage)]
        documents = self.build.documents(self.shard)
        alive = pa.array(ledger.alive(ledgers, len(documents)))
        texts = edited(documents["text"].combine_chunks(), ledgers)[0].filter(alive)
        return dict(zip(documents["id"].filter(alive).to_pylist(), texts.to_pylist(), strict=True))

    @staticmethod
    def host_id(canary: Canary) -> str:
        """The id of the document that is planted beside it."""
        assert canary.host is not None
        return f"host/{canary.host.id}"


#: Makes a canary of a host, or of none where the stage needs none; None if this host will not do.
Maker: TypeAlias = Callable[[Host], Canary | None]


@dataclass(frozen=True)
class Canaries:
    """``kind`` is what they are, in the plural.

    ``plant(build, choices)`` gives a maker for each of ``choices``, the random draws of one canary, or fewer; None if
    under the build's recipe there is nothing to plant. With ``hosted`` false they are made without a host.
    ``caught(room, canaries)``: those of ``canaries``, by the ids of their documents, that the stage caught as what they
    are. ``section(config)`` is the stage's section as it is among canaries. ``inputs(build)`` are digests of the files
    that the stage reads besides, also where the recipe does not run it.
    """

    kind: str
    plant: Callable[[Build, Sequence[random.Random]], Iterator[Maker] | None]
    caught: Callable[[Room, Mapping[str, Canary]], set[str]]
    hosted: bool = True
    section: Callable[[Any], Any] = lambda config: config
    inputs: Callable[[Build], Any] | None = None
