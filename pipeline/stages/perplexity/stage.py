"""Perplexity filter: how surprising a language model finds each document. Both tails are cut.

CCNet (Wenzek et al. 2020): a KenLM model per language; documents fall into head, middle and tail at the 30th and 60th
percentile of their language's perplexities, or at values. Very low is boilerplate, very high is noise.

A model is a file, or is trained in the build on a reference part of the corpus. Then there are two, and a document is
scored by the one that has not seen it nor an exact copy of it (see ``reference_text``). Near-copies
in the other half it has seen, and they look less surprising than they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from math import ceil, floor
from typing import Annotated, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, model_validator

from pipeline import MillError
from pipeline.build.build import Build, Made, Outcome, Step, View, make
from pipeline.build.reuse import Refill, Reuse, refilled
from pipeline.build.stage import Recipe, Stage
from pipeline.stages.perplexity import reference_text, scoring, train_model
from pipeline.stages.perplexity.reference_text import TRAINED, Reference
from pipeline.stages.perplexity.scoring import Scorer
from pipeline.store import files, ledger, model_files, recipe_file, shards
from pipeline.store.ledger import Rule
from pipeline.store.quantiles import order_statistics

VERSION = 2
Share = Annotated[float, Field(ge=0, le=1)]
Perplexity = Annotated[float, Field(gt=0)]
Edges = tuple[Perplexity, Perplexity]

BUCKETS = ("head", "middle", "tail")
SIGNALS: dict[str, pa.DataType] = {
    "perplexity": pa.float32(),
    "perplexity_tokens": pa.int64(),
    "perplexity_bucket": pa.dictionary(pa.int8(), pa.string()),
}
#: Shares of a language's documents below the edges between buckets.
EDGES = (0.3, 0.6)
#: The perplexities at which CCNet cuts, under its own models.
CCNET_EDGES: dict[str, Edges] = {
    "de": (370, 590),
    "en": (340, 520),
    "es": (180, 290),
    "fr": (180, 330),
    "it": (220, 360),
    "ja": (1110, 1450),
    "ru": (210, 310),
    "zh": (1460, 1950),
}


class PieceModel(recipe_file.Config):
    """A KenLM model of SentencePiece pieces, as CCNet's are: texts are normalised as there, each is one sentence."""

    kenlm: Annotated[str, Field(description="path of the KenLM model, ARPA or binary")]
    sentencepiece: Annotated[str, Field(description="path of the SentencePiece model whose pieces it scores")]


class Drop(recipe_file.Config):
    """Shares of each language's documents to drop: those with the lowest and with the highest perplexity."""

    lowest: Annotated[
        Share, Field(description="share of each language's documents to drop at the low end, mostly boilerplate")
    ] = 0.02
    highest: Annotated[
        Share, Field(description="share of each language's documents to drop at the high end, mostly noise")
    ] = 0.10


class Config(recipe_file.Config):
    """``models``: for each language its KenLM model, ARPA or binary: a path; ``{kenlm: path, sentencepiece: path}`` for
    one of pieces, such as CCNet's; or ``build`` for one that is trained in this build, with ``order`` and ``prune`` as
    in lmplz. Documents in other languages are not scored and stay.

    ``minimum`` and ``maximum`` are perplexities by language; where given, they replace ``drop``'s percentiles.
    ``edges``: where head ends and tail begins: two shares of a language's documents; or ``ccnet`` for the perplexities
    published for CCNet's models of de, en, es, fr, it, ja, ru, zh; or perplexities by language. Languages that these do
    not name are cut at 0.3 and 0.6.
    """

    models: Annotated[
        dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")], str | PieceModel],
        Field(
            min_length=1,
            description="model of each language: a KenLM path, {kenlm, sentencepiece} as CCNet's, or `build` to"
            " train one here",
        ),
    ] = {"en": TRAINED}
    order: Annotated[
        int, Field(ge=2, le=6, description="longest n-gram of a trained model, in words; 5 as in CCNet")
    ] = 5
    prune: Annotated[
        train_model.Prune,
        Field(description="count at or below which n-grams are left out, for each order from 1; as in lmplz"),
    ] = [0, 0, 1]
    estimator: Annotated[
        train_model.Estimator,
        Field(description="program that trains: KenLM's lmplz, our own, or lmplz where it is installed"),
    ] = "auto"
    quantised: Annotated[
        bool,
        Field(
            description="probabilities and backoffs as codes of 8 bits, in two thirds of the memory; as `-q 8 -b 8` of"
            " KenLM's build_binary"
        ),
    ] = False
    reference: Annotated[Reference, Field(description="documents that models are trained on")] = Reference()
    drop: Annotated[Drop, Field(description="shares of each language's documents to drop by perplexity")] = Drop()
    minimum: Annotated[
        dict[str, Perplexity], Field(description="lowest perplexity that stays, by language; in place of `drop.lowest`")
    ] = {}
    maximum: Annotated[
        dict[str, Perplexity],
        Field(description="highest perplexity that stays, by language; in place of `drop.highest`"),
    ] = {}
    edges: Annotated[
        tuple[Share, Share] | Literal["ccnet"] | dict[str, Edges],
        Field(
            description="where head ends and tail begins: two shares of documents (CCNet: 0.3 and 0.6), `ccnet`"
            " for its published perplexities, or perplexities by language"
        ),
    ] = EDGES

    @property
    def edge_shares(self) -> tuple[float, float]:
        return self.edges if isinstance(self.edges, tuple) else EDGES

    @property
    def edge_values(self) -> Mapping[str, Edges]:
        """The perplexities that head and tail are cut at, of the languages that have such."""
        if isinstance(self.edges, tuple):
            return {}
        return CCNET_EDGES if self.edges == "ccnet" else self.edges

    @model_validator(mode="after")
    def _makes_sense(self) -> Config:
        if self.drop.lowest + self.drop.highest >= 1:
            raise ValueError("drop: lowest and highest together leave no document; they are shares, 0.02 is 2 %")
        without = sorted({*self.minimum, *self.maximum} - set(self.models))
        if without:
            raise ValueError(f"a threshold for {without[0]!r}, but no model: add it to `models`")
        for low, high in (self.edge_shares, *self.edge_values.values()):
            if low > high:
                raise ValueError(f"edges: head ends at {low:g} and tail begins at {high:g}; give the lower one first")
        return self


