"""The report in a browser: what it answers is what it holds, and nothing in a document runs."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from pipeline.build.build import Build
from pipeline.store import files
from tests.helpers import small_build
from tests.helpers.browser import chromium
from tests.pipeline.report.test_report import make, render

pytestmark = pytest.mark.slow
#: What a document may try: each of these would set ``window.owned``, call for another host or turn the text around.
HOSTILE = (
    "</script><script>window.owned=1</script><img src=x onerror='window.owned=2'><svg onload=window.owned=3>"
    '<a href="javascript:window.owned=4">here</a>" onmouseover="window.owned=5" x="\' --><style>*{display:none}</style>'
    "<iframe srcdoc='<script>parent.owned=6</script>'></iframe>"
    "${window.owned=7}{{7*7}}\u2028\u202egnihtemos\u202c</desc>"
)
STYLES = ("light", "dark")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    build = make(tmp_path_factory.mktemp("page"), hostile=HOSTILE)
    clusters = dict.fromkeys(("clusters", "clustered_documents", "dropped", "dropped_by_chain", "largest_cluster"), 2)
    clusters |= {"sources": {}, "largest_above_cap": [], "warnings": [HOSTILE]}
    files.write_json(build.path("work", "minhash.clusters", "report.json"), clusters)
    summary = {
        "name": "gpt", "objective": "causal", "model_type": "gpt2", "steps": 3000, "trained_tokens": 1, "epochs": 0.5,
        "parameters": {"total": 9, "non_embedding": 3, "matrices_and_head": 1}, "tokens_per_second": 15.0,
        "evaluation": {"loss": 4.25, "bits_per_byte": 1.375}, "device": HOSTILE,
    }  # fmt: skip
    files.write_json(build.path("models", "gpt", "summary.json"), summary)
    losses = [json.dumps({"step": step, "loss": 9 / step**0.1}) for step in range(1, 3001)]
    Path(build.path("models", "gpt", "metrics.jsonl")).write_text("\n".join(losses))
    build = Build(build.root, build.recipe.model_copy(update={"pretrain": [small_build.Named(name="gpt")]}))
    render(build)
    return Path(build.path("report", "index.html")).as_uri()


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Page]:
    """The page as it opens; fails the test if it asks for anything, or its script stops."""
    with browser.new_context(viewport={"width": 1280, "height": 900}, accept_downloads=True) as context:
        opened = context.new_page()
        asked: list[str] = []
        failed: list[str] = []
        opened.on("request", lambda request: asked.append(request.url))
        opened.on("pageerror", lambda error: failed.append(str(error)))
        opened.goto(address)
        yield opened
        assert opened.evaluate("window.owned") is None
        assert [url for url in asked if url != address and not url.startswith("blob:")] == []
        assert failed == []


def test_hostile_documents_are_shown_as_text_and_run_nothing(page: Page):
    page.evaluate("document.querySelectorAll('details').forEach((one) => (one.open = true))")
    card = page.locator(".sample .text").first
    shown = HOSTILE.replace("\u2028", "").replace("\u202e", "\\u202e").replace("\u202c", "\\u202c")
    assert shown in card.inner_text().replace("\u2028", "")
    card.hover()
    page.locator(".sample header code").first.hover()
    page.get_by_role("searchbox").fill("onerror")
    page.wait_for_timeout(200)  # for what an image or a frame would have started
    assert page.evaluate("window.owned") is None
    assert page.locator("iframe, img, a[href^=javascript]").count() == 0
    turned = page.locator(".sample .text").first.evaluate("(one) => getComputedStyle(one).unicodeBidi")
    assert turned == "isolate"  # what turns the direction around ends with the text


def test_a_cluster_stands_side_by_side_with_the_words_marked_that_differ(page: Page):
    cluster = page.locator("#duplicates details", has=page.locator(".cluster")).first
    cluster.locator("summary").click()
    kept, member = cluster.locator(".cluster .text").all()[:2]
    number = kept.inner_text().split()[2]
    assert member.locator("del").inner_text() == number
    assert member.locator("mark").inner_text() == str(int(number) + 5)
    boxes = [one.bounding_box() for one in (kept, member)]
    assert boxes[0] is not None
    assert boxes[1] is not None
    assert boxes[0]["x"] + boxes[0]["width"] <= boxes[1]["x"]
    assert boxes[1]["y"] < boxes[0]["y"] + boxes[0]["height"]


def test_the_policy_stops_a_script_that_got_into_the_page(browser: Browser, address: str, tmp_path: Path):
    """The second wall: were a document's text not escaped, it would still not run."""
    html = Path(address.removeprefix("file://")).read_text("utf-8")
    broken = tmp_path / "broken.html"
    broken.write_text(html.replace("<main>", f"<main>{HOSTILE}<p onclick='window.owned=8' id=bait>x</p>"), "utf-8")
    page = browser.new_page()
    page.goto(broken.as_uri())
    page.evaluate("document.getElementById('bait').click()")
    page.wait_for_timeout(200)
    assert page.evaluate("window.owned") is None
    page.close()


