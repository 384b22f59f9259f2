"""What a run announces stands on the server as events, with the numbers of the build and what it was made of."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pytest

from flows.execution import tracking
from flows.views import events
from pipeline.build.build import Build
from pipeline.report import sections
from pipeline.store import files
from tests.helpers import small_build
from tests.helpers.small_build import document

pytestmark = pytest.mark.slow

SPIKE = {"step": 70, "loss": 9.5, "before": 4.0, "documents": ["web/page.jsonl#0"]}


@pytest.fixture
def build(tmp_path: Path) -> Build:
    """Four documents of which one is a near-duplicate, two warnings, and a model whose loss has jumped."""
    named = [small_build.Named(name="tiny")]
    made = small_build.open_small(tmp_path / "announced", name="announced", minhash={}, exact={}, pretrain=named)
    texts = ["one text of 22 bytes..", "two", "three", "four"]
    small_build.write_documents(made, [document(number, text) for number, text in enumerate(texts)], 2)
    small_build.write_ledger(made, "exact", {"share": pa.array([0.5, 0.25, 0.125, 0.0])})
    survivor = pa.array([None, None, None, "web/page.jsonl#1"], pa.string())
    small_build.write_ledger(made, "minhash", {"duplicate_of": survivor}, dropped={3: ("near_duplicate", 0.9, 0.8)})
    small_build.close(made)
    account = files.read_json(made.path("funnel.json"))
    warned = {"warnings": ["source web has no document."], "canaries": {"warnings": ["the canary of x was dropped."]}}
    files.write_json(made.path("funnel.json"), {**account, **warned})
    run = {"name": "tiny", "steps": 100, "trained_tokens": 5000, "evaluation": {"loss": 4.25}, "spikes": [SPIKE]}
    files.write_json(made.path("models", "tiny", "summary.json"), run)
    return made


def announced(api: httpx.Client, run: str, count: int) -> list[dict[str, Any]]:
    """The events of this project that are related to the flow run, once there are ``count``."""
    wanted = {"filter": {"related": {"id": [f"prefect.flow-run.{run}"]}}, "limit": 50}
    deadline = time.monotonic() + 60
    while True:
        rows = api.post("/events/filter", json=wanted).raise_for_status().json()["events"]
        ours = [row for row in rows if row["event"].startswith("corpusmill.") or row["event"] == events.ASSET]
        if len(ours) >= count or time.monotonic() > deadline:
            return ours
        time.sleep(0.2)


def test_stages_alarms_and_what_is_published_are_events_with_their_numbers(api, server_url, build, tmp_path):
    recipe = tmp_path / "announced.yaml"
    with tracking.tracking(server_url, pytest.fail), tracking.flow("build", "build announced"):
        events.started(build, recipe)
        events.curated(build)
        events.published(build, recipe)
        events.trained(build, "pretrain", "tiny")
        events.finished(build, recipe, worked=True, summary="4 read, 3 kept")
        events.finished(build, recipe, worked=False, summary="nothing new")
    (run,) = api.post("/flow_runs/filter", json={"flow_runs": {"name": {"any_": ["build announced"]}}}).json()
    account = sections.funnel(build)
    assert account is not None
    corpus, model = events.asset_key(build.path("corpus")), events.asset_key(build.path("models", "tiny"))
    expected = [
        ("corpusmill.build.started", "corpusmill.build.announced"),
        *(("corpusmill.stage.finished", f"corpusmill.stage.announced.{row['stage']}") for row in account["rows"]),
        ("corpusmill.alarm.source", "corpusmill.build.announced"),
        ("corpusmill.alarm.canary", "corpusmill.build.announced"),
        ("corpusmill.alarm.loss-spike", "corpusmill.model.announced.tiny"),
        ("corpusmill.corpus.published", "corpusmill.corpus.announced"),
        ("corpusmill.model.published", "corpusmill.model.announced.tiny"),
        (events.ASSET, corpus),
        (events.ASSET, model),
        ("corpusmill.build.finished", "corpusmill.build.announced"),
        ("corpusmill.build.nothing-new", "corpusmill.build.announced"),
    ]
    rows = announced(api, run["id"], len(expected))
    payloads = {(row["event"], row["resource"]["prefect.resource.id"]): row["payload"] for row in rows}
    assert sorted(payloads) == sorted(expected)
    counts = {"documents_read": 4, "documents_kept": 3, "bytes_kept": account["last"]["bytes"]}
    near = payloads["corpusmill.stage.finished", "corpusmill.stage.announced.minhash"]
    assert (near["documents"], near["documents_dropped"]) == (3, 1)
    assert (
        payloads["corpusmill.alarm.canary", "corpusmill.build.announced"]["warning"] == "the canary of x was dropped."
    )
    assert payloads["corpusmill.alarm.source", "corpusmill.build.announced"]["warning"] == "source web has no document."
    assert payloads["corpusmill.alarm.loss-spike", "corpusmill.model.announced.tiny"]["spike"] == SPIKE
    for name in ("corpusmill.corpus.published", "corpusmill.build.finished"):
        (payload,) = [payload for (event, _), payload in payloads.items() if event == name]
        assert {key: payload[key] for key in counts} == counts
        assert payload["recipe"] == str(recipe)
    (made_of,) = [row["related"] for row in rows if row["resource"]["prefect.resource.id"] == model]
    assert {"prefect.resource.id": corpus, "prefect.resource.role": "asset"} in made_of
