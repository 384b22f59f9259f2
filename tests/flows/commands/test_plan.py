"""`mill plan`: rates of the user's own text, what they come to at other sizes, and how far off a build finds them."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flows import build as builds
from flows.commands import options
from flows.execution import progress
from flows.execution.open_build import open_build
from flows.views import plan as views
from pipeline.curation import plan
from pipeline.curation.costs import StepCost
from tests.flows.commands.test_check import flat, records, write
from tests.flows.commands.test_cli import offline

GUIDE = Path(__file__).parents[3] / "docs" / "guide.md"
WORDS = "It was the best of times, it was the worst of times, it was the age of wisdom. " * 4


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    records(
        tmp_path / "texts.jsonl", *({"id": n, "text": f"Number {n}. {WORDS}", "more": "x" * 400} for n in range(900))
    )
    return tmp_path


def test_a_plan_without_rates_says_how_to_measure_them(folder):
    found = offline("plan", write(folder, {"path": "texts.jsonl"}))
    assert found.exit_code == 1
    assert "--measure` measures them on a sample of its sources" in flat(found.stderr)


@pytest.mark.parametrize("option", [("--cluster", "64"), ("--size", "much")])
def test_a_wrong_size_or_cluster_is_named(folder, option):
    found = offline("plan", write(folder, {"path": "texts.jsonl"}), *option)
    assert found.exit_code == 1
    assert option[1] in found.stderr


@pytest.mark.slow
def test_the_commands_of_the_guide_plan_this_corpus_and_a_terabyte_and_a_build_says_how_far_off_they_were(
    folder, capsys
):
    recipe = write(folder, {"path": "texts.jsonl"}, exact={}).rename(folder / "texts.yaml")
    block = GUIDE.read_text("utf-8").partition("## What a build will cost")[2]
    lines = [line.split()[1:] for line in re.findall(r"^mill .*$", block, re.MULTILINE)[:2]]
    assert [line[0] for line in lines] == ["plan", "plan"]
    measured, planned = (flat(offline(*line, "--builds", "b").stdout) for line in lines)
    assert "this corpus" in measured
    assert "1 PB" in measured
    assert "64 machines with 8 cores" in planned
    assert "1TB" in planned
    opened = open_build(recipe, Path("b"))
    rates = plan.read(opened)
    assert rates is not None
    size = sum(len(f"Number {n}. {WORDS}") for n in range(900))
    assert rates["text"] == pytest.approx(size, rel=0.1), "the text of a file with other fields"
    assert "rates that `mill plan --measure` measured" in flat(offline("check", recipe, "--builds", "b").stdout)
    with progress.reporting(progress.Reporter()):
        builds.build(recipe, "curate", 1, "processes", Path("b"))
    shown = capsys.readouterr().err
    line = re.search(
        r"plan: ([\d.,]+) s of processor time planned, ([\d.,]+) s taken .*; memory .*, ([\d.]+) ([MG])B taken", shown
    )
    assert line is not None, shown
    assert float(line[2]) > 0
    assert float(line[3]) * {"M": 1, "G": 1000}[line[4]] > 50


def cost(step: str, processor: float, grown: int, items: int) -> StepCost:
    return StepCost(step, items, processor, processor, processor, 1_000 + grown, 1000, 4 * items, grown)


def part(text: int, shards: int) -> Any:
    return SimpleNamespace(text=text, shards=shards)


#: A step of 2 s, and 0.5 s a shard and 1 ms a byte; its memory is 300 bytes and one for each of a shard.
SMALL, LARGE, WIDE = part(1_000, 2), part(4_000, 8), part(4_000, 2)
RUNS = cost("x", 4.0, 800, 2), cost("x", 10.0, 800, 8), cost("x", 7.0, 2_300, 2)


def rates_of(step: dict[str, float], name: str = "x") -> dict[str, Any]:
    return {"steps": {name: step}, "documents": 0.001, "imports": 1.0, "memory": 100}


def test_what_text_and_shards_and_a_start_add_follows_from_samples_and_shards_of_two_sizes():
    rates = plan._rates(cost("x", 5.5, 0, 1), RUNS, (SMALL, LARGE, WIDE), part(1_000, 1))
    assert (rates["rate"], rates["item"], rates["fixed"]) == (0.001, 0.5, 2.0)
    assert rates["start"] == 5.5 - 2.0 - 0.5 - 1.0
    assert (rates["memory"], rates["memory_fixed"]) == (1.0, 1_300.0)
    planned = plan.of(rates_of(rates), 100_000, 1_000, 4)
    assert planned.steps == {"x": 2 + 100 * 0.5 + 100}
    assert planned.processor == planned.steps["x"] + 4 * 1 + (4 + 1) * 2  # the first process, and four when it is long
    assert planned.clock == pytest.approx(planned.steps["x"] / 4 + 1 + 2)
    assert planned.memory == 1_300 + 1_000
    assert planned.disk == 25_000
    assert planned.opened == 400


def test_core_hours_of_a_petabyte_are_written_in_full(capsys):
    row = ("1 PB", plan.Plan(1e15, 3.62e8, 1.0, 1e9, 1e15, 1, {}), 1.0)
    options.terminal.print(views.plan_view([row], 1, 2, "price"))
    assert "100,556" in capsys.readouterr().out


def test_a_short_build_starts_no_other_process():
    rates = plan._rates(cost("x", 0.05, 0, 1), [cost("x", 0.01, 0, 2)] * 3, (SMALL, LARGE, WIDE), part(0, 1))
    planned = plan.of(rates_of(rates), 4_000, 1_000, 64)
    assert planned.processor == pytest.approx(0.01 + 0.04)


def test_the_shards_of_a_corpus_count_where_they_are_known():
    rates = rates_of(plan._rates(cost("x", 5.5, 0, 1), RUNS, (SMALL, LARGE, WIDE), part(1_000, 1)))
    assert plan.of(rates, 4_000, 1_000_000, 1, shards=10).steps["x"] == 2 + 10 * 0.5 + 4


def test_a_step_of_one_item_is_not_shared_out():
    runs = cost("m", 1.0, 0, 1), cost("m", 4.0, 0, 1), cost("m", 4.0, 0, 1)
    rates = plan._rates(cost("m", 0.1, 0, 1), runs, (SMALL, LARGE, WIDE), part(100, 1))
    assert plan.of({**rates_of(rates, "m"), "imports": 0.0}, 100_000, 100, 64).clock == pytest.approx(100)


def test_memory_of_partitions_grows_with_all_text():
    runs = [cost("substring.repeats", 1.0, grown, 1) for grown in (1_000, 4_000, 4_000)]
    rates = rates_of(plan._rates(runs[0], runs, (SMALL, LARGE, WIDE), part(100, 1)), "substring.repeats")
    assert plan.of(rates, 40_000, 1_000, 2).memory == 2_000 + 40_000


@pytest.mark.parametrize(("name", "items", "at_ten_times"), [("minhash.edges", 14, 14), ("m", 1, 1), ("x", 8, 80)])
def test_items_are_known_where_both_sizes_of_shards_are_that_of_the_recipe(name, items, at_ten_times):
    parts = part(1_000, 2), part(4_000, 8), part(4_000, 8)
    runs = cost(name, 1.0, 0, min(items, 2) if name == "x" else items), *[cost(name, 4.0, 0, items)] * 2
    rates = rates_of(plan._rates(cost(name, 0.1, 0, 1), runs, parts, part(100, 1)), name)
    assert plan.of(rates, 40_000, 500, 2).opened >= 4 * at_ten_times
    assert plan._items(name, rates["steps"][name], 40_000, 80, 0.001) == at_ten_times
