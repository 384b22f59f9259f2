"""What befalls a whole build: damage to any kind of its files, SIGKILL at random moments, links that lead out of it.

`KILLS=30 pytest tests/flows/test_faults.py -k killed` kills it that many times.
"""

from __future__ import annotations

import json
import os
import pydoc_data.topics
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from bisect import bisect
from pathlib import Path

import pytest
import yaml

from flows import build
from pipeline import MillError
from pipeline.build import mend, record
from pipeline.curation import forget_list
from pipeline.questions.verify import verify
from pipeline.store import checksums, files
from pipeline.store.files import DamagedFile
from tests.helpers import building

#: Hand-edited files, the lock, and logs that grow while a model is trained.
WITHOUT_CHECKSUM = re.compile(r".*/README\.md|\.lock|work/.*/metrics\.jsonl|work/.*/tensorboard/.*")
#: Files that hold times or paths of a run, and so differ after another one.
OF_A_RUN = re.compile(
    r"build\.json|.*/(README\.md|summary\.json|metrics\.jsonl|state\.json)|report/.*|.*/tensorboard/.*|\.lock"
)


def recipe_values(inputs: Path) -> dict:
    model = {"type": "bert", "num_hidden_layers": 1, "hidden_size": 16, "num_attention_heads": 1}
    trained = {"sequence_length": 32, "batch_size": 4}
    return {
        "name": "small",
        "seed": 1,
        "shard_bytes": "48KiB",
        "error_budget": 0.1,
        "sources": [
            {"name": "json", "kind": "jsonl", "path": f"{inputs}/a.jsonl", "domain": "docs"},
            {"name": "tree", "kind": "text", "path": f"{inputs}/*.txt", "domain": "shouting"},
        ],
        "heuristics": {"gopher_repetition": {}},
        "exact": {},
        "minhash": {},
        "substring": {},
        "index": True,
        "canaries": False,
        "corpus": {"parquet": True},
        "tokenizers": [{"name": "wp", "algorithm": "wordpiece", "vocab_size": 400}],
        "pretrain": [
            {"name": "bert", "objective": "mlm", "tokenizer": "wp", "model": {**model, "intermediate_size": 32}}
            | trained
            | {"steps": 4, "checkpoint_every": 2, "eval_tokens": 500}
        ],
        "embeddings": [{"name": "words", "method": "cbow", "dimensions": 4, "epochs": 1}],
        "finetune": [{"name": "loud", "base": "bert", "label": "domain", "epochs": 1, "smallest_class": 5} | trained],
    }


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("damaged")
    texts = [text[:1500] for _, text in sorted(pydoc_data.topics.topics.items())[:70]]
    lines = [json.dumps({"text": text}) for text in [*texts[:40], texts[0]]]
    (folder / "a.jsonl").write_text("\n".join([*lines, "not json"]))
    for number, text in enumerate(texts[40:]):
        (folder / f"{number}.txt").write_text(text.upper())
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe_values(folder)))
    return path


@pytest.fixture(scope="module")
def root(recipe: Path) -> Path:
    """A build of every part: it stands in one place, for recipes and summaries hold its path."""
    return Path(build.build(recipe, workers=1, builds=recipe.parent / "builds"))


@pytest.fixture
def whole(root: Path, tmp_path: Path):
    """``root`` as it was built, and again so after the test."""
    copy = Path(shutil.copytree(root, tmp_path / "copy", symlinks=True))
    yield root
    shutil.rmtree(root)
    shutil.copytree(copy, root)


def kinds(root: Path) -> dict[tuple[str, str], list[Path]]:
    """The files of ``root`` that have a checksum, by folder and suffix; JSON files each by their name."""
    found: dict[tuple[str, str], list[Path]] = {}
    for path in checksums.noted(root):
        folder = re.sub(r"step-\d+", "step", str(path.relative_to(root).parent))
        found.setdefault((folder, path.name if path.suffix == ".json" else path.suffix), []).append(path)
    return found


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes() or b"\0")
    content[len(content) * 2 // 3] ^= 1
    path.write_bytes(content)


def lose_the_tail(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:-1] or b"more")


def lasting(root: Path) -> dict[str, str]:
    return {name: digest for name, digest in building.contents(root).items() if not OF_A_RUN.fullmatch(name)}


@pytest.mark.slow
def test_every_file_of_a_build_has_a_checksum_but_growing_logs_and_what_people_edit(root):
    unchecked = [str(path.relative_to(root)) for path in verify(str(root)).unchecked]
    assert [name for name in unchecked if not WITHOUT_CHECKSUM.fullmatch(name)] == []


@pytest.mark.slow
def test_damage_to_each_kind_of_file_is_named_and_made_good_by_the_next_build(whole, recipe, capsys):
    before = lasting(whole)
    chosen = [paths[-1] for paths in kinds(whole).values()]
    assert len(chosen) >= 70
    for path in chosen[::2]:
        flip_a_bit(path)
    for path in chosen[1::2]:
        lose_the_tail(path)
    faults = verify(str(whole)).faults
    assert {fault.split(": ")[0] for fault in faults} == set(map(str, chosen))
    assert all(fault.endswith("`mill build` makes it again.") for fault in faults)
    build.build(recipe, workers=1, builds=recipe.parent / "builds")
    told = capsys.readouterr().err
    assert [path for path in chosen if f"{mend.unit_of(path)}: damaged" not in told] == []
    assert lasting(whole) == before
    assert verify(str(whole)).faults == []
    assert list(whole.rglob(".*.damaged")) == []