def steps() -> list[Step]:
    return [
        *reference_text.steps(),
        Step("perplexity.score", "Perplexity", Build.shards, _score),
        Step("perplexity.cutoffs", "Perplexity cut-offs", lambda _build: ["cutoffs.json"], _find_cutoffs),
        Step("perplexity", "Perplexity filter", Build.shards, _judge),
    ]


def _config(build: Build) -> Config:
    config = build.section("perplexity")
    assert config is not None
    return config


def _scorers(build: Build) -> dict[str, tuple[Scorer, Scorer]]:
    """For each language that has a model what scores documents of half 0 and of half 1."""
    config, scorers = _config(build), {}
    for language, model in sorted(config.models.items()):
        if isinstance(model, PieceModel):
            kenlm, pieces = (model_files.locate(path, build.root) for path in (model.kenlm, model.sentencepiece))
            scorers[language] = (Scorer(kenlm, pieces, config.quantised),) * 2
        elif model != TRAINED:
            scorers[language] = (Scorer(model_files.locate(model, build.root), quantised=config.quantised),) * 2
        elif paths := reference_text.model_paths(build, language):
            first, second = (Scorer(path, quantised=config.quantised) for path in paths)
            scorers[language] = first, second
    return scorers


def _score(build: Build, shard: str) -> Outcome:
    """language, perplexity and tokens of the documents alive; null where there is no model or no sentence."""
    scorers = _scorers(build)
    made_by = files.fingerprint(
        "perplexity.score",
        VERSION,
        build.recipe.seed,
        {
            language: [[path and model_files.digest(path) for path in scorer[:2]] for scorer in pair]
            for language, pair in scorers.items()
        },
        *(["quantised"] if _config(build).quantised else []),
        build.view_fingerprint(shard, "perplexity"),
    )

    def scores() -> Made:
        view = build.view(shard, before="perplexity")
        return Outcome(len(view.texts), view.texts.nbytes), pa.table(ledger.spread(view.alive, score_view(build, view)))

    return make(scores_path(build, shard), made_by, scores)


def score_view(build: Build, view: View) -> dict[str, pa.Array]:
    """language, perplexity (float32) and tokens of the documents of ``view``, by the models that are there."""
    scorers = _scorers(build)
    languages = view.signals["language"].cast(pa.string())
    half = reference_text.halves(view.texts, build.recipe.seed)
    perplexities, tokens = np.full(len(half), np.nan), np.zeros(len(half), np.int64)
    for language, pair in scorers.items():
        mine = pc.equal(languages, language).to_numpy(zero_copy_only=False)
        for scorer in dict.fromkeys(pair):
            scored = np.array([other == scorer for other in pair])
            rows = np.flatnonzero(mine & scored[half])
            perplexities[rows], tokens[rows] = scoring.score(view.texts.take(pa.array(rows)), scorer)
    unknown = np.isnan(perplexities)
    return {
        "language": languages.dictionary_encode(),
        "perplexity": pa.array(np.minimum(perplexities, np.finfo(np.float32).max).astype(np.float32), mask=unknown),
        "perplexity_tokens": pa.array(tokens, mask=unknown),
    }


def scores_path(build: Build, shard: str) -> str:
    """Where the perplexities of a shard are, before any cut-off."""
    return build.path("work", "perplexity.score", shard)


