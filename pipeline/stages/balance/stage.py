"""Domain balancing: how many tokens each domain gives, and how often each of its documents is read.

Shares come from a strategy; no domain is read more than ``max_epochs`` times, and what a capped domain cannot give goes
to the others in proportion to their shares. Which documents make up a broken epoch is decided by the hash of their id:
those below a cut-off that is found from a histogram of hashes, so that neither shards nor their order matter.

Sizes and budgets are in tokens: bytes divided by each domain's bytes per token, which the recipe gives or a tokenizer
finds on a sample. With ``budget`` the tokens are those that a model of some size asks for (see ``token_budget``), and
``balance.json`` says what each domain gives to it and what is missing.

Strategies: natural (by size), temperature (size^(1/T): Conneau 2020, T5 section 3.1.3), weights (given in the recipe;
``"*"`` is the share of all domains without one, divided among them by size),
unimax (equal shares under the epoch cap: Chung 2023).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, model_validator

from pipeline import MillError
from pipeline.build.build import Build, Made, Outcome, Step, make
from pipeline.build.stage import Stage
from pipeline.stages.balance.token_budget import Target, TokenBudget, token_budget
from pipeline.store import files, ledger, model_files, recipe_file, shards
from pipeline.text.excerpts import excerpts
from pipeline.text.hashing import document_hash, unit_interval

VERSION = 1
BINS = 1 << 16
"""Resolution of the cut-off: a broken epoch is exact to one 65,536th of its domain."""


#: About what byte-level BPE reaches on English prose; stands in where nothing better is known.
BYTES_PER_TOKEN = 4.0
#: A tokenizer is measured on so much text of each domain, of each document at most so much.
_SAMPLE_BYTES, _LONGEST_BYTES = 1 << 20, 1 << 16

Ratio = Annotated[float, Field(gt=0)]


class Config(recipe_file.Config):
    """Without ``tokens`` or ``budget`` there are as many tokens to give as there are; the shares decide whose they are.

    ``budget``: the tokens that a model asks for, ``{parameters: 1000000000}``; the plan says what is missing.
    ``max_epochs``: no document is read more often. ``bytes_per_token``: a number, or one for each domain (``"*"`` is
    for all others). ``tokenizer``: a tokenizer.json, or its folder, that measures them on a sample of each domain.
    """

    strategy: Annotated[
        Literal["natural", "temperature", "weights", "unimax"],
        Field(
            description="how shares of domains are set: by size, by size ** (1 / temperature) (Conneau 2020), by"
            " `weights`, or equal under the epoch cap (UniMax, Chung 2023)"
        ),
    ] = "natural"
    temperature: Annotated[
        float,
        Field(
            gt=0,
            description="T of strategy `temperature`; 1 is by size, higher values bring the shares closer together",
        ),
    ] = 1.0
    weights: Annotated[
        dict[str, Annotated[float, Field(ge=0)]] | None,
        Field(description='weight of each domain for strategy `weights`; "*" is for all others'),
    ] = None
    tokens: Annotated[
        Annotated[int, Field(gt=0)] | None, Field(description="tokens to give in all; default: as many as there are")
    ] = None
    max_epochs: Annotated[
        float, Field(gt=0, le=1000, description="maximum number of times to read any document; parts of an epoch count")
    ] = 1.0
    budget: Annotated[
        Target | None, Field(description="model that sets the number of tokens, in place of `tokens`")
    ] = None
    bytes_per_token: Annotated[
        Ratio | Annotated[dict[str, Ratio], Field(min_length=1)],
        Field(description='bytes of text per token: one number, or one for each domain ("*" for all others)'),
    ] = BYTES_PER_TOKEN
    tokenizer: Annotated[
        str | None,
        Field(
            description="path of a tokenizer.json or its folder, to measure bytes per token on a sample of each domain"
        ),
    ] = None

    @model_validator(mode="after")
    def _weights_go_with_their_strategy(self) -> Config:
        if (self.strategy == "weights") != (self.weights is not None):
            raise MillError("`weights` and `strategy: weights` go together: give both or neither")
        if self.weights is not None and not sum(self.weights.values()) > 0:
            raise MillError("`weights` must hold at least one share above zero")
        return self

    @model_validator(mode="after")
    def _one_budget_in_one_currency(self) -> Config:
        if self.tokens is not None and self.budget is not None:
            raise MillError("`tokens` and `budget` are mutually exclusive; set only one")
        # a recipe that a build has written names every field: one left at its default is not the user's
        if self.tokenizer is not None and self.bytes_per_token != BYTES_PER_TOKEN:
            raise MillError("`tokenizer` measures bytes_per_token: give one of them")
        return self

    def ratio(self, domain: str) -> float:
        """Bytes per token of ``domain``, as far as the recipe says."""
        if not isinstance(self.bytes_per_token, dict):
            return self.bytes_per_token
        return self.bytes_per_token.get(domain, self.bytes_per_token.get("*", BYTES_PER_TOKEN))


@dataclass(frozen=True)
class DomainPlan:
    """What one domain gives. ``epochs`` = ``whole`` + the part of the documents whose hash lies below ``cut``."""

    documents: int
    bytes: int
    tokens: float
    share: float
    epochs: float
    whole: int
    cut: float


@dataclass(frozen=True)
class Plan:
    """What every domain gives, and what the model that the corpus is for needs, if the recipe names one."""

    domains: dict[str, DomainPlan]
    budget: TokenBudget | None


class WrongWeights(MillError):
    """`balance.weights` and the domains of the corpus do not go together."""


def require_shares(config: Config, domains: Collection[str], every: bool = True) -> None:
    """Raise WrongWeights if ``weights`` leave out one of ``domains``, or name one that is not among ``every`` one."""
    weights = config.weights
    if weights is None:
        return
    if every and (unknown := sorted({*weights} - {*domains, "*"})):
        raise WrongWeights(
            f"balance.weights: no document is left of domain {unknown[0]!r}; found: {', '.join(sorted(domains))}"
        )
    rest = sorted({*domains} - {*weights})
    if rest and "*" not in weights:
        raise WrongWeights(
            f"balance.weights names no share of {', '.join(map(repr, rest))}; add one for each, or"
            ' `"*"` for all others together (`"*": 0` drops them)'
        )


def shares(sizes: Mapping[str, float], config: Config) -> dict[str, float]:
    """The wanted share of each domain (they add up to 1), from ``sizes`` in tokens.

    Raises WrongWeights if ``weights`` name a domain that is not there, or leave out one that is.
    """
    if config.strategy == "weights":
        require_shares(config, sizes)
        weights = config.weights or {}
        rest = {domain: size for domain, size in sizes.items() if domain not in weights}
        whole = sum(rest[domain] for domain in sorted(rest)) or 1.0
        raw = {domain: weights.get(domain, weights.get("*", 0.0) * size / whole) for domain, size in sizes.items()}
    elif config.strategy == "unimax":
        raw = {domain: 1.0 if size else 0.0 for domain, size in sizes.items()}
    else:
        exponent = 1.0 / config.temperature if config.strategy == "temperature" else 1.0
        raw = {domain: float(size) ** exponent if size else 0.0 for domain, size in sizes.items()}
    total = sum(raw[domain] for domain in sorted(raw)) or 1.0
    return {domain: raw[domain] / total for domain in sorted(raw)}


def allocate(sizes: Mapping[str, float], wanted: Mapping[str, float], budget: float, cap: float) -> dict[str, float]:
    """Tokens to take from each domain: ``wanted`` shares of ``budget``, at most ``cap`` times a domain's size.

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
        Step("balance.tokens", "Tokens per domain", _measured, _measure_tokens),
        Step("balance.plan", "Domain budget", lambda _build: ["plan.json"], _make_plan),
        Step("balance", "Domain balancing", Build.shards, _decide),
    ]