def test_a_threshold_moved_by_key_or_pointer_says_what_its_curve_holds(page: Page):
    handle = page.get_by_role("slider").first
    curve = json.loads(handle.get_attribute("data-curve") or "")
    said = handle.locator("xpath=ancestor::figure").locator(".whatif").first
    assert not said.is_visible()
    handle.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    index = curve["at"].index(curve["value"]) + 2
    assert f"--set '{curve['setting']}={curve['at'][index]}'" in said.inner_text()
    numbers = said.locator("[data-documents]")
    assert numbers.get_attribute("data-documents") == str(curve["documents"][index])
    assert numbers.get_attribute("data-bytes") == str(curve["bytes"][index])
    page.keyboard.press("Escape")
    assert not said.is_visible()
    box = handle.locator(".grip").bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 40, y, steps=4)
    page.mouse.up()
    value = float(handle.get_attribute("aria-valuenow") or "nan")
    assert value > curve["value"]
    assert numbers.get_attribute("data-documents") == str(curve["documents"][curve["at"].index(value)])


def test_the_pointer_over_a_column_reads_its_counts(page: Page):
    chart = page.locator("figure", has=page.get_by_role("slider")).first.locator("svg")
    data = json.loads(chart.get_attribute("data-chart") or "")
    heights = [sum(column) for column in zip(*(values for _, values in data["layers"]), strict=True)]
    column = heights.index(max(heights))
    left, right, low, high, _ = data["x"]
    middle = (data["edges"][column] + data["edges"][column + 1]) / 2
    chart.scroll_into_view_if_needed()
    box = chart.bounding_box()
    assert box is not None
    scale = box["width"] / chart.evaluate("(one) => one.viewBox.baseVal.width")
    at = left + (right - left) * (middle - low) / (high - low)
    page.mouse.move(box["x"] + at * scale, box["y"] + box["height"] / 2)
    shown = page.locator(".tip").inner_text().splitlines()
    assert sum(int(line.split()[0].replace(",", "")) for line in shown[1:]) == heights[column]


def test_a_table_sorts_by_the_numbers_it_shows_and_downloads_its_cells(page: Page):
    table = page.locator("#funnel .scroll > table").first
    rows = [row.locator("th, td").all_inner_texts() for row in table.locator("tr").all()]
    with page.expect_download() as started:
        page.locator("#funnel button.csv").first.click()
    text = Path(started.value.path()).read_text("utf-8")
    assert list(csv.reader(io.StringIO(text))) == rows
    table.get_by_role("button", name="Documents dropped").click()
    column = [row.locator("th, td").nth(2).inner_text() for row in table.locator("tbody tr:not(.total)").all()]
    assert column == ["16", "10", "–"]  # what is no number stands last
    assert table.locator("tbody tr").last.get_attribute("class") == "total"


