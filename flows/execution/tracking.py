"""What the Prefect UI is shown of a run: flow runs, a task run for each group of items, artifacts, log lines.

A run never waits for the server and never depends on it. What there is to say goes on a queue, and a thread sends it in
order; where the server does not answer, one warning is given and nothing more is sent. Times are the server's own.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import queue
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from flows.execution import server
from pipeline.store import files, messages

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

REQUEST_SECONDS = 10
"""A server that takes longer than this to answer counts as gone."""
BUSY_WAITS = (0.5, 1.0, 2.0, 4.0)
"""Seconds before a server that says it is busy is asked again."""
HEARTBEAT_SECONDS = 30
"""How often a flow run in progress says that its process is there; `mill automations` marks those that do not."""
LAST_SECONDS = 30
"""How long the end of a run waits, at most, for what is still to be sent."""


@dataclass(eq=False)
class Run:
    """A flow run or task run, by the collection of the API it is in; ``id`` once it is known."""

    collection: str
    id: str | None = None
    ended: bool = False
    begun_elsewhere: bool = False  # by Prefect, which says how it ends
    conclusion: tuple[str, str] | None = None  # what it came to: the name of its completed state and its message


@dataclass
class Tracker:
    """Sends what happens to the Prefect server at ``url``; None: to one of its own, started once there is work.

    ``tell`` shows a line to the user. ``flows`` are the flow runs in progress, innermost last; in a run that Prefect
    started, the first is that run.
    """

    url: str | None
    tell: Callable[[str], None]
    flows: list[Run] = field(default_factory=list)
    page: str | None = None  # the outermost flow run's address in the UI
    announce: Callable[[str], None] | None = None  # shows where to watch; ``tell`` if absent
    worked: threading.Event = field(default_factory=threading.Event)
    _tasks: list[Run] = field(default_factory=list)
    _queue: queue.SimpleQueue[Callable[[SyncPrefectClient], None] | None] = field(default_factory=queue.SimpleQueue)
    _over: bool = False

    def __post_init__(self) -> None:
        self._thread = threading.Thread(target=self._send, name="tracking", daemon=True)
        self._thread.start()

    def put(self, call: Callable[[SyncPrefectClient], None]) -> None:
        if not self._over:
            self._queue.put(call)

    def close(self, seconds: float = LAST_SECONDS) -> None:
        """Wait until all is sent, for ``seconds`` at most."""
        self._queue.put(None)
        if self.url is None and not self.worked.is_set():
            return  # nothing was done and nobody watches: no server is started for that
        self._thread.join(seconds)
        if self._thread.is_alive() and not self._over:
            self._over = True
            self.tell("the Prefect server does not answer: it lacks the end of this run")

    def cancel(self, seconds: float) -> None:
        """Mark what this process began and is in progress as cancelled, and close."""
        for run in [*self._tasks, *(run for run in reversed(self.flows) if not run.begun_elsewhere)]:
            self.end(run, "CANCELLED", "stopped by the user")
        self.close(seconds)

    def time_out(self, message: str, seconds: float) -> None:
        """Mark all that is in progress, the run that Prefect began first, as failed for want of time, and close."""
        for run in [*self.flows, *self._tasks]:
            self.end(run, "FAILED", message, "TimedOut")
        self.close(seconds)

    def _send(self) -> None:
        from httpx import HTTPError

        try:
            with contextlib.ExitStack() as stack:
                if self.url is None:
                    self.worked.wait()
                    self.url = stack.enter_context(server.own(self._watch))
                client = stack.enter_context(_client(self.url))
                for call in self._calls(client):
                    call(client)
        except (HTTPError, OSError, server.ServerFailed) as error:
            if not self._over:
                self._over = True
                reason = str(error).split("\n")[0] or type(error).__name__
                self.tell(f"the Prefect server does not answer ({reason}); the build goes on without it")
        finally:
            self._over = True

    def _calls(self, client: SyncPrefectClient) -> Iterator[Callable[[SyncPrefectClient], None]]:
        """What was put into the queue, as it comes, to the end; now and then the flow runs say that they go on."""
        beat = time.monotonic()
        while True:
            if beat <= time.monotonic():
                beat = time.monotonic() + HEARTBEAT_SECONDS
                _heartbeat(client, [run for run in self.flows if run.id and not run.ended])
            try:
                call = self._queue.get(timeout=max(0.0, beat - time.monotonic()))
            except queue.Empty:
                continue
            if call is None:
                return
            yield call

    def _watch(self, url: str) -> None:
        (self.announce or self.tell)(f"watch: {url.removesuffix('/api')}")

    def begin_flow(self, name: str, run_name: str, parameters: Mapping[str, Any]) -> Run:
        run, parent = Run("flow_runs"), self.flows[-1] if self.flows else None
        self.flows.append(run)

        def call(client: SyncPrefectClient) -> None:
            body: dict[str, Any] = {"name": run_name, "parameters": dict(parameters), "tags": ["corpusmill"]}
            if parent is not None:  # a flow run within another hangs on a task run of that one
                body["parent_task_run_id"] = _post(client, "/task_runs/", _task(parent, name, run_name))["id"]
            body["flow_id"] = _post(client, "/flows/", {"name": name})["id"]
            run.id = _post(client, "/flow_runs/", {**body, "state": _state("RUNNING")})["id"]
            _heartbeat(client, [run])
            if parent is None:
                from prefect.utilities.urls import url_for

                self.page = url_for("flow-run", obj_id=run.id)

        self.put(call)
        return run

    def begin_task(self, name: str, run_name: str) -> Run:
        run, parent = Run("task_runs", str(uuid.uuid4())), self.flows[-1] if self.flows else None
        self._tasks.append(run)
        self.worked.set()
        self.put(lambda client: _post(client, "/task_runs/", _task(parent, name, run_name, run.id)))
        return run

    def end(self, run: Run, state: str, message: str, name: str | None = None) -> None:
        """``state``: COMPLETED, FAILED, CRASHED or CANCELLED; ``name`` is shown for it, such as "Nothing new"."""
        if run.ended:
            return
        run.ended = True
        if run in self._tasks:
            self._tasks.remove(run)
        body = {"state": _state(state, message, name), "force": True}
        self.put(lambda client: _post(client, f"/{run.collection}/{run.id}/set_state", body))

    def reused(self, name: str, run_name: str) -> None:
        """A task run that ended at once, because its results were there."""
        parent = self.flows[-1] if self.flows else None
        body = {**_task(parent, name, run_name), "state": _state("COMPLETED", "reused", "Reused")}
        self.put(lambda client: _post(client, "/task_runs/", {**body, "flow_run_id": parent and parent.id}))


def _task(parent: Run | None, name: str, run_name: str, identifier: str | None = None) -> dict[str, Any]:
    return {
        "id": identifier or str(uuid.uuid4()),
        "name": run_name,
        "flow_run_id": parent and parent.id,
        "task_key": name,
        "dynamic_key": uuid.uuid4().hex,
        "state": _state("RUNNING"),
    }


def _state(kind: str, message: str | None = None, name: str | None = None) -> dict[str, Any]:
    return {"type": kind, "name": name or kind.capitalize(), "message": message}


def _heartbeat(client: SyncPrefectClient, runs: Sequence[Run]) -> None:
    """Say of the flow ``runs`` that they are in progress, as Prefect's engine does; a run must be heard of once."""
    from httpx import HTTPError

    tag = {"prefect.resource.id": "prefect.tag.corpusmill", "prefect.resource.role": "tag"}
    beats = [_event("prefect.flow-run.heartbeat", f"prefect.flow-run.{run.id}", {}, [tag]) for run in runs]
    if beats:
        with contextlib.suppress(HTTPError):  # a server that is gone is noticed by what has to be said
            _request(client, "POST", "/events", beats)


