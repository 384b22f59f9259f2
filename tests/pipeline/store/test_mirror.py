"""What lies in a store is used through local copies, which are never stale, damaged or without bounds."""

from __future__ import annotations

import os
import time
from pathlib import Path

import fsspec
import pyarrow as pa
import pytest

from pipeline import MillError
from pipeline.store import checksums, copies, files, mirror, objects, shards

pytestmark = pytest.mark.usefixtures("store_cache")
FOLDER = "memory://bucket/builds/x"


def path(*names: str) -> str:
    return files.join(files.here(FOLDER), *names)


def stored() -> dict[str, bytes]:
    memory = fsspec.filesystem("memory")
    return {name.removeprefix("/bucket/builds/x/"): memory.cat_file(name) for name in memory.find("/bucket")}


def write(name: str, content: bytes) -> None:
    with files.replacing(path(name)) as handle:
        handle.write(content)


def elsewhere(name: str, content: bytes) -> None:
    """Another machine writes ``name``."""
    memory = fsspec.filesystem("memory")
    aside = Path(copies.cache()).parent / "elsewhere"
    aside.write_bytes(content)
    sidecar = f"/bucket/builds/x/{checksums.sidecar(Path(name))}"
    memory.pipe_file(sidecar, f"{checksums.digest(aside)}\n".encode())
    memory.pipe_file(f"/bucket/builds/x/{name}", content)
    mirror.forget_listings()


def test_a_path_and_its_address_stand_for_each_other():
    assert files.url_of(path("a", "b.json")) == f"{FOLDER}/a/b.json"
    assert files.here(f"{FOLDER}/a/b.json") == path("a", "b.json")
    assert files.url_of("/tmp/x") == "/tmp/x"
    assert not files.is_mirrored(path(".whatif-1", "a"))
    assert mirror.shown(f"{path('a')}: damaged") == f"{FOLDER}/a: damaged"
    for wrong in ("s3://", "s3://bucket/../x", "s3://key:secret@bucket/x", "simplecache::s3://bucket/x"):
        with pytest.raises(MillError) as refused:
            files.here(wrong)
        assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "variable"),
    [
        ("s3://bucket/x", "AWS_ENDPOINT_URL"),
        ("az://container/x", "AZURE_STORAGE_ACCOUNT_NAME"),
        ("abfs://container/x", "AZURE_STORAGE_CONNECTION_STRING"),
        ("gs://bucket/x", "STORAGE_EMULATOR_HOST"),
    ],
)
def test_equal_names_on_different_servers_have_different_copies(url, variable, monkeypatch):
    places = set()
    for value in ("one", "other"):
        monkeypatch.setenv(variable, value)
        places.add(mirror.here(url))
        assert mirror.url_of(mirror.here(url)) == url
    assert len(places) == 2


def test_a_file_is_in_the_store_with_the_checksum_that_a_local_one_has(tmp_path):
    write("a.bin", b"content")
    with files.replacing(str(tmp_path / "a.bin")) as handle:
        handle.write(b"content")
    local = {str(file.relative_to(tmp_path)): file.read_bytes() for file in tmp_path.rglob("a.bin*")}
    assert stored() == {name: content for name, content in local.items() if not name.startswith("cache")}
    assert files.list_files(path()) == ["a.bin"]
    assert files.exists(path("a.bin"))
    assert not files.exists(path("b.bin"))


def test_what_this_machine_wrote_is_not_fetched_and_what_another_wrote_is():
    write("a.bin", b"ours")
    mirror.forget_listings()
    objects.requests.taken()
    assert files.local(path("a.bin")).read_bytes() == b"ours"
    assert objects.requests.taken().get("received", 0) < 100  # its checksum alone
    elsewhere("a.bin", b"theirs")
    assert files.local(path("a.bin")).read_bytes() == b"theirs"
    mirror.forget_listings()
    objects.requests.taken()
    assert files.local(path("a.bin")).read_bytes() == b"theirs"
    assert "GET" not in objects.requests.taken()


