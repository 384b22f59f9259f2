"""The programs beside `mill` start: what `make` runs, as far as it costs next to nothing."""

from __future__ import annotations

import importlib
import importlib.util
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from benchmarks import __main__ as bench
from benchmarks import newer

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("name", bench.BENCHMARKS)
def test_a_benchmark_starts(name: str):
    """As far as its imports: what it measures takes minutes."""
    assert callable(importlib.import_module(f"benchmarks.{name}").main)


def test_every_target_of_the_makefile_that_is_explained_has_commands_and_modules_that_are_there():
    explained = re.findall(r"^# make ([\w-]+) ", (ROOT / "Makefile").read_text("utf-8"), re.M)
    assert {"test", "fuzz", "sbom"} <= set(explained)
    shown = subprocess.run(["make", "--dry-run", *explained], cwd=ROOT, text=True, capture_output=True, check=True)
    modules = set(re.findall(r"python -m ([\w.]+)", shown.stdout)) & {"tests.fuzz", "benchmarks"}
    assert modules == {"tests.fuzz", "benchmarks"}
    assert all(importlib.util.find_spec(f"{module}.__main__") for module in modules)


def test_a_wrong_name_of_a_benchmark_is_refused_with_those_there_are(capsys: pytest.CaptureFixture[str]):
    assert bench.main(["packings"]) == 2
    shown = capsys.readouterr().err
    assert "no benchmark 'packings'" in shown
    assert "packing, training" in shown


def test_a_peer_of_which_there_is_a_newer_release_than_the_one_measured_is_named():
    measured = newer.measured_versions()
    assert {"tokenizers", "sentencepiece", "gigatoken", "tokie", "datatrove"} <= set(measured)
    assert len(measured["tokenizers"]) == 2
    assert (
        newer.line("tokie", {"0.1.4"}, "0.1.5")
        == "tokie 0.1.4: WARNING: 0.1.5 is newer, these numbers are not about it"
    )
    assert (
        newer.line("tokenizers", {"1.0.0rc3", "0.23.3"}, "1.0.0rc3") == "tokenizers 0.23.3 and 1.0.0rc3: none is newer"
    )
    assert "does not answer" in newer.line("tokie", {"0.1.4"}, None)


def test_a_picture_is_taken_of_a_page_or_the_missing_browser_is_named(tmp_path: Path):
    spec = importlib.util.spec_from_file_location("take", ROOT / "docs" / "pictures" / "take.py")
    assert spec is not None
    assert spec.loader is not None
    program = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(program)
    with pytest.raises(SystemExit, match="is not there; run `mill report` first"):
        program.main(tmp_path)
    (tmp_path / "page.html").write_text("<h1>A page</h1>")
    picture = tmp_path / "page.png"
    address = (tmp_path / "page.html").as_uri()
    if any(map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))):
        program.take(address, picture, 320, 240)
        assert picture.read_bytes().startswith(b"\x89PNG")
    else:
        with pytest.raises(SystemExit, match="no Chromium found"):
            program.take(address, picture, 320, 240)
