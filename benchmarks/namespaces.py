"""Two Dask workers in network namespaces of their own, which reach the scheduler and the store and nothing else, make
the build that one process makes in a folder. By hand, as root: python -m benchmarks.namespaces
"""

from __future__ import annotations

import contextlib
import json
import os
import pydoc_data.topics
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import fsspec
import yaml

HOST, BRIDGE, NAMES = "10.44.0.1", "millbr", ("mill-a", "mill-b")
STORE, SCHEDULER = f"http://{HOST}:25000", f"tcp://{HOST}:28786"
SETTINGS = {
    "AWS_ENDPOINT_URL": STORE,
    "AWS_ACCESS_KEY_ID": "key",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "PREFECT_API_URL": "http://127.0.0.1:1/api",
}
#: What tells when and where a run was.
OF_THE_RUN = {"build.json", ".checksums/build.json.xxh3", ".lock"}


def ip(*arguments: str, check: bool = True) -> None:
    subprocess.run(["ip", *arguments], check=check, capture_output=not check)


@contextlib.contextmanager
def network() -> Iterator[None]:
    """A bridge at HOST and a namespace for each of NAMES, which leads to the bridge alone."""
    ip("link", "add", BRIDGE, "type", "bridge")
    try:
        ip("addr", "add", f"{HOST}/24", "dev", BRIDGE)
        ip("link", "set", BRIDGE, "up")
        for number, name in enumerate(NAMES, 2):
            ip("netns", "add", name)
            ip("link", "add", f"mill-v{number}", "type", "veth", "peer", "name", "eth0", "netns", name)
            ip("link", "set", f"mill-v{number}", "master", BRIDGE, "up")
            ip("-n", name, "addr", "add", f"10.44.0.{number}/24", "dev", "eth0")
            ip("-n", name, "link", "set", "eth0", "up")
            ip("-n", name, "link", "set", "lo", "up")
        yield
    finally:
        for name in NAMES:
            ip("netns", "del", name, check=False)
        ip("link", "del", BRIDGE, check=False)


@contextlib.contextmanager
def running(folder: Path, before: list[str], code: str, *arguments: str) -> Iterator[None]:
    """A Python process with a cache of its own, after the words ``before``, such as those that enter a namespace."""
    own = {**os.environ, "CORPUSMILL_CACHE": str(folder / "cache"), "PYTHONPATH": str(Path.cwd())}
    folder.mkdir()
    with (folder / "log").open("w") as log:
        process = subprocess.Popen([*before, sys.executable, "-c", code, *arguments], env=own, stdout=log, stderr=log)
    try:
        yield
    finally:
        process.kill()
        process.wait(10)


def write_recipe(folder: Path) -> Path:
    texts = sorted(pydoc_data.topics.topics.items())[::2]
    lines = "".join(json.dumps({"name": name, "text": text}) + "\n" for name, text in [*texts, *texts[:3]])
    fsspec.filesystem("s3").pipe_file("bucket/topics.jsonl", lines.encode())
    source = {"name": "topics", "kind": "jsonl", "path": "s3://bucket/topics.jsonl", "domain": "docs"}
    recipe = {"name": "topics", "sources": [source], "shard_bytes": 1 << 16, "exact": {}, "minhash": {}, "pii": {}}
    path = folder / "topics.yaml"
    path.write_text(yaml.safe_dump(recipe))
    return path


def main() -> None:
    from distributed import Client

    from flows.build import build

    os.environ |= SETTINGS
    options = ["--host", HOST, "--port", "28786", "--no-dashboard"]
    worker = [SCHEDULER, "--no-nanny", "--nthreads", "1", "--no-dashboard"]
    with tempfile.TemporaryDirectory() as place, contextlib.ExitStack() as stack:
        folder = Path(place)
        os.environ["CORPUSMILL_CACHE"] = str(folder / "cache")
        stack.enter_context(network())
        moto = f"from moto.server import main; main(['-H', '{HOST}', '-p', '25000'])"
        stack.enter_context(running(folder / "store", [], moto))
        dask = "from distributed.cli.dask_{0} import main; main()"
        stack.enter_context(running(folder / "scheduler", [], dask.format("scheduler"), *options))
        for name in NAMES:
            inside = ["ip", "netns", "exec", name]
            local = ["--local-directory", str(folder / name)]
            stack.enter_context(running(folder / name, inside, dask.format("worker"), *worker, *local))
        with Client(SCHEDULER, timeout=60) as client:
            client.wait_for_workers(len(NAMES), timeout=120)
        for name in NAMES:
            ip("-n", name, "route")  # what it reaches
        urllib.request.urlopen(urllib.request.Request(f"{STORE}/bucket", method="PUT"))
        recipe = write_recipe(folder)
        build(recipe, "curate", None, "dask", "s3://bucket/builds", cluster=SCHEDULER)
        expected = Path(build(recipe, "curate", 2, "threads", folder / "builds"))
        store = fsspec.filesystem("s3", use_listings_cache=False)
        prefix = "bucket/builds/topics/"
        made = {name.removeprefix(prefix): store.cat_file(name) for name in store.find(prefix)}
        here = {str(path.relative_to(expected)): path.read_bytes() for path in expected.rglob("*") if path.is_file()}
        differ = [name for name in {*made, *here} - OF_THE_RUN if made.get(name) != here.get(name)]
        shares = {name: len([*(folder / name / "cache").rglob("*.arrow")]) for name in NAMES}
    print(f"{len(made)} objects, different: {differ or 'none'}; Arrow files that each worker had: {shares}")
    sys.exit(bool(differ) or not all(shares.values()))


if __name__ == "__main__":
    main()
