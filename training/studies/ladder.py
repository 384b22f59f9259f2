"""The scaling ladder: small models trained on one's own corpus, laws fitted to their losses, the next size predicted.

For each compute C of the recipe a model of every width is trained on D = C / (operations a token) tokens, attention
counted, with its own schedule (Hoffmann 2022: a run that was stopped early is not a shorter run). Their held-out losses
give IsoFLOP parabolas (approach 2) and a law (approach 3), each with bootstrap intervals over the runs. The law is also
fitted without the largest compute, and what it says of those runs stands beside what they came to.

    scaling/ladder.json     models/ladder-<compute>-w<width>/
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from pipeline import MillError
from pipeline.build.build import Build
from pipeline.store import files
from pipeline.store.packed_tokens import PackedTokens
from training import objectives
from training.batches import random_streams
from training.batches.vocabulary import Vocabulary
from training.budget import estimates
from training.budget.laws import Law
from training.models import architectures
from training.objectives.base import Task
from training.recipe.sections import BuildRecipe, LadderConfig, PretrainConfig
from training.studies import fit_laws
from training.studies.fit_laws import Parabola, Runs

VERSION = 2

FAR = 10.0
"""Times beyond the runs that a law was fitted to from which on its prediction is warned of: a decade."""


@dataclass(frozen=True)
class Rung:
    """One run of the ladder: a model of ``parameters`` by the ladder's convention, on ``tokens`` tokens."""

    config: PretrainConfig
    compute: float
    width: int
    parameters: int
    tokens: int


@dataclass(frozen=True)
class Plan:
    """The runs, shortest first, and for each run that is not worth training why."""

    rungs: tuple[Rung, ...]
    left_out: dict[str, str]


def plan(build: Build[BuildRecipe]) -> Plan:
    """The ladder of ``build``'s recipe on its packed tokens. Raises MillError where too few runs for a law remain."""
    config = ladder_config(build)
    train = PackedTokens(build.path("tokens", config.tokenizer, "train"))
    vocabulary = Vocabulary.of(train)
    step_tokens = config.batch_size * config.sequence_length
    objective = objectives.load("causal")
    rungs, left_out = [], {}
    for compute in sorted(set(config.compute)):
        for width in sorted(set(config.widths)):
            run = _run_config(config, compute, width, steps=1)
            with torch.device("meta"):
                model = objective.checkpoint(objective.create(Task(run, vocabulary, 0)))
            tokens = compute / architectures.flops_per_token(model, config.sequence_length)
            sizes = estimates.count(run.shape, vocabulary, config.sequence_length)._asdict()
            steps, epochs = round(tokens / step_tokens), tokens / len(train)
            if steps < config.min_steps:
                left_out[run.name] = f"{steps} steps are fewer than min_steps {config.min_steps}"
            elif epochs > config.max_epochs:
                left_out[run.name] = f"{epochs:.1f} epochs are more than max_epochs {config.max_epochs:g}"
            else:
                run = _run_config(config, compute, width, steps)
                size = sizes[config.parameters]
                rungs.append(Rung(run, compute, width, size, steps * step_tokens))
    if len(rungs) < fit_laws.LEAST_RUNS:
        reasons = "".join(f"\n  {name}: {why}" for name, why in left_out.items())
        raise MillError(
            f"ladder: {len(rungs)} runs are left, and a law needs {fit_laws.LEAST_RUNS}; change `compute` or `widths`,"
            f" or take more text:{reasons}"
        )
    return Plan(tuple(sorted(rungs, key=lambda rung: (rung.compute, rung.width))), left_out)


def ladder_config(build: Build[BuildRecipe]) -> LadderConfig:
    """The recipe's `ladder` section. Raises MillError where it has none."""
    if build.recipe.ladder is None:
        raise MillError(f"recipe {build.recipe.name!r} has no `ladder` section; `mill fields ladder` explains it")
    return build.recipe.ladder


def with_rungs(build: Build[BuildRecipe], rungs: Sequence[Rung]) -> Build[BuildRecipe]:
    """The same build with the ladder's runs for its `pretrain` section, as training.pretraining.pretrain takes them."""
    return Build(build.root, build.recipe.model_copy(update={"pretrain": [rung.config for rung in rungs]}))


def _run_config(config: LadderConfig, compute: float, width: int, steps: int) -> PretrainConfig:
    rate = config.optimiser.learning_rate * math.sqrt(config.base_width / width)
    return PretrainConfig(
        name=f"ladder-{compute:.2g}-w{width}".replace("+", ""),
        objective="causal",
        tokenizer=config.tokenizer,
        model=_shape(config, width),
        sequence_length=config.sequence_length,
        batch_size=config.batch_size,
        micro_batch=config.micro_batch,
        precision=config.precision,
        compile=config.compile,
        seed=config.seed,
        steps=steps,
        optimiser=config.optimiser.model_copy(update={"learning_rate": rate}),
        eval_tokens=config.eval_tokens,
        checkpoint_every=max(1, steps),
        keep_last=1,
    )


