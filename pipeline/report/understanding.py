"""What the report says of what a fine-tuning's base knows: probes, attention heads, pooling, a bound on the error.

As training writes it into models/<name>/summary.json under ``understanding``; the report and the terminal draw it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from pipeline.report import charts
from pipeline.report.tables import Table, count, decimals, lay_out, note, share, text, written
from pipeline.text import formats

PATTERNS = {
    "next": "Next token",
    "previous": "Previous token",
    "same": "The token itself",
    "first": "First token, such as [CLS]",
    "separator": "Separators, such as [SEP]",
    "punctuation": "Punctuation",
    "entropy": "Entropy, in nats",
}
WAYS = {"first": "first token", "mean": "mean", "max": "maximum"}


def detail(run: Mapping[str, Any]) -> dict[str, Any] | None:
    """Charts and tables of the pages that the summary ``run`` has; None where it has none."""
    pages = run.get("understanding")
    if not pages:
        return None
    made: dict[str, Any] = {**dict.fromkeys(("probes", "attention", "pooling", "bound")), "base": run["base"]}
    if page := pages.get("probes"):
        made["probes"] = {**page, "table": probes(page), "chart": probes_chart(run["name"], page)}
    if page := pages.get("attention"):
        made["attention"] = {**page, "table": heads(page), "charts": head_charts(run["name"], page)}
    if page := pages.get("pooling"):
        made["pooling"] = {**page, "table": pooling(page), "tests": mcnemar(page)}
    if page := pages.get("bound"):
        made["bound"] = page if "why" in page else {"why": None, **page, "table": bound(page), "said": verdict(page)}
    return made


def tables(run: Mapping[str, Any]) -> list[tuple[str, Table]]:
    """Title and table of each page of the summary ``run``, for the terminal."""
    pages = run.get("understanding", {})
    made = []
    if page := pages.get("probes"):
        made.append(("Which layer knows the label: probes on the frozen base", probes(page)))
    if page := pages.get("attention"):
        made.append(
            (f"What attention heads of the base look at, on {formats.count(page['texts'])} test texts", heads(page))
        )
    if page := pages.get("pooling"):
        made += [
            ("Which vector of a text tells the label", pooling(page)),
            ("McNemar's test of each two", mcnemar(page)),
        ]
    if page := pages.get("bound"):
        title = f"PAC-Bayes bound: {page['why']}" if "why" in page else f"PAC-Bayes bound: {verdict(page)}"
        made.append((title, Table((), ()) if "why" in page else bound(page)))
    return made


def interval(score: Mapping[str, float]) -> str:
    """``71.2 % to 80.4 %``."""
    return f"{formats.share(score['low'], 1)} to {formats.share(score['high'], 1)}"


def _points(score: Mapping[str, float]) -> str:
    """A difference of shares in percentage points, with its interval."""
    value, low, high = (100 * score[part] for part in ("value", "low", "high"))
    return f"{value:+.1f} ({low:+.1f} to {high:+.1f})"


def _layer(at: int) -> str:
    return "embeddings" if at == 0 else f"layer {at}"


def probes(page: Mapping[str, Any]) -> Table:
    """A row a layer, and what always naming the most frequent label would get right."""
    rows = [
        (
            _layer(row["layer"]), row["accuracy"]["value"], interval(row["accuracy"]), row["control"]["value"],
            _points(row["selectivity"]), row["memorised"],
        )
        for row in page["layers"]
    ]  # fmt: skip
    majority = page["majority"]
    rows.append(("most frequent label", majority["value"], interval(majority), None, "–", None))
    return lay_out(
        [
            text("Layer"), share("Accuracy"), written("95 %"), share("Control"),
            written("Selectivity, points"), share("By heart"),
        ],
        rows,
        totals=1,
    )  # fmt: skip


def probes_chart(name: str, page: Mapping[str, Any]) -> Markup:
    """Accuracy and that of the control task by layer."""
    lines = {
        part: [(float(row["layer"]), 100 * row[part]["value"]) for row in page["layers"]]
        for part in ("accuracy", "control")
    }
    series = [
        charts.Series("label", "heldout", lines["accuracy"]),
        charts.Series("control", "train", lines["control"]),
    ]
    best = max(page["layers"], key=lambda row: row["accuracy"]["value"])
    said = f"highest at {_layer(best['layer'])}: {formats.share(best['accuracy']['value'], 1)}"
    return charts.lines(f"Accuracy of probes by layer of the base of {name}", said, series, "layer", "percent right")


def heads(page: Mapping[str, Any]) -> Table:
    """A row a pattern: the head where it is strongest (of entropy the least, too), and the mean of all heads."""
    rows = []
    for name, title in PATTERNS.items():
        values = page["patterns"][name]
        places = [(value, layer, head) for layer, row in enumerate(values, 1) for head, value in enumerate(row, 1)]
        least, most = min(places), max(places)
        mean = sum(value for value, _, _ in places) / len(places)
        even = page["even"][name] if page["even"] else None
        rows.append((title, most[0], _head(most), least[0], _head(least), mean, even))
    return lay_out(
        [
            text("Mean weight on"), decimals("Most", 3), text("by"), decimals("Least", 3), text("by head"),
            decimals("All heads", 3), decimals("Even weights", 3),
        ],
        rows,
    )  # fmt: skip


def _head(place: tuple[float, int, int]) -> str:
    return f"{place[1]}.{place[2]}"


def head_charts(name: str, page: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A heat map of each pattern: a row a layer, a column a head."""
    made = []
    for pattern, title in PATTERNS.items():
        values = page["patterns"][pattern]
        rows = [str(at) for at in range(1, len(values) + 1)]
        columns = [str(at) for at in range(1, len(values[0]) + 1)]
        whole = max(1.0, *(value for row in values for value in row)) if pattern == "entropy" else 1.0
        described = f"{title} by layer (rows) and head (columns) of the base of {name}"
        made.append({"name": title, "svg": charts.heat_map(described, _extremes(values), rows, columns, values, whole)})
    return made


