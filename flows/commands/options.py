"""What the commands share: their options, plain errors, and what is shown of a run here and in the Prefect UI."""

from __future__ import annotations

import contextlib
import gc
import os
from collections.abc import Iterator, Mapping
from enum import Enum, StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from flows.execution.terminal import Console, write_json
from pipeline.store import messages
from pipeline.text import kernel_cache

if TYPE_CHECKING:
    from rich.console import RenderableType

    from flows.execution.progress import Reporter


class Runner(StrEnum):
    """Where tasks run."""

    processes = "processes"
    threads = "threads"
    dask = "dask"
    ray = "ray"


def on_this_machine(path: Path | None) -> Path | None:
    """``path``, which the command does not look for in an object store: an address is refused."""
    if path is not None and ":/" in str(path):  # a Path has one slash left
        shown = str(path).replace(":/", "://", 1)
        raise typer.BadParameter(f"{shown} is an address; give a path of this machine, and copy there or from there")
    return path


def names_of(columns: str | None) -> tuple[str, ...] | None:
    """The names in ``columns``, between commas. Raises BadParameter where one is empty."""
    if columns is None:
        return None
    names = tuple(name.strip() for name in columns.split(","))
    if not all(names):
        raise typer.BadParameter(f"--columns {columns}: a name is empty; name every column, as text,label")
    return names


Recipe = Annotated[
    Path,
    typer.Argument(help="The recipe, a YAML file; see data/recipes.", show_default=False, callback=on_this_machine),
]
Builds = Annotated[
    str,
    typer.Option(help="Folder that holds the builds, one folder a recipe; or its address, such as s3://bucket/builds."),
]
Workers = Annotated[
    int | None, typer.Option(min=1, help="Tasks at a time; all cores if absent. Never changes results.")
]
RunnerOption = Annotated[Runner, typer.Option(help="Where tasks run. dask and ray reach other machines.")]
Cluster = Annotated[
    str | None,
    typer.Option(
        help="Address of a cluster that is there already: tcp://host:port (dask), host:port or ray://host:port (ray).",
        show_default=False,
    ),
]
Verbose = Annotated[bool, typer.Option("--verbose", help="Show Prefect's log and whole tracebacks.")]
Columns = Annotated[
    str | None,
    typer.Option(help="Names of the columns of a csv or tsv file without a header, in order, as text,label."),
]
Quiet = Annotated[bool, typer.Option("--quiet", help="Show warnings, errors and the last line, nothing else.")]
Json = Annotated[bool, typer.Option("--json", help="Print a line of JSON for each step and one for the whole.")]
Port = Annotated[int, typer.Option(min=1024, max=65535, help="Port of the Prefect server on 127.0.0.1.")]

BUILDS = "data/builds"

terminal = Console()
errors = Console(stderr=True)


class Printing(Enum):
    """What is shown of a run, and to whom."""

    everything = 1
    quiet = 2
    json = 3


_printing = [Printing.everything]


@contextlib.contextmanager
def printing(quiet: bool, as_json: bool) -> Iterator[None]:
    """In the block ``terminal`` prints nothing where one of the two is asked for; ``conclude`` ends the block."""
    if quiet and as_json:
        raise typer.BadParameter("--quiet and --json exclude each other")
    _printing.append(Printing.quiet if quiet else Printing.json if as_json else Printing.everything)
    terminal.quiet = quiet or as_json
    try:
        yield
    finally:
        _printing.pop()
        terminal.quiet = False


def conclude(view: RenderableType, facts: Mapping[str, Any], line: str) -> None:
    """What a command has to say in the end: ``view`` for people, ``facts`` for programs, or one ``line``.

    ``warnings`` among the facts are shown in any case.
    """
    if _printing[-1] is Printing.json:
        write_json("summary", facts)
    elif _printing[-1] is Printing.quiet:
        for warning in facts.get("warnings", ()):
            errors.print(f"warning: {warning}", markup=False, highlight=False)
        typer.echo(messages.visible(line))
    else:
        terminal.print(view)


def reporter() -> Reporter:
    """What shows the steps of a run as they go on."""
    from flows.execution import json_lines, progress

    if _printing[-1] is Printing.json:
        return json_lines.JsonReporter()
    return progress.Reporter() if _printing[-1] is Printing.quiet else progress.TerminalReporter(terminal)


@contextlib.contextmanager
def telling_errors(verbose: bool) -> Iterator[None]:
    """Turn an error that names its remedy into one message; a fault of ours keeps its traceback."""
    try:
        yield
    except KeyboardInterrupt as interrupt:
        from flows.execution.stopping import Terminated

        terminated = isinstance(interrupt, Terminated)
        errors.print(f"stopped{' by SIGTERM' if terminated else ''}; the same command goes on from here")
        raise typer.Exit(143 if terminated else 130) from None
    except (typer.Exit, typer.Abort):
        raise
    except BaseException as error:
        message = None if verbose else messages.message(error)
        if message is None:
            raise
        errors.print("[bold red]error[/] ", end="")
        errors.print(message, markup=False, highlight=False)
        if _printing[-1] is Printing.json:
            write_json("summary", {"state": "failed", "error": message})
        raise typer.Exit(1) from None


@contextlib.contextmanager
def answering() -> Iterator[None]:
    """``telling_errors`` for a question that is answered at once: nothing that it loads is garbage before it ends."""
    gc.disable()
    try:
        with telling_errors(False):
            yield
    finally:
        gc.enable()


def quiet_prefect(verbose: bool) -> None:
    """Keep Prefect's log out of the terminal unless it is asked for; the server keeps it all. Telemetry stays off."""
    os.environ.setdefault("DO_NOT_TRACK", "1")
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    if not verbose:
        os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")


@contextlib.contextmanager
def shown(flow: str, recipe: Path, root: str, **parameters: str) -> Iterator[None]:
    """Show what is run in the block here and in the Prefect UI; a signal ends it within seconds."""
    from flows.execution import progress, server, stopping, tracking
    from flows.views import artifacts

    url = server.find()
    watch = f"  [dim]watch: {url.removesuffix('/api')}[/]" if url else ""
    terminal.print(f"[bold]{escape(Path(root).name)}[/] in {escape(root)}{watch}")
    if not kernel_cache.has_kernels():
        say("the first run compiles kernels, some minutes of processor time; later runs find them")
    with (
        reporter() as shows,
        progress.reporting(shows),
        stopping.stoppable(shows.stop),
        tracking.tracking(url, shows.tell) as tracker,
        stopping.on_stop(lambda _why: tracker.cancel(3)),
        tracking.flow(flow, f"{flow} {recipe.stem}", recipe=recipe.resolve(), **parameters),
        artifacts.failing(Path(root).name),
    ):
        # where to watch is no warning, and says nothing to somebody who reads it there
        tracker.announce = (lambda _line: None) if _printing[-1] is Printing.quiet else shows.show
        yield
    if not shows.made:
        terminal.print("up to date: nothing had to be made", style="green")


def say(line: str) -> None:
    terminal.print(line, markup=False, highlight=False)