def _find_cutoffs(build: Build, item: str) -> Outcome:
    """For each language the lowest and highest perplexity that stays, and the edges between its buckets."""
    config = _config(build)
    inputs = [scores_path(build, shard) for shard in build.shards()]
    made_by = files.fingerprint(
        "perplexity.cutoffs",
        VERSION,
        [config.drop, config.minimum, config.maximum, config.edge_shares, config.edge_values],
        [shards.read_fingerprint(path) for path in inputs],
    )
    return make(_cutoffs_path(build, item), made_by, partial(_cutoffs, config, inputs))


def _cutoffs(config: Config, inputs: Sequence[str]) -> Made:
    cutoffs = {}
    for language in sorted(config.models):
        count = sum(map(len, _values(inputs, language)))
        if not count:
            continue
        ranks = [floor(config.drop.lowest * count), count - 1 - floor(config.drop.highest * count)]
        ranks += [max(ceil(edge * count) - 1, 0) for edge in config.edge_shares]
        minimum, maximum, *edges = order_statistics(lambda name=language: _values(inputs, name), ranks)
        cutoffs[language] = {
            "documents": count,
            "minimum": config.minimum.get(language, minimum),
            "maximum": config.maximum.get(language, maximum),
            "edges": config.edge_values.get(language, edges),
        }
    return Outcome(sum(entry["documents"] for entry in cutoffs.values())), {"languages": cutoffs}


def _values(paths: Iterable[str], language: str) -> Iterator[np.ndarray]:
    """float32: the perplexities of the documents in ``language``, shard by shard."""
    for path in paths:
        table = shards.read_table(path, ["language", "perplexity"])
        mine = pc.and_(pc.equal(table["language"].cast(pa.string()), language), pc.is_valid(table["perplexity"]))
        yield table["perplexity"].filter(mine).to_numpy()


def _cutoffs_path(build: Build, item: str = "cutoffs.json") -> str:
    return build.path("work", "perplexity.cutoffs", item)


def _judge(build: Build, shard: str) -> Outcome:
    cutoffs = files.read_json(_cutoffs_path(build))["languages"]
    source = scores_path(build, shard)
    made_by = files.fingerprint("perplexity", VERSION, cutoffs, shards.read_fingerprint(source))
    return make(build.ledger_path("perplexity", shard), made_by, partial(_verdicts, source, cutoffs))


def _verdicts(source: str, cutoffs: dict[str, dict]) -> Made:
    table = shards.read_table(source)
    scores = {name: table[name].combine_chunks() for name in table.column_names}
    rules = [
        Rule("perplexity.too_low", "perplexity", minimum=_by_language(cutoffs, "minimum"), by="language"),
        Rule("perplexity.too_high", "perplexity", maximum=_by_language(cutoffs, "maximum"), by="language"),
    ]
    language = scores.pop("language")
    verdicts = ledger.judge(rules, {**scores, "language": language}, len(table))
    bucket = _buckets(scores["perplexity"], language, cutoffs)
    entry = pa.table({**scores, "perplexity_bucket": bucket, **verdicts.columns()})
    return Outcome(len(table) - scores["perplexity"].null_count), entry


def _by_language(cutoffs: dict[str, dict], bound: str) -> dict[str, float]:
    return {language: entry[bound] for language, entry in cutoffs.items()}


def _buckets(perplexity: pa.Array, languages: pa.Array, cutoffs: dict[str, dict]) -> pa.DictionaryArray:
    """head, middle or tail of its language for each document that has a perplexity."""
    values = ledger.numbers(perplexity)
    buckets = np.zeros(len(values), np.int8)
    for language, entry in cutoffs.items():
        mine = pc.equal(languages.cast(pa.string()), language).fill_null(False).to_numpy(zero_copy_only=False)
        buckets[mine] = np.searchsorted(entry["edges"], values[mine], side="left")
    return pa.DictionaryArray.from_arrays(pa.array(buckets, mask=np.isnan(values)), pa.array(BUCKETS))


def _check(_config: Config, recipe: Recipe) -> None:
    if recipe.section("language") is None:
        raise MillError("`perplexity` scores each document with its language's model: add a `language` section")


def _reuse(old: Config, new: Config) -> Reuse | None:
    trained = TRAINED in new.models.values()
    same = ["models", "quantised"] + trained * ["order", "prune", "estimator", "reference"]
    if any(getattr(old, name) != getattr(new, name) for name in same):
        return None
    refills = {"perplexity.score": Refill(scores_path, _refill)}
    if not trained:
        return Reuse(refills)
    return Reuse(
        refills,
        kept=[step.name for step in reference_text.steps()],
        note="Perplexity is that of the language models as this build trained them; a run trains them again on the "
        "documents that then reach this stage.",
    )


def _refill(stored: pa.Table, build: Build, view: View, known: np.ndarray) -> pa.Table:
    return pa.table(refilled(stored, view, known, partial(score_view, build)))


STAGE = Stage(
    name="perplexity",
    title="Perplexity",
    about="drop documents that a language model finds too predictable or too surprising (CCNet)",
    subject=True,
    config=Config,
    check=_check,
    signals=SIGNALS,
    steps=steps,
    reuse=_reuse,
)
