"""Domain balancing: how many tokens each domain gives, and how often each of its documents is read.

Shares come from a strategy; no domain is read more than ``max_epochs`` times, and what a capped domain cannot give goes
to the others in proportion to their shares. Which documents make up a broken epoch is decided by the hash of their id:
those below a cut-off that is found from a histogram of hashes, so that neither shards nor their order matter.

Strategies: natural (by size), temperature (size^(1/T): Conneau 2020, T5 section 3.1.3), weights (given in the recipe),
unimax (equal shares under the epoch cap: Chung 2023).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, model_validator

from pipeline import stage
from pipeline.build import Build, Outcome, Step
from pipeline.store import files, ledger, shards
from pipeline.text.hashing import document_hash, unit_interval

VERSION = 1
BINS = 1 << 16
"""Resolution of the cut-off: a broken epoch is exact to one 65,536th of its domain."""


class Config(stage.Config):
    """Without ``tokens`` the budget is as many tokens as there are; the shares decide whose they are."""

    strategy: Literal["natural", "temperature", "weights", "unimax"] = "natural"
    temperature: Annotated[float, Field(gt=0)] = 1.0
    weights: dict[str, Annotated[float, Field(ge=0)]] | None = None
    tokens: Annotated[int, Field(gt=0)] | None = None
    max_epochs: Annotated[float, Field(gt=0, le=1000)] = 1.0
    bytes_per_token: Annotated[float, Field(gt=0)] = 4.0

    @model_validator(mode="after")
    def _weights_go_with_their_strategy(self) -> Config:
        if (self.strategy == "weights") != (self.weights is not None):
            raise ValueError("`weights` and `strategy: weights` go together: give both or neither")
        if self.weights is not None and not sum(self.weights.values()) > 0:
            raise ValueError("`weights` must hold at least one share above zero")
        return self


@dataclass(frozen=True)
class DomainPlan:
    """What one domain gives. ``epochs`` = ``whole`` + the part of the documents whose hash lies below ``cut``."""

    documents: int
    bytes: int
    share: float
    epochs: float
    whole: int
    cut: float


def shares(sizes: Mapping[str, int], config: Config) -> dict[str, float]:
    """The wanted share of each domain (they add up to 1), from ``sizes`` in bytes.

    Raises ValueError if ``weights`` name a domain that is not there, or leave out one that is.
    """
    if config.strategy == "weights":
        weights = config.weights or {}
        if unknown := sorted(set(weights) - set(sizes)):
            raise ValueError(
                f"balance.weights: no document is left of domain {unknown[0]!r}; found: {', '.join(sorted(sizes))}"
            )
        raw = {domain: weights.get(domain, 0.0) for domain in sizes}
    elif config.strategy == "unimax":
        raw = {domain: 1.0 if size else 0.0 for domain, size in sizes.items()}
    else:
        exponent = 1.0 / config.temperature if config.strategy == "temperature" else 1.0
        raw = {domain: float(size) ** exponent if size else 0.0 for domain, size in sizes.items()}
    total = sum(raw[domain] for domain in sorted(raw)) or 1.0
    return {domain: raw[domain] / total for domain in sorted(raw)}


def allocate(sizes: Mapping[str, int], wanted: Mapping[str, float], budget: float, cap: float) -> dict[str, float]:
    """Bytes to take from each domain: ``wanted`` shares of ``budget``, at most ``cap`` times a domain's size.

    What capped domains cannot give is divided among the rest by their shares; the sum falls short of the budget only
    when all that have a share are capped.
    """
    limits = {domain: cap * size for domain, size in sizes.items()}
    open_domains = sorted(domain for domain in sizes if wanted[domain] > 0 and sizes[domain] > 0)
    given = dict.fromkeys(sorted(sizes), 0.0)
    left = float(budget)
    while open_domains and left > 0:
        weight = sum(wanted[domain] for domain in open_domains)
        full = [domain for domain in open_domains if left * wanted[domain] / weight >= limits[domain]]
        if not full:
            for domain in open_domains:
                given[domain] = left * wanted[domain] / weight
            break
        for domain in full:
            given[domain] = limits[domain]
            left -= limits[domain]
        open_domains = [domain for domain in open_domains if domain not in full]
    return given


def steps() -> list[Step]:
    return [
        Step("balance.sizes", "Domain sizes", Build.shards, _measure_sizes),
        Step("balance.plan", "Domain budget", lambda _build: ["plan.json"], _make_plan),
        Step("balance", "Domain balancing", Build.shards, _decide),
    ]


def _measure_sizes(build: Build, shard: str) -> Outcome:
    path = build.path("work", "balance.sizes", shard)
    made_by = files.fingerprint("balance.sizes", VERSION, build.recipe.seed, build.view_fingerprint(shard, "balance"))
    if shards.is_current(path, made_by):
        return Outcome(reused=True)
    view = build.view(shard, before="balance")
    frame = pa.table(
        {
            "domain": view.documents["domain"],
            "bin": (_position(build, view.documents["id"]) * BINS).astype(np.int32),
            "bytes": pc.binary_length(view.texts).cast(pa.int64()),
        }
    )
    table = frame.group_by(["domain", "bin"]).aggregate([("bytes", "sum"), ("bytes", "count")])
    shards.write_table(path, table.sort_by([("domain", "ascending"), ("bin", "ascending")]), made_by)
    return Outcome(len(view.texts), view.texts.nbytes)


def _make_plan(build: Build, item: str) -> Outcome:
    config = build.recipe.balance
    assert config is not None
    inputs = [build.path("work", "balance.sizes", shard) for shard in build.shards()]
    made_by = files.fingerprint("balance.plan", VERSION, config, [shards.read_fingerprint(path) for path in inputs])
    path = build.path("work", "balance.plan", item)
    if files.exists(path) and files.read_json(path)["fingerprint"] == made_by:
        return Outcome(reused=True)
    histograms: dict[str, np.ndarray] = defaultdict(lambda: np.zeros(BINS, np.int64))
    documents: dict[str, int] = defaultdict(int)
    for source in inputs:
        table = shards.read_table(source)
        for domain in table["domain"].unique().to_pylist():
            part = table.filter(pc.equal(table["domain"], domain))
            np.add.at(histograms[domain], part["bin"].to_numpy(), part["bytes_sum"].to_numpy())
            documents[domain] += pc.sum(part["bytes_count"]).as_py()
    plan = make_plan(histograms, documents, config)
    files.write_json(path, {"fingerprint": made_by, "domains": {name: asdict(entry) for name, entry in plan.items()}})
    return Outcome(documents=sum(documents.values()))


def make_plan(
    histograms: Mapping[str, np.ndarray], documents: Mapping[str, int], config: Config
) -> dict[str, DomainPlan]:
    """The plan from each domain's bytes by hash bin (int64 [BINS]) and its number of documents."""
    sizes = {domain: int(histograms[domain].sum()) for domain in sorted(histograms)}
    there = min(1.0, config.max_epochs) * sum(sizes.values())
    budget = there if config.tokens is None else config.tokens * config.bytes_per_token
    wanted = shares(sizes, config)
    taken = allocate(sizes, wanted, budget, config.max_epochs)
    plan = {}
    for domain, size in sizes.items():
        epochs = taken[domain] / size if size else 0.0
        whole = int(epochs + 1e-9)
        part = max(0.0, epochs - whole) * size
        below = np.concatenate([[0], np.cumsum(histograms[domain])])
        cut = int(np.searchsorted(below, part, side="right")) - 1 if part > 0 else 0
        cut += int(part > 0 and cut < BINS and part - below[cut] > below[cut + 1] - part)  # the nearer side
        plan[domain] = DomainPlan(documents[domain], size, wanted[domain], epochs, whole, cut / BINS)
    return plan


