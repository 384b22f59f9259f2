"""What the commands share: their options, plain errors, and what is shown of a run here and in the Prefect UI."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from flows.execution.terminal import Console
from pipeline.store import messages


class Runner(StrEnum):
    """Where tasks run."""

    processes = "processes"
    threads = "threads"
    dask = "dask"
    ray = "ray"


Recipe = Annotated[Path, typer.Argument(help="The recipe, a YAML file; see data/recipes.", show_default=False)]
Builds = Annotated[Path, typer.Option(help="Folder that holds the builds, one folder a recipe.")]
Workers = Annotated[
    int | None, typer.Option(min=1, help="Tasks at a time; all cores if absent. Never changes results.")
]
RunnerOption = Annotated[Runner, typer.Option(help="Where tasks run. dask and ray reach other machines.")]
Verbose = Annotated[bool, typer.Option("--verbose", help="Show Prefect's log and whole tracebacks.")]
Port = Annotated[int, typer.Option(min=1024, max=65535, help="Port of the Prefect server on 127.0.0.1.")]

BUILDS = Path("data/builds")

terminal = Console()
errors = Console(stderr=True)


@contextlib.contextmanager
def telling_errors(verbose: bool) -> Iterator[None]:
    """Turn an error that names its remedy into one message; a fault of ours keeps its traceback."""
    try:
        yield
    except KeyboardInterrupt:
        errors.print("stopped; the same command goes on from here")
        raise typer.Exit(130) from None
    except (typer.Exit, typer.Abort):
        raise
    except BaseException as error:
        message = None if verbose else messages.message(error)
        if message is None:
            raise
        errors.print("[bold red]error[/] ", end="")
        errors.print(message, markup=False, highlight=False)
        raise typer.Exit(1) from None


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

    url = server.find()
    watch = f"  [dim]watch: {url.removesuffix('/api')}[/]" if url else ""
    terminal.print(f"[bold]{Path(root).name}[/] in {root}{watch}")
    with (
        progress.TerminalReporter(terminal) as reporter,
        progress.reporting(reporter),
        stopping.stoppable(reporter.stop),
        tracking.tracking(url, reporter.tell) as tracker,
        stopping.on_stop(lambda: tracker.cancel(3)),
        tracking.flow(flow, f"{flow} {recipe.stem}", recipe=recipe.resolve(), **parameters),
    ):
        yield
    if not reporter.worked:
        terminal.print("up to date: nothing had to be made", style="green")


def say(line: str) -> None:
    terminal.print(line, markup=False, highlight=False)
