"""`mill report --open`: the page goes to the browser that the environment names, or its address is said."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

PROGRAM = """
import sys
import typer
from flows.commands.options import telling_errors
from flows.commands.building import open_in_browser

try:
    with telling_errors(False):
        open_in_browser(sys.argv[1])
except typer.Exit as ended:
    sys.exit(ended.exit_code)
"""
ADDRESS = "file:///builds/a%20b/report/index.html"


def opened(**environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if name not in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")}
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, ADDRESS],
        env={**kept, **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_the_browser_of_the_environment_gets_the_page(tmp_path: Path):
    browser, got = tmp_path / "browser", tmp_path / "got"
    browser.write_text(f'#!/bin/sh\nprintf %s "$1" >{got}\n')
    browser.chmod(0o755)
    assert opened(BROWSER=f"{browser} %s").returncode == 0
    assert got.read_text() == ADDRESS


def test_without_a_browser_the_address_is_said(tmp_path: Path):
    found = opened(PATH=str(tmp_path))
    assert found.returncode == 1
    assert ADDRESS in "".join(found.stderr.split())
    assert "Traceback" not in found.stderr