def _measure_sizes(build: Build, shard: str) -> Outcome:
    made_by = files.fingerprint("balance.sizes", VERSION, build.recipe.seed, build.view_fingerprint(shard, "balance"))
    return make(build.path("work", "balance.sizes", shard), made_by, partial(_sizes, build, shard))


def _sizes(build: Build, shard: str) -> Made:
    view = build.view(shard, before="balance")
    frame = pa.table(
        {
            "domain": view.documents["domain"],
            "bin": (_position(build, view.documents["id"]) * BINS).astype(np.int32),
            "bytes": pc.binary_length(view.texts).cast(pa.int64()),
        }
    )
    table = frame.group_by(["domain", "bin"]).aggregate([("bytes", "sum"), ("bytes", "count")])
    return Outcome(len(view.texts), view.texts.nbytes), table.sort_by([("domain", "ascending"), ("bin", "ascending")])


def _config(build: Build) -> Config:
    config = build.section("balance")
    assert config is not None
    return config


def _size_paths(build: Build) -> list[str]:
    return [build.path("work", "balance.sizes", shard) for shard in build.shards()]


def _histograms(build: Build) -> tuple[dict[str, np.ndarray], dict[str, int]]:
    """For each domain its bytes by hash bin (int64 [BINS]) and its number of documents."""
    histograms: dict[str, np.ndarray] = defaultdict(lambda: np.zeros(BINS, np.int64))
    documents: dict[str, int] = defaultdict(int)
    for source in _size_paths(build):
        table = shards.read_table(source)
        for domain in table["domain"].unique().to_pylist():
            part = table.filter(pc.equal(table["domain"], domain))
            np.add.at(histograms[domain], part["bin"].to_numpy(), part["bytes_sum"].to_numpy())
            documents[domain] += pc.sum(part["bytes_count"]).as_py()
    return histograms, documents


