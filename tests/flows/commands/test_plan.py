"""`mill plan`: rates of the user's own text, what they come to at other sizes, and how far off a build finds them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from flows import build as builds
from flows.execution import progress
from flows.execution.open_build import open_build
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
    told = re.search(r"plan: ([\d.,]+) s of processor time planned, ([\d.,]+) s taken", capsys.readouterr().err)
    assert told is not None
    assert float(told[2]) > 0


def cost(step: str, processor: float, memory: int, items: int, opened: int) -> StepCost:
    return StepCost(step, items, processor, processor, processor, memory, 1000, opened)


def test_rates_come_from_the_difference_of_two_samples():
    one, other = (plan._Part(None, text, shard, "") for text, shard in ((1_000, 100), (5_000, 500)))  # type: ignore[arg-type]
    rates = plan._rates(cost("x", 3.0, 1_100, 10, 40), cost("x", 7.0, 1_500, 10, 40), one, other)
    assert (rates["rate"], rates["fixed"]) == (0.001, 2.0)
    assert (rates["memory"], rates["memory_fixed"]) == (1.0, 1_000.0)
    known = {"steps": {"x": rates}, "ingest": 0.0, "documents": 0.001, "imports": 1.0, "kernels": 0.0}
    found = plan.of(known, 100_000, 1_000, 4)
    assert found.processor == 2 + 100 + 4 * 1
    assert found.clock == pytest.approx((2 + 100) / 4 + 1)
    assert found.memory == 2_000
    assert found.disk == 20_000
    assert found.opened == 400


def test_a_step_of_one_item_is_not_shared_out():
    one, other = (plan._Part(None, text, 100, "") for text in (1_000, 5_000))  # type: ignore[arg-type]
    rates = plan._rates(cost("m", 1.0, 1, 1, 5), cost("m", 5.0, 1, 1, 5), one, other)
    found = plan.of(
        {"steps": {"m": rates}, "ingest": 0.0, "documents": 0.001, "imports": 0.0, "kernels": 0.0}, 100_000, 100, 64
    )
    assert found.clock == pytest.approx(100)