def test_what_is_gone_from_the_store_is_gone_here():
    write("a.bin", b"ours")
    fsspec.filesystem("memory").rm_file("/bucket/builds/x/a.bin")
    mirror.forget_listings()
    assert not files.local(path("a.bin")).exists()
    assert files.is_noted(path("a.bin"))  # so that its absence is a loss
    files.remove(path("a.bin"))
    assert stored() == {}


def test_a_damaged_object_is_refused_and_a_damaged_copy_fetched_again():
    elsewhere("a.json", b'{"a": 1}\n')
    copy = files.local(path("a.json"))
    status = copy.stat()
    copy.write_bytes(b'{"a": 2}\n')
    os.utime(copy, ns=(status.st_atime_ns, status.st_mtime_ns))
    checksums._whole.clear()  # as in another process
    assert files.read_json(path("a.json")) == {"a": 1}
    fsspec.filesystem("memory").pipe_file("/bucket/builds/x/a.json", b'{"a": 3}\n')
    mirror.forget_listings()
    with pytest.raises(files.DamagedFile, match=f"{FOLDER}/a.json"):
        files.read_json(path("a.json"))


def test_a_write_that_does_not_reach_the_store_leaves_what_was_there(monkeypatch):
    write("a.bin", b"first")

    def refused(*_: object) -> None:
        raise MillError("refused")

    with monkeypatch.context() as patch:
        patch.setattr(objects, "put", refused)
        with pytest.raises(MillError, match="refused"):
            write("a.bin", b"second")
    mirror.forget_listings()
    with files.opened(path("a.bin")) as handle:
        assert handle.read() == b"first"


def test_a_folder_takes_the_place_of_another_and_is_closed_last(monkeypatch):
    order: list[str] = []
    put = objects.put
    monkeypatch.setattr(objects, "put", lambda file, url: order.append(url) or put(file, url))
    for content in (("a", "b"), ("b", "c")):
        with files.replacing_folder(path("model")) as aside:
            for name in (*content, "config.json"):
                (aside / name).write_text(name * 3)
        assert order[-1].endswith("config.json")
    monkeypatch.setenv("CORPUSMILL_CACHE", f"{copies.cache()}-of-another-machine")
    mirror.forget_listings()
    found = files.local(path("model"))
    assert sorted(file.name for file in found.iterdir() if file.is_file()) == ["b", "c", "config.json"]
    assert (found / "c").read_text() == "ccc"
    files.check_folder(path("model"))
    files.remove_folder(path("model"))
    assert stored() == {}
    assert not files.exists(path("model"))


def test_only_the_head_is_read_to_see_what_made_a_table(monkeypatch):
    table = pa.table({"text": ["x" * 999] * 999})
    shards.write_table(path("a.arrow"), table, "made")
    monkeypatch.setenv("CORPUSMILL_CACHE", f"{copies.cache()}-of-another-machine")
    mirror.forget_listings()
    objects.requests.taken()
    with files.looking():
        assert [shards.read_fingerprint(path("a.arrow")) for _ in range(3)] == ["made"] * 3
    assert objects.requests.taken() == {"LIST": 1, "GET": 1, "received": mirror.HEAD}
    assert shards.read_table(path("a.arrow")).equals(table)


def test_the_copies_stay_below_their_limit_and_the_last_used_stay_longest(monkeypatch):
    monkeypatch.setattr(copies, "GRACE", -1.0)
    monkeypatch.setenv("CORPUSMILL_CACHE_GB", "0.00001")  # 10 kB
    for number in range(30):
        write(f"{number:02d}.bin", bytes(1000))
        files.local(path("00.bin"))
        time.sleep(0.01)
    here = sorted(file.name for file in Path(path()).glob("*.bin"))
    assert 3 < len(here) <= 12
    assert "00.bin" in here
    assert "29.bin" in here
    assert [len(files.local(path(f"{number:02d}.bin")).read_bytes()) for number in range(30)] == [1000] * 30
