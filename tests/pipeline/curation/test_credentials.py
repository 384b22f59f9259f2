"""Credentials in the paths of a recipe open files, and are written and shown nowhere."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from flows.execution.open_build import on_record
from pipeline.build.build import Build
from pipeline.sources.base import NoFiles, find_files
from pipeline.sources.jsonl import Jsonl
from pipeline.store import files, messages
from tests.helpers import building
from training.recipe.sections import BuildRecipe, stored

SECRET = "s3cr3tHush"


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """Host and port that serve a file of documents, one of its lines broken."""
    served = tmp_path / "served"
    served.mkdir()
    lines = [f'{{"text": "document {n} of a few words"}}' for n in range(30)]
    (served / "a.jsonl").write_text("\n".join([*lines, "{broken"]) + "\n")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(served))) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{http.server_port}"
        http.shutdown()


def recipe(path: str) -> BuildRecipe:
    source = {"kind": "jsonl", "name": "web", "path": path}
    return BuildRecipe.model_validate({"name": "b", "sources": [source], "error_budget": 0.5, "canaries": False})


def test_no_file_of_a_build_holds_the_secret_and_rotating_it_makes_nothing_stale(server: str, tmp_path: Path):
    root = tmp_path / "b"
    first = recipe(f"http://user:{SECRET}@{server}/a.jsonl?token={SECRET}")
    build, _ = building.make(first, root)
    with on_record(Build(str(root), first), tmp_path / "b.yaml", lambda: None, {}):
        pass
    assert sum(build.documents(shard).num_rows for shard in build.shards()) == 30
    for path in root.rglob("*"):
        assert path.is_dir() or SECRET.encode() not in path.read_bytes(), path
    assert stored(root).sources[0].path == [f"http://***@{server}/a.jsonl?token=***"]  # type: ignore[union-attr]
    rotated = recipe(f"http://user:another@{server}/a.jsonl?token=another")
    assert files.fingerprint(first) == files.fingerprint(rotated)
    _, outcomes = building.make(rotated, root)
    assert all(outcome.reused for outcome in outcomes["ingest"])


def test_messages_hold_no_secret(server: str):
    for path in (f"http://u:{SECRET}@{server}/none.jsonl?sig={SECRET}", f"http://u:{SECRET}@127.0.0.1:9/a.jsonl"):
        with pytest.raises((NoFiles, ValueError, OSError)) as raised:
            find_files(Jsonl(kind="jsonl", name="web", path=[path]))
        assert SECRET not in str(raised.value)
        assert SECRET not in (messages.message(raised.value) or "")


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("s3://AKIAIOSFODNN7EXAMPLE:a/b+c@bucket/x.txt", "s3://***@bucket/x.txt"),
        ("https://u:p@host/a?x=1&X-Amz-Signature=ab%2F&y=2", "https://***@host/a?x=1&X-Amz-Signature=***&y=2"),
        ("https://h/a?AWSAccessKeyId=A&Signature=b", "https://h/a?AWSAccessKeyId=***&Signature=***"),
        ("https://host:80/a@b/c?page=2", "https://host:80/a@b/c?page=2"),
        ("/data/a?token=b.txt", "/data/a?token=b.txt"),
    ],
)
def test_what_is_masked(path: str, shown: str):
    assert files.masked(path) == shown
