"""Runs of `mill serve`: asked for in the Prefect UI, cancelled, killed, late, completed, with nothing to do, failed."""

from __future__ import annotations

import itertools
import os
import re
import signal
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from playwright.sync_api import Locator, Page, Response, TimeoutError, expect
from prefect.client.schemas.objects import StateType
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.execution import progress
from flows.execution.open_build import open_build
from flows.schedule import FLOWS
from pipeline.build.lock import locked
from tests.helpers.browser import chromium
from tests.helpers.held import Held, gone, wait_for

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def held(server_url, environment, tmp_path_factory) -> Iterator[dict[str, Held]]:
    """Two such recipes in the folder in which `mill serve` serves every flow."""
    folder = tmp_path_factory.mktemp("served")
    recipes = folder / "data" / "recipes"
    made = {name: Held(name, recipes / name, folder / "builds") for name in ("asked", "shown")}
    log = folder / "serve.log"
    with log.open("wb") as written:
        served = subprocess.Popen(
            [sys.executable, "-m", "flows.cli", "serve", "--builds", "builds", "--workers", "1"],
            cwd=folder,
            # how soon it asks for work is Prefect's affair; of what is cancelled it hears at once
            env={**environment, "PREFECT_API_URL": server_url, "PREFECT_RUNNER_POLL_FREQUENCY": "2"},
            stdout=written,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_for(lambda: b"serving" in log.read_bytes() or served.poll() is not None)
        yield made
    finally:
        served.send_signal(signal.SIGTERM)
        served.wait(30)
    assert served.returncode == 143
    assert "FailedRun" not in log.read_text(), "what failed is said once"
    assert "Traceback" not in log.read_text(), log.read_text()[-3000:]
    assert "stopped by SIGTERM" in log.read_text()
    assert "polling" not in log.read_text(), "of what is cancelled it heard by asking"


def state(api: httpx.Client, run: str) -> tuple[str, str, str]:
    found = api.get(f"/flow_runs/{run}").raise_for_status().json()["state"]
    return found["type"], found["name"], found["message"] or ""


def ended(api: httpx.Client, run: str) -> bool:
    return state(api, run)[0] in ("COMPLETED", "FAILED", "CANCELLED", "CRASHED")


def test_every_end_of_a_served_run(api, server_url, environment, held):
    build = held["asked"]

    def served() -> list[dict[str, Any]]:
        wanted = {"deployments": {"name": {"any_": ["any-recipe"]}, "tags": {"all_": ["curate"]}}}
        return api.post("/deployments/filter", json=wanted).raise_for_status().json()

    wait_for(served)
    (deployment,) = served()
    assert sorted(deployment["tags"]) == ["corpusmill", "curate"]

    def start(**parameters: Any) -> str:
        build.forget()
        body = {"state": {"type": "SCHEDULED"}, "parameters": {"recipe": str(build.recipe), **parameters}}
        return api.post(f"/deployments/{deployment['id']}/create_flow_run", json=body).raise_for_status().json()["id"]

    run = start()  # killed: nobody is left to write the record but Prefect's hook
    wait_for(build.at_work)
    build.at_work()[0].kill()
    assert wait_for(lambda: ended(api, run) and build.last()["state"] != "running") < 30
    assert state(api, run)[0] == build.last()["state"].upper() == "CRASHED"

    run = start()
    wait_for(build.at_work)
    working = build.at_work()
    cancel = [sys.executable, "-m", "prefect", "--no-prompt", "flow-run", "cancel", run]
    subprocess.run(cancel, env={**environment, "PREFECT_API_URL": server_url}, check=True, capture_output=True)
    assert wait_for(lambda: gone(working) and state(api, run)[0] == "CANCELLED") < 10
    assert build.last()["state"] == "cancelled"

    run = start(timeout_hours=10 / 3600)
    wait_for(build.at_work)
    working = build.at_work()
    wait_for(lambda: ended(api, run) and gone(working), 60)
    assert state(api, run)[:2] == ("FAILED", "TimedOut")
    assert "stopped after 0.00277778 hours, its timeout_hours" in state(api, run)[2]
    assert build.last()["state"] == "timed out"
    parents = {"flow_runs": {"parent_flow_run_id": {"any_": [run]}}}
    (within,) = api.post("/flow_runs/filter", json=parents).raise_for_status().json()
    assert within["state_name"] == "TimedOut"

    build.hold.unlink()
    run = start()  # goes on to the same corpus as a build that nothing stopped
    wait_for(lambda: ended(api, run))
    assert state(api, run)[:2] == ("COMPLETED", "Quarantined 1"), state(api, run)
    documents = build.documents()
    assert state(api, run)[2].startswith("79 documents read, ")
    assert f", {len(documents)} kept (" in state(api, run)[2]
    assert documents == build.expected()

    again = start()
    wait_for(lambda: ended(api, again))
    assert state(api, again) == ("COMPLETED", "Nothing new", state(api, run)[2])

    strict = start(set=["error_budget=0"])
    wait_for(lambda: ended(api, strict))
    assert state(api, strict)[:2] == ("FAILED", "Failed")
    assert "topics.jsonl, record 80" in state(api, strict)[2]
    assert "raise `error_budget`" in state(api, strict)[2]
    shown = api.post("/artifacts/filter", json={"artifacts": {"key": {"any_": ["asked-failure"]}}}).json()
    assert [(entry["flow_run_id"], "record 80" in entry["data"]) for entry in shown] == [(strict, True)]
    wanted = {"filter": {"resource": {"id": ["corpusmill.build.asked"]}}}
    ends = ("started", "finished", "nothing-new", "failed")
    named = {*(f"corpusmill.build.{end}" for end in ends), "corpusmill.alarm.error-budget"}

    def announced() -> set[str]:
        found = api.post("/events/filter", json=wanted).raise_for_status().json()["events"]
        return {entry["event"] for entry in found}

    wait_for(lambda: named <= announced())  # the server writes them down some seconds later


def test_a_run_is_skipped_while_another_is_at_work_on_its_build(server_url, topics_recipe, tmp_path):
    builds = tmp_path / "builds"
    with locked(open_build(topics_recipe, builds).root), temporary_settings({PREFECT_API_URL: server_url}):
        ended = FLOWS["curate"](recipe=topics_recipe, builds=builds, return_state=True)
    assert (ended.type, ended.name) == (StateType.CANCELLED, "Skipped")
    assert f"process {os.getpid()} is at work" in ended.message


def accepted(page: Page, path: str, ask: Callable[[], None]) -> Response:
    """Have the page post to a ``path``, and again as often as the server refuses it (503), which has changed nothing:
    its database was busy, and the page, unlike Prefect's client, leaves it to the user to ask again.
    """
    for _ in range(20):
        with page.expect_response(lambda answer: urllib.parse.urlsplit(answer.url).path.endswith(path)) as answer:
            ask()
        if answer.value.status != 503:
            break
        page.mouse.move(0, 0)  # the page's message lies over the button, and stays while the mouse is on it
        time.sleep(0.5)
    assert answer.value.ok, (answer.value.status, answer.value.text())
    return answer.value


def drawing(page: Page) -> Locator:
    """What the page drew of a text in Mermaid."""
    return page.locator("svg[aria-roledescription]").filter(has_text="corpus")


def test_a_run_asked_for_by_the_form_is_cancelled_and_completed_in_the_browser(api, server_url, held, tmp_path):
    build, ui = held["shown"], f"{server_url.removesuffix('/api')}/v2"
    pictures = itertools.count(1)
    print(f"screenshots: {tmp_path}")

    def refused(answer: Response) -> None:
        if answer.status >= 400:
            print(answer.status, answer.request.method, answer.url)

    def picture(page: Page, name: str) -> None:
        page.screenshot(path=tmp_path / f"{next(pictures)}-{name}.png")

    def runs() -> set[str]:
        wanted = {"deployments": {"name": {"any_": ["any-recipe"]}}, "flows": {"name": {"any_": ["curate"]}}}
        return {run["id"] for run in api.post("/flow_runs/filter", json=wanted).raise_for_status().json()}

    def ask(page: Page) -> None:
        """Fill in the form of the deployment, submit it, and come to the page of the run."""
        build.forget()
        page.goto(f"{ui}/deployments")
        page.get_by_placeholder("Search deployments").fill("any-recipe")
        flow = page.get_by_role("link", name="curate", exact=True)
        link = page.get_by_role("row").filter(has=flow).get_by_role("link", name="any-recipe")
        address = urllib.parse.urljoin(page.url, link.get_attribute("href"))
        picture(page, "deployments")
        for _ in range(6):  # now and then the page comes without its buttons
            page.goto(address)
            try:
                page.get_by_role("button", name="Run", exact=True).click(timeout=20_000)
                break
            except TimeoutError:
                picture(page, "deployment")
        page.get_by_role("menuitem", name="Custom run").click()
        page.get_by_role("button", name="Select Recipe").click()
        page.get_by_role("option", name="data/recipes/shown.yaml").click()
        picture(page, "form")
        before = runs()
        submit = page.get_by_role("button", name="Submit")
        run = accepted(page, "/create_flow_run", submit.click).json()["id"]
        assert runs() - before == {run}
        # the button that leads there is shown for seconds only
        page.goto(f"{ui}/runs/flow-run/{run}")

    with chromium() as browser:
        page = browser.new_page(viewport={"width": 1300, "height": 1000})
        page.on("response", refused)
        page.set_default_timeout(120_000)
        expect.set_options(timeout=120_000)

        ask(page)
        expect(page.get_by_text("Running", exact=True).first).to_be_visible()
        wait_for(build.at_work)
        working = build.at_work()
        picture(page, "running")
        page.get_by_role("button", name="Open menu").click()
        page.get_by_role("menuitem", name="Cancel").click()
        picture(page, "cancelling")
        accepted(page, "/set_state", page.get_by_role("button", name="Cancel Flow Run").click)
        began = datetime.now(UTC)
        wait_for(lambda: gone(working), 10)
        expect(page.get_by_text("Cancelled", exact=True).first).to_be_visible()
        shown = api.get(f"/flow_runs/{page.url.rpartition('/')[2].partition('?')[0]}").json()["state"]
        assert shown["type"] == "CANCELLED"
        assert datetime.fromisoformat(shown["timestamp"]) - began < timedelta(seconds=10)
        picture(page, "cancelled")
        assert build.last()["state"] == "cancelled"

        ask(page)
        wait_for(build.at_work)
        time.sleep(progress.LIVE_SECONDS)
        build.hold.unlink()
        expect(page.get_by_text("Quarantined 1", exact=True).first).to_be_visible()
        page.reload()  # the page asks for no more lines once the run has ended
        for title in ("Ingest", "Shouts", "Exact duplicates", "Curated corpus"):
            expect(page.get_by_text(re.compile(f"^{title}: .* documents kept"))).to_be_visible()
        picture(page, "log")
        page.get_by_role("tab", name="Artifacts").click()
        expect(page.get_by_text("Shouts: 1 of 1")).to_be_visible()
        picture(page, "artifacts")
        page.goto(f"{ui}/artifacts")
        expect(page.get_by_text("shown-domains")).to_be_visible()
        picture(page, "all-artifacts")
        for name, shown in (("funnel", page.get_by_role("cell", name="Shouts")), ("lineage", drawing(page))):
            page.goto(f"{ui}/artifacts/key/shown-{name}")
            page.locator("a[href*='/artifacts/artifact/']").first.click()
            expect(shown).to_be_visible()
            picture(page, name)
    assert build.documents() == build.expected()
