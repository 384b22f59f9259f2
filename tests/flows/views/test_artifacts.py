"""What runs leave in the UI and in the terminal says what the build holds."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest
from rich.console import Console, RenderableType
from typer.testing import CliRunner

from flows.cli import app
from flows.views import artifacts, outcome, questions, summary
from flows.views.layout import drawn
from pipeline import MillError
from pipeline.build import record
from pipeline.build.build import Build
from pipeline.questions import why
from pipeline.report import models, sections, tables
from pipeline.store import files
from pipeline.text import formats
from tests.flows.conftest import newest, write_topics
from tests.helpers import small_build
from tests.helpers.small_build import document

SCORE = {"value": 0.8125, "low": 0.75, "high": 0.875}


@pytest.fixture
def build(tmp_path: Path) -> Build:
    """Four documents of which one is a near-duplicate, a pretrained and a fine-tuned model."""
    named = {name: [small_build.Named(name=name)] for name in ("pretrain", "finetune")}
    made = small_build.open_small(tmp_path / "my_build", name="my_build", minhash={}, exact={}, **named)
    texts = ["one text of 22 bytes..", "[bold]two[/bold]", "three", "four [/x]"]
    small_build.write_documents(made, [document(number, text) for number, text in enumerate(texts)], 2)
    cuts = [[{"start": 0, "end": 4}], [], [], []]
    small_build.write_ledger(made, "exact", {"share": pa.array([0.5, 0.25, 0.125, 0.0])}, spans=cuts)
    survivor = pa.array([None, None, None, "web/page.jsonl#1"], pa.string())
    small_build.write_ledger(made, "minhash", {"duplicate_of": survivor}, dropped={3: ("near_duplicate", 0.9, 0.8)})
    small_build.close(made)
    summary = {
        "name": "pretrain", "model_type": "gpt2", "objective": "causal", "steps": 100,
        "parameters": {"total": 7_400_000, "non_embedding": 3_200_000}, "trained_tokens": 5_000_000, "epochs": 2.5,
        "evaluation": {"loss": 4.25, "bits_per_byte": 1.375}, "tokens_per_second": None,
    }  # fmt: skip
    files.write_json(made.path("models", "pretrain", "summary.json"), summary)
    scores = {name: {"accuracy": SCORE, "macro_f1": SCORE} for name in ("majority", "bag_of_words", "model")}
    files.write_json(made.path("models", "finetune", "summary.json"), {"name": "finetune", "scores": scores})
    return made


def shown(view: RenderableType, width: int = 160) -> str:
    written = io.StringIO()
    Console(width=width, color_system=None, file=written).print(view)
    return written.getvalue()


def test_the_tables_of_curation_say_what_the_account_says(build: Build):
    account = sections.funnel(build)
    assert account is not None
    rows = artifacts.rows(tables.funnel(account, bytes_per_token=2))
    assert [(row["Stage"], row["Documents kept"], row["Bytes kept"]) for row in rows] == [
        ("Ingest", "4", "52 B"),
        ("Exact duplicates", "4", "48 B"),
        ("Near-duplicates", "3", "39 B"),
        ("Curated corpus", "3", "39 B"),
    ]
    assert [(row["Bytes dropped"], row["Bytes cut"]) for row in rows[1:3]] == [("–", "4 B"), ("9 B", "–")]
    assert [row["Tokens, about"] for row in rows] == ["26", "24", "19.5", "19.5"]
    assert artifacts.rows(tables.rules(account)) == [
        {
            "Rule": "near duplicate",
            "Stage": "Near-duplicates",
            "Documents dropped": "1",
            "Bytes dropped": "9 B",
            "Of all documents": "25.0 %",
        }
    ]
    assert [row["Documents kept"] for row in artifacts.rows(tables.domains(account))] == ["3"]


def test_warnings_stand_in_the_summary_and_in_the_ui(build: Build):
    account = files.read_json(build.path("funnel.json"))
    assert account["warnings"] == []
    files.write_json(build.path("funnel.json"), {**account, "warnings": ["source [b]x[/b] has no document."]})
    assert "warning: source [b]x[/b] has no document." in shown(summary.summary_view(build))
    assert artifacts.warning_line(*sections.warnings(build)) == "**Warning**: source [b]x[/b] has no document."


def test_the_tables_of_models_say_what_their_summaries_say(build: Build):
    (run,) = models.pretrained(build)
    (row,) = artifacts.rows(tables.pretraining([run]))
    names = ("Parameters", "Held-out loss", "Frequencies alone", "Bits per byte", "Tokens/s")
    assert [row[name] for name in names] == ["7.40M", "4.250", "–", "1.375", "–"]
    masked = {**run, "evaluation": {"loss": 2.5, "masked_bits_per_byte": 0.75}}
    (row,) = artifacts.rows(tables.pretraining([masked]))
    assert row["Bits per byte"] == "0.750 masked"
    (run,) = models.finetuned(build)
    rows = artifacts.rows(tables.finetuning(run))
    assert [row["Predictor"] for row in rows] == ["this model", "bag of words", "most frequent label"]
    assert (rows[0]["Accuracy"], rows[0]["Accuracy 95 %"]) == ("81.2 %", "75.0 % to 87.5 %")
    assert sections.tokenizers(build) is None


def test_keys_are_ones_that_prefect_takes_and_begin_with_the_build(build: Build):
    keys = [artifacts.key(build, name) for name in ("funnel", "Write the curated corpus", "1 % of a/b")]
    assert keys == ["my-build-funnel", "my-build-write-the-curated-corpus", "my-build-1-of-a-b"]
    assert all(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", key) for key in keys)


def test_the_link_to_a_local_report_opens_in_a_browser():
    assert artifacts.link("/data/my builds/report/index.html") == "file:///data/my%20builds/report/index.html"
    assert artifacts.link("s3://bucket/report/index.html") == "s3://bucket/report/index.html"


def test_a_budget_is_told_as_tables_with_a_column_for_each_run():
    from training.budget import budget
    from training.recipe.sections import BudgetConfig

    corpus = budget.Corpus(
        unique_tokens=1_000_000, unique_bytes=4_000_000, raw_bytes=8_000_000, curated_bytes=4_000_000
    )
    run = budget.Run(7_400_000, 3_200_000, 7_000_000, 4, 256, 256, 5_000_000, tokens_per_second=10_000.0)
    runs = [
        budget.budget(corpus, each, BudgetConfig()).asdict() for each in (run, replace(run, tokens_per_second=None))
    ]
    text = artifacts.budget_markdown({"runs": [{"name": "a", **runs[0]}, {"name": "b|c", **runs[1]}]})
    cells = {
        row.split(" | ")[0].strip("| "): [cell.strip() for cell in row.split(" | ")[1:3]] for row in text.split("\n")
    }
    assert cells["N, all parameters"] == ["7.40M", "7.40M"]
    assert cells["Epochs, D / U"] == ["5", "5"]
    assert cells["Compute C"] == ["2.22 × 10¹⁴ FLOP"] * 2
    assert cells["Time"] == ["8.33 min", "–"]
    assert cells["Tokens missing"] == ["2.48B", "2.48B"]
    assert cells["Raw text missing"] == ["19.8 GB", "19.8 GB"]
    assert "b\\|c" in text


def test_a_build_without_models_has_no_budget_table():
    assert artifacts.budget_markdown({"runs": []}) == "No model has been pretrained yet."


def test_the_summary_names_stages_models_and_paths(build: Build):
    Path(build.path("report")).mkdir()
    Path(build.path("report", "index.html")).write_text("")
    text = shown(summary.summary_view(build))
    assert re.search(r"Near-duplicates +3 +1 +39 B +9 B +–", text)
    assert "1.375 bits per byte on held-out documents" in text
    assert "this model 81.2 %, bag of words 81.2 %, most frequent label 81.2 %" in text
    for path in (build.path("corpus"), build.path("models", "pretrain"), build.path("report", "index.html")):
        assert path in text
    assert "parquet" not in text


def test_an_explanation_shows_verdict_survivor_and_text_as_it_is(build: Build):
    text = shown(questions.explanation_view(why.why(build, "web/page.jsonl#3")))
    assert "dropped by near_duplicate in Near-duplicates: value 0.9, threshold 0.8" in text
    assert "kept in its place: web/page.jsonl#1" in text
    assert "[bold]two[/bold]" in text
    assert "four [/x]" in text


def test_an_explanation_of_an_edited_document_shows_what_was_cut(build: Build):
    text = shown(questions.explanation_view(why.why(build, "web/page.jsonl#0")))
    assert "in the corpus" in text
    assert "Exact duplicates cut 1 piece" in text
    assert "│ text of 22 bytes.." in text


def test_runs_are_listed_with_how_they_ended():
    started = datetime(2026, 1, 1, tzinfo=UTC)
    row = record.BuildRow(
        "demo", "/x", "r.yaml", "failed", 3, started, 3725.0, "ValueError: [no]", 10, 1000, None, None
    )
    text = shown(questions.runs_view([row]))
    assert re.search(r"demo +failed +20\d\d-\d\d-\d\d \d\d:\d\d +1:02:05 +3 +10 +– +1.00 kB +–", text)
    assert "demo: ValueError: [no]" in text
    assert "mill build" in shown(questions.runs_view([]))


def test_a_run_says_in_a_line_what_it_came_to(build: Build):
    line = "4 documents read, 3 kept (75.0 %, 39 B), 1 pretrained model, 1 fine-tuned model"
    assert outcome.conclusion(build, worked=True) == ("Completed", line)
    assert outcome.conclusion(build, worked=False) == ("Nothing new", line)
    account = sections.funnel(build)
    assert account is not None
    lines = outcome.stage_lines(account, {"exact": 0.5, "exact.hashes": 0.5, "minhash": 1.0}, {"exact", "exact.hashes"})
    first, exact, minhash, corpus = account["rows"]
    assert lines[0] == f"Ingest: 4 documents kept ({first['bytes']} B)"
    assert lines[1].startswith(f"Exact duplicates: {exact['documents']} documents kept")
    assert lines[1].endswith(f"4 B cut, {first['bytes']} B/s")  # in a second
    assert lines[2] == f"Near-duplicates: 3 documents kept ({minhash['bytes']} B), 1 dropped (25.0 %)"
    assert lines[3].startswith(f"Curated corpus: 3 documents kept ({corpus['bytes']} B)")


def test_a_failure_says_where_and_what_and_escapes_what_is_shown():
    known = MillError("<b>shard-1.arrow</b>, record 7: no text; name the field")
    known.add_note("Exact duplicates: shard-1.arrow")
    text = outcome.failure_markdown(known)
    assert "Exact duplicates: shard-1.arrow" in text
    assert r"\<b\>shard-1.arrow\</b\>, record 7: no text; name the field" in text
    assert "Traceback" not in text
    try:
        raise KeyError("broken")
    except KeyError as error:
        fault = outcome.failure_markdown(error)
    assert "KeyError: 'broken'" in fault
    assert "report it" in fault


@pytest.mark.slow
def test_artifacts_reach_the_server_under_their_keys(build: Build, server_url: str, prefect_home: Path):
    import httpx

    from flows.execution import tracking

    told: list[str] = []
    with tracking.tracking(server_url, told.append), tracking.flow("publish", "publish"):
        artifacts.publish_curation(build)
        artifacts.publish_training(build)
        artifacts.publish_report(build, build.path("report", "index.html"))
    files.write_json(build.path("report", "index.html"), {})
    (prefect_home / "builds").mkdir(exist_ok=True)
    (prefect_home / "builds" / "my_build").symlink_to(build.root)  # from now on the server serves the report
    with tracking.tracking(server_url, told.append), tracking.flow("publish", "publish"):
        artifacts.publish_report(build, build.path("report", "index.html"))
    assert told == []
    entries = newest(server_url, "artifacts")
    found = {entry["key"]: entry for entry in entries}
    names = ("funnel", "dropped-by-rule", "domains", "pretraining", "fine-tuning", "report")
    assert {f"my-build-{name}" for name in names} <= set(found)
    assert json.loads(found["my-build-funnel"]["data"])[0]["Stage"] == "Ingest"
    links = [entry["data"] for entry in entries if entry["key"] == "my-build-report"]
    served = f"{server_url.removesuffix('/api')}/report/my_build"
    assert sorted(links) == [
        f"[Report of my_build](file://{build.root}/report/index.html)",
        f"[Report of my_build]({served})",
    ]
    assert httpx.get(served, trust_env=False).status_code == 200


@pytest.mark.slow
def test_why_a_command_failed_is_an_artifact(server_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("PREFECT_API_URL", server_url)
    recipe = write_topics(tmp_path, name="commanded", error_budget=0)
    with (tmp_path / "topics.jsonl").open("a") as lines:
        lines.write("{no record\n")
    done = CliRunner().invoke(app, ["curate", str(recipe), "--builds", str(tmp_path), "--workers", "1"])
    assert done.exit_code == 1
    (failure,) = [entry for entry in newest(server_url, "artifacts") if entry["key"] == "commanded-failure"]
    assert (failure["type"], failure["description"]) == ("markdown", "Why the run failed")
    for part in ("**What**: ", "topics.jsonl, record 80", "raise \\`error\\_budget\\`", "goes on from here"):
        assert part in failure["data"]
    (run,) = [run for run in newest(server_url, "flow_runs") if run["id"] == failure["flow_run_id"]]
    assert (run["name"], run["state_type"]) == ("build topics", "FAILED")


def test_the_budgets_of_nine_runs_can_be_read_in_80_columns():
    from training.budget import budget
    from training.recipe.sections import BudgetConfig

    corpus = budget.Corpus(
        unique_tokens=1_000_000, unique_bytes=4_000_000, raw_bytes=8_000_000, curated_bytes=4_000_000
    )
    runs = []
    for number in range(9):
        run = budget.Run(7_400_000, 3_200_000, 7_000_000, 4, 256, 256, 5_000_000 + number * 1_110_000)
        made = budget.budget(corpus, run, BudgetConfig()).asdict()
        runs.append({"name": f"run-{number}", "estimated": False, **made})
    text = shown(summary.budget_view(runs), 80)
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= 80
    for run in runs:
        assert run["name"] in text
        assert formats.power(run["compute"]) in text
        assert formats.short(run["trained_tokens"]) in text


def test_a_build_is_shown_whole_in_80_columns(build: Build):
    account = sections.funnel(build)
    assert account is not None
    for row in account["rows"]:
        row.update(
            documents=2_336_789_123, bytes=123_456_789_000, losses={"documents": 1_234_567_890, "bytes": 99_900_000_000}
        )
    text = shown(drawn(tables.funnel(account, 4.0)), 80)
    assert "…" not in text
    assert text.count("2,336,789,123") == text.count("1,234,567,890") == len(account["rows"])