def _event(
    name: str, resource: str, payload: Mapping[str, Any], related: Sequence[Mapping[str, str]]
) -> dict[str, Any]:
    return {
        "id": str(uuid.uuid4()),
        "occurred": datetime.now(UTC).isoformat(),
        "event": name,
        "resource": {"prefect.resource.id": resource, "prefect.resource.name": resource.rsplit(".", 1)[-1]},
        "payload": dict(payload),
        "related": [dict(entry) for entry in related],
    }


def _post(client: SyncPrefectClient, path: str, body: Any) -> Any:
    """The server's answer; raises httpx.HTTPError."""
    return _request(client, "POST", path, body).json()


def _request(client: Any, method: str, path: str, body: Any, **more: Any) -> Any:
    """The server's response; raises httpx.HTTPError. One that is busy (503) is asked again for some seconds.

    Whatever is sent, no text of a document steers the page or terminal that shows it, and no address has credentials.
    """
    from httpx import HTTPStatusError

    body = _shown(body)
    for wait in BUSY_WAITS:
        try:
            return client.request(method, path, json=body, **more)
        except HTTPStatusError as error:
            if error.response.status_code != 503:
                raise
        time.sleep(wait)
    return client.request(method, path, json=body, **more)


@contextlib.contextmanager
def _client(url: str) -> Iterator[SyncPrefectClient]:
    """Prefect's client of the server at ``url``, with the user's settings, that gives up soon."""
    from prefect.client.orchestration import get_client
    from prefect.settings import (
        PREFECT_API_REQUEST_TIMEOUT,
        PREFECT_API_URL,
        PREFECT_CLIENT_MAX_RETRIES,
        temporary_settings,
    )

    changed: dict[Any, Any] = {
        PREFECT_API_URL: url,
        PREFECT_CLIENT_MAX_RETRIES: 1,
        PREFECT_API_REQUEST_TIMEOUT: REQUEST_SECONDS,
    }
    with temporary_settings(changed), get_client(sync_client=True) as client:
        yield client


