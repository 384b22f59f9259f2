"""A machine that lacks something in the middle: disk, a quota, open files, memory, or the right to write.

The real program either says what is lacking and what helps, and ends at the same bytes once it is there; or it needs
less than it lacks.
"""

from __future__ import annotations

import json
import re
import resource
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from pydoc_data.topics import topics

import pytest
import yaml

from flows import build
from pipeline.questions.verify import verify
from tests.helpers import building

pytestmark = pytest.mark.slow

#: What every run writes: when it was, and the recipe that it followed.
OF_A_RUN = {"build.json", "recipe.json"}


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe of some 1.5 MB of text: curation with duplicates, and a tokenizer."""
    folder = tmp_path_factory.mktemp("exhausted")
    texts = [change(text) for change in (str, str.upper, str.title) for _, text in sorted(topics.items())]
    lines = [json.dumps({"text": text}) for text in [*texts, *texts[:5]]]
    (folder / "topics.jsonl").write_text("\n".join([*lines, "not json"]) + "\n", encoding="utf-8")
    path = folder / "recipe.yaml"
    source = {"name": "topics", "kind": "jsonl", "path": f"{folder}/topics.jsonl", "domain": "docs"}
    stages = {"exact": {}, "minhash": {}, "balance": {}}
    tokenizer = {"name": "bpe", "algorithm": "bpe", "vocab_size": 400}
    recipe = {"name": "small", "sources": [source], "shard_bytes": "128KiB", "error_budget": 0.1, "canaries": False}
    path.write_text(yaml.safe_dump({**recipe, **stages, "tokenizers": [tokenizer]}))
    return path


@pytest.fixture(scope="module")
def whole(recipe: Path) -> dict[str, str]:
    """The files of a build that lacked nothing."""
    return lasting(Path(build.build(recipe, "tokenize", workers=1, builds=recipe.parent / "builds")))


def lasting(root: Path) -> dict[str, str]:
    return {name: digest for name, digest in building.contents(root).items() if name not in OF_A_RUN}


def assert_goes_on(recipe: Path, builds: Path, whole: dict[str, str]) -> None:
    """A run that lacks nothing goes on from what is in ``builds``, makes none of it again, and ends as ``whole``."""
    before = building.outputs(builds / "small")
    root = Path(build.build(recipe, "tokenize", workers=1, builds=builds))
    assert lasting(root) == whole
    assert verify(str(root)).faults == []
    assert list(root.rglob(".*.partial")) == []
    after = building.outputs(root)
    assert [name for name, state in before.items() if name not in OF_A_RUN and after[name] != state] == []


def tokenize(recipe: Path, builds: Path, workers: int) -> list[str]:
    options = ["--builds", str(builds), "--workers", str(workers), "--quiet"]
    return [sys.executable, "-m", "flows.cli", "tokenize", str(recipe), *options]


def started(
    command: list[str], environment: dict[str, str], lower: Callable[[], object] | None = None
) -> subprocess.CompletedProcess[str]:
    offline = {**environment, "PREFECT_API_URL": "http://127.0.0.1:1/api", "COLUMNS": "1000"}
    return subprocess.run(
        command, env=offline, capture_output=True, text=True, timeout=300, check=False, preexec_fn=lower
    )


def ended(command: list[str], environment: dict[str, str], lower: Callable[[], object] | None = None) -> str:
    """What a run said that ended with an error; ``lower`` sets limits of its process."""
    run = started(command, environment, lower)
    assert (run.returncode, "Traceback" in run.stderr) == (1, False), run.stderr
    return " ".join(run.stderr.partition("error ")[2].split())


def within_namespace(*script: str) -> list[str]:
    """A command that runs ``script`` with mounts of its own, for which nobody has to be root; skips where refused."""
    if shutil.which("unshare") is None or subprocess.run(["unshare", "-Urm", "true"], check=False).returncode:
        pytest.skip("this system lets nobody have mounts of their own (unshare -Urm)")
    return ["unshare", "-Urm", "sh", "-ec", "\n".join(script)]


def test_a_disk_that_is_full_twice_is_named_and_nothing_is_lost(recipe, whole, environment, tmp_path):
    small, disk, copy = recipe.parent / "builds" / "small", tmp_path / "disk", tmp_path / "copy"
    size = sum(path.stat().st_blocks for path in small.rglob("*")) * 512
    disk.mkdir()
    script = [f"mount -t tmpfs -o size={size // 3} none {disk}"]
    for workers, room in ((1, 2 * size // 3), (2, size)):
        command = shlex.join(tokenize(recipe, disk, workers))
        script += [f"{command} && exit 9", f"mount -o remount,size={room} {disk}"]
    said = ended(within_namespace(*script, f"cp -a {disk} {copy}", "exit 1"), environment)
    messages = re.findall(rf"{disk}/small/\S+: the disk is full \(.*?free some space, then run the same command", said)
    assert len(messages) == 2, said
    assert_goes_on(recipe, copy, whole)


def test_a_quota_of_file_sizes_is_named_and_what_fits_is_kept(recipe, whole, environment, tmp_path):
    sizes = sorted(path.stat().st_size for path in (recipe.parent / "builds" / "small").rglob("*.arrow"))
    said = ended(
        tokenize(recipe, tmp_path, 1),
        environment,
        partial(resource.setrlimit, resource.RLIMIT_FSIZE, (sizes[-1] - 1, sizes[-1] - 1)),
    )
    assert re.match(rf"{tmp_path}/small/\S+: File too large; the limit is set by `ulimit -f`", said), said
    assert_goes_on(recipe, tmp_path, whole)


def test_a_folder_that_cannot_be_written_to_is_refused_before_any_work(recipe, environment, tmp_path):
    script = [f"mount -t tmpfs -o ro none {tmp_path}", f"exec {shlex.join(tokenize(recipe, tmp_path, 2))}"]
    said = ended(within_namespace(*script), environment)
    assert said == f"--builds: {tmp_path} cannot be written to; check its permissions, or choose another folder"


def test_a_finished_build_in_a_folder_that_became_read_only_can_still_be_asked(recipe, whole, environment):  # noqa: ARG001
    builds = recipe.parent / "builds"
    freeze = [f"mount --bind {builds} {builds}", f"mount -o remount,bind,ro {builds}"]
    ask = [sys.executable, "-m", "flows.cli", "verify", str(builds / "small")]
    run = started(within_namespace(*freeze, shlex.join(ask)), environment)
    assert (run.returncode, run.stderr) == (0, "")


def test_64_open_files_and_3_gib_of_addresses_are_enough_for_two_processes(recipe, whole, environment, tmp_path):
    def lower() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
        resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))

    run = started(tokenize(recipe, tmp_path, 2), environment, lower)
    assert run.returncode == 0, run.stderr
    assert lasting(tmp_path / "small") == whole


def test_less_memory_than_a_build_reserves_is_refused_before_any_work(recipe, environment, tmp_path):
    said = ended(
        tokenize(recipe, tmp_path, 1), environment, partial(resource.setrlimit, resource.RLIMIT_AS, (2 << 30, 2 << 30))
    )
    assert re.match(r"ulimit -v: this process may have 2.15 GB of addresses, and a build needs 3.00 GB; raise", said), (
        said
    )
    assert list(tmp_path.iterdir()) == []
