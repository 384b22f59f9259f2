"""The commands that ask something of a build, a model or a recipe; of them only `forget` changes what is there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from flows.commands.building import run
from flows.commands.options import (
    BUILDS,
    Builds,
    Recipe,
    Runner,
    RunnerOption,
    Verbose,
    Workers,
    answering,
    errors,
    say,
    telling_errors,
    terminal,
)
from pipeline import MillError


def why(
    document: Annotated[str, typer.Argument(help="A document's id, such as stdlib/json/decoder.py#JSONDecoder.")],
    recipe: Annotated[Path | None, typer.Option(help="The recipe of the build; the latest build if absent.")] = None,
    builds: Builds = BUILDS,
) -> None:
    """Explain why a document is in the corpus or not: every signal, rule, value, threshold and margin."""
    with answering():
        from flows.execution.open_build import latest_build, open_build
        from flows.views import questions
        from pipeline.questions.why import forgotten_document
        from pipeline.questions.why import why as explain

        opened = open_build(recipe, builds) if recipe else latest_build(builds)
        if forgotten := forgotten_document(opened, document):
            terminal.print(questions.forgotten_view(forgotten))
        else:
            terminal.print(questions.explanation_view(explain(opened, document)))


def similar(
    file: Annotated[
        Path | None, typer.Argument(help="A UTF-8 text file; or give --text.", exists=True, dir_okay=False)
    ] = None,
    text: Annotated[str | None, typer.Option(help="The text itself, instead of a file.")] = None,
    threshold: Annotated[
        float | None, typer.Option(help="Least Jaccard similarity, above 0 and at most 1; the build's own if absent.")
    ] = None,
    recipe: Annotated[Path | None, typer.Option(help="The recipe of the build; the latest build if absent.")] = None,
    builds: Builds = BUILDS,
) -> None:
    """List the documents of a build that are near a text, with the exact Jaccard similarity of each."""
    with telling_errors(False):
        from flows.execution.open_build import latest_build, open_build
        from flows.views import questions
        from pipeline.questions.similar import similar as near
        from pipeline.store import files

        if (file is None) == (text is None):
            raise MillError("give either a FILE or --text TEXT")
        if file is not None:
            try:
                text = Path(files.regular(str(file))).read_text("utf-8-sig")
            except UnicodeDecodeError as error:
                raise MillError(f"{file}: not UTF-8 (byte {error.start}); save it as UTF-8") from error
        opened = open_build(recipe, builds) if recipe else latest_build(builds)
        terminal.print(questions.similar_view(near(opened, text or "", threshold), threshold))


def forget(
    documents: Annotated[list[str], typer.Argument(help="Ids, such as crawl/part-0.jsonl.zst#17.", show_default=False)],
    recipe: Annotated[Path | None, typer.Option(help="The recipe of the build; the latest build if absent.")] = None,
    workers: Workers = None,
    runner: RunnerOption = Runner.processes,
    builds: Builds = BUILDS,
    verbose: Verbose = False,
) -> None:
    """Remove documents from a build for good, and bring back the duplicates that had lost to them.

    The ids go on a list beside the build, so no later run brings them back, whatever the sources hold. Shards, corpus,
    index, tokens and report are rebuilt; the next `mill build` retrains models. Waits for another run of the build.
    """
    with telling_errors(verbose):
        from datetime import date

        from flows.execution.open_build import finished_build, latest_build, open_build, recipe_of
        from flows.views import questions
        from pipeline.questions.forget import record
        from pipeline.questions.why import forgotten_document
        from pipeline.report import models
        from pipeline.store import files

        opened = finished_build((open_build(recipe, builds) if recipe else latest_build(builds)).root)
        path = recipe or recipe_of(opened)
        record(opened, documents, date.today(), say)
        tokenized, reported = (files.exists(opened.path(name)) for name in ("tokens", "report"))
        trained = any(models.summaries(opened, section) for section in ("pretrain", "finetune"))
        terminal.print("marked for removal; removing now")
    until = "tokenize" if tokenized else "curate"
    run(path, until, workers, runner.value, builds, verbose, reported, say)
    with telling_errors(verbose):
        opened = open_build(path, builds)
        for name in documents:
            if forgotten := forgotten_document(opened, name):
                terminal.print(questions.forgotten_view(forgotten))
        if trained:
            terminal.print(
                "models in this build were trained on removed documents; run `mill build` to retrain them",
                style="yellow",
            )


def verify(
    what: Annotated[
        str | None, typer.Argument(help="A recipe, or the folder or address of a build; the latest build if absent.")
    ] = None,
    builds: Builds = BUILDS,
) -> None:
    """Read every file of a build and name those that are damaged or not there; exit code 1 if there are any."""
    with telling_errors(False):
        from flows.execution.open_build import latest_build, open_build
        from pipeline.questions.verify import verify as read_all
        from pipeline.store import files
        from pipeline.store.messages import visible
        from pipeline.text import formats

        if what and (not files.is_local(what) or Path(what).is_dir()):
            root = files.here(what)
        else:
            root = (open_build(Path(what), builds) if what else latest_build(builds)).root
        checked = read_all(root)
        for fault in checked.faults:
            errors.print(visible(fault), style="red", highlight=False, markup=False, soft_wrap=True)
        state = f"{len(checked.faults):,} damaged or not there" if checked.faults else "all as written"
        line = f"{formats.count(checked.files)} files, {formats.size(checked.bytes)} checked: {state}"
        if checked.files:
            terminal.print(line, style="red" if checked.faults else "green", highlight=False)
        if checked.unchecked:
            number, example = formats.count(len(checked.unchecked)), checked.unchecked[0].relative_to(root)
            line = f"files without a checksum, not checked: {number}, such as {example}"
            style = "dim" if checked.files else "yellow"
            terminal.print(line, style=style, highlight=False, markup=False, soft_wrap=True)
        if checked.faults:
            raise typer.Exit(1)


def whatif(
    recipe: Recipe,
    settings: Annotated[
        list[str], typer.Option("--set", help="field=value or rule=value, such as gopher_quality.min_words=80.")
    ],
    builds: Builds = BUILDS,
) -> None:
    """Preview the effect of changed settings on the build of RECIPE, reusing stored measurements."""
    with telling_errors(False):
        from flows.execution.open_build import finished_build, open_build
        from flows.views import questions
        from pipeline.curation.settings import parse, with_settings
        from pipeline.questions.whatif import ask
        from pipeline.report import tokens

        opened = open_build(recipe, builds)
        wanted = with_settings(opened.recipe, parse(settings))
        answer = ask(finished_build(opened.root), wanted)
        budget = wanted.budget  # type: ignore[attr-defined]
        size = tokens.tokens(opened)["bytes_per_token"]
        terminal.print(questions.whatif_view(answer, size, budget.parameters, budget.tokens_per_parameter))


def budget(
    what: Annotated[
        str,
        typer.Argument(help="A recipe, or the folder or address of a corpus or of a model.", show_default=False),
    ],
    parameters: Annotated[
        str | None, typer.Option(help="Size of the model, such as 350M or 1.3B; the recipe's if absent.")
    ] = None,
    tokens_per_parameter: Annotated[float | None, typer.Option(help="Tokens to train on for each parameter.")] = None,
    max_epochs: Annotated[float | None, typer.Option(help="Maximum number of times to repeat any document.")] = None,
    builds: Builds = BUILDS,
) -> None:
    """Estimate what training costs: parameters, tokens, FLOPs, predicted loss, GPU hours, and how much data is missing.

    Of a recipe: its models, trained or not, and what each domain gives a model that `balance.budget` or --parameters
    names; before it is curated, from the sizes of its sources. Of a corpus: a GPT-2 trained on it. Of a model: what it
    took.
    """
    with telling_errors(False):
        from flows.commands.settings import amount
        from flows.views import summary
        from pipeline.store import files
        from training.budget import estimates

        wanted = amount("--parameters", parameters) if parameters else None
        if not files.is_local(what) or Path(what).is_dir():
            folder = str(files.local(what))
            terminal.print(summary.budget_view(estimates.of_folder(folder, wanted, tokens_per_parameter)))
            return

        from flows.execution.open_build import open_build
        from pipeline.report import needs
        from pipeline.stages.balance.stage import what_if

        build = open_build(Path(what), builds)
        config, domains = build.recipe.balance, files.exists(build.path("balance.json"))
        asked = config is not None and (wanted or (config.budget and config.budget.parameters))
        if asked and domains:
            answer = what_if(build, wanted, tokens_per_parameter, max_epochs)
            terminal.print(summary.needs_view(needs.laid_out(answer.asdict())))
        elif asked:
            terminal.print("what each domain gives is known after `mill curate`", style="yellow")
        if build.recipe.pretrain or not (asked and domains):
            terminal.print(summary.budget_view(estimates.of_recipe(build, wanted, tokens_per_parameter)))


def lineage(
    model: Annotated[
        str, typer.Argument(help="The folder or address of a pretrained model of a build.", show_default=False)
    ],
    step: Annotated[
        int | None, typer.Option(min=1, help="Training step to inspect; default: the largest spikes of the loss.")
    ] = None,
) -> None:
    """Show the documents behind a training step of MODEL, or behind the largest spikes of its loss."""
    with telling_errors(False):
        from flows.views import questions
        from pipeline.store import files
        from training.pretraining.lineage import of_model

        run, facts = of_model(files.here(model))
        if step is None:
            terminal.print(questions.spikes_view(facts["name"], facts["spikes"]))
            return
        if step > facts["steps"]:
            raise MillError(f"--step {step}: {facts['name']} was trained for {facts['steps']} steps")
        terminal.print(questions.step_view(step, run.documents(step)))


def sample(
    recipe: Recipe,
    rule: Annotated[str, typer.Option(help="The rule, such as gopher_quality.min_words or near_duplicate.")],
    number: Annotated[int, typer.Option("-n", min=1, help="How many documents.")] = 5,
    near_threshold: Annotated[
        bool, typer.Option("--near-threshold", help="Show the -n documents closest to the threshold on each side.")
    ] = False,
    builds: Builds = BUILDS,
) -> None:
    """Show documents that a rule dropped, or nearly did: always the same ones."""
    with telling_errors(False):
        from flows.execution.open_build import finished_build, open_build
        from flows.views import questions
        from pipeline.questions.sample import sample as choose

        opened = finished_build(open_build(recipe, builds).root)
        terminal.print(questions.sample_view(rule, choose(opened, rule, number, near_threshold)))


def overlap(recipe: Recipe, builds: Builds = BUILDS) -> None:
    """Compare which rules drop the same documents, and what each one adds to the others."""
    with telling_errors(False):
        from flows.execution.open_build import finished_build, open_build
        from flows.views import questions
        from pipeline.questions.overlap import overlap as compare

        terminal.print(questions.overlap_view(compare(finished_build(open_build(recipe, builds).root))))


def diff(
    first: Annotated[str, typer.Argument(help="A build: its name in the folder of builds, or its path.")],
    second: Annotated[str, typer.Argument(help="The build to compare it with.")],
    builds: Builds = BUILDS,
) -> None:
    """Compare two builds: which documents differ, and because of which change."""
    with telling_errors(False):
        from flows.execution.open_build import finished_build
        from flows.views import questions
        from pipeline.questions.diff import diff as compare
        from pipeline.store import files

        # a name stands for the folder in BUILDS, and a path or an address for itself
        places = [(files.here(files.join(builds, name)), name) for name in (first, second)]
        opened = [finished_build(place if files.exists(place) else name) for place, name in places]
        terminal.print(questions.diff_view(compare(*opened)))


def runs(builds: Builds = BUILDS) -> None:
    """List the builds in this folder: when they ran, how they ended, what they kept."""
    with answering():
        from flows.views import questions
        from pipeline.build import record

        terminal.print(questions.runs_view(record.runs(str(builds))))


def fields(
    section: Annotated[
        str | None,
        typer.Argument(help="A section of a recipe, or a kind of its entries (sources.csv); all sections if absent."),
    ] = None,
    recipe: Annotated[
        Path | None, typer.Option(help="Show the fields of this recipe's plug-ins, too.", show_default=False)
    ] = None,
    schema: Annotated[bool, typer.Option("--schema", help="Print the JSON Schema of a recipe, for editors.")] = False,
) -> None:
    """Explain the fields of a recipe: type, default and purpose."""
    with answering():
        from flows.views import recipe_fields
        from pipeline.curation.recipe import load
        from training.recipe.sections import BuildRecipe

        model = BuildRecipe if recipe is None else type(load(recipe, BuildRecipe))
        if schema:
            from training.recipe import schema as recipe_schema

            if section is not None:
                raise MillError(f"--schema is of the whole recipe; leave out {section!r}")
            typer.echo(json.dumps(recipe_schema.schema(model), ensure_ascii=False, indent=1))
            return
        if section is None:
            terminal.print("A recipe's sections; `mill fields SECTION` explains one:\n")
            terminal.print(recipe_fields.fields_view(recipe_fields.sections(model)))
            return
        if kinds := recipe_fields.kinds(section, model) if "." not in section else []:
            terminal.print(f"The kinds of {section}; `mill fields {kinds[0].name}` explains the fields of one:\n")
            terminal.print(recipe_fields.fields_view(kinds))
            return
        if text := recipe_fields.about(section, model):
            terminal.print(text, markup=False, highlight=False)
            terminal.print()
        terminal.print(recipe_fields.fields_view(recipe_fields.fields(section, model)))
