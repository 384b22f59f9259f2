"""Reports are served beside the UI, to this machine, and nothing else of a build is."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from flows.execution import report_pages


@pytest.fixture
def client(tmp_path: Path) -> TestClient:
    """A server with a page of its own under every address, as Prefect's UI is, and two builds, one with a report."""
    for name in ("mine", "<b>odd", "unfinished"):
        (tmp_path / "builds" / name).mkdir(parents=True)
        (tmp_path / "builds" / name / "secret.txt").write_text("secret")
    for name in ("mine", "<b>odd"):
        (tmp_path / "builds" / name / "report").mkdir()
        (tmp_path / "builds" / name / "report" / "index.html").write_text(f"the report of {name}")
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "index.html").write_text("outside")
    app = Starlette(routes=[Route("/{rest:path}", lambda _request: PlainTextResponse("ui"))])
    report_pages.add(app, tmp_path / "builds")
    return TestClient(app, base_url="http://127.0.0.1:4200")


def test_a_report_is_served_by_its_name_and_says_whose_it_is(client, tmp_path):
    answer = client.get("/report/mine")
    assert (answer.status_code, answer.text) == (200, "the report of mine")
    assert answer.headers["content-type"].startswith("text/html")
    assert answer.headers[report_pages.ROOT] == quote(str((tmp_path / "builds" / "mine").resolve()))
    assert client.get("/flow-runs").text == "ui"
    assert '<a href="/report/%3Cb%3Eodd">&lt;b&gt;odd</a>' in client.get("/report").text
    assert client.get(f"/report/{quote('<b>odd')}").text == "the report of <b>odd"


@pytest.mark.parametrize("name", ["unfinished", "absent", "..", "%2e%2e", "..%2f..%2freport", "mine%2f..%2fmine"])
def test_nothing_else_is_served(client, name):
    answer = client.get(f"/report/{name}")
    assert answer.text == "ui" or (answer.status_code == 404 and "no report of a build" in answer.text)


def test_another_name_for_this_machine_is_refused(client):
    assert client.get("/report/mine", headers={"host": "evil.example:4200"}).status_code == 403
    assert client.get("/report", headers={"host": "evil.example"}).status_code == 403


def test_a_server_that_is_not_there_serves_no_report():
    assert report_pages.address("http://127.0.0.1:1/api", "mine", "/x") is None
    assert report_pages.address(None, "mine", "/x") is None
