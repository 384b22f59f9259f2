"""What the report says about models: pretraining runs, fine-tuned models beside their baselines, the token budget.

Summaries are read as training writes them (models/<name>/summary.json and metrics.jsonl); the budget comes from the
caller, because the pipeline knows nothing of training.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from markupsafe import Markup

from pipeline.build.build import Build
from pipeline.report import charts
from pipeline.store import files
from pipeline.text.formats import duration, number, power, share, short, size, words

_POINTS, _FINE_POINTS = 300, 2000  # of a loss curve: drawn, and for who looks closer
#: Names for people of what the fine-tuning summary names; the model first, then its baselines.
PREDICTORS = {
    "model": "this model",
    "least_cost": "this model, by the costs of errors",
    "bag_of_words": "bag of words",
    "overlap": "words that both texts share",
    "majority": "most frequent label",
    "mean": "mean of the training rows",
    "copy": "copy of the text",
    "seen_words": "tags of words seen in training",
    "sentence": "sentence with the words of the question",
}
#: What ``majority`` is where it is no label.
_MOST_FREQUENT = {"answers": "most frequent answer", "text2text": "most frequent target"}
MEASURES = {
    "accuracy": "Accuracy",
    "macro_f1": "Macro F1",
    "matthews": "Matthews correlation",
    "micro_f1": "Micro F1",
    "exact_match": "Exact match",
    "f1": "F1",
    "bleu": "BLEU",
    "chrf": "chrF",
    "rouge_1": "ROUGE-1",
    "rouge_2": "ROUGE-2",
    "rouge_l": "ROUGE-L",
    "nearest": "Nearest is right",
    "entity_f1": "Entity F1",
    "strict_f1": "Strict F1",
    "precision": "Precision",
    "recall": "Recall",
    "word_accuracy": "Word accuracy",
    "spearman": "Spearman",
    "pearson": "Pearson",
    "mae": "Mean absolute error",
    "off_by_one": "Off by one class at most",
    "quadratic_kappa": "Quadratic kappa",
}
#: Measures that are no share of 1: they are written as they are, and not drawn.
_NUMBERS = ("matthews", "spearman", "pearson", "mae", "quadratic_kappa")


def summaries(build: Build, section: str) -> list[dict[str, Any]]:
    """The summaries of the models that the recipe's ``section`` (pretrain, finetune) names and that are there."""
    paths = [build.path("models", run.name, "summary.json") for run in build.section(section) or []]
    return [files.read_json(path) for path in paths if files.exists(path)]


def pretrained(build: Build) -> list[dict[str, Any]]:
    """The summary of each pretraining run with its loss curve and its bits per byte on held-out documents."""
    return [
        {
            "spikes": [],
            "warnings": [],
            "unigram_loss": None,
            **run,
            "curve": _curve_of(build, run["name"]),
            "per_byte": bits_per_byte(run),
            "accuracies": _accuracies(run),
        }
        for run in summaries(build, "pretrain")
    ]


#: What the names of measures of held-out text end in, beside the loss.
MEASURED = ("bits_per_byte", "accuracy", "original_share")


def measures(summary: Mapping[str, Any]) -> list[tuple[str, float]]:
    """Names and values of what was measured on held-out text, beside the loss."""
    return [(name, value) for name, value in summary["evaluation"].items() if name.endswith(MEASURED)]


def bits_per_byte(summary: Mapping[str, Any]) -> tuple[str, float] | None:
    """Name and value of what held-out text costs; a masked model's has its own name, it does not compare."""
    values = [(name, value) for name, value in summary["evaluation"].items() if name.endswith("bits_per_byte")]
    return (words(values[0][0]), values[0][1]) if values else None


def beside_frequencies(summary: Mapping[str, Any]) -> str:
    """The loss a token on held-out text beside that of token frequencies alone, where the summary has one."""
    loss = summary["evaluation"].get(summary["unigram_part"], summary["evaluation"]["loss"])
    return f"loss {loss:.3f} nats, token frequencies alone {summary['unigram_loss']:.3f}"


def _accuracies(summary: Mapping[str, Any]) -> list[tuple[str, float]]:
    return [(words(name), value) for name, value in measures(summary) if not name.endswith("bits_per_byte")]


def finetuned(build: Build) -> list[dict[str, Any]]:
    """Scores of each fine-tuned model beside its baselines, as rows and drawn on a scale from 0 to 1."""
    runs = []
    for run in summaries(build, "finetune"):
        runs.append({**scored(run), "curve": _curve_of(build, run["name"])})
        drawn = [index for index, name in enumerate(runs[-1]["measured"]) if name not in _NUMBERS]
        runs[-1]["charts"] = [_score_chart(runs[-1], index) for index in drawn]
        if (chart := strategies_chart(run)) is not None:
            runs[-1]["charts"].append(chart)
    return runs


