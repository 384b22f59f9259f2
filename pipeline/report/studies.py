"""What the report says about studies that train many small models: the scaling ladder and the ablation.

Read as training writes them (scaling/ladder.json, ablation/results.json); the pipeline knows nothing of training.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from pipeline.build.build import Build
from pipeline.report import charts
from pipeline.stages.titles import title
from pipeline.store import files
from pipeline.text.formats import number, power, short

_CONVENTIONS = {
    "total": "all parameters",
    "non_embedding": "parameters without embeddings",
    "matrices_and_head": "matrices and output head",
}
Row = tuple[str, str, str]


def ladder(build: Build) -> dict[str, Any] | None:
    """The scaling ladder: its laws and predictions as rows, its IsoFLOP curves drawn; None if it was not climbed."""
    path = build.path("scaling", "ladder.json")
    if not files.exists(path):
        return None
    result = files.read_json(path)
    return {
        **result,
        "convention": _CONVENTIONS[result["parameters"]],
        "isoflop_chart": _isoflop_chart(result),
        "laws": law_rows(result),
        "predictions": prediction_rows(result),
        "warnings": result.get("warnings", []),  # an earlier version wrote none
    }


def law_rows(result: Mapping[str, Any]) -> list[Row]:
    """(name, value, 95 % interval) of each constant that was fitted."""
    names = {"E": "E, nats that no model saves", "A": "A", "B": "B", "alpha": "α, of N", "beta": "β, of D"}
    rows = [(names[name], _written(result["law"][name]), band(result["law_intervals"][name])) for name in names]
    law, exponent = result["law"], result["isoflop"]["exponent"]
    by_law = law["beta"] / (law["alpha"] + law["beta"])
    rows.append(("exponent of the best N by compute: law", number(by_law), "–"))
    rows.append(
        ("exponent of the best N by compute: IsoFLOP", number(exponent), band(result["isoflop"]["exponent_interval"]))
    )
    return rows


def prediction_rows(result: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """(compute, best N, interval, best D, interval, loss, interval) of each larger compute."""
    return [
        (
            f"{power(entry['compute'])} FLOP",
            *(
                cell
                for name in ("parameters", "tokens", "loss")
                for cell in (_written(entry[name]), band(entry[f"{name}_interval"]))
            ),
        )
        for entry in result["next"]
    ]


def band(values: Sequence[float] | None) -> str:
    """An interval for people: ``1.77 to 1.87``; a dash for none."""
    return f"{_written(values[0])} to {_written(values[1])}" if values else "–"


def _written(value: float) -> str:
    return short(value) if abs(value) >= 1000 else number(value)


def _isoflop_chart(result: Mapping[str, Any]) -> Markup:
    """Held-out loss by N: the runs as dots, named by their compute, and the parabola through each compute's runs."""
    series = []
    for curve in result["isoflop"]["curves"]:
        sizes = [row["parameters"] for row in result["rows"] if row["compute"] == curve["compute"]]
        steps = [min(sizes) * (max(sizes) / min(sizes)) ** (i / 30) for i in range(31)]
        points = [(n, curve["curvature"] * math.log(n / curve["parameters"]) ** 2 + curve["loss"]) for n in steps]
        series.append(charts.Series("", "train", points))
    for compute in sorted({row["compute"] for row in result["rows"]}):
        points = sorted((row["parameters"], row["loss"]) for row in result["rows"] if row["compute"] == compute)
        name = f"{compute:.2g}:".replace("e+", "e")  # short, as it stands at the chart's edge
        series.append(charts.Series(name, "heldout", points, joined=False))
    said = f"{len(result['rows'])} runs at {len(result['isoflop']['curves'])} computes"
    return charts.lines("Held-out loss by model size", said, series, _CONVENTIONS[result["parameters"]], "loss", True)


def ablation(build: Build) -> dict[str, Any] | None:
    """What each stage is worth, as rows by variant; None if no ablation was run."""
    path = build.path("ablation", "results.json")
    if not files.exists(path):
        return None
    result = files.read_json(path)
    return {
        **result,
        "table": [row for entry in result["rows"] for row in _ablation_rows(entry, result["kinds"])],
        "kept_notes": [f"{title(stage)} was not left out: {why}" for stage, why in result["kept"].items()],
    }


def variant_title(name: str) -> str:
    """``without-minhash`` for people."""
    stage = name.removeprefix("without-")
    return f"without {title(stage)}" if stage != name else f"{name} text"


def _ablation_rows(entry: Mapping[str, Any], kinds: Sequence[str]) -> list[tuple[str, ...]]:
    """A row for each kind of held-out text: bits per byte, and how much worse than the models of the curated text."""
    rows = []
    for kind in kinds:
        score = entry["bits_per_byte"][kind]
        low, high = score["interval"]
        worse = (
            ("–", "–")
            if entry["variant"] == "curated"
            else (f"{score['difference']:+.4f}", f"{low:+.4f} to {high:+.4f}")
        )
        first = (variant_title(entry["variant"]), f"{number(entry['epochs'])} epochs") if kind == kinds[0] else ("", "")
        rows.append((*first, kind, f"{score['mean']:.4f}", *worse))
    return rows
