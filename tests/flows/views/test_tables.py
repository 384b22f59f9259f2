"""The tables of a build are the same in the terminal, in the Prefect UI and on the page; what goes with them, too."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from flows.execution import tracking
from flows.views import artifacts, summary
from pipeline import report
from pipeline.build.build import Build
from pipeline.report import tables, tokens
from tests.flows.conftest import newest
from tests.flows.views.test_artifacts import shown
from tests.helpers.building import make
from tests.pipeline.report.test_report_tokens import recipe_over


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    folder = tmp_path_factory.mktemp("tables")
    return make(recipe_over(folder), folder / "build")[0]


class Page(HTMLParser):
    """The cells of each table of a page, row by row; bars are no cells."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tables: list[list[list[str]]] = []
        self.in_cell = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.in_cell = ("class", "bar") not in attrs
            if self.in_cell:
                self.tables[-1][-1].append("")

    def handle_endtag(self, tag: str) -> None:
        self.in_cell = self.in_cell and tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        if self.in_cell:
            self.tables[-1][-1][-1] += data


def test_each_table_has_the_same_cells_in_the_terminal_the_ui_and_the_page(build, monkeypatch):
    published: dict[str, Any] = {}
    monkeypatch.setattr(tracking, "artifact", lambda _kind, key, _about, data: published.update({key: data}))
    artifacts.publish_curation(build)
    artifacts.publish_tokenizers(build)
    in_ui = {
        key.removeprefix("mixed-"): [list(data[0]), *(list(row.values()) for row in data)]
        for key, data in published.items()
        if isinstance(data, list)
    }
    assert {"funnel", "domains", "tokens-by-domain", "tokenizers"} <= set(in_ui)
    on_page = Page(Path(report.render(build)).read_text(encoding="utf-8")).tables
    for name, table in in_ui.items():
        assert table in on_page, name
    in_terminal = [line.split() for line in shown(summary.summary_view(build)).splitlines()]
    for name in ("funnel", "tokens-by-domain"):
        for row in in_ui[name][1:]:
            assert " ".join(row).split() in in_terminal


def test_the_summary_shows_the_advice(build):
    found = tokens.by_domain(build)
    assert found is not None
    assert found["advice"] in shown(summary.summary_view(build))


@pytest.mark.slow
def test_the_ui_shows_the_tokens_of_each_domain_and_the_advice(build, server_url):
    with tracking.tracking(server_url, print), tracking.flow("publish", "publish"):
        artifacts.publish_tokenizers(build)
    published = {entry["key"]: entry for entry in newest(server_url, "artifacts")}
    found, table = tokens.by_domain(build), published["mixed-tokens-by-domain"]
    assert found is not None
    assert found["advice"] in table["description"]
    for row in artifacts.rows(tables.tokens_by_domain(found)):
        assert row["Tokens"] in table["data"]
