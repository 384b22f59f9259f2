"""Two runs never share a build in a store, and one whose process is gone is followed."""

from __future__ import annotations

import json
import threading
import time

import fsspec
import pytest

from pipeline import MillError
from pipeline.build import lock_object
from pipeline.build.lock import BuildBusy, locked
from pipeline.store import files, mirror, objects

URL = "memory://bucket/builds/x"


@pytest.fixture(autouse=True)
def quick(store_cache, monkeypatch):  # noqa: ARG001
    monkeypatch.setattr(lock_object, "BEAT", 0.05)
    monkeypatch.setattr(lock_object, "EXPIRY", 0.5)
    monkeypatch.setattr(lock_object, "_LOOK_AGAIN", 0.02)


def refuse(who: str) -> None:
    raise BuildBusy(who)


def left_by(**other: object) -> None:
    """A lock that nobody writes again."""
    with lock_object.hold(URL, refuse):
        lock = json.loads(objects.read(f"{URL}/.lock"))
    objects.write(f"{URL}/.lock", json.dumps({**lock, "owner": "another", **other}).encode())


def names() -> list[str]:
    return [name.rpartition("/")[2] for name in fsspec.filesystem("memory").find("/bucket")]


def test_a_second_run_is_refused_with_who_is_at_work_and_the_lock_goes_with_the_first():
    with lock_object.hold(URL, refuse):
        assert lock_object.holder(URL) is not None
        with pytest.raises(BuildBusy, match=r"process \d+ on "), lock_object.hold(URL, refuse):
            pass
    assert names() == []
    assert lock_object.holder(URL) is None


def test_a_run_that_waits_goes_on_when_the_first_has_ended():
    lines: list[str] = []
    order: list[str] = []

    def second() -> None:
        with lock_object.hold(URL, lines.append):
            order.append("second")

    with lock_object.hold(URL, refuse):
        waiting = threading.Thread(target=second)
        waiting.start()
        time.sleep(0.8)  # longer than what a silent owner is given
        order.append("first")
    waiting.join(10)
    assert order == ["first", "second"]
    assert len(lines) == 1


def test_a_killed_run_of_this_machine_is_followed_at_once_and_of_another_after_a_while():
    left_by(process=2**22 + 1)
    began = time.monotonic()
    with lock_object.hold(URL, refuse):
        pass
    assert time.monotonic() - began < lock_object.EXPIRY
    left_by(machine="another")
    assert lock_object.holder(URL) is not None
    began = time.monotonic()
    with lock_object.hold(URL, refuse):
        assert time.monotonic() - began > lock_object.EXPIRY
    assert names() == []


def test_of_several_that_follow_a_killed_run_one_works_at_a_time():
    left_by(machine="another")
    inside, most, done = [], [], []

    def follow(number: int) -> None:
        with lock_object.hold(URL, lambda _who: None):
            inside.append(number)
            most.append(len(inside))
            time.sleep(0.1)
            inside.remove(number)
        done.append(number)

    threads = [threading.Thread(target=follow, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sorted(done) == [0, 1, 2, 3]
    assert max(most) == 1


def test_a_run_whose_lock_was_taken_over_writes_nothing_more():
    with lock_object.hold(URL, refuse):
        lock = json.loads(objects.read(f"{URL}/.lock"))
        objects.write(f"{URL}/.lock", json.dumps({**lock, "owner": "another", "host": "there"}).encode())
        time.sleep(0.3)
        with pytest.raises(MillError, match="on there took its lock"):
            files.write_json(files.here(f"{URL}/a.json"), {})
        with pytest.raises(MillError, match="took its lock"), mirror.step():
            pass
    assert names() == [".lock"]  # the other's


def test_the_lock_of_a_build_at_an_address_is_there_and_a_store_without_conditions_is_refused(monkeypatch):
    with locked(files.here(URL)):
        assert names() == [".lock"]
    monkeypatch.setattr(objects, "create", lambda url, content: objects.write(url, content) or True)
    with pytest.raises(objects.NoConditionalWrites, match="If-None-Match"), locked(files.here(URL)):
        pass
