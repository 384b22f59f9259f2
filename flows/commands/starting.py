"""The commands before a build: a recipe made for files (`init`), and all that can be known of it (`check`)."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Annotated

import typer

from flows.commands.options import (
    BUILDS,
    Builds,
    Recipe,
    Workers,
    errors,
    on_this_machine,
    say,
    telling_errors,
    terminal,
)
from pipeline import MillError

_NO_NAME = re.compile(r"[^a-z0-9_-]+")


def check(
    recipe: Recipe,
    workers: Workers = None,
    remote: Annotated[
        bool, typer.Option("--remote", help="Ask object stores, hubs and web servers, too, for what is there.")
    ] = False,
    builds: Builds = BUILDS,
) -> None:
    """Check all that can be known of RECIPE before work, and estimate time, disk and memory; nothing is written.

    Exit code 1, with every problem on a line of its own, if a build would not come to its end.
    """
    with telling_errors(False):
        from flows.execution.open_build import open_build
        from flows.views import check as views
        from pipeline.build.machine import cores
        from pipeline.curation import forecast, look
        from pipeline.curation.preflight import is_here
        from pipeline.text import formats
        from training.labelled import preflight

        opened = open_build(recipe, builds)
        problems = preflight.problems(opened, remote)
        looked = look.at_sources(opened, remote)
        problems += [line for line in looked.problems if _place(line) not in {_place(other) for other in problems}]
        warnings, count = looked.warnings, workers or cores()
        size = None
        if all(row["files"] is not None for row in looked.sources):
            size = forecast.text(opened, remote)
        if size is None:
            terminal.print(views.check_view(looked.sources, []))
            if not (remote or all(map(is_here, opened.recipe.sources))):
                warnings.append("sizes are not known, as sources lie elsewhere: `--remote` asks for them")
        else:
            ranges = forecast.of(opened, size, count)
            terminal.print(views.check_view(looked.sources, [size, *ranges]))
            needed = ranges[1]
            if opened.recipe.pretrain:
                from training.budget import forecast as training_forecast

                plans = training_forecast.of(opened)
                for plan in plans:
                    terminal.print(views.plan_view(*plan, opened.recipe.budget))
                    warnings += filter(None, [forecast.memory_warning(plan.ranges[0])])
                needed = needed.with_more(plan.ranges[1] for plan in plans)
            problems += filter(None, [forecast.require_room(opened, needed)])
            warnings += filter(None, [forecast.memory_warning(ranges[2])])
        for warning in warnings:
            terminal.print(f"warning: {warning}", style="yellow", markup=False, highlight=False)
        for problem in problems:
            errors.print("[bold red]error[/] ", end="")
            errors.print(problem, markup=False, highlight=False)
        if problems:
            say(f"{formats.several(len(problems), 'problem')}; correct and check again")
            raise typer.Exit(1)
        say(f"no problems; build it with: mill build {recipe}")


def _place(problem: str) -> str:
    """The field that a problem is of."""
    return problem.partition(":")[0]


def init(
    files: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Files or folders with text: JSON lines, Parquet, CSV, WARC, txt, md.",
            callback=lambda paths: paths and list(map(on_this_machine, paths)),
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="The recipe to write; default: NAME.yaml here.", callback=on_this_machine),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the build; default: that of the first file.")] = None,
    text_field: Annotated[str | None, typer.Option(help="Field with the text; default: that with most text.")] = None,
    language: Annotated[
        list[str] | None, typer.Option(help="Language to keep, as a code; default: those that are found. Repeat it.")
    ] = None,
    model: Annotated[bool, typer.Option("--model", help="Add a model of the size that the text suits.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace a recipe that is there.")] = False,
) -> None:
    """Write a recipe for FILES, with a comment on each choice; on a terminal it asks for what is not given.

    A JSON Schema is written beside it, by which editors complete and check recipes.
    """
    with telling_errors(False):
        asking = _on_terminal()
        if not files and not asking:
            raise MillError("name the files or folders with text: mill init FILES")
        given = files or [Path(typer.prompt("File or folder with text")).expanduser()]

        from pipeline.build.build import Build
        from pipeline.curation import preflight
        from pipeline.curation.recipe import load
        from pipeline.sources import guess
        from pipeline.store import files as store
        from training.recipe import draft
        from training.recipe.schema import schema
        from training.recipe.sections import BuildRecipe

        sources = guess.sources(given, text_field)
        if asking:
            model = model or typer.confirm("Add a model to pretrain?", default=False)
            for source in sources:
                if text_field is None and (text := source.fields.get("text_field")):
                    text.value = typer.prompt(f"Field with the text ({text.why})", text.value)
        name = name or given[0].resolve().name.partition(".")[0]
        name = _NO_NAME.sub("-", name.lower()).strip("-_") or "corpus"
        recipe = output or Path(f"{name}.yaml")
        beside = recipe.with_name("recipe.schema.json")
        for path in (recipe, beside):
            if path.exists() and not force and not (path == beside and _is_schema(path)):
                raise MillError(f"{path}: it is there already; choose another --output, or replace it with --force")
        text = draft.draft(sources, draft.Wanted(name, language, model), beside.name)
        for path, content in ((recipe, text), (beside, json.dumps(schema(), ensure_ascii=False, indent=1) + "\n")):
            with store.replacing(str(path), summed=False) as handle:
                handle.write(content.encode())
        say(f"{recipe}: {', '.join(source.fields['name'].value for source in sources)}; schema: {beside}")
        for line in preflight.problems(Build(".", load(recipe, BuildRecipe)), remote=False):
            terminal.print(f"warning: {line}", style="yellow", markup=False, highlight=False)
        say(f"next: mill check {recipe}, then mill build {recipe}")


def _on_terminal() -> bool:
    return sys.stdin.isatty() and sys.stdout.isatty()


def _is_schema(path: Path) -> bool:
    """Whether ``path`` is what `mill init` writes, of whatever version."""
    try:
        return json.loads(path.read_text("utf-8")).get("title") == "Recipe"
    except (ValueError, AttributeError):
        return False