def _extremes(values: list[list[float]]) -> str:
    flat = [value for row in values for value in row]
    return f"from {min(flat):.3f} to {max(flat):.3f}"


def pooling(page: Mapping[str, Any]) -> Table:
    """A row a way to make a vector of a text."""
    return lay_out(
        [text("Vector"), share("Accuracy"), written("95 %")],
        [(WAYS[way], score["value"], interval(score)) for way, score in page["ways"].items()],
    )


def mcnemar(page: Mapping[str, Any]) -> Table:
    """A row for each two ways: on how many rows only one is right, and how likely that is if they are alike."""
    return lay_out(
        [text("First"), text("Second"), count("Only first right"), count("Only second right"), written("p")],
        [
            (WAYS[one], WAYS[other], row["first"], row["second"], f"{row['p']:.2g}")
            for row in page["mcnemar"]
            for one, other in [row["ways"]]
        ],
    )


def bound(page: Mapping[str, Any]) -> Table:
    """Every constant of the bound, in the order in which it is added up."""
    distances = "; ".join(f"{at}: {value:.3g}" for at, value in page["distance_by_depth"].items()) or "nothing moved"
    rows = [
        ("Error on the training rows, with noise", formats.share(page["risk"], 1), "mean over draws of the noise"),
        ("+ for the draws of the noise", f"{page['sampling']:.4f}", "Hoeffding, with half of delta"),
        ("+ sqrt((KL + ln(2 sqrt(n) / d)) / 2n)", f"{page['gap']:.4f}", "d: half of delta, shared by the grid"),
        (
            "= bound on the error, with noise",
            formats.share(page["bound"], 1),
            "of new rows, with probability 1 - delta",
        ),
        ("Error without noise, training rows", formats.share(page["training_error"], 1), "of the published model"),
        ("Error without noise, test rows", formats.share(page["test_error"], 1), "of the published model"),
        ("Error of the most frequent label", formats.share(page["majority_error"], 1), "on the test rows"),
        ("n", formats.count(page["n"]), "training rows, or groups of them: what is independent"),
        ("delta", f"{page['delta']:g}", ""),
        ("Distance", f"{page['distance']:.4g}", "of the weights from where they started, Euclidean"),
        ("by depth", distances, "0 embeddings, then layers, then what is above them"),
        ("Weights that moved", formats.count(page["moved"]), "the others have no noise"),
        ("sigma", f"{page['sigma']:.4g}", f"of the noise; the best of {page['grid']}: 1, 1/2, 1/4, ..."),
        ("KL", f"{page['kl']:.4g}", "nats: distance squared / (2 sigma squared)"),
    ]
    return lay_out([text("PAC-Bayes"), written("Value"), note("What it is")], rows)


def verdict(page: Mapping[str, Any]) -> str:
    """Whether the bound says anything, in a sentence."""
    if page["vacuous"]:
        return "it is vacuous here: 100 % or more is said of any model"
    if page["bound"] >= page["majority_error"]:
        return "it is below 100 %, but says no more than that the most frequent label is right more often"
    share = formats.share(page["bound"], 1)
    return f"it is not vacuous: with such noise on its weights, at most {share} of new rows are wrong"
