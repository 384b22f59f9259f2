"""Settings for the whole suite: the same examples on every run, no deadline (a first call compiles a kernel)."""

import gc
import os
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from hypothesis import HealthCheck, settings

from pipeline.store import mirror, objects
from tests.helpers import s3_server

#: The files that take longest, with the longest first. They begin first: one that began last would keep a single worker
#: at work when all others have ended. Those that wait for a server or for the clock, and the others, take turns. The
#: third compiles most kernels, which a worker that needs one would have to wait for: those around it need few.
LONGEST = [
    "acceptance/test_training.py",
    "flows/test_automations.py",
    "pipeline/curation/test_bad_input.py",
    "training/loop/test_resume.py",
    "flows/test_deployment.py",
    "acceptance/test_finetuning.py",
    "flows/test_served_runs.py",
    "flows/test_schedule.py",
    "training/loop/test_processes.py",
    "flows/test_object_store.py",
    "acceptance/test_tokenizers.py",
    "flows/execution/test_run_steps.py",
    "pipeline/curation/test_guarantees.py",
    "flows/execution/test_server.py",
    "flows/test_faults.py",
    "pipeline/curation/test_added_files.py",
    "flows/test_exhausted.py",
    "flows/execution/test_stopping.py",
    "training/export/test_onnx.py",
    "flows/test_watching.py",
    "flows/commands/test_questions.py",
    "acceptance/test_finetuning_confidence.py",
    "test_packaging.py",
    "pipeline/stages/dedup/test_index.py",
    "pipeline/tokenization/encoding/test_encode.py",
    "training/studies/test_ladder.py",
    "pipeline/questions/test_whatif.py",
    "pipeline/tokenization/test_steps.py",
    "acceptance/test_dedup.py",
    "pipeline/sources/test_environment.py",
    "flows/test_secrets.py",
    "acceptance/test_decontamination.py",
    "flows/execution/test_tracking.py",
    "pipeline/curation/test_canaries.py",
    "test_docs_site.py",
    "training/finetuning/tasks/test_resume.py",
    "pipeline/text/test_kernel_cache.py",
    "pipeline/stages/heuristics/test_stage.py",
    "pipeline/stages/dedup/test_minhash.py",
    "pipeline/tokenization/formats/test_export.py",
    "pipeline/tokenization/encoding/test_pretokenize.py",
]

#: Each file of a build is flushed to the disk, which takes longer than making it. A folder in memory takes no time;
#: what a killed process leaves there is the same.
MEMORY = Path("/dev/shm")
MEMORY_BYTES = 8 << 30

if MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > MEMORY_BYTES and not os.statvfs(MEMORY).f_flag & os.ST_NOEXEC:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))
os.environ.setdefault("NUMBA_NUM_THREADS", "2")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # the other cores have tests of their own
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # a thread that waits leaves its core to the other tests
# readline, which pytest imports, gives xdist's workers 80 columns; rich keeps those it finds when the commands are
# imported, over what a test sets.
os.environ.pop("COLUMNS", None)
os.environ.pop("LINES", None)
settings.register_profile(
    "corpusmill", deadline=None, derandomize=True, max_examples=60, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("corpusmill")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """For ``-n auto`` one more than there are cores: while a test waits for a server, its core is another's."""
    return int(os.environ.get("PYTEST_XDIST_AUTO_NUM_WORKERS") or (os.cpu_count() or 1) + 1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, then those with the most tests."""
    tests = Counter(item.path for item in items)
    order = {Path(__file__).parent / name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: (order.get(item.path, len(order)), -tests[item.path], item.path))


@pytest.fixture(scope="module", autouse=True)
def _modules_left_alone() -> None:
    """What has been imported stays, and looking through it for garbage takes longer than many a test."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def store_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of its own for the local copies of object stores, and an empty store in memory."""
    monkeypatch.setenv("CORPUSMILL_CACHE", str(tmp_path / "cache"))
    fsspec.filesystem("memory").store.clear()
    mirror.forget_listings()
    objects.requests.taken()
    yield tmp_path / "cache"
    fsspec.filesystem("memory").store.clear()
    mirror.forget_listings()


@pytest.fixture(scope="session")
def s3_address() -> Iterator[str]:
    """The address of a server of the S3 protocol: moto's, or one that is there already (S3_TEST_SERVER)."""
    if given := os.environ.get("S3_TEST_SERVER"):
        yield given
        return
    with s3_server.serving() as address:
        yield address


@pytest.fixture
def s3(s3_address: str, store_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[s3_server.Proxy]:  # noqa: ARG001
    """An empty bucket ``bucket``, reached through a proxy that can spoil requests."""
    with s3_server.proxied(s3_address) as proxy:
        for name, value in s3_server.settings(proxy.address).items():
            monkeypatch.setenv(name, value)
        s3_server.empty(s3_address, "bucket")
        objects.forget_stores()
        yield proxy
        objects.forget_stores()
