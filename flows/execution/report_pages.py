"""The HTML reports of a folder of builds, served beside the Prefect UI: a web page cannot link to a file.

``/report`` lists them, ``/report/NAME`` is one, on 127.0.0.1 as the server itself.
"""

from __future__ import annotations

import http.client
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

ROOT = "x-corpusmill-build"
"""The header that says which folder a report is of."""
_LOCAL = ("127.0.0.1", "localhost", "[::1]")


def add(app: Starlette, builds: Path) -> None:
    """Have ``app`` serve the reports of the builds in the folder ``builds``, before what it serves already."""
    from starlette.responses import FileResponse, HTMLResponse, PlainTextResponse
    from starlette.routing import Route

    def refused(request: Request) -> Response | None:
        """A page of another site must not read a report under a name that it lets point here."""
        host = request.headers.get("host", "").rsplit(":", 1)[0]
        return None if host in _LOCAL else PlainTextResponse(f"this server is asked as {_LOCAL[0]} only", 403)

    def one(request: Request) -> Response:
        name = request.path_params["name"]
        page = builds / name / "report" / "index.html"
        if answer := refused(request):
            return answer
        if name in (".", "..") or not page.is_file():
            return PlainTextResponse(f"no report of a build {name!r} in {builds}; `mill report` writes it", 404)
        return FileResponse(page, headers={ROOT: quote(str(page.parent.parent.resolve()))})

    def every(request: Request) -> Response:
        if answer := refused(request):
            return answer
        names = sorted(page.parent.parent.name for page in builds.glob("*/report/index.html"))
        rows = "".join(f'<li><a href="/report/{quote(name)}">{escape(name)}</a></li>' for name in names)
        about = f"Reports of the builds in {escape(str(builds))}"
        head = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{about}</title>'
        return HTMLResponse(f"{head}<h1>{about}</h1><ul>{rows or '<li>none yet</li>'}</ul></html>")

    app.router.routes[:0] = [Route("/report", every), Route("/report/{name}", one)]


def address(api: str | None, name: str, root: str) -> str | None:
    """Where the server with the API at ``api`` serves the report of the build ``name`` in ``root``; None if nowhere."""
    url = urlsplit(api or "")
    if url.scheme != "http" or not url.hostname:
        return None
    connection = http.client.HTTPConnection(url.hostname, url.port, timeout=2)
    try:
        connection.request("HEAD", f"/report/{quote(name)}")
        served = connection.getresponse().getheader(ROOT)
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
    return f"http://{url.netloc}/report/{quote(name)}" if served == quote(str(Path(root).resolve())) else None
