"""The token budget of a model on a corpus: what it used, what would be best, and what is still missing.

Every number names its convention: N ``total`` counts all parameters (Hoffmann's N, used for the law and for 6 N D).
Torch-free; ``of_build`` reads the sizes, the rest are pure functions of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from pipeline import MillError
from pipeline.build.build import Build
from pipeline.store import files
from pipeline.text.formats import short
from training.budget import laws
from training.recipe import gpu_peaks
from training.recipe.sections import BudgetConfig, BuildRecipe

#: Times beyond what a law was fitted to from which on its predictions are warned of: a decade.
FAR = 10.0


@dataclass(frozen=True)
class Corpus:
    """Sizes of a corpus: what one tokenizer made of its training part, and the text before and after curation."""

    unique_tokens: int
    unique_bytes: int
    raw_bytes: int
    curated_bytes: int

    @property
    def bytes_per_token(self) -> float:
        return self.unique_bytes / self.unique_tokens

    @property
    def keep_rate(self) -> float:
        """Share of the raw bytes that curation kept."""
        return self.curated_bytes / self.raw_bytes


@dataclass(frozen=True)
class Run:
    """Sizes of a training run. ``tokens_per_second`` is None where it was not measured.

    The scaling laws are of causal models: for any other ``objective`` they predict nothing.
    """

    total: int
    non_embedding: int
    matrices_and_head: int
    layers: int
    width: int
    sequence_length: int
    trained_tokens: int
    tokens_per_second: float | None = None
    device: str = ""
    objective: str = "causal"
    vocab_size: int | None = None

    @property
    def utilisation(self) -> float | None:
        """The share of the device's peak that was measured; None where the peak or the speed is not known."""
        peak = gpu_peaks.peak_flops(self.device)
        if not peak or not self.tokens_per_second:
            return None
        flops = laws.compute(self.matrices_and_head, 1)
        flops += laws.attention_compute(self.layers, self.width, self.sequence_length, 1)
        return self.tokens_per_second * flops / peak


@dataclass(frozen=True)
class Prediction:
    """What a scaling law says: losses in nats a token, N in parameters, D in tokens; None where it says nothing."""

    law: str
    loss: float | None = None
    compute_optimal_parameters: float | None = None
    compute_optimal_tokens: float | None = None
    compute_optimal_loss: float | None = None
    parameters_for_unique_tokens: float | None = None


@dataclass(frozen=True)
class Target:
    """What a larger model would need. Times and costs are None where they cannot be known."""

    parameters: int
    tokens: float
    missing_tokens: float
    missing_curated_bytes: float
    missing_raw_bytes: float
    compute: float
    epochs_of_this_corpus: float
    effective_tokens: float
    gpu: str
    gpu_hours: float | None
    cost: float | None
    hours_at_measured_speed: float | None


@dataclass(frozen=True)
class Budget:
    """The token budget; D is tokens trained, U unique tokens, N as named."""

    total: int
    non_embedding: int
    matrices_and_head: int
    unique_tokens: int
    trained_tokens: int
    epochs: float
    tokens_per_parameter: float
    tokens_per_non_embedding_parameter: float
    effective_tokens: float
    compute: float
    compute_with_attention: float
    predictions: tuple[Prediction, ...]
    repeated_loss: float | None
    hours: float | None
    gpu: str
    gpu_hours: float | None
    cost: float | None
    target: Target
    warnings: tuple[str, ...]

    def asdict(self) -> dict[str, Any]:
        return asdict(self)


def of_build(build: Build[BuildRecipe]) -> dict[str, Any]:
    """The budget of every pretrained model of ``build``, as plain values: ``runs``, in the recipe's order.

    Each holds ``name``, ``tokenizer``, ``corpus`` (Corpus) and the fields of Budget. Runs without a model are left out.
    """
    runs = []
    for config in build.recipe.pretrain:
        path = build.path("models", config.name, "summary.json")
        entry = of_summary(build, files.read_json(path)) if files.exists(path) else None
        if entry is not None:
            runs.append(entry)
    return {"runs": runs}


def of_summary(build: Build[BuildRecipe], summary: Mapping[str, Any]) -> dict[str, Any] | None:
    """The entry of ``of_build`` for one pretrained model; None where the build's account (funnel.json) is not there."""
    account = build.path("funnel.json")
    if not files.exists(account):
        return None
    stages = files.read_json(account)["stages"]
    corpus = Corpus(summary["unique_tokens"], summary["unique_bytes"], stages[0]["bytes"], stages[-1]["bytes"])
    sizes = ("layers", "width", "sequence_length", "trained_tokens", "tokens_per_second", "device")
    run = Run(
        **summary["parameters"],
        **{name: summary[name] for name in sizes},
        objective=summary["objective"],
        vocab_size=summary["vocab_size"],
    )
    return entry(summary["name"], summary["tokenizer"], corpus, run, build.recipe.budget)


def entry(name: str, tokenizer: str | None, corpus: Corpus, run: Run, config: BudgetConfig) -> dict[str, Any]:
    """One budget as plain values, with what it is of."""
    sizes = {**asdict(corpus), "bytes_per_token": corpus.bytes_per_token, "keep_rate": corpus.keep_rate}
    return {"name": name, "tokenizer": tokenizer, "corpus": sizes, **budget(corpus, run, config).asdict()}


