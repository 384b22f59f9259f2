"""The corpus in tokens as a table of the terminal and of the Prefect UI."""

from __future__ import annotations

import httpx
import pytest

from flows.execution import tracking
from flows.views import artifacts, summary
from pipeline.build.build import Build
from pipeline.report import tokens
from tests.flows.views.test_artifacts import shown
from tests.helpers.building import make
from tests.pipeline.report.test_report_tokens import recipe_over


@pytest.fixture
def build(tmp_path) -> Build:
    return make(recipe_over(tmp_path), tmp_path / "build")[0]


def test_the_summary_shows_the_tokens_of_each_domain_and_the_advice(build):
    found = tokens.by_domain(build)
    assert found is not None
    terminal = shown(summary.summary_view(build))
    for row in tokens.cells(found):
        assert all(value in terminal for value in row.values())
    assert found["advice"] in terminal


@pytest.mark.slow
def test_the_ui_shows_the_tokens_of_each_domain_and_the_advice(build, server_url):
    with tracking.tracking(server_url, print), tracking.flow("publish", "publish"):
        artifacts.publish_tokenizers(build)
    published = {entry["key"]: entry for entry in httpx.post(f"{server_url}/artifacts/filter", json={}).json()}
    found, table = tokens.by_domain(build), published["mixed-tokens-by-domain"]
    assert found is not None
    assert found["advice"] in table["description"]
    for row in tokens.cells(found):
        assert row["tokens"] in table["data"]