_current: list[Tracker] = []


@contextlib.contextmanager
def tracking(url: str | None, tell: Callable[[str], None], flow_run: str | None = None) -> Iterator[Tracker]:
    """Track what is run in the block, for the server at ``url``; None: for one of its own, started once there is work.

    ``flow_run`` is the flow run that Prefect started for it, if it did.
    """
    server.past_proxies()
    tracker = Tracker(url, tell, [Run("flow_runs", flow_run, begun_elsewhere=True)] if flow_run else [])
    _current.append(tracker)
    try:
        yield tracker
    finally:
        _current.remove(tracker)
        tracker.close()


def page() -> str | None:
    """The address of this run in the Prefect UI, if it is known by now."""
    return _current[-1].page if _current else None


@contextlib.contextmanager
def flow(name: str, run_name: str, **parameters: Any) -> Iterator[None]:
    """A flow run while the block runs, within the one that is in progress."""
    if not _current:
        yield
        return
    tracker = _current[-1]
    run = tracker.begin_flow(name, run_name, {key: _plain(value) for key, value in parameters.items()})
    state, message = "COMPLETED", ""
    try:
        yield
    except BaseException as error:
        state, message = _ending(error)
        run.conclusion = None
        raise
    finally:
        tracker.flows.remove(run)
        concluded = run.conclusion
        tracker.end(run, state, message or (concluded[1] if concluded else ""), concluded and concluded[0])


def conclude(name: str, message: str) -> None:
    """What the flow run in progress came to, if it completes: the name of its state, such as "Nothing new"."""
    if _current and _current[-1].flows:
        _current[-1].flows[-1].conclusion = name, message


def conclusion() -> tuple[str, str] | None:
    """What the flow run in progress came to, if that was said."""
    return _current[-1].flows[-1].conclusion if _current and _current[-1].flows else None


def begin(name: str, run_name: str) -> Run | None:
    """A task run that begins; None where nothing is tracked."""
    return _current[-1].begin_task(name, run_name) if _current else None


def end(run: Run | None, state: str, message: str) -> None:
    """The end of a task run: COMPLETED, FAILED, CRASHED or CANCELLED."""
    if run is not None and _current:
        _current[-1].end(run, state, message)


@contextlib.contextmanager
def task(name: str, run_name: str) -> Iterator[Callable[[], None]]:
    """A task run from the first call of what is yielded to the block's end; a reused one if there is none."""
    begun: list[Run | None] = []

    def start() -> None:
        if not begun:
            begun.append(begin(name, run_name))

    state, message = "COMPLETED", ""
    try:
        yield start
        if not begun:
            reused(name, run_name)
    except BaseException as error:
        state, message = _ending(error)
        raise
    finally:
        for run in begun:
            end(run, state, message)


