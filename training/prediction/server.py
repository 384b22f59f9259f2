"""A model behind HTTP: POST /predict, GET /health, and the OpenAPI description at /docs."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

import uvicorn
from fastapi import FastAPI, HTTPException, Response
from fastapi.middleware.trustedhost import TrustedHostMiddleware
from pydantic import BaseModel, ConfigDict, Field, create_model

from pipeline import MillError, __version__
from pipeline.sources.base import dump_json
from training.finetuning.usage import Usage
from training.prediction.batching import Batcher, Busy
from training.prediction.model import Model
from training.prediction.predictions import Answer, Label, Labels, Score, Tags, Text, Vector
from training.prediction.rows import WrongRow, row_of

#: Rows of a request, characters of a text, and bytes of a request, at most.
ROWS, CHARACTERS, BYTES = 256, 100_000, 16 << 20
_RETRY = 1  # seconds after which one who was turned away may ask again
_SHUTDOWN = 30  # seconds in which requests are finished
_ANSWERS: dict[str, Any] = {
    **{"classify": Label, "multi_label": Labels, "regression": Score, "tokens": Tags},
    **{"answers": Answer, "text2text": Text, "similarity": Vector},
}
#: Tasks of one text; a foreign model of another task may have learned of pairs, and does not say so.
_ONE_TEXT = ("tokens", "text2text")
_SHORT = Annotated[str, Field(max_length=CHARACTERS)]


class NoPort(MillError):
    """An address that cannot be served at."""


class Asked(BaseModel):
    """One row."""

    model_config = ConfigDict(extra="forbid")
    text: Annotated[
        _SHORT | list[_SHORT], Field(description="the text, the question, or (task tokens) the words of a sentence")
    ]
    pair: Annotated[_SHORT | None, Field(description="the second text, or the context of a question")] = None


class Request(BaseModel):
    """The rows to predict."""

    model_config = ConfigDict(extra="forbid")
    rows: Annotated[list[Asked], Field(min_length=1, max_length=ROWS)]


class Health(BaseModel):
    """What is served."""

    status: Literal["ready"]
    model: str
    task: str
    labels: list[str]
    tokens: Annotated[int, Field(description="tokens of a text that are read, at most")]
    rows: Annotated[int, Field(description="rows of a request, at most")]
    characters: Annotated[int, Field(description="characters of a text, at most")]


def application(model: Model, hosts: list[str]) -> FastAPI:
    """The service of ``model``, under the names ``hosts``."""
    batcher = Batcher(model)
    columns = {"text": "text", "pair": None if model.usage.pair is None else "pair"}
    usage = model.usage.model_copy(update=columns)

    @contextlib.asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        running = asyncio.create_task(batcher.run())
        yield
        running.cancel()
        await asyncio.wait([running])

    about = f"Predictions of the model {model.name}, task {model.usage.task}."
    app = FastAPI(title=model.name, description=about, version=__version__, lifespan=lifespan)
    answers: Any = create_model(
        "Predictions",
        model=(str, ...),
        predictions=(answers_of(model), ...),
        cut=(Annotated[list[int], Field(description="rows, from 0, that the model does not read to their end")], ...),
    )

    @app.get("/health")
    async def health() -> Health:
        """Whether the model is ready, and what it is."""
        return Health(
            status="ready",
            model=model.name,
            task=model.usage.task,
            labels=model.labels,
            tokens=model.reach(paired=model.usage.pair is not None),
            rows=ROWS,
            characters=CHARACTERS,
        )

    refused = {413: {"description": f"More than {BYTES:,} bytes."}, 503: {"description": "Too many rows wait."}}

    @app.post("/predict", responses={200: {"model": answers}, **refused})
    async def predict(request: Request) -> Response:
        """A prediction for each row, in the order of the rows."""
        rows = [_row(usage, number, asked) for number, asked in enumerate(request.rows)]
        try:
            predictions = await batcher.predict(rows)
        except Busy as error:
            refusal = "too many rows wait for the model; ask again"
            raise HTTPException(503, refusal, {"Retry-After": str(_RETRY)}) from error
        made = {
            "model": model.name,
            "predictions": [each.fields() for each, _ in predictions],
            "cut": [number for number, (_, cut) in enumerate(predictions) if cut],
        }
        return Response(dump_json(made), media_type="application/json")

    app.add_middleware(_Bounded)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=hosts)
    return app


def answers_of(model: Model) -> Any:
    """The type of the predictions of a request."""
    return list[_ANSWERS[model.usage.task]]  # type: ignore[misc]


def _row(usage: Usage, number: int, asked: Asked) -> Any:
    values = {"text": asked.text} | ({} if asked.pair is None else {"pair": asked.pair})
    if asked.pair is not None and usage.pair is None:
        if usage.task in _ONE_TEXT:
            raise HTTPException(422, f"rows[{number}]: the model reads no second text; leave out 'pair'")
        usage = usage.model_copy(update={"pair": "pair"})
    try:
        return row_of(usage, values)
    except WrongRow as error:
        raise HTTPException(422, f"rows[{number}]: {error}") from error


class _Bounded:
    """An ASGI application that refuses a request of more than BYTES with 413, before more of it is read."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        stated = dict(scope["headers"]).get(b"content-length", b"0")
        body, more = bytearray(), not stated.isdigit() or int(stated) <= BYTES
        too_large = not more
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message.get("body", b"")
            too_large = len(body) > BYTES
            more = message.get("more_body", False) and not too_large
        if too_large:
            said = dump_json({"detail": f"the request has more than {BYTES:,} bytes; ask with fewer rows at a time"})
            await Response(said, 413, media_type="application/json")(scope, receive, send)
            return
        sent = False

        async def whole() -> dict[str, Any]:
            nonlocal sent
            if sent:
                return await receive()
            sent = True
            return {"type": "http.request", "body": bytes(body), "more_body": False}

        await self._app(scope, whole, send)


def is_local(host: str) -> bool:
    """Whether only this machine reaches ``host``."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens at ``host``; port 0 takes a free one. Raises NoPort."""
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server((address[0], port), family=family)
    except OSError as error:
        raise NoPort(
            f"cannot listen at {host}:{port} ({error.strerror}); choose another by --port or --host"
        ) from error


def serve(model: Model, where: socket.socket, host: str) -> None:
    """Answer until SIGTERM or SIGINT; requests that were taken are answered first."""
    hosts = ["localhost", "127.0.0.1", "[::1]", host] if is_local(host) else ["*"]
    config = uvicorn.Config(
        application(model, hosts), log_level="warning", timeout_graceful_shutdown=_SHUTDOWN, lifespan="on"
    )
    uvicorn.Server(config).run(sockets=[where])
