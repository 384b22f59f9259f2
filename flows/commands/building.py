"""The commands that make something: a build or its parts, a study of it, the schedule and the UI of its runs."""

from __future__ import annotations

import webbrowser
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from flows.commands.options import (
    BUILDS,
    Builds,
    Cluster,
    Json,
    Port,
    Quiet,
    Recipe,
    Runner,
    RunnerOption,
    Verbose,
    Workers,
    conclude,
    printing,
    quiet_prefect,
    say,
    shown,
    telling_errors,
    terminal,
)
from pipeline import MillError


class ServedFlow(StrEnum):
    """The flows that can be served; flows.schedule has them."""

    build = "build"
    curate = "curate"
    tokenize = "tokenize"
    pretrain = "pretrain"
    finetune = "finetune"
    report = "report"
    ladder = "ladder"
    ablate = "ablate"


def build(
    recipe: Recipe,
    workers: Workers = None,
    runner: RunnerOption = Runner.processes,
    cluster: Cluster = None,
    builds: Builds = BUILDS,
    verbose: Verbose = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Build everything that RECIPE describes: corpus, tokenizers, models, report."""
    with printing(quiet, as_json):
        run(recipe, "report", workers, runner.value, builds, verbose, cluster=cluster)


def curate(
    recipe: Recipe,
    workers: Workers = None,
    runner: RunnerOption = Runner.processes,
    cluster: Cluster = None,
    builds: Builds = BUILDS,
    verbose: Verbose = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Build up to the curated corpus: ingest, filter, deduplicate, balance."""
    with printing(quiet, as_json):
        run(recipe, "curate", workers, runner.value, builds, verbose, cluster=cluster)


def tokenize(
    recipe: Recipe,
    workers: Workers = None,
    runner: RunnerOption = Runner.processes,
    cluster: Cluster = None,
    builds: Builds = BUILDS,
    verbose: Verbose = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Build up to the tokenizers and the packed tokens."""
    with printing(quiet, as_json):
        run(recipe, "tokenize", workers, runner.value, builds, verbose, cluster=cluster)


def pretrain(
    recipe: Recipe,
    workers: Workers = None,
    runner: RunnerOption = Runner.processes,
    cluster: Cluster = None,
    builds: Builds = BUILDS,
    verbose: Verbose = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Build up to the pretrained models."""
    with printing(quiet, as_json):
        run(recipe, "pretrain", workers, runner.value, builds, verbose, cluster=cluster)


def report(
    recipe: Recipe,
    workers: Workers = None,
    open_it: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
    builds: Builds = BUILDS,
    verbose: Verbose = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Write the HTML report of a build as it stands, without making anything else."""
    with printing(quiet, as_json), telling_errors(verbose):
        quiet_prefect(verbose)
        from flows.build import report_as_it_stands
        from flows.execution.open_build import open_build
        from flows.views import artifacts, outcome, summary

        opened = open_build(recipe, builds)
        with shown("report", recipe, opened.address):
            path = report_as_it_stands(recipe, workers, builds)
        conclude(summary.summary_view(opened), summary.facts(opened), f"{opened.address}: {outcome.summary(opened)}")
        if open_it:
            open_in_browser(artifacts.link(path))


def open_in_browser(address: str) -> None:
    """Show a page in the browser that the system, or the environment variable BROWSER, names.

    Raises MillError, with the address, where there is none.
    """
    if not webbrowser.open(address):
        raise MillError(f"no browser was found to open {address} in; open it yourself, or name one in BROWSER")


def ladder(
    recipe: Recipe,
    workers: Workers = None,
    runner: RunnerOption = Runner.processes,
    builds: Builds = BUILDS,
    verbose: Verbose = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Train small models of several sizes on RECIPE's corpus, fit scaling laws, and predict the next size."""
    with printing(quiet, as_json):
        _study(recipe, "ladder", workers, runner.value, builds, verbose)


def ablate(
    recipe: Recipe,
    workers: Workers = None,
    runner: RunnerOption = Runner.processes,
    builds: Builds = BUILDS,
    verbose: Verbose = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Train equal models on RECIPE's raw and curated text, and with each stage left out: what is curation worth?"""
    with printing(quiet, as_json):
        _study(recipe, "ablation", workers, runner.value, builds, verbose)


def run(
    recipe: Path,
    until: str,
    workers: int | None,
    runner: str,
    builds: str,
    verbose: bool,
    with_report: bool = False,
    on_wait: Callable[[str], object] | None = None,
    cluster: str | None = None,
) -> None:
    """Build up to the part ``until``, and ``with_report`` write the report of what there is then.

    Given ``on_wait``, another process at work on the build is waited for, and ``on_wait`` gets a line about it.
    """
    with telling_errors(verbose):
        quiet_prefect(verbose)
        from flows.execution.open_build import open_build
        from training.labelled import preflight

        opened = open_build(recipe, builds)
        preflight.check(opened)  # what cannot come to an end is refused before anything starts

        from flows.build import build as make
        from flows.views import outcome, summary

        with shown("build", recipe, opened.address, until=until):
            make(recipe, until, workers, runner, builds, with_report, on_wait, cluster=cluster)  # pyright: ignore
        conclude(summary.summary_view(opened), summary.facts(opened), f"{opened.address}: {outcome.summary(opened)}")


def _study(recipe: Path, name: str, workers: int | None, runner: str, builds: str, verbose: bool) -> None:
    with telling_errors(verbose):
        quiet_prefect(verbose)
        from flows.execution.open_build import open_build
        from flows.studies import ablate as run_ablation
        from flows.studies import ladder as run_ladder
        from flows.views import summary
        from pipeline.report import studies
        from training.labelled import preflight
        from training.studies.ablation import ablation_config
        from training.studies.ladder import ladder_config

        work, check, read, view = {
            "ladder": (run_ladder, ladder_config, studies.ladder, summary.ladder_view),
            "ablation": (run_ablation, ablation_config, studies.ablation, summary.ablation_view),
        }[name]
        opened = open_build(recipe, builds)
        preflight.check(opened)
        check(opened)  # before anything starts
        with shown("ablate" if name == "ablation" else name, recipe, opened.address):
            work(recipe, workers, runner, builds)  # pyright: ignore
        results = read(opened) or {}
        place = opened.address
        conclude(view(results), {"state": "completed", "folder": place, **results}, f"{place}: {name} done")


def serve(
    recipe: Annotated[
        Path | None, typer.Option(help="Serve one flow of this recipe; absent: all flows, which ask for a recipe.")
    ] = None,
    flow: Annotated[
        ServedFlow, typer.Option(help="Which flow of --recipe: how far to build, or a study of it.")
    ] = ServedFlow.build,
    cron: Annotated[
        str | None, typer.Option(help='When to run --recipe, as cron: "0 2 * * *" is every night at two.')
    ] = None,
    timezone: Annotated[str, typer.Option(help="Time zone of the schedule.")] = "UTC",
    limit: Annotated[int, typer.Option(min=1, help="Maximum number of runs at a time.")] = 1,
    workers: Workers = None,
    runner: RunnerOption = Runner.processes,
    builds: Builds = BUILDS,
    port: Port = 4200,
) -> None:
    """Serve the flows from this process, until it is stopped: run them in the Prefect UI, or on a schedule."""
    with telling_errors(False):
        quiet_prefect(verbose=True)
        if cron and recipe is None:
            raise MillError("--cron needs --recipe: the recipe that is built on that schedule")
        from flows import serving
        from flows.execution import stopping
        from flows.execution.open_build import open_build
        from flows.execution.server import server
        from training.labelled import preflight

        if cron:
            serving.check(cron, timezone)
        if recipe is not None:
            preflight.check(open_build(recipe, builds))
        with stopping.interrupted_by_sigterm() as on_sigterm, server(port, builds) as url:
            if recipe is None:
                served = serving.every_flow(workers, runner.value, builds)
                what = "every flow"
            else:
                one = serving.one_recipe(flow.value, recipe, cron, timezone, workers, runner.value, builds)
                served, what = [one], f"{flow.value}/{one.name}" + (f" at {cron} ({timezone})" if cron else "")
                if skipped := serving.skip_missed(one.name):
                    terminal.print(f"skipped {skipped} runs that were missed while nothing served them")
            terminal.print(f"serving [bold]{escape(what)}[/]; watch {url.removesuffix('/api')}/deployments")
            serving.serve(served, limit, on_sigterm)


def watch(
    folder: Annotated[Path, typer.Argument(help="The folder in which files arrive.", show_default=False)],
    deployment: Annotated[
        str, typer.Option(help="The deployment to run, <flow>/<name>, whose recipe reads the folder.")
    ] = "curate/nightly",
    settle: Annotated[
        float, typer.Option(min=0, help="Seconds for which a file must not have changed to count as complete.")
    ] = 10,
    port: Port = 4200,
) -> None:
    """Run a deployment whenever files have arrived in FOLDER in full, until it is stopped."""
    with telling_errors(False):
        quiet_prefect(verbose=False)
        from flows import watching
        from flows.execution.server import server
        from flows.execution.stopping import interrupted_by_sigterm

        with interrupted_by_sigterm(), server(port) as url:
            say(f"watching {folder}; watch its runs at {url.removesuffix('/api')}")
            watching.watch(folder, deployment, settle, say)


def automations(
    webhook: Annotated[
        str | None, typer.Option(help="An address that gets alarms and failures as JSON, by POST.")
    ] = None,
    train: Annotated[
        str | None, typer.Option(help="The deployment to run when a corpus is published, such as pretrain/on-demand.")
    ] = None,
    arrivals: Annotated[
        str | None, typer.Option(help="The deployment to run a minute after the event corpusmill.file.arrived.")
    ] = None,
    remove: Annotated[bool, typer.Option("--remove", help="Delete them.")] = False,
    port: Port = 4200,
) -> None:
    """Install automations on the Prefect server: dead and stuck runs become Crashed, alarms go to a webhook."""
    with telling_errors(False):
        quiet_prefect(verbose=False)
        from flows.execution.server import server

        with server(port):
            from flows import automations as ready

            names = ready.remove() if remove else ready.install(webhook, train, arrivals)
        for name in names:
            say(f"{'removed' if remove else 'installed'} {name}")


def ui(
    port: Port = 4200,
    builds: Builds = BUILDS,
    no_browser: Annotated[bool, typer.Option("--no-browser")] = False,
    keep_days: Annotated[
        int | None, typer.Option(min=1, help="Delete runs this many days after they ended (default: keep all).")
    ] = None,
) -> None:
    """Start the Prefect server on 127.0.0.1 (or find it running) and open its UI; reports are at /report there."""
    with telling_errors(False):
        import time
        import webbrowser

        from flows.execution.server import server
        from flows.execution.stopping import interrupted_by_sigterm

        with interrupted_by_sigterm(), server(port, builds, keep_days) as url:
            address = url.removesuffix("/api")
            terminal.print(f"Prefect UI: [bold]{address}[/]  reports: {address}/report  [dim]Ctrl-C stops it[/]")
            if not no_browser:
                webbrowser.open(address)
            while True:
                time.sleep(3600)
