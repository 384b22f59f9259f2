"""A kernel is never older than the sources it was compiled from, wherever numba can keep it."""

import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import pipeline
from pipeline.text import kernel_cache

CONSTANTS = "STEP = 1"
INNER = """
from pipeline.text.jit import njit
from pipeline.constants import STEP
@njit(cache=True)
def inner(x):
    return x + STEP
"""
OUTER = """
from pipeline.text.jit import njit
from pipeline.inner import inner
@njit(cache=True)
def outer(x):
    return inner(x)
"""
ASK = """
import sys
from pipeline.outer import outer
if __name__ == "__main__":
    print(outer(1), sum(outer.dispatcher.stats.cache_hits.values()))
    if "worker" in sys.argv:
        from concurrent.futures import ProcessPoolExecutor
        from multiprocessing import get_context
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            print(pool.submit(outer, 1).result())
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A small project of the same shape: a kernel calls one of another module, that uses a constant of a third."""
    package = tmp_path / "project" / "pipeline"
    (package / "text").mkdir(parents=True)
    own = Path(pipeline.__file__).parent
    for name in ("__init__.py", "text/__init__.py", "text/jit.py", "text/kernel_cache.py"):
        shutil.copy(own / name, package / name)
    (package / "constants.py").write_text(CONSTANTS)
    (package / "inner.py").write_text(INNER)
    (package / "outer.py").write_text(OUTER)
    (package.parent / "ask.py").write_text(ASK)
    return package.parent


def clean(root: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in ("NUMBA_CACHE_DIR", "PYTHONPATH")}
    return kept | {"XDG_CACHE_HOME": str(root.parent / "cache"), "PYTHONDONTWRITEBYTECODE": "1"}


def ask(root: Path, *worker: str, **environment: str) -> list[int]:
    """``outer(1)``, how often it came from the disk, and with ``"worker"`` what it is in a worker process."""
    run = subprocess.run(
        [sys.executable, "ask.py", *worker],
        cwd=root,
        env=clean(root) | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return [int(word) for word in run.stdout.split()]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "was", "now"), [("constants.py", "STEP = 1", "STEP = 5"), ("inner.py", "x + STEP", "x + 4 + STEP")]
)
def test_a_change_in_another_module_is_seen_by_the_kernels_that_depend_on_it(root, file, was, now):
    assert ask(root, "worker") == [2, 0, 2]
    assert ask(root) == [2, 1], "unchanged sources are not compiled again"
    source = root / "pipeline" / file
    source.write_text(source.read_text().replace(was, now))
    assert ask(root, "worker")[::2] == [6, 6]


@pytest.mark.slow
def test_a_process_started_from_one_of_older_sources_uses_its_own(root):
    ask(root)
    (old,) = (root / "pipeline/__pycache__/corpusmill-kernels").iterdir()
    (root / "pipeline/constants.py").write_text("STEP = 5\n")
    assert ask(root, "worker", NUMBA_CACHE_DIR=str(old))[::2] == [6, 6]


@pytest.mark.slow
def test_an_install_that_cannot_be_written_to_keeps_its_kernels_in_the_users_cache(root):
    (root / "pipeline/__pycache__").write_text("in the way, as a read-only folder would be")
    assert ask(root) == [2, 0]
    assert ask(root) == [2, 1]
    assert list((root.parent / "cache/corpusmill-kernels").iterdir())


def test_where_nothing_can_be_written_kernels_last_as_long_as_the_process(root, tmp_path):
    (root / "pipeline/__pycache__").write_text("")
    (root.parent / "cache").write_text("")
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    assert ask(root, TMPDIR=str(temporary)) == [2, 0]
    assert not list(temporary.iterdir())


def test_a_folder_that_the_user_has_set_is_kept(root, tmp_path, monkeypatch):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "mine"))
    assert not kernel_cache.has_kernels()
    assert ask(root, NUMBA_CACHE_DIR=str(tmp_path / "mine")) == [2, 0]
    assert kernel_cache.has_kernels()
    assert not (root / "pipeline/__pycache__").exists()


def test_folders_of_old_sources_go_after_a_week_without_use(root):
    place = root / "pipeline/__pycache__/corpusmill-kernels"
    for name, days in (("left", 8), ("recent", 6)):
        (place / name).mkdir(parents=True)
        used = time.time() - days * 86400
        os.utime(place / name, (used, used))
    ask(root)
    assert {path.name for path in place.iterdir()} == {"recent", kernel_cache.digest(root)}


def test_the_digest_covers_all_kernels_and_not_what_no_kernel_depends_on(root):
    before = kernel_cache.digest(root)
    (root / "pipeline/report.py").write_text("from pipeline.outer import outer\n")
    assert kernel_cache.digest(root) == before
    (root / "training").mkdir()
    (root / "training/kernels.py").write_text("from numba import njit\nfrom pipeline import (\n    report,\n)\n")
    with_training = kernel_cache.digest(root)
    assert with_training != before
    (root / "pipeline/report.py").write_text("")
    assert kernel_cache.digest(root) != with_training


def test_of_processes_that_need_a_kernel_at_once_one_compiles_it(root):
    with ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(ask, [root] * 3))
    assert sorted(answers) == [[2, 0], [2, 1], [2, 1]]


def test_a_process_waits_for_the_one_that_compiles_and_takes_over_when_that_is_killed(root):
    code = "from pipeline.text.kernel_cache import *; use()\nwith compiling('pipeline.inner.inner'): print(); input()"
    command, pipe = [sys.executable, "-u", "-c", code], subprocess.PIPE
    with subprocess.Popen(command, cwd=root, env=clean(root), stdin=pipe, stdout=pipe) as compiler:
        assert compiler.stdout
        assert compiler.stdout.readline()
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(ask, root)
            with pytest.raises(TimeoutError):
                answer.result(6)
            compiler.kill()
            assert answer.result(60) == [2, 0]