def scored(run: Mapping[str, Any]) -> dict[str, Any]:
    """A fine-tuning summary with its ``measures``, and a row of ``scores`` for the model and for each baseline."""
    measures = list(run["scores"]["model"])
    rows = [
        {"name": predictor(run, name), "scores": [run["scores"][name][measure] for measure in measures]}
        for name in predictors(run)
    ]
    named = [MEASURES.get(measure, words(measure)) for measure in measures]
    return {**run, "measured": measures, "measures": named, "rows": rows}


def predictor(run: Mapping[str, Any], name: str) -> str:
    """The name for people of the predictor ``name`` of a fine-tuning summary."""
    if name == "majority" and run.get("like") in _MOST_FREQUENT:
        return _MOST_FREQUENT[run["like"]]
    return PREDICTORS.get(name, name)


def main_measure(run: Mapping[str, Any]) -> str:
    """The measure that a fine-tuned model is judged by."""
    return run.get("main", "accuracy")


def predictors(run: Mapping[str, Any]) -> list[str]:
    """What a fine-tuning summary has scores of: the model first, the most frequent label last."""
    return sorted(
        run["scores"],
        key=lambda name: ({"model": 0, "least_cost": 1, "bag_of_words": 2, "majority": 4}.get(name, 3), name),
    )


def score(measure: str, value: float) -> str:
    """The value of a measure for people: a share of 1 in percent, others as they are."""
    return number(value) if measure in _NUMBERS else share(value, 1)


def forgotten(row: Mapping[str, Any]) -> str | None:
    """The pretraining loss before and after a strategy, or why it is not known; None of an earlier version's row."""
    forgetting = row.get("forgetting")
    if forgetting is None:
        return None
    if "not_measured" in forgetting:
        return f"not measured: {forgetting['not_measured']}"
    return f"{forgetting['before']:.3f} to {forgetting['after']:.3f}"


def _score_chart(run: Mapping[str, Any], index: int) -> dict[str, Any]:
    drawn = [
        charts.Bar(
            row["name"],
            (("kept" if row["name"] == PREDICTORS["model"] else "other", row["scores"][index]["value"]),),
            share(row["scores"][index]["value"], 1),
        )
        for row in run["rows"]
    ]
    said = "; ".join(f"{bar.label}: {bar.note}" for bar in drawn)
    name = run["measures"][index]
    return {"name": name, "svg": charts.bars(f"{name} of {run['name']} on test documents", said, drawn, 1.0)}


def strategies_chart(run: Mapping[str, Any]) -> dict[str, Any] | None:
    """The score of each of several strategies, on a scale from 0 to 1; None of one, or of a measure without bounds."""
    if len(run.get("strategies", [])) < 2 or main_measure(run) in _NUMBERS:
        return None
    drawn = [
        charts.Bar(words(row["strategy"]), (("kept", row["score"]["value"]),), share(row["score"]["value"], 1))
        for row in run["strategies"]
    ]
    name = f"{MEASURES.get(main_measure(run), main_measure(run))} by strategy"
    said = "; ".join(f"{bar.label}: {bar.note}" for bar in drawn)
    return {"name": name, "svg": charts.bars(f"{name} of {run['name']} on test rows", said, drawn, 1.0)}


def _curve_of(build: Build, name: str) -> Markup | None:
    path = build.path("models", name, "metrics.jsonl")
    if not files.exists(path):
        return None
    files.check(path)
    with files.opened(path) as handle:
        return loss_curve(name, handle)


def loss_curve(name: str, lines: Iterable[bytes | str]) -> Markup | None:
    """The chart of a run's ``metrics.jsonl``: training loss, averaged to at most _POINTS points, and held-out loss."""
    train: list[tuple[float, float]] = []
    held_out: list[tuple[float, float]] = []
    for line in lines:
        row = json.loads(line)
        if "evaluation" in row:
            held_out.append((row["step"], row["evaluation"]["loss"]))
        elif "loss" in row:
            train.append((row["step"], row["loss"]))
    series = [
        charts.Series("train", "train", _thinned(train, _POINTS), fine=_thinned(train, _FINE_POINTS)),
        charts.Series("held out", "heldout", held_out),
    ]
    series = [entry for entry in series if entry.points]
    if not series:
        return None
    said = ", ".join(f"{entry.name} ends at {entry.points[-1][1]:.3f}" for entry in series)
    return charts.lines(f"Loss of {name} by step", said, series, "step", "loss (nats)")