def _measured(build: Build) -> list[str]:
    return ["tokens.json"] if _config(build).tokenizer else []


def tokenizer_path(tokenizer: str) -> str:
    """The tokenizer.json that a recipe calls ``tokenizer``; raises FileNotFoundError, naming the remedy."""
    path = tokenizer if tokenizer.endswith(".json") else files.join(tokenizer, "tokenizer.json")
    if not files.exists(path):
        raise MillError(f"balance.tokenizer: {path} is not there; give a tokenizer.json or the folder of one")
    return str(files.local(path))


def _measure_tokens(build: Build, item: str) -> Outcome:
    """How many tokens the text of each domain's documents with the lowest hashes comes to."""
    tokenizer = tokenizer_path(_config(build).tokenizer or "")
    made_by = files.fingerprint(
        "balance.tokens",
        VERSION,
        model_files.digest(tokenizer),
        [shards.read_fingerprint(source) for source in _size_paths(build)],
    )
    return make(build.path("work", "balance.tokens", item), made_by, partial(_tokens, build, tokenizer))


def _tokens(build: Build, tokenizer: str) -> Made:
    from pipeline.tokenization import pack  # tokenizers, which a recipe need not load
    from pipeline.tokenization.encoding.encode import Encoder

    ends = {
        domain: int(np.searchsorted(np.cumsum(histogram), _SAMPLE_BYTES)) + 1
        for domain, histogram in _histograms(build)[0].items()
    }
    totals = {domain: {"bytes": 0, "tokens": 0} for domain in sorted(ends)}
    encoder = Encoder(pack.load(tokenizer))
    for shard in build.shards():
        view = build.view(shard, before="balance")
        bins = (_position(build, view.documents["id"]) * BINS).astype(np.int32)
        for domain, end in ends.items():
            mine = pc.equal(view.documents["domain"], domain).to_numpy(zero_copy_only=False)
            texts = excerpts(view.texts.filter(pa.array(mine & (bins < end))), _LONGEST_BYTES)
            totals[domain]["bytes"] += pc.sum(pc.binary_length(texts).cast(pa.int64())).as_py() or 0
            totals[domain]["tokens"] += sum(len(block.tokens) for block in encoder.encode(texts))
    return Outcome(bytes=sum(entry["bytes"] for entry in totals.values())), {"domains": totals}


def bytes_per_token(build: Build, sizes: Mapping[str, int], documents: Mapping[str, int]) -> dict[str, float]:
    """Bytes per token of each domain of ``sizes`` (bytes); a measured one counts the token that ends each document."""
    config = _config(build)
    if config.tokenizer is None:
        return {domain: config.ratio(domain) for domain in sizes}
    ratios = {}
    for domain, entry in files.read_json(build.path("work", "balance.tokens", "tokens.json"))["domains"].items():
        tokens = sizes[domain] * entry["tokens"] / max(entry["bytes"], 1) + documents[domain]
        ratios[domain] = max(sizes[domain], 1) / tokens
    return ratios


def _make_plan(build: Build, item: str) -> Outcome:
    config = _config(build)
    measured = build.path("work", "balance.tokens", "tokens.json")
    made_by = files.fingerprint(
        "balance.plan",
        VERSION,
        config,
        files.read_json(measured) if config.tokenizer else None,
        [shards.read_fingerprint(path) for path in _size_paths(build)],
    )

    def plans() -> Made:
        histograms, documents = _histograms(build)
        sizes = {domain: int(histogram.sum()) for domain, histogram in histograms.items()}
        plan = make_plan(histograms, documents, config, bytes_per_token(build, sizes, documents))
        domains = {name: asdict(entry) for name, entry in plan.domains.items()}
        budget = plan.budget.asdict() if plan.budget else None
        return Outcome(sum(documents.values())), {"domains": domains, "budget": budget}, {"domains": domains}

    return make([build.path("balance.json"), build.path("work", "balance.plan", item)], made_by, plans)