def _decide(build: Build, shard: str) -> Outcome:
    plan_path = build.path("work", "balance.plan", "plan.json")
    plan = files.read_json(plan_path)
    made_by = files.fingerprint(
        "balance", VERSION, build.recipe.seed, plan["domains"], build.view_fingerprint(shard, "balance")
    )
    if shards.is_current(build.ledger_path("balance", shard), made_by):
        return Outcome(reused=True)
    view = build.view(shard, before="balance")
    domains = view.documents["domain"].dictionary_encode()
    entries = [plan["domains"][name] for name in domains.dictionary.to_pylist()]
    index = domains.indices.to_numpy(zero_copy_only=False)
    position = _position(build, view.documents["id"])
    cut = np.array([entry["cut"] for entry in entries], np.float64)[index]
    whole = np.array([entry["whole"] for entry in entries], np.int32)[index]
    repeats = whole + (position < cut).astype(np.int32)
    unread = repeats == 0
    verdicts = ledger.Verdicts(
        np.where(unread, 0, -1).astype(np.int16),
        np.where(unread, position, np.nan),
        np.where(unread, cut, np.nan),
        ("balance.over_budget",),
    )
    columns = {"balance_position": pa.array(position), "repeats": pa.array(repeats), **verdicts.columns()}
    build.write_ledger("balance", shard, ledger.spread(view.alive, columns), made_by)
    return Outcome(len(view.texts), view.texts.nbytes)


def _position(build: Build, ids: pa.StringArray) -> np.ndarray:
    """Where each document stands in [0, 1): float64, from its id and the recipe's seed."""
    return unit_interval(document_hash(ids, build.recipe.seed))