def _thinned(points: list[tuple[float, float]], most: int) -> list[tuple[float, float]]:
    piece = -(-len(points) // most) or 1
    groups = [points[at : at + piece] for at in range(0, len(points), piece)]
    return [(group[-1][0], sum(y for _, y in group) / len(group)) for group in groups]


Row = tuple[str, str, str]


def budget_rows(budget: Mapping[str, Any]) -> list[Row]:
    """(name, value, where it comes from) of each number of a run's budget: training.budget.Budget as a dict."""
    ratio = budget["tokens_per_parameter"]
    rows = [
        ("N, all parameters", short(budget["total"]), "every parameter once: the N of Hoffmann 2022, used below"),
        ("N, without embeddings", short(budget["non_embedding"]), "without the tables that are looked up: Kaplan's N"),
        (
            "N, matrices and head",
            short(budget["matrices_and_head"]),
            "what tokens are multiplied with: the N of compute with attention",
        ),
        ("U, unique tokens", short(budget["unique_tokens"]), "tokens of the training documents, each document once"),
        ("D, tokens trained", short(budget["trained_tokens"]), "tokens that all steps read"),
        ("Epochs, D / U", number(budget["epochs"]), "of the unique tokens"),
        ("D / N", f"{number(ratio)} ({share(ratio, 20)} of 20)", "20 tokens a parameter are about compute-optimal"),
        ("D / N without embeddings", number(budget["tokens_per_non_embedding_parameter"]), "the same with Kaplan's N"),
        ("Effective tokens", short(budget["effective_tokens"]), "what D is worth in fresh tokens: Muennighoff 2023"),
        ("Compute C", f"{power(budget['compute'])} FLOP", "6 N D, with all parameters"),
        (
            "Compute with attention",
            f"{power(budget['compute_with_attention'])} FLOP",
            "6 D for matrices and head, plus 12 x layers x width x length a token",
        ),
    ]
    for law in budget["predictions"]:
        name = law["law"]
        rows += [
            (f"Predicted loss, {name}", number(law["loss"]), "nats a token on web text, every token taken as fresh"),
            (f"Best N for this compute, {name}", _optimum(law), "least loss at C"),
            (f"Best N for U tokens, {name}", _if_known(law["parameters_for_unique_tokens"]), "U read once"),
        ]
    return [
        *rows,
        (
            "Predicted loss, repeats counted",
            number(budget["repeated_loss"]),
            "nats a token: Muennighoff 2023",
        ),
        ("Time", duration(budget["hours"]), "D at the speed that was measured"),
        (f"Time on one {budget['gpu']}", duration(budget["gpu_hours"]), "compute with attention, at its utilisation"),
        ("Cost there", number(budget["cost"]), "at `budget.price_per_hour`"),
    ]


def _optimum(law: Mapping[str, Any]) -> str:
    if law["compute_optimal_parameters"] is None:
        return "–"
    size, tokens = (short(law[f"compute_optimal_{name}"]) for name in ("parameters", "tokens"))
    return f"{size} on {tokens} tokens: {number(law['compute_optimal_loss'])}"


def _if_known(value: float | None) -> str:
    return "–" if value is None else short(value)


def target_rows(target: Mapping[str, Any]) -> list[Row]:
    """What is missing for the recipe's target model, in the form of ``budget_rows``."""
    per_parameter = target["tokens"] / target["parameters"]
    rows = [
        ("Target model", f"{short(target['parameters'])} parameters", "`budget.parameters` of the recipe"),
        ("Tokens wanted", short(target["tokens"]), f"{number(per_parameter)} a parameter"),
        ("Tokens missing", short(target["missing_tokens"]), "wanted less U"),
        ("Curated text missing", size(target["missing_curated_bytes"]), "at this corpus's bytes a token"),
        ("Raw text missing", size(target["missing_raw_bytes"]), "at the share of raw bytes that this recipe keeps"),
        ("Epochs of this corpus", number(target["epochs_of_this_corpus"]), "if nothing else were read"),
        ("which are worth", f"{short(target['effective_tokens'])} tokens", "in fresh tokens: Muennighoff 2023"),
        ("Compute", f"{power(target['compute'])} FLOP", "6 N D"),
        (
            f"Time on one {target['gpu']}",
            duration(target["gpu_hours"]),
            "at the utilisation measured, or the recipe's",
        ),
        ("Cost", number(target["cost"]), "at `budget.price_per_hour`"),
        ("Time on this machine", duration(target["hours_at_measured_speed"]), "the measured speed, scaled by N"),
    ]
    return rows


def budgets(budget: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The budgets of all runs beside each other, and what the target model misses; None if there is no run."""
    runs = budget["runs"] if budget else []
    if not runs:
        return None
    return {
        "runs": [run["name"] for run in runs],
        "warnings": [f"{run['name']}: {warning}" for run in runs for warning in run["warnings"]],
        "tables": [
            ("What is spent, and the scaling laws", _side_by_side([budget_rows(run) for run in runs])),
            ("What is missing for the target model", _side_by_side([target_rows(run["target"]) for run in runs])),
        ],
    }


def _side_by_side(columns: list[list[Row]]) -> list[tuple[str, list[str], str]]:
    """(name, value in each column, where it comes from), without rows that have no value at all."""
    rows = [(cells[0][0], [value for _, value, _ in cells], cells[0][2]) for cells in zip(*columns, strict=True)]
    return [row for row in rows if set(row[1]) != {"–"}]
