"""Files that arrive in a folder are handed to a deployment once, when they are there in full."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.watching import Watched, in_words, look

FILES = st.sampled_from(["a.jsonl", "b.jsonl.gz", "deep/c.parquet"])
#: What happens to a file between two looks, a second apart: something is appended, it is removed, or nothing.
STEPS = st.lists(st.tuples(FILES, st.sampled_from(["append", "remove", "wait"])), max_size=25)


@given(STEPS)
def test_a_file_is_handed_over_once_in_each_state_in_which_it_rested(steps):
    settle = 2
    with tempfile.TemporaryDirectory() as name:
        folder, handed = Path(name), {}
        watched, rested = Watched(folder, settle), {}
        for now, (file, what) in enumerate([*steps, *[("a.jsonl", "wait")] * (settle + 1)]):
            path = folder / file
            if what == "append":
                path.parent.mkdir(exist_ok=True)
                with path.open("a") as text:
                    text.write("x")
                os.utime(path, ns=(now * 10**9, now * 10**9))
                rested[file] = now
            elif what == "remove":
                path.unlink(missing_ok=True)
                rested.pop(file, None)
            changes = watched.changes(float(now))
            for changed, stamp in changes.items():
                if stamp is not None:
                    assert now - rested[changed] >= settle
                    assert handed.get(changed) != stamp
                    handed[changed] = stamp
                else:
                    assert changed not in rested
                    del handed[changed]
            watched.hand_over(changes)
        assert watched.known == look(folder)[0] == handed
        assert set(handed) == set(rested)


def test_what_is_not_complete_by_its_name_or_hidden_is_no_file(tmp_path):
    for name in ("a.jsonl", "b.jsonl.part", "c.crdownload", ".d.jsonl", ".git/e.jsonl"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "nowhere.jsonl").symlink_to(tmp_path / "absent")
    files, passed_over = look(tmp_path)
    assert set(files) == {"a.jsonl"}
    assert passed_over == {"b.jsonl.part", "c.crdownload", ".d.jsonl", ".git/e.jsonl"}
    assert in_words(dict.fromkeys("abcde", (1, 1)) | {"a": None}) == "a (removed), b, c and 2 more"


@pytest.mark.slow
def test_a_deployment_is_run_for_what_arrived_and_again_if_it_was_skipped(api, server_url, environment, tmp_path):
    flow = api.post("/flows/", json={"name": "curate"}).raise_for_status().json()["id"]
    body = {"name": "watched", "flow_id": flow, "enforce_parameter_schema": False}
    deployment = api.post("/deployments/", json=body).raise_for_status().json()["id"]
    folder, log = tmp_path / "drop", tmp_path / "log"
    folder.mkdir()
    (folder / "first.jsonl").write_text("{}\n")
    for name in ("second.jsonl.part", "a.tmp", "b.tmp", "c.tmp"):
        (folder / name).touch()
    program = "from flows import watching, cli; watching.AGAIN_SECONDS, watching.LOOK_SECONDS = 1, 0.5; cli.main()"
    command = ["watch", str(folder), "--deployment", "curate/watched", "--settle", "1"]
    with log.open("wb") as written:
        watching = subprocess.Popen(
            [sys.executable, "-c", program, *command],
            env={**environment, "PREFECT_API_URL": server_url},
            stdout=written,
            stderr=written,
        )

    def runs(number: int) -> list[str]:
        """The flow runs of the deployment once there are ``number``, the first one first."""
        deadline = time.monotonic() + 90
        wanted = {"deployments": {"id": {"any_": [deployment]}}, "sort": "EXPECTED_START_TIME_ASC"}
        while time.monotonic() < deadline:
            assert watching.poll() is None, log.read_text()
            made = api.post("/flow_runs/filter", json=wanted).raise_for_status().json()
            if len(made) >= number:
                assert len(made) == number
                return [run["id"] for run in made]
            time.sleep(0.2)
        raise AssertionError(log.read_text())

    def end(run: str, kind: str, name: str) -> None:
        state = {"type": kind, "name": name, "message": "because"}
        api.post(f"/flow_runs/{run}/set_state", json={"state": state, "force": True}).raise_for_status()

    try:
        end(runs(1)[0], "CANCELLED", "Skipped")
        end(runs(2)[1], "COMPLETED", "Completed")
        (folder / "second.jsonl.part").rename(folder / "second.jsonl")
        end(runs(3)[2], "COMPLETED", "Completed")
        time.sleep(2)  # nothing new: nothing more is run
        runs(3)
    finally:
        watching.send_signal(signal.SIGTERM)
        assert watching.wait(30) == 143
    text = " ".join(log.read_text().split())
    assert text.count("passed over") == 1
    assert "a.tmp, b.tmp, c.tmp and 1 more: passed over, hidden or by the ending not complete (.part, " in text
    assert "first.jsonl: runs curate/watched" in text
    assert ": Skipped: because first.jsonl: again in 1 s first.jsonl: runs curate/watched" in text
    assert "second.jsonl: runs curate/watched" in text
