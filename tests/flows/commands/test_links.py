"""What the globs of a source leave out is read in the manifest of the documents and in the terminal."""

from __future__ import annotations

import io
from pathlib import Path

import orjson
import pytest
from rich.console import Console

from flows.views import summary
from pipeline.curation import recipe as recipes
from pipeline.store import files
from tests.helpers import building


@pytest.mark.parametrize("glob", ["*/*.jsonl", "**/*.jsonl"])
def test_links_and_hidden_files_that_are_not_read_are_warned_of(glob: str, tmp_path: Path):
    for number, folder in enumerate(("crawl/2023", "crawl/2023/.ipynb_checkpoints", "disk2/2024")):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "p1.jsonl").write_bytes(orjson.dumps({"text": f"document {number}"}))
    crawl = tmp_path / "crawl"
    (crawl / "2024").symlink_to("../disk2/2024")
    (crawl / "2023/p3.jsonl").symlink_to("/nowhere/p3.jsonl")
    (crawl / "2023/._p1.jsonl").write_bytes(b"\0\5\26\7")
    (crawl / "2023/back").symlink_to(crawl)
    source = {"name": "web", "kind": "jsonl", "path": f"{crawl}/{glob}"}
    recipe = recipes.checked({"name": "links", "sources": [source], "canaries": False}, recipes.Recipe)
    build, _ = building.make(recipe, tmp_path / "build")

    entry = files.read_json(build.path("documents", "manifest.json"))["sources"]["web"]
    assert (entry["documents"], entry["quarantined"]) == (2, 0)
    dangling, hidden, *rest = entry["warnings"]
    assert "the target of the link is not there" in dangling
    assert f"{crawl}/2023/p3.jsonl -> /nowhere/p3.jsonl" in dangling
    assert f"{crawl}/2023/._p1.jsonl" in hidden
    if "**" in glob:
        assert "hidden files left out: 2" in hidden
        assert "read already" in rest[0]
        assert f"{crawl}/2023/back" in rest[0]

    out = Console(file=io.StringIO(), width=80)
    out.print(summary.summary_view(build))
    shown = " ".join(out.file.getvalue().split())  # type: ignore[attr-defined]
    for sentence in entry["warnings"]:
        assert f"warning: {sentence}".replace(" ", "") in shown.replace(" ", "")