@pytest.mark.slow
def test_damage_that_nobody_looked_for_is_found_where_the_file_is_used_and_made_good(whole, recipe, capsys):
    before = lasting(whole)
    shutil.rmtree(whole / "tokenizers")
    shutil.rmtree(whole / "tokens")
    shutil.rmtree(whole / "work" / "tokenizer.counts")
    shutil.rmtree(whole / "work" / "tokenizer.merge")
    damaged = sorted(whole.glob("corpus/data-*.arrow"))[0]
    flip_a_bit(damaged)
    build.build(recipe, "tokenize", workers=1, builds=recipe.parent / "builds")
    assert f"{damaged}: damaged or lost; set aside, to be made again" in capsys.readouterr().err
    assert lasting(whole) == before


def test_what_no_run_makes_again_is_left_where_it_is(tmp_path):
    elsewhere = tmp_path / "elsewhere.json"
    files.write_json(str(tmp_path / "build" / "forgotten.json"), {})
    files.write_json(str(elsewhere), {})
    root = str(tmp_path / "build")
    for path in (tmp_path / "build" / "forgotten.json", elsewhere):
        flip_a_bit(path)
        with pytest.raises(DamagedFile) as raised:
            files.read_json(str(path), forget_list.REMEDY)
        assert mend.damaged(root, raised.value) is None
        assert path.exists()


def test_a_link_that_leads_out_of_a_build_is_refused_before_anything_is_written(recipe, tmp_path):
    builds = tmp_path / "builds"
    (builds / "small").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (builds / "small" / "documents").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(MillError, match=r"small/documents: a link out of the build's folder, to .*elsewhere"):
        build.build(recipe, "curate", workers=1, builds=builds)
    assert list((tmp_path / "elsewhere").iterdir()) == []
    shutil.rmtree(builds)
    builds.mkdir()
    (builds / "small").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(MillError, match=r"builds/small: a link out of the folder of builds"):
        build.build(recipe, "curate", workers=1, builds=builds)
    assert list((tmp_path / "elsewhere").iterdir()) == []


#: Once the file BACK_AFTER is there, it is yesterday.
CLOCK = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
int clock_gettime(clockid_t clock, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int status = real(clock, now);
    if (clock == CLOCK_REALTIME && access(getenv("BACK_AFTER"), F_OK) == 0) now->tv_sec -= 86400;
    return status;
}
"""


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("gcc") is None, reason="the clock is turned back by a library that gcc makes")
def test_a_clock_that_goes_back_in_the_middle_changes_nothing(root, recipe, environment, tmp_path):
    (tmp_path / "clock.c").write_text(CLOCK)
    library = tmp_path / "clock.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, tmp_path / "clock.c", "-ldl"], check=True)
    builds = tmp_path / "builds"
    turned = {"LD_PRELOAD": str(library), "BACK_AFTER": str(builds / "small" / "ledgers" / "exact")}
    offline = {**environment, **turned, "PREFECT_API_URL": "http://127.0.0.1:1/api"}
    command = [sys.executable, "-m", "flows.cli", "curate", str(recipe), "--builds", str(builds), "--workers", "2"]
    subprocess.run(command, env=offline, check=True, capture_output=True, timeout=600)
    made, expected = lasting(builds / "small"), lasting(root)
    assert len(made) > 60
    assert made == {name: expected[name] for name in made}
    assert verify(str(builds / "small")).faults == []
    (run,) = files.read_json(str(builds / "small" / "build.json"))["runs"]
    assert run["ended"] < run["started"]  # it was turned back
    assert record.runs(str(builds))[0].seconds is None


def moments(root: Path, count: int) -> list[tuple[int, float]]:
    """Random moments in the time that ``root`` took: files finished before each, and seconds since the last of them."""
    finished = sorted(path.stat().st_mtime for path in checksums.noted(root))
    drawn = sorted(random.Random(count).uniform(finished[0], finished[-1]) for _ in range(count))
    places = [bisect(finished, moment) for moment in drawn]
    return [(place, moment - finished[place - 1]) for place, moment in zip(places, drawn, strict=True)]


def killed(command: list[str], root: Path, files_before: int, seconds: float, environment: dict[str, str]) -> bool:
    """Whether ``command`` was killed, once ``root`` had that many files, and seconds later; its workers, too."""
    process = subprocess.Popen(command, env=environment, start_new_session=True, stderr=subprocess.DEVNULL)
    while process.poll() is None and sum(1 for _ in checksums.noted(root)) < files_before:
        time.sleep(0.005)
    time.sleep(seconds)
    was_running = process.poll() is None
    os.killpg(process.pid, signal.SIGKILL) if was_running else None
    process.wait()
    return was_running


@pytest.mark.slow
def test_killed_at_random_moments_a_whole_build_ends_as_one_that_nobody_killed(root, recipe, environment, tmp_path):
    builds = tmp_path / "builds"
    kept = {name: value for name, value in environment.items() if name != "PREFECT_HOME"}
    offline = {**kept, "PREFECT_HOME": str(tmp_path), "PREFECT_API_URL": "http://127.0.0.1:1/api"}
    command = [sys.executable, "-m", "flows.cli", "build", str(recipe), "--builds", str(builds), "--quiet"]
    wanted = int(os.environ.get("KILLS", "2"))
    again = [killed(command, builds / "small", *moment, offline) for moment in moments(root, wanted)]
    assert again == [True] * wanted
    subprocess.run(command, env=offline, check=True, capture_output=True, timeout=600)
    assert lasting(builds / "small") == lasting(root)
    assert verify(str(builds / "small")).faults == []
    assert list(builds.rglob(".*.partial")) == []