def reused(name: str, run_name: str) -> None:
    """A task run that had nothing to do."""
    if _current:
        _current[-1].reused(name, run_name)


def _ending(error: BaseException) -> tuple[str, str]:
    return ("FAILED" if isinstance(error, Exception) else "CANCELLED"), messages.in_short(error)


def artifact(kind: str, key: str, description: str, data: Any) -> None:
    """An artifact of the run that is shown first, which holds the others; ``kind`` is table, markdown or image.
    ``data`` may be a function of the server's address.
    """
    if not _current or not _current[-1].flows:
        return
    tracker, run = _current[-1], _current[-1].flows[0]
    body = {"type": kind, "key": key, "description": description}

    def call(client: SyncPrefectClient) -> None:
        content = data(tracker.url) if callable(data) else json.dumps(data) if kind == "table" else data
        _post(client, "/artifacts/", {**body, "data": content, "flow_run_id": run.id})

    tracker.put(call)


@dataclass
class Live:
    """An artifact that follows what goes on: made after ``after`` seconds, changed every ``every`` seconds at most."""

    kind: Literal["progress", "image"]
    after: float
    every: float
    _last: float = field(default_factory=time.monotonic)
    _made: bool = False
    _id: str | None = None

    def show(self, data: Callable[[], Any], description: str, last: bool = False) -> None:
        """Show ``data()`` if it is time; a ``last`` one always, if anything was shown before."""
        if not _current or not _current[-1].flows:
            return
        now = time.monotonic()
        due = now - self._last >= (self.every if self._made else self.after)
        if not (self._made if last else due):
            return
        run, made = _current[-1].flows[0], self._made
        self._last, self._made = now, True
        body = {"data": data(), "description": description}

        def call(client: SyncPrefectClient) -> None:
            if made:
                _request(client, "PATCH", "/artifacts/{id}", body, path_params={"id": self._id})
            else:
                self._id = _post(client, "/artifacts/", {**body, "type": self.kind, "flow_run_id": run.id})["id"]

        _current[-1].put(call)


def event(name: str, resource: str, payload: Mapping[str, Any], related: Sequence[Mapping[str, str]] = ()) -> None:
    """An event of the server about ``resource``, related to the flow run in progress and to ``related``."""
    if not _current:
        return
    tracker = _current[-1]
    run = tracker.flows[0] if tracker.flows else None
    body = _event(name, resource, payload, related)

    def call(client: SyncPrefectClient) -> None:
        if run is not None:  # its id is known by now
            body["related"].insert(
                0, {"prefect.resource.id": f"prefect.flow-run.{run.id}", "prefect.resource.role": "flow-run"}
            )
        _request(client, "POST", "/events", [body])

    tracker.put(call)


def log(message: str, level: int = logging.INFO, task: Run | None = None) -> None:
    """A line in the log of the flow run in progress, there of ``task``, and of the one that is shown first, which holds
    the others.
    """
    if not _current or not _current[-1].flows:
        return
    flows = list(dict.fromkeys((_current[-1].flows[-1], _current[-1].flows[0])))
    line = {"name": "corpusmill", "level": level, "message": message, "timestamp": datetime.now(UTC).isoformat()}

    def call(client: SyncPrefectClient) -> None:
        lines = [{**line, "flow_run_id": flow.id} for flow in flows]
        lines[0]["task_run_id"] = task and task.id
        _request(client, "POST", "/logs/", lines)

    _current[-1].put(call)


def _shown(value: Any) -> Any:
    """``value`` with ``visible`` and ``masked`` applied to all texts in it."""
    if isinstance(value, str):
        return messages.visible(files.masked(value))
    if isinstance(value, Mapping):
        return {_shown(key): _shown(inner) for key, inner in value.items()}
    return [_shown(inner) for inner in value] if isinstance(value, list | tuple) else value


def _plain(value: Any) -> Any:
    return os.fspath(value) if isinstance(value, Path) else value