def budget(corpus: Corpus, run: Run, config: BudgetConfig) -> Budget:
    """The budget of ``run`` on ``corpus``. Raises MillError where the corpus or the run is empty."""
    if corpus.unique_tokens < 1 or run.trained_tokens < 1:
        raise MillError("a token budget needs a corpus with tokens and a run that trained on some")
    used = laws.compute(run.total, run.trained_tokens)
    attention = laws.attention_compute(run.layers, run.width, run.sequence_length, run.trained_tokens)
    with_attention = laws.compute(run.matrices_and_head, run.trained_tokens) + attention
    gpu_hours = hours_on(config, with_attention, run.utilisation)
    return Budget(
        total=run.total,
        non_embedding=run.non_embedding,
        matrices_and_head=run.matrices_and_head,
        unique_tokens=corpus.unique_tokens,
        trained_tokens=run.trained_tokens,
        epochs=run.trained_tokens / corpus.unique_tokens,
        tokens_per_parameter=run.trained_tokens / run.total,
        tokens_per_non_embedding_parameter=run.trained_tokens / run.non_embedding,
        effective_tokens=laws.effective_tokens(corpus.unique_tokens, run.trained_tokens),
        compute=used,
        compute_with_attention=with_attention,
        predictions=tuple(predict(law, corpus, run) for law in (laws.BESIROGLU, laws.HOFFMANN)),
        repeated_loss=laws.repeated_loss(run.total, corpus.unique_tokens, run.trained_tokens)
        if run.objective == "causal"
        else None,
        hours=run.trained_tokens / run.tokens_per_second / 3600 if run.tokens_per_second else None,
        gpu=config.gpu,
        gpu_hours=gpu_hours,
        cost=cost(config, gpu_hours),
        target=target(corpus, run, config),
        warnings=tuple(warnings(run)),
    )


def warnings(run: Run) -> Iterator[str]:
    """What the laws' predictions for ``run`` must not be taken for."""
    if run.objective != "causal":
        yield f"no loss is predicted: the scaling laws are of causal language models, and this run is `{run.objective}`"
        return
    for name, value, (low, high) in (
        ("N", run.total, laws.FITTED_PARAMETERS),
        ("D", run.trained_tokens, laws.FITTED_TOKENS),
    ):
        times = max(low / value, value / high)
        if times > FAR:
            yield (
                f"predicted losses are far extrapolated: {name} of {short(value)} is {short(times)} times"
                f" {'below' if value < low else 'above'} what the laws were fitted to ({short(low)} to {short(high)})"
            )
    guess = math.log(run.vocab_size) if run.vocab_size else math.inf
    loss = laws.BESIROGLU.loss(run.total, run.trained_tokens)
    if loss > guess:
        yield (
            f"the predicted loss of {loss:.2f} nats cannot be right: a uniform guess among {run.vocab_size:,} entries"
            f" costs {guess:.2f}"
        )


def hours_on(config: BudgetConfig, operations: float, measured: float | None) -> float | None:
    """Hours of ``config.gpu`` for so many operations, at the utilisation that was measured, or else the config's."""
    peak = gpu_peaks.peak_flops(config.gpu)
    return operations / (peak * (measured or config.utilisation)) / 3600 if peak else None


def cost(config: BudgetConfig, hours: float | None) -> float | None:
    """What ``hours`` of the GPU cost, where the recipe says its price."""
    return hours * config.price_per_hour if hours is not None and config.price_per_hour is not None else None


def predict(law: laws.Law, corpus: Corpus, run: Run) -> Prediction:
    if run.objective != "causal":
        return Prediction(law.name)
    parameters, tokens = law.optimum(laws.compute(run.total, run.trained_tokens))
    return Prediction(
        law=law.name,
        loss=law.loss(run.total, run.trained_tokens),
        compute_optimal_parameters=parameters,
        compute_optimal_tokens=tokens,
        compute_optimal_loss=law.loss(parameters, tokens),
        parameters_for_unique_tokens=law.parameters_for(corpus.unique_tokens),
    )


def target(corpus: Corpus, run: Run, config: BudgetConfig) -> Target:
    """What ``config.parameters`` parameters need beyond ``corpus``, at its bytes a token and its keep rate."""
    wanted = config.parameters * config.tokens_per_parameter
    missing = max(0.0, wanted - corpus.unique_tokens)
    work = laws.compute(config.parameters, wanted)
    gpu_hours = hours_on(config, work, run.utilisation)
    speed = run.tokens_per_second
    return Target(
        parameters=config.parameters,
        tokens=wanted,
        missing_tokens=missing,
        missing_curated_bytes=missing * corpus.bytes_per_token,
        missing_raw_bytes=missing * corpus.bytes_per_token / corpus.keep_rate,
        compute=work,
        epochs_of_this_corpus=wanted / corpus.unique_tokens,
        effective_tokens=laws.effective_tokens(corpus.unique_tokens, wanted),
        gpu=config.gpu,
        gpu_hours=gpu_hours,
        cost=cost(config, gpu_hours),
        hours_at_measured_speed=wanted / (speed * run.total / config.parameters) / 3600 if speed else None,
    )