def _shape(config: LadderConfig, width: int) -> dict[str, Any]:
    """A model of ``width``: a head for every 32 of it and a layer for every ``layer_width``, at least one of each."""
    heads, layers = max(1, width // 32), max(1, round(width / config.layer_width))
    if config.family == "gpt2":
        return {"type": "gpt2", "n_layer": layers, "n_embd": width, "n_head": heads}
    return {
        "type": "llama",
        "num_hidden_layers": layers,
        "hidden_size": width,
        "num_attention_heads": heads,
        "num_key_value_heads": heads,
        "intermediate_size": 32 * math.ceil(8 * width / 3 / 32),
    }


def summarise(build: Build[BuildRecipe], planned: Plan, summaries: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Fit the laws to the ``summaries`` of the planned runs, write scaling/ladder.json and return it."""
    config = ladder_config(build)
    rows = [
        {
            "name": rung.config.name,
            "compute": rung.compute,
            "width": rung.width,
            "parameters": rung.parameters,
            "tokens": rung.tokens,
            "epochs": summary["epochs"],
            "loss": summary["evaluation"]["loss"],
            "bits_per_byte": summary["evaluation"]["bits_per_byte"],
            "seconds": summary["seconds"],
        }
        for rung, summary in zip(planned.rungs, summaries, strict=True)
    ]
    made_by = files.fingerprint("ladder", VERSION, config, [summary["fingerprint"] for summary in summaries])
    results = {"fingerprint": made_by, "parameters": config.parameters, "left_out": planned.left_out, "rows": rows}
    results |= analyse(rows, config)
    files.write_json(build.path("scaling", "ladder.json"), results)
    return results


def analyse(rows: Sequence[dict[str, Any]], config: LadderConfig) -> dict[str, Any]:
    """The laws of ``rows`` (compute, parameters, tokens, loss), their intervals, and what they predict.

    ``law`` with an interval for each constant; ``isoflop`` with a parabola a compute and the exponent of N_opt by
    compute; ``held_out`` with what a law fitted below the largest compute says of the runs at it; ``next`` with the
    best size, tokens and loss at larger computes; ``warnings`` with what the runs do not bear out, and which to add.
    """
    runs = _runs(rows)
    law = fit_laws.fit_law(runs)
    laws = fit_laws.bootstrap_laws(runs, law, config.bootstrap, random_streams.seed("ladder", 0))
    constants = ("E", "A", "B", "alpha", "beta")
    largest = max(row["compute"] for row in rows)
    isoflop = _isoflop(rows, config)
    coming, doubts = _sound(rows, [_prediction(factor * largest, law, laws) for factor in config.predict])
    return {
        "law": {name: getattr(law, name) for name in constants},
        "law_intervals": {name: fit_laws.interval([getattr(entry, name) for entry in laws]) for name in constants},
        "isoflop": isoflop,
        "held_out": _held_out(rows, largest),
        "next": coming,
        "warnings": [*_undetermined(law), *_unbracketed(rows, isoflop["curves"]), *doubts],
    }


def _undetermined(law: Law) -> list[str]:
    """For each constant at the edge of what the fit may take."""
    return [
        f"{name} is fitted at {getattr(law, name):.3g}, the edge of what is tried: the runs do not determine it, so add"
        " `widths` and `compute` further apart"
        for name in fit_laws.at_the_edge(law)
    ]


def _unbracketed(rows: Sequence[dict[str, Any]], curves: Sequence[dict[str, Any]]) -> list[str]:
    """For each compute whose best size lies outside what was trained, in which direction and what to add."""
    minima = {curve["compute"]: curve for curve in curves}
    problems = []
    for compute in sorted({row["compute"] for row in rows}):
        members = sorted((row for row in rows if row["compute"] == compute), key=lambda row: row["parameters"])
        smallest, largest = members[0], members[-1]
        minimum, at = minima.get(compute), f"at {compute:.2g} FLOP"
        if len(members) < 3:
            problems.append(f"{at}: {len(members)} sizes say nothing of the best one; it takes 3, so change `widths`")
        elif minimum is None:
            problems.append(f"{at}: the loss has no minimum over N; add `widths` on both sides, or raise `eval_tokens`")
        elif not minimum["bracketed"]:
            above = minimum["parameters"] > largest["parameters"]
            end, side, word = (largest, "above", "larger") if above else (smallest, "below", "smaller")
            problems.append(
                f"{at}: no minimum among the sizes trained, {word} models would do better; add `widths` {side}"
                f" {end['width']} (N of {end['parameters']:,})"
            )
    return problems


def _beyond(rows: Sequence[dict[str, Any]], entry: dict[str, Any], name: str) -> float:
    """How many times what the law predicts lies beyond what was trained; below 1 within it."""
    values = [row[name] for row in rows]
    return max(entry[name] / max(values), min(values) / entry[name])


def _sound(rows: Sequence[dict[str, Any]], coming: Sequence[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[str]]:
    """The predictions that can be made, and what to say of those that are far, absurd or without an interval.

    One whose best size or length is beyond FAR x FAR times what was trained says nothing, nor does an interval that
    reaches so far, or up to a loss above that of every run.
    """
    kept, problems = [], []
    worst = max(row["loss"] for row in rows)
    for entry in coming:
        at = f"at {entry['compute']:.2g} FLOP"
        times = {what: _beyond(rows, entry, name) for what, name in (("N", "parameters"), ("D", "tokens"))}
        if max(times.values()) > FAR * FAR:
            what = max(times, key=lambda name: times[name])
            problems.append(
                f"{at}: nothing is predicted, the law's best {what} is {times[what]:,.0f} times beyond what was"
                " trained; add runs of a `compute` between, and `widths` further apart"
            )
            continue
        problems += [
            f"{at}: the best {what} is {factor:,.0f} times beyond what was trained, too far to trust the law; add runs"
            " of a `compute` between"
            for what, factor in times.items()
            if factor > FAR
        ]
        wide = [
            name
            for name in ("parameters", "tokens", "loss")
            if (band := entry[f"{name}_interval"])
            and (
                band[1] > worst if name == "loss" else max(_beyond(rows, {name: end}, name) for end in band) > FAR * FAR
            )
        ]
        if wide:
            names = ", ".join(wide)
            problems.append(f"{at}: the runs give no interval of {names}: add runs, and `widths` further apart")
        kept.append({**entry, **{f"{name}_interval": None for name in wide}})
    return kept, problems


def _runs(rows: Sequence[dict[str, Any]]) -> Runs:
    return Runs(*(np.array([row[name] for row in rows], np.float64) for name in ("parameters", "tokens", "loss")))


def _isoflop(rows: Sequence[dict[str, Any]], config: LadderConfig) -> dict[str, Any]:
    by_compute: dict[float, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        by_compute[row["compute"]].append(row)
    groups = [(compute, _runs(members)) for compute, members in sorted(by_compute.items())]
    fits: list[tuple[float, Parabola]] = []
    for compute, runs in groups:
        parabola = fit_laws.fit_parabola(runs)
        if parabola is not None:
            fits.append((compute, parabola))
    curves = [
        {
            "compute": compute,
            **asdict(parabola),
            # D where the measured operations a token, a smooth function of N, are those of the optimum
            "tokens": float(np.exp(np.interp(np.log(parabola.parameters), *_log_tokens(by_compute[compute])))),
        }
        for compute, parabola in fits
    ]
    bracketed = [entry for entry in curves if entry["bracketed"]]
    exponent = band = None
    if len(bracketed) >= 2:
        x, y = (np.array([entry[name] for entry in bracketed]) for name in ("compute", "parameters"))
        exponent = fit_laws.fit_power(x, y)[1]
        kept = [(compute, runs) for compute, runs in groups if any(entry["compute"] == compute for entry in bracketed)]
        band = fit_laws.interval(
            fit_laws.bootstrap_exponents(kept, config.bootstrap, random_streams.seed("isoflop", 0))
        )
    return {"curves": curves, "exponent": exponent, "exponent_interval": band}


def _log_tokens(rows: Sequence[dict[str, Any]]) -> tuple[np.ndarray, np.ndarray]:
    ordered = sorted(rows, key=lambda row: row["parameters"])
    return tuple(np.log([row[name] for row in ordered]) for name in ("parameters", "tokens"))  # type: ignore[return-value]


def _held_out(rows: Sequence[dict[str, Any]], largest: float) -> list[dict[str, Any]]:
    """The runs of the largest compute, and what a law fitted to the smaller ones says of them; [] if it cannot be."""
    below = [row for row in rows if row["compute"] < largest]
    try:
        law = fit_laws.fit_law(_runs(below)) if below else None
    except fit_laws.TooFewRuns:
        law = None
    if law is None:
        return []
    return [
        {"name": row["name"], "loss": row["loss"], "predicted": law.loss(row["parameters"], row["tokens"])}
        for row in rows
        if row["compute"] == largest
    ]


def _prediction(compute: float, law: Law, laws: Sequence[Law]) -> dict[str, Any]:
    parameters, tokens = law.optimum(compute)
    optima = [entry.optimum(compute) for entry in laws]
    return {
        "compute": compute,
        "parameters": parameters,
        "parameters_interval": fit_laws.interval([n for n, _ in optima]),
        "tokens": tokens,
        "tokens_interval": fit_laws.interval([d for _, d in optima]),
        "loss": law.loss(parameters, tokens),
        "loss_interval": fit_laws.interval([entry.loss(parameters, tokens) for entry in laws]),
    }