def make_plan(
    histograms: Mapping[str, np.ndarray],
    documents: Mapping[str, int],
    config: Config,
    ratios: Mapping[str, float] | None = None,
) -> Plan:
    """The plan from each domain's bytes by hash bin (int64 [BINS]), its number of documents, and its bytes per token
    (None: as the recipe says)."""
    if ratios is None:
        ratios = {domain: config.ratio(domain) for domain in histograms}
    sizes = {domain: int(histograms[domain].sum()) for domain in sorted(histograms)}
    tokens = {domain: size / ratios[domain] for domain, size in sizes.items()}
    wanted = shares(tokens, config)
    taken = allocate(tokens, wanted, _tokens_wanted(tokens, config), config.max_epochs)
    plan = {}
    for domain, size in sizes.items():
        epochs = taken[domain] / tokens[domain] if size else 0.0
        whole = int(epochs + 1e-9)
        part = max(0.0, epochs - whole) * size
        below = np.concatenate([[0], np.cumsum(histograms[domain])])
        cut = int(np.searchsorted(below, part, side="right")) - 1 if part > 0 else 0
        cut += int(part > 0 and cut < BINS and part - below[cut] > below[cut + 1] - part)  # the nearer side
        plan[domain] = DomainPlan(documents[domain], size, tokens[domain], wanted[domain], epochs, whole, cut / BINS)
    budget = config.budget and token_budget(config.budget, config.max_epochs, tokens, wanted, taken, ratios)
    return Plan(plan, budget)


def _tokens_wanted(tokens: Mapping[str, float], config: Config) -> float:
    if config.budget is not None:
        return config.budget.tokens
    if config.tokens is not None:
        return config.tokens
    return min(1.0, config.max_epochs) * sum(tokens[domain] for domain in sorted(tokens))


class NoBudget(MillError):
    """A budget cannot be computed; the message says what is missing."""


def what_if(
    build: Build,
    parameters: int | None = None,
    tokens_per_parameter: float | None = None,
    max_epochs: float | None = None,
) -> TokenBudget:
    """The budget of the recipe's model, or of the one that is asked about, on the domains of ``build``.

    Raises NoBudget if the build has not balanced its domains yet, or no model is named.
    """
    config, path = build.section("balance"), build.path("balance.json")
    if config is None or not files.exists(path):
        raise NoBudget(f"{path}: not there. Give the recipe a `balance` section ({{}} will do) and run `mill curate`")
    size = parameters or (config.budget and config.budget.parameters)
    if not size:
        raise NoBudget(
            "no model to budget for: give --parameters, or `balance: {budget: {parameters: ...}}` in the recipe"
        )
    ratio = tokens_per_parameter or (config.budget.tokens_per_parameter if config.budget else 20.0)
    target, epochs = Target(parameters=size, tokens_per_parameter=ratio), max_epochs or config.max_epochs
    domains = files.read_json(path)["domains"]
    tokens = {domain: entry["tokens"] for domain, entry in domains.items()}
    ratios = {domain: entry["bytes"] / entry["tokens"] if entry["tokens"] else 1.0 for domain, entry in domains.items()}
    wanted = shares(tokens, config)
    given = allocate(tokens, wanted, target.tokens, epochs)
    return token_budget(target, epochs, tokens, wanted, given, ratios)


def _decide(build: Build, shard: str) -> Outcome:
    plan = files.read_json(build.path("work", "balance.plan", "plan.json"))
    made_by = files.fingerprint(
        "balance", VERSION, build.recipe.seed, plan["domains"], build.view_fingerprint(shard, "balance")
    )
    return make(build.ledger_path("balance", shard), made_by, partial(_verdicts, build, shard, plan["domains"]))


def _verdicts(build: Build, shard: str, plan: dict[str, Any]) -> Made:
    view = build.view(shard, before="balance")
    domains = view.documents["domain"].dictionary_encode()
    entries = [plan[name] for name in domains.dictionary.to_pylist()]
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
    return Outcome(len(view.texts), view.texts.nbytes), pa.table(ledger.spread(view.alive, columns))


def _position(build: Build, ids: pa.StringArray) -> np.ndarray:
    """Where each document stands in [0, 1): float64, from its id and the recipe's seed."""
    return unit_interval(document_hash(ids, build.recipe.seed))


STAGE = Stage(
    name="balance",
    title="Domain balancing",
    about="set how many tokens each domain gives, and how often documents are read",
    config=Config,
    steps=steps,
)
