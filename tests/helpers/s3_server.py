"""A server of the S3 protocol for tests, and a proxy before it that counts requests and spoils some of them."""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

HOST = "127.0.0.1"
#: What becomes of a request: "busy" is answered 503 SlowDown, of "cut" half of the answer comes or none, "slow" waits.
Fault = Literal["busy", "cut", "slow"]
_SLOW_DOWN = b"""<?xml version="1.0" encoding="UTF-8"?>
<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"""


_SCOPE = "key/20260101/us-east-1/s3/aws4_request"


def free_port() -> int:
    with socket.socket() as found:
        found.bind((HOST, 0))
        return found.getsockname()[1]


@contextlib.contextmanager
def serving(host: str = HOST) -> Iterator[str]:
    """moto's S3 server in a process of its own; yields its address."""
    port = free_port()
    command = [sys.executable, "-c", f"from moto.server import main; main(['-H', {host!r}, '-p', '{port}'])"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while True:
            with contextlib.suppress(OSError), socket.create_connection((HOST, port), 1):
                break
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield f"http://{HOST}:{port}"
    finally:
        process.terminate()
        process.wait(10)


def settings(address: str) -> dict[str, str]:
    """The environment of a user of the server at ``address``."""
    return {
        "AWS_ENDPOINT_URL": address,
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def empty(address: str, bucket: str) -> None:
    """Forget everything that the server at ``address`` holds, moto's or another one's ``bucket``, and make this."""
    if address == os.environ.get("S3_TEST_SERVER"):
        _empty_bucket(address, bucket)
        return
    for method, path in (("POST", "/moto-api/reset"), ("PUT", f"/{bucket}")):
        connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=30)
        connection.request(method, path, headers={"Authorization": f"AWS4-HMAC-SHA256 Credential={_SCOPE}"})
        assert connection.getresponse().status == 200
        connection.close()


def _empty_bucket(address: str, bucket: str) -> None:
    import boto3

    access = {"aws_access_key_id": "key", "aws_secret_access_key": "secret", "region_name": "us-east-1"}
    client = boto3.client("s3", endpoint_url=address, **access)
    if bucket not in [entry["Name"] for entry in client.list_buckets()["Buckets"]]:
        client.create_bucket(Bucket=bucket)
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        for entry in page.get("Contents", []):
            client.delete_object(Bucket=bucket, Key=entry["Key"])


@dataclass
class Proxy:
    """Requests that came, by method (a GET that lists is LIST); ``fault`` is asked what becomes of each."""

    server: str
    fault: Callable[[str, str], Fault | None] = lambda _method, _path: None
    counts: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    address: str = ""


@contextlib.contextmanager
def proxied(server: str) -> Iterator[Proxy]:
    """A proxy in a thread before the server at the address ``server``."""
    proxy = Proxy(server)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # or what follows the headers waits for 40 ms

        def log_message(self, *_: Any) -> None:
            pass

        def handle_request(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            method = "LIST" if self.command == "GET" and "list-type" in self.path else self.command
            proxy.counts[method] += 1
            fault = proxy.fault(method, self.path)
            if fault:
                proxy.faults[fault] += 1
            if fault == "busy":
                self.answer(503, {"Content-Type": "application/xml"}, _SLOW_DOWN)
                return
            if fault == "slow":
                time.sleep(0.5)
            connection = http.client.HTTPConnection(proxy.server.removeprefix("http://"), timeout=30)
            connection.request(self.command, self.path, body, dict(self.headers))
            response = connection.getresponse()
            content = response.read()
            connection.close()
            self.answer(response.status, dict(response.getheaders()), content, cut=fault == "cut")

        def answer(self, status: int, headers: dict[str, str], content: bytes, cut: bool = False) -> None:
            if cut and not content:
                self.close_connection = True
                return
            self.send_response_only(status)
            for name, value in headers.items():
                if name.lower() not in ("connection", "content-length", "transfer-encoding"):
                    self.send_header(name, value)
            length = headers.get("Content-Length", str(len(content))) if self.command == "HEAD" else str(len(content))
            self.send_header("Content-Length", length)
            self.end_headers()
            with contextlib.suppress(OSError):
                self.wfile.write(content[: len(content) // 2] if cut else content)
            if cut:
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = handle_request

    listener = ThreadingHTTPServer((HOST, 0), Handler)
    listener.daemon_threads = True
    proxy.address = f"http://{HOST}:{listener.server_address[1]}"
    thread = threading.Thread(target=listener.serve_forever, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        listener.shutdown()
        listener.server_close()
