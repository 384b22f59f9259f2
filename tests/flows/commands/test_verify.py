"""`mill verify`, as a user would run it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.flows.conftest import mill
from tests.helpers import small_build


@pytest.mark.slow
def test_verify_names_each_damaged_or_lost_file_in_a_line_and_counts_what_it_read(environment, tmp_path):
    offline = {**environment, "PREFECT_API_URL": "http://127.0.0.1:1/api"}
    build = small_build.open_small(tmp_path / "small")
    small_build.write_documents(build, [small_build.document(n, f"Document {n}.") for n in range(4)], 2)
    small_build.close(build)
    paths = [path for path in Path(build.root).rglob("*") if path.is_file() and path.parent.name != ".checksums"]
    size = sum(path.stat().st_size for path in paths)

    whole = mill("verify", build.root, environment=offline)
    assert (whole.returncode, whole.stderr) == (0, "")
    assert whole.stdout == f"{len(paths)} files, {size / 1000:.1f} kB checked: all as written\n"

    shard, lost = Path(build.root, "documents/web-00000-001.arrow"), Path(build.root, "corpus/train/dataset_info.json")
    content = bytearray(shard.read_bytes())
    content[-30] ^= 1
    shard.write_bytes(content)
    lost.unlink()
    damaged = mill("verify", build.root, environment=offline)
    assert damaged.returncode == 1
    told = sorted(damaged.stderr.splitlines())
    assert told == [
        f"{lost}: not there. Run the command that made it again.",
        f"{shard}: not as it was written: damaged or changed since. Delete it and run the command that made it again.",
    ]
    assert damaged.stdout.endswith(" checked: 2 damaged or not there\n")

    for folder in Path(build.root).rglob(".checksums"):
        shutil.rmtree(folder)
    none = mill("verify", build.root, environment=offline)
    assert none.returncode == 1
    assert f"{build.root}:nobuildhere" in "".join(none.stderr.split())  # lines end where the path is long
    Path(build.root, "recipe.json").write_text("{}")
    older = mill("verify", build.root, environment=offline)
    assert older.returncode == 0
    assert older.stdout == f"files without a checksum, not checked: {len(paths)}, such as funnel.json\n"