def test_numbers_are_read_from_cells_as_the_program_writes_them(page: Page):
    cells = ["12,345", "1.20 MB", "7.40M", "81.2 %", "<0.1 %", "2.18 × 10¹⁴", "–", "0.0256 s", "3.5 min"]
    numbers = page.evaluate("(cells) => cells.map(numberIn)", cells)
    assert numbers == pytest.approx([12345, 1.2e6, 7.4e6, 81.2, 0.1, 2.18e14, None, 0.0256, 210])


def test_samples_are_searched_and_filtered_by_rule(page: Page):
    section = page.locator("#dropped")
    everything = section.locator(".sample").count()
    assert section.locator("output").inner_text() == f"{everything} of {everything} shown"
    page.get_by_role("searchbox").fill("number 31 ")
    assert section.locator(".sample:visible").count() == 1
    page.get_by_role("searchbox").fill("")
    page.get_by_label("Rule").select_option(label="Near-duplicates: near duplicate")
    near = section.locator(".sample:visible").count()
    assert 0 < near < everything
    assert section.locator(".sample.duplicate:visible").count() == near


@pytest.mark.parametrize("scheme", STYLES)
def test_it_follows_the_system_and_its_own_switch(browser: Browser, address: str, scheme):
    page = browser.new_page(color_scheme=scheme)
    page.goto(address)

    def is_light() -> bool:
        color = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
        return int(color.split("(")[1].split(",")[0]) > 128

    assert is_light() == (scheme == "light")
    page.locator("button.theme").click()
    assert is_light() == (scheme == "dark")
    page.emulate_media(media="print")
    assert is_light()  # paper is light
    page.close()


@pytest.mark.parametrize("width", [390, 768, 1280])
def test_nothing_is_cut_at_any_width(browser: Browser, address: str, width: int):
    page = browser.new_page(viewport={"width": width, "height": 844})
    page.goto(address)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true })")
    word = "document.querySelector('.sample').appendChild(document.createElement('p')).textContent = 'x'.repeat(999)"
    page.evaluate(word)  # what stands in a document may be one long word
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for link in page.locator("nav a").all():
        box = link.bounding_box()
        assert box is not None
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width
    page.close()


def test_what_is_folded_is_printed_and_controls_are_not(page: Page):
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("details:not([open])").count() == 0
    assert page.locator("button:not(.sort):visible, input:visible, select:visible").count() == 0
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator("details:not([open])").count() > 0


def test_without_a_script_everything_is_there_to_read(browser: Browser, address: str):
    with browser.new_context(java_script_enabled=False) as context:
        page = context.new_page()
        page.goto(address)
        assert page.locator("svg.chart").count() > 0
        assert page.locator(".sample").count() > 0
        assert page.locator("button, input").count() == 0
        assert not page.locator(".scripted").first.is_visible()


def test_a_loss_curve_is_zoomed_into_and_back(page: Page):
    chart = page.locator("#pretraining svg")
    chart.scroll_into_view_if_needed()
    whole = chart.locator("g.plot").inner_html()
    box = chart.bounding_box()
    assert box is not None
    scale = box["width"] / chart.evaluate("(one) => one.viewBox.baseVal.width")
    left, right, low, high, _ = json.loads(chart.get_attribute("data-chart") or "")["x"]
    start, end = (box["x"] + scale * (left + (right - left) * part) for part in (0.5, 0.6))
    y = box["y"] + box["height"] / 2
    page.mouse.move(start, y)
    page.mouse.down()
    page.mouse.move(end, y, steps=3)
    page.mouse.up()
    shown = [float(text) for text in chart.locator("g.plot .axis.middle").all_text_contents()]
    assert shown
    first, last = (low + (high - low) * part for part in (0.5, 0.6))
    assert all(first - 1 <= value <= last + 1 for value in shown)
    # a tenth of the run: more points of it than the whole chart draws of that tenth
    assert chart.locator("g.plot path").get_attribute("d").count("L") > 0.15 * whole.count("L")  # type: ignore[union-attr]
    page.get_by_role("button", name="Zoom out").click()
    assert chart.locator("g.plot").inner_html() == whole
