"""What opens a source, in its address or in the environment, is nowhere in what a run leaves."""

from __future__ import annotations

import subprocess
import sys
import threading
from base64 import b64encode
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml

from tests.flows.conftest import NEWEST, mill

PASSWORD, TOKEN, KEY = "pa55word-of-reader", "t0ken-of-address", "k3y-of-environment"


@pytest.fixture
def store(topics_recipe) -> Iterator[tuple[str, list[str | None]]]:
    """A web server of topics.jsonl that asks for a password and a token, and the addresses that were refused."""
    body = topics_recipe.with_name("topics.jsonl").read_bytes()
    login = "Basic " + b64encode(f"reader:{PASSWORD}".encode()).decode()
    refused: list[str | None] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known = self.headers.get("Authorization") == login and self.path.endswith(f"?token={TOKEN}")
            there = self.path.startswith("/topics.jsonl")
            if not known:
                refused.append(self.path)
            self.send_response(200 if known and there else 404 if known else 403)
            self.send_header("Content-Length", str(len(body) if known and there else 0))
            self.end_headers()
            if known and there and self.command == "GET":
                self.wfile.write(body)

        do_HEAD = do_GET

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://reader:{PASSWORD}@127.0.0.1:{server.server_port}", refused
    server.shutdown()
    server.server_close()


@pytest.mark.slow
def test_no_credential_is_in_what_a_run_leaves(
    api, server_url, environment, prefect_home, topics_recipe, store, tmp_path, monkeypatch
):
    address, refused = store
    monkeypatch.chdir(tmp_path)
    recipe = yaml.safe_load(topics_recipe.read_text())
    for name, file in (("opened", "topics.jsonl"), ("absent", "absent.jsonl")):
        source = {**recipe["sources"][0], "path": f"{address}/{file}?token={TOKEN}"}
        written = {"name": name, "sources": [source], "exact": {}, "canaries": False}
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(written))
    online = {**environment, "PREFECT_API_URL": server_url, "AWS_SECRET_ACCESS_KEY": KEY}
    done = mill("build", "opened.yaml", environment=online)
    assert done.returncode == 0, done.stderr
    assert refused == []
    by_prefect = "from flows.schedule import FLOWS; FLOWS['curate'](recipe='absent.yaml')"
    failed = subprocess.run(
        [sys.executable, "-c", by_prefect], env=online, text=True, capture_output=True, timeout=300, check=False
    )
    assert failed.returncode != 0
    assert "absent.jsonl" in failed.stderr

    secrets = [secret.encode() for secret in (PASSWORD, TOKEN, KEY)]
    kept: dict[str, bytes] = {"printed": "".join((done.stdout, done.stderr, failed.stdout, failed.stderr)).encode()}
    for kind in ("flow_runs", "task_runs", "logs", "artifacts", "flow_run_states", "events"):
        order = {"sort": NEWEST[kind]} if kind in NEWEST else {}
        answer = api.post(f"/{kind}/filter", json=order)
        if answer.status_code == 200:
            kept[f"the API's {kind}"] = answer.content
    assert b"opened" in kept["the API's flow_runs"]
    assert b"absent.jsonl" in kept["the API's logs"]
    assert {"the API's artifacts", "the API's events"} <= kept.keys()
    for folder in (tmp_path / "data", prefect_home):
        kept |= {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert any(path.endswith("build.json") for path in kept)
    assert Path(prefect_home, "prefect.db").is_file()
    found = [(where, secret) for where, content in kept.items() for secret in secrets if secret in content]
    assert found == []
