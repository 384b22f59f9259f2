"""A model behind HTTP says what it says elsewhere, to each who asks their own, and refuses what is too much."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
import uvicorn
from fastapi.testclient import TestClient

from training.prediction import batching, server
from training.prediction import model as opening
from training.prediction.model import Model
from training.prediction.rows import Row

TEXTS = [f"the cat sees the dog . {'and the bird ' * (n % 5)}{n}" for n in range(60)]


@pytest.fixture(scope="module")
def model(models: dict) -> Model:
    return opening.open(models["classify"][0])


@pytest.fixture(scope="module")
def client(model: Model) -> Iterator[httpx.Client]:
    where = server.listening("127.0.0.1", 0)
    app = server.application(model, ["127.0.0.1"])
    running = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="on"))
    thread = threading.Thread(target=running.run, kwargs={"sockets": [where]})
    thread.start()
    with httpx.Client(base_url=f"http://127.0.0.1:{where.getsockname()[1]}", timeout=60) as asking:
        while not running.started:
            time.sleep(0.01)
        yield asking
    running.should_exit = True
    thread.join(30)
    assert not thread.is_alive()


def test_health_says_what_is_served(client: httpx.Client, model: Model) -> None:
    found = client.get("/health").json()
    assert found["status"] == "ready"
    assert (found["model"], found["task"], found["labels"]) == (model.name, "classify", model.labels)


def test_the_description_names_request_and_answer(client: httpx.Client) -> None:
    assert client.get("/docs").status_code == 200
    described = client.get("/openapi.json").json()
    assert {"/predict", "/health"} == described["paths"].keys()
    parts = described["components"]["schemas"]
    assert parts["Request"]["properties"]["rows"]["maxItems"] == server.ROWS
    assert {"label", "scores", "set"} == parts["Label"]["properties"].keys()


def test_many_who_ask_at_once_get_their_own_answers(client: httpx.Client, model: Model) -> None:
    def ask(at: int) -> list[dict]:
        rows = [{"text": text} for text in TEXTS[at : at + 1 + at % 4]]
        answer = client.post("/predict", json={"rows": rows})
        assert answer.status_code == 200
        return answer.json()["predictions"]

    expected = [each.fields() for each in model.predict([Row(text) for text in TEXTS])]
    with ThreadPoolExecutor(16) as pool:
        for at, found in enumerate(pool.map(ask, range(len(TEXTS)))):
            wanted = expected[at : at + 1 + at % 4]
            assert [row["label"] for row in found] == [row["label"] for row in wanted]
            for row, other in zip(found, wanted, strict=True):
                assert row["scores"] == pytest.approx(other["scores"], abs=1e-6)


def test_rows_that_are_too_long_for_the_model_are_named(client: httpx.Client) -> None:
    rows = [{"text": "the cat"}, {"text": "the cat " * 50}]
    assert client.post("/predict", json={"rows": rows}).json()["cut"] == [1]


def test_rows_that_wait_are_predicted_together(client: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    predict = Model.predict

    def slowly(self: Model, rows: list[Row]):
        sizes.append(len(rows))
        time.sleep(0.05)
        return predict(self, rows)

    monkeypatch.setattr(Model, "predict", slowly)
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda text: client.post("/predict", json={"rows": [{"text": text}]}), TEXTS[:32]))
    assert sum(sizes) == 32
    assert len(sizes) < 16


@pytest.mark.parametrize(
    ("asked", "status", "said"),
    [
        ({"rows": []}, 422, "at least 1"),
        ({"rows": [{"text": "x"}] * (server.ROWS + 1)}, 422, "at most 256"),
        ({"rows": [{"text": "x" * (server.CHARACTERS + 1)}]}, 422, "at most 100000 characters"),
        ({"rows": [{"text": "the cat"}, {"text": " "}]}, 422, r"rows[1]: 'text' is empty"),
        ({"rows": [{"text": 3}]}, 422, "valid string"),
        ({"rows": [{"texts": "the cat"}]}, 422, "texts"),
        ({"rows": [{"text": ["the", "cat"]}]}, 422, "is a list, not a text"),
        ({"rows": [{"text": "x" * 99_000}] * 200}, 413, "more than 16,777,216 bytes"),
    ],
)
def test_what_is_wrong_or_too_much_is_refused_in_words(
    client: httpx.Client, asked: dict, status: int, said: str
) -> None:
    answer = client.post("/predict", json=asked)
    assert answer.status_code == status
    assert said in answer.text


def test_a_body_of_unstated_length_is_bounded_too(client: httpx.Client) -> None:
    def parts() -> Iterator[bytes]:
        yield b'{"rows": [{"text": "'
        for _ in range(40):
            yield b"x" * (1 << 19)

    assert client.post("/predict", content=parts()).status_code == 413
    parts_of_one = iter([b'{"rows": [{"te', b'xt": "the cat"}]}'])
    answer = client.post("/predict", content=parts_of_one, headers={"content-type": "application/json"})
    assert answer.status_code == 200


def test_other_names_than_ours_are_refused(client: httpx.Client) -> None:
    assert client.get("/health", headers={"host": "elsewhere.example"}).status_code == 400


def test_who_finds_the_queue_full_is_told_when_to_come_again(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batching, "WAITING", 8)
    predict = Model.predict
    monkeypatch.setattr(Model, "predict", lambda self, rows: time.sleep(0.3) or predict(self, rows))
    with ThreadPoolExecutor(8) as pool:
        asked = [{"rows": [{"text": text} for text in TEXTS[:4]]}] * 8
        found = list(pool.map(lambda rows: client.post("/predict", json=rows), asked))
    turned_away = [answer for answer in found if answer.status_code == 503]
    assert {answer.status_code for answer in found} == {200, 503}
    assert len(turned_away) < 8
    assert {answer.headers["retry-after"] for answer in turned_away} == {"1"}


def test_a_fault_of_the_model_reaches_who_asked_and_nobody_else(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(Model, "predict", lambda _self, rows: [][len(rows)])
        # uvicorn closes the connection of a request that failed, and may not have when the next one is sent by it
        closing = {"Connection": "close"}
        assert client.post("/predict", json={"rows": [{"text": "the cat"}]}, headers=closing).status_code == 500
    assert client.post("/predict", json={"rows": [{"text": "the cat"}]}).status_code == 200


def test_sigterm_lets_those_who_asked_have_their_answer(models: dict) -> None:
    code = (
        "import sys, time\n"
        "from training.prediction import model, server\n"
        "predict = model.Model.predict\n"
        "model.Model.predict = lambda self, rows: time.sleep(1) or predict(self, rows)\n"
        "where = server.listening('127.0.0.1', 0)\n"
        "opened = model.open(sys.argv[1])\n"
        "print(where.getsockname()[1], flush=True)\n"
        "server.serve(opened, where, '127.0.0.1')\n"
    )
    command = [sys.executable, "-c", code, models["classify"][0]]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = f"http://127.0.0.1:{process.stdout.readline().strip()}"
        assert httpx.get(f"{url}/health", timeout=60).status_code == 200
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(httpx.post, f"{url}/predict", json={"rows": [{"text": "the cat"}]}, timeout=30)
            time.sleep(0.4)
            process.send_signal(signal.SIGTERM)
            assert asked.result().status_code == 200
        assert process.wait(30) in (0, -signal.SIGTERM)


def test_a_taken_port_is_one_message() -> None:
    with server.listening("127.0.0.1", 0) as taken, pytest.raises(server.NoPort, match="--port"):
        server.listening("127.0.0.1", taken.getsockname()[1])
    assert server.is_local("::1")
    assert not server.is_local("0.0.0.0")


@pytest.mark.parametrize("task", ["tokens", "text2text"])
def test_a_second_text_that_would_not_be_read_is_refused(models: dict, task: str) -> None:
    app = server.application(opening.open(models[task][0]), ["testserver"])
    with TestClient(app) as asking:
        answer = asking.post("/predict", json={"rows": [{"text": "the cat"}, {"text": "the cat", "pair": "a dog"}]})
        assert (answer.status_code, answer.json()["detail"].partition(";")[0]) == (
            422,
            "rows[1]: the model reads no second text",
        )
        assert asking.post("/predict", json={"rows": [{"text": "the cat"}]}).status_code == 200
