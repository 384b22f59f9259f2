"""What the commands share: plain errors, what is shown of a run here and in the Prefect UI, and how a build is run."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import typer

from flows.execution.terminal import Console
from pipeline.store import messages

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
        told = None if verbose else messages.message(error)
        if told is None:
            raise
        errors.print("[bold red]error[/] ", end="")
        errors.print(told, markup=False, highlight=False)
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


def run(
    recipe: Path,
    until: str,
    workers: int | None,
    runner: str,
    builds: Path,
    verbose: bool,
    with_report: bool = False,
    on_wait: Callable[[str], object] | None = None,
) -> None:
    """Build up to the part ``until``, and ``with_report`` write the report of what there is then.

    Given ``on_wait``, another process at work on the build is waited for, and ``on_wait`` gets a line about it.
    """
    with telling_errors(verbose):
        quiet_prefect(verbose)
        from flows.execution.open_build import open_build
        from training.recipe import preflight

        opened = open_build(recipe, builds)
        preflight.check(opened)  # what cannot come to an end is refused before anything starts

        from flows import build
        from flows.views import summary as console

        with shown("build", recipe, opened.root, until=until):
            build.build(recipe, until, workers, runner, builds, with_report, on_wait)  # pyright: ignore
        terminal.print(console.summary_view(opened))


def say(line: str) -> None:
    terminal.print(line, markup=False, highlight=False)


def study(recipe: Path, study: str, workers: int | None, runner: str, builds: Path, verbose: bool) -> None:
    with telling_errors(verbose):
        quiet_prefect(verbose)
        from flows.execution.open_build import open_build
        from flows.studies import ablate as run_ablation
        from flows.studies import ladder as run_ladder
        from flows.views import summary as console
        from pipeline.report import studies
        from training.recipe import preflight
        from training.studies.ablation import ablation_config
        from training.studies.ladder import ladder_config

        work, check, read, view = {
            "ladder": (run_ladder, ladder_config, studies.ladder, console.ladder_view),
            "ablation": (run_ablation, ablation_config, studies.ablation, console.ablation_view),
        }[study]
        opened = open_build(recipe, builds)
        preflight.check(opened)
        check(opened)  # before anything starts
        with shown("ablate" if study == "ablation" else study, recipe, opened.root):
            work(recipe, workers, runner, builds)  # pyright: ignore
        terminal.print(view(read(opened) or {}))
