from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.build.build import Build
from pipeline.report import charts, render, understanding
from pipeline.store import files
from tests.helpers import small_build
from tests.pipeline.report.test_classifier import INTERVAL, RUN

PATTERN = [[0.1, 0.25], [0.5, 0.875]]
PAGES = {
    "probes": {
        "layers": [
            {
                "layer": at,
                "accuracy": {**INTERVAL, "value": 0.5 + at / 8},
                "control": INTERVAL,
                "selectivity": {"value": -0.125, "low": -0.2, "high": -0.05},
                "memorised": 0.9,
                "strength": 1.0,
                "control_strength": 1.0,
            }
            for at in range(3)
        ],
        "majority": INTERVAL,
        "vectors": {"train": 1_900, "dev": 50, "test": 100},
        "types_seen": 0.25,
    },
    "attention": {
        "patterns": dict.fromkeys(understanding.PATTERNS, PATTERN) | {"entropy": [[1.5, 2.0], [0.5, 3.0]]},
        "even": dict.fromkeys(understanding.PATTERNS, 0.125),
        "tokens": 1_234,
        "texts": 100,
    },
    "pooling": {
        "ways": {"first": INTERVAL, "mean": INTERVAL, "max": INTERVAL},
        "mcnemar": [{"ways": ["first", "mean"], "first": 4, "second": 9, "p": 0.267}],
        "rows": {"train": 300, "dev": 50, "test": 100},
    },
    "bound": {
        "bound": 1.25,
        "vacuous": True,
        "risk": 0.5,
        "sampling": 0.25,
        "gap": 0.5,
        "kl": 12.5,
        "distance": 2.5,
        "distance_by_depth": {"0": 1.5, "1": 2.0},
        "moved": 12_345,
        "training_error": 0.03,
        "test_error": 0.2,
        "majority_error": 0.5,
        "sigma": 0.5,
        "grid": 13,
        "delta": 0.05,
        "n": 300,
        "read_before": True,
    },
}


def page_of(folder: Path, pages: dict) -> str:
    build = small_build.open_small(folder)
    recipe = build.recipe.model_copy(update={"finetune": [small_build.Named(name="topics")]})
    run = {**RUN, "base": "<b>small</b>", "understanding": pages}
    files.write_json(build.path("models", "topics", "summary.json"), run)
    return Path(render(Build(build.root, recipe))).read_text()


def test_the_page_shows_what_was_asked_for_and_escapes_it(tmp_path: Path) -> None:
    page = page_of(tmp_path / "all", PAGES)
    for shown in ("layer 2", "-12.5 (-20.0 to -5.0)", "1,900 vectors", "2.2", "0.875", "0.27", "12,345", "distance"):
        assert shown in page, shown
    assert "it is vacuous here" in page
    assert "the bound does not hold strictly" in page
    assert "<b>small</b>" not in page
    assert page.count('class="cell"') == 4 * len(understanding.PATTERNS)
    one = page_of(tmp_path / "one", {"bound": {"why": "no place to <start> from"}})
    assert "No PAC-Bayes bound: no place to &lt;start&gt; from." in one
    assert "attention heads look at" not in one


def test_a_bound_that_says_something_is_said_to() -> None:
    says = understanding.verdict({"vacuous": False, "bound": 0.875, "majority_error": 0.9})
    assert "at most 87.5 % of new rows" in says
    weak = understanding.verdict({"vacuous": False, "bound": 0.875, "majority_error": 0.5})
    assert "says no more than" in weak


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_a_cell_is_as_dark_as_its_value(value: float) -> None:
    drawn = charts.heat_map("Heads", "some", ["1"], ["1", "2"], [[value, 2.0]], 1.0)
    assert f'fill-opacity="{value:.3f}"><title>1.1: {value:.3f}</title>' in drawn
    assert 'fill-opacity="1.000"><title>1.2: 2.000</title>' in drawn


def test_the_terminal_has_a_table_of_each_page() -> None:
    titles = [title for title, _ in understanding.tables({"understanding": PAGES})]
    assert len(titles) == 5  # two of pooling
    assert understanding.tables({}) == []
