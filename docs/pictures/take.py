"""Take the README's pictures of a finished build: its report, and its last run in the Prefect UI.

    python docs/pictures/take.py data/builds/demo

Needs Chromium (or Chrome) on the PATH; the Prefect server's database must be the one that the build reported to.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from flows.execution.server import server
from pipeline.store import files

FOLDER = Path(__file__).parent
QUIET = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
]


def main(build: Path) -> None:
    page = build / "report" / "index.html"
    if not page.is_file():
        sys.exit(f"{page} is not there; run `mill report` first")  # the browser would take a picture of its own message
    take(page.resolve().as_uri(), FOLDER / "report.png", 1280, 1560)
    reported = [run["flow_run"] for run in files.read_json(str(build / "build.json"))["runs"] if run["flow_run"]]
    if not reported:
        sys.exit(f"{build}: no run of it was reported to a Prefect server")
    with server(4200) as url:
        run = reported[-1].rstrip("/").rpartition("/")[2]
        take(f"{url.removesuffix('/api')}/v2/runs/flow-run/{run}?tab=Artifacts", FOLDER / "prefect.png", 1440, 980)


def take(address: str, picture: Path, width: int, height: int) -> None:
    """A picture of the page at ``address`` once it has drawn itself; raises SystemExit where there is no browser."""
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        sys.exit("no Chromium found; install it to take pictures")
    with tempfile.TemporaryDirectory() as profile:
        options = [f"--user-data-dir={profile}", f"--window-size={width},{height}", "--virtual-time-budget=30000"]
        command = [browser, *QUIET, *options, f"--screenshot={picture}", address]
        subprocess.run(command, check=True, capture_output=True, timeout=180)
    print(picture)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
