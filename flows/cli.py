"""The command line, `mill`."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from flows.commands.options import errors, quiet_prefect, run, say, shown, study, telling_errors, terminal
from pipeline import MillError, __version__

app = typer.Typer(
    name="mill",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
    rich_markup_mode="rich",
    help="""Raw text in; a curated corpus, tokenizers, trained models and a token budget out.

    Start with:  [bold]mill build data/recipes/demo.yaml[/]

    Run the same command again after a stop or a change: what is still valid is not made twice.""",
)
models_app = typer.Typer(no_args_is_help=True, help="Model files that recipes name: language ID and others.")
app.add_typer(models_app, name="models")


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


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"corpusmill {__version__}")
        raise typer.Exit


@app.callback()
def mill(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """The options of `mill` itself."""


@app.command()
def build(
    recipe: Recipe,
    workers: Workers = None,
    runner: RunnerOption = Runner.processes,
    builds: Builds = BUILDS,
    verbose: Verbose = False,
) -> None:
    """Build everything that RECIPE describes: corpus, tokenizers, models, report."""
    run(recipe, "report", workers, runner.value, builds, verbose)


@app.command()
def curate(
    recipe: Recipe,
    workers: Workers = None,
    runner: RunnerOption = Runner.processes,
    builds: Builds = BUILDS,
    verbose: Verbose = False,
) -> None:
    """Build up to the curated corpus: ingest, filter, deduplicate, balance."""
    run(recipe, "curate", workers, runner.value, builds, verbose)


@app.command()
def tokenize(
    recipe: Recipe,
    workers: Workers = None,
    runner: RunnerOption = Runner.processes,
    builds: Builds = BUILDS,
    verbose: Verbose = False,
) -> None:
    """Build up to the tokenizers and the packed tokens."""
    run(recipe, "tokenize", workers, runner.value, builds, verbose)


@app.command()
def pretrain(
    recipe: Recipe,
    workers: Workers = None,
    runner: RunnerOption = Runner.processes,
    builds: Builds = BUILDS,
    verbose: Verbose = False,
) -> None:
    """Build up to the pretrained models."""
    run(recipe, "pretrain", workers, runner.value, builds, verbose)


@app.command()
def finetune(
    recipe: Recipe,
    workers: Workers = None,
    runner: RunnerOption = Runner.processes,
    builds: Builds = BUILDS,
    verbose: Verbose = False,
) -> None:
    """Build up to the fine-tuned models."""
    run(recipe, "finetune", workers, runner.value, builds, verbose)


@app.command()
def ladder(
    recipe: Recipe,
    workers: Workers = None,
    runner: RunnerOption = Runner.processes,
    builds: Builds = BUILDS,
    verbose: Verbose = False,
) -> None:
    """Train small models of several sizes on RECIPE's corpus, fit scaling laws, and predict the next size."""
    study(recipe, "ladder", workers, runner.value, builds, verbose)


@app.command()
def ablate(
    recipe: Recipe,
    workers: Workers = None,
    runner: RunnerOption = Runner.processes,
    builds: Builds = BUILDS,
    verbose: Verbose = False,
) -> None:
    """Train equal models on RECIPE's raw and curated text, and with each stage left out: what is curation worth?"""
    study(recipe, "ablation", workers, runner.value, builds, verbose)


@app.command()
def report(recipe: Recipe, workers: Workers = None, builds: Builds = BUILDS, verbose: Verbose = False) -> None:
    """Write the HTML report of a build as it stands, without making anything else."""
    with telling_errors(verbose):
        quiet_prefect(verbose)
        from flows import build as parts
        from flows.execution.open_build import open_build
        from flows.execution.run_steps import Pool
        from flows.views import summary as console

        opened = open_build(recipe, builds)
        with shown("report", recipe, opened.root), Pool("processes", workers or parts.cores()) as pool:
            parts.report(opened, pool)
        terminal.print(console.summary_view(opened))


@models_app.command("pull")
def models_pull(
    names: Annotated[
        list[str] | None, typer.Argument(help="Names in pipeline/store/models.lock; all if absent.")
    ] = None,
) -> None:
    """Fetch the model files named in pipeline/store/models.lock and check their hashes."""
    with telling_errors(False):
        from pipeline.store import model_files as models

        for name, path in models.pull(names).items():
            terminal.print(f"[green]✓[/] {name}  [dim]{path}[/]", highlight=False)


@app.command("extend-tokenizer")
def extend_tokenizer(
    tokenizer: Annotated[str, typer.Argument(help="A folder or file: tokenizer.json, GPT-2's files, vocab.txt.")],
    corpus: Annotated[Path, typer.Argument(help="The corpus folder of a build, with the domain's text.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to write.")],
    tokens: Annotated[int, typer.Option(min=1, help="Maximum number of tokens to add.")] = 1000,
    domain: Annotated[str | None, typer.Option(help="Only this domain of the corpus.")] = None,
    model: Annotated[
        Path | None, typer.Option(help="A model of that tokenizer, to write with embeddings for the new tokens.")
    ] = None,
    verbose: Verbose = False,
) -> None:
    """Add to TOKENIZER the words of a domain that shorten its text most; with --model, embeddings for them too."""
    with telling_errors(verbose):
        from flows.views import summary as console
        from training.models.extend_tokenizer import extend

        facts = extend(tokenizer, corpus, output, tokens, domain, model)
        terminal.print(console.facts_view(str(output), facts, False))


@app.command("train-lm")
def train_lm(
    inputs: Annotated[
        list[str], typer.Argument(help="Files or globs (JSON lines, Parquet, Arrow, text), or a build's corpus folder.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The ARPA file to write.")],
    order: Annotated[int, typer.Option(min=2, max=6, help="Longest n-gram.")] = 5,
    prune: Annotated[str, typer.Option(help="As in lmplz: a count for each order, such as '0 0 1'.")] = "0 0 1",
    max_bytes: Annotated[
        str, typer.Option(help="Maximum amount of text to train on (a deterministic sample).")
    ] = "256MiB",
    text_field: Annotated[str, typer.Option(help="The field that holds the text of a record.")] = "text",
    sentencepiece: Annotated[
        str | None, typer.Option(help="A SentencePiece model: train on its pieces of text normalised as CCNet does.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    verbose: Verbose = False,
) -> None:
    """Train an n-gram model for KenLM from INPUTS; a recipe names it as `perplexity: {models: {en: OUTPUT}}`."""
    with telling_errors(verbose):
        quiet_prefect(verbose)
        from pipeline.curation import recipe as recipes
        from pipeline.stages.perplexity.from_files import Config

        values = {"inputs": inputs, "order": order, "prune": prune.split(), "max_bytes": max_bytes, "seed": seed}
        config = recipes.checked({**values, "text_field": text_field, "sentencepiece": sentencepiece}, Config)

        from flows.studies import language_model, rows
        from flows.views import summary as console

        with shown("train-lm", output, str(output)):
            facts = language_model(config, output)
        terminal.print(console.facts_view(str(output), rows(facts), facts["reused"]))


@app.command()
def why(
    document: Annotated[str, typer.Argument(help="A document's id, such as stdlib/json/decoder.py#JSONDecoder.")],
    recipe: Annotated[Path | None, typer.Option(help="The recipe of the build; the latest build if absent.")] = None,
    builds: Builds = BUILDS,
) -> None:
    """Explain why a document is in the corpus or not: every signal, rule, value, threshold and margin."""
    with telling_errors(False):
        from flows.execution.open_build import latest_build, open_build
        from flows.views import questions
        from pipeline.questions import why as inspect

        opened = open_build(recipe, builds) if recipe else latest_build(builds)
        if forgotten := inspect.forgotten_document(opened, document):
            terminal.print(questions.forgotten_view(forgotten))
        else:
            terminal.print(questions.explanation_view(inspect.why(opened, document)))


@app.command()
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
        from pipeline.questions import why as inspect
        from pipeline.questions.forget import record
        from pipeline.report import models
        from pipeline.store import files

        found = open_build(recipe, builds) if recipe else latest_build(builds)
        opened = finished_build(found.root)
        path = recipe or recipe_of(opened)
        record(opened, documents, date.today(), say)
        there = {name: files.exists(opened.path(name)) for name in ("tokens", "report")}
        trained = any(models.summaries(opened, section) for section in ("pretrain", "finetune"))
        terminal.print("marked for removal; removing now")
    until = "tokenize" if there["tokens"] else "curate"
    run(path, until, workers, runner.value, builds, verbose, there["report"], say)
    with telling_errors(verbose):
        opened = open_build(path, builds)
        for name in documents:
            if told := inspect.forgotten_document(opened, name):
                terminal.print(questions.forgotten_view(told))
        if trained:
            terminal.print(
                "models in this build were trained on removed documents; run `mill build` to retrain them",
                style="yellow",
            )


@app.command()
def verify(
    what: Annotated[
        Path | None, typer.Argument(help="A recipe or the folder of a build; the latest build if absent.")
    ] = None,
    builds: Builds = BUILDS,
) -> None:
    """Read every file of a build and name those that are damaged or not there; exit code 1 if there are any."""
    with telling_errors(False):
        from flows.execution.open_build import latest_build, open_build
        from pipeline.questions import verify as checking
        from pipeline.store.messages import visible
        from pipeline.text import formats

        if what and what.is_dir():
            root = str(what)
        else:
            root = (open_build(what, builds) if what else latest_build(builds)).root
        found = checking.verify(root)
        for fault in found.faults:
            errors.print(visible(fault), style="red", highlight=False, markup=False, soft_wrap=True)
        state = f"{len(found.faults):,} damaged or not there" if found.faults else "all as written"
        checked = f"{formats.count(found.files)} files, {formats.size(found.bytes)} checked: {state}"
        if found.files:
            terminal.print(checked, style="red" if found.faults else "green", highlight=False)
        if found.unchecked:
            number, example = formats.count(len(found.unchecked)), found.unchecked[0].relative_to(root)
            told = f"files without a checksum, not checked: {number}, such as {example}"
            style = "dim" if found.files else "yellow"
            terminal.print(told, style=style, highlight=False, markup=False, soft_wrap=True)
        if found.faults:
            raise typer.Exit(1)


@app.command()
def whatif(
    recipe: Recipe,
    settings: Annotated[
        list[str], typer.Option("--set", help="field=value or rule=value, such as gopher_quality.min_words=80.")
    ],
    builds: Builds = BUILDS,
) -> None:
    """Preview the effect of changed settings on the build of RECIPE, reusing stored measurements."""
    with telling_errors(False):
        from flows.commands.settings import parse
        from flows.execution.open_build import finished_build, open_build
        from flows.views import questions
        from pipeline.questions import whatif as question
        from pipeline.report import tokens

        opened = open_build(recipe, builds)
        wanted = question.with_settings(opened.recipe, parse(settings))
        answer = question.ask(finished_build(opened.root), wanted)
        budget = wanted.budget  # type: ignore[attr-defined]
        size = tokens.tokens(opened)["bytes_per_token"]
        terminal.print(questions.whatif_view(answer, size, budget.parameters, budget.tokens_per_parameter))


@app.command()
def budget(
    what: Annotated[
        Path, typer.Argument(help="A recipe, the folder of a corpus, or the folder of a model.", show_default=False)
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
        from flows.views import summary as console
        from training.budget import estimates

        wanted = amount("--parameters", parameters) if parameters else None
        if what.is_dir():
            terminal.print(console.budget_view(estimates.of_folder(str(what), wanted, tokens_per_parameter)))
            return

        from flows.execution.open_build import open_build
        from pipeline.report import needs
        from pipeline.stages.balance import stage as balance
        from pipeline.store import files

        build = open_build(what, builds)
        config, domains = build.recipe.balance, files.exists(build.path("balance.json"))
        asked = config is not None and (wanted or (config.budget and config.budget.parameters))
        if asked and domains:
            found = balance.what_if(build, wanted, tokens_per_parameter, max_epochs)
            terminal.print(console.needs_view(needs.laid_out(found.asdict())))
        elif asked:
            terminal.print("what each domain gives is known after `mill curate`", style="yellow")
        if build.recipe.pretrain or not (asked and domains):
            terminal.print(console.budget_view(estimates.of_recipe(build, wanted, tokens_per_parameter)))


@app.command()
def lineage(
    model: Annotated[Path, typer.Argument(help="The folder of a pretrained model of a build.", show_default=False)],
    step: Annotated[
        int | None, typer.Option(min=1, help="Training step to inspect; default: the largest spikes of the loss.")
    ] = None,
) -> None:
    """Show the documents behind a training step of MODEL, or behind the largest spikes of its loss."""
    with telling_errors(False):
        from flows.views import questions
        from training.pretraining import lineage as lineages

        found, summary = lineages.of_model(str(model))
        if step is None:
            terminal.print(questions.spikes_view(summary["name"], summary["spikes"]))
            return
        if step > summary["steps"]:
            raise MillError(f"--step {step}: {summary['name']} was trained for {summary['steps']} steps")
        terminal.print(questions.step_view(step, found.documents(step)))


@app.command()
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


@app.command()
def overlap(recipe: Recipe, builds: Builds = BUILDS) -> None:
    """Compare which rules drop the same documents, and what each one adds to the others."""
    with telling_errors(False):
        from flows.execution.open_build import finished_build, open_build
        from flows.views import questions
        from pipeline.questions.overlap import overlap as compare

        terminal.print(questions.overlap_view(compare(finished_build(open_build(recipe, builds).root))))


@app.command()
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

        # a name stands for the folder in BUILDS, and a path for itself
        opened = [finished_build(str(builds / name if (builds / name).is_dir() else name)) for name in (first, second)]
        terminal.print(questions.diff_view(compare(*opened)))


@app.command()
def runs(builds: Builds = BUILDS) -> None:
    """List the builds in this folder: when they ran, how they ended, what they kept."""
    with telling_errors(False):
        from flows.views import questions
        from pipeline.build import record as records

        terminal.print(questions.runs_view(records.runs(str(builds))))


@app.command()
def fields(
    section: Annotated[
        str | None,
        typer.Argument(help="A section of a recipe, or a kind of its entries (sources.csv); all sections if absent."),
    ] = None,
) -> None:
    """Explain the fields of a recipe: type, default and purpose."""
    with telling_errors(False):
        from flows.views import recipe_fields as reference
        from flows.views import summary as console

        if section is None:
            terminal.print("A recipe's sections; `mill fields SECTION` explains one:\n")
            terminal.print(console.fields_view(reference.sections()))
            return
        if kinds := reference.kinds(section) if "." not in section else []:
            terminal.print(f"The kinds of {section}; `mill fields {kinds[0].name}` explains the fields of one:\n")
            terminal.print(console.fields_view(kinds))
            return
        if text := reference.about(section):
            terminal.print(text, markup=False, highlight=False)
            terminal.print()
        terminal.print(console.fields_view(reference.fields(section)))


@app.command()
def serve(
    recipe: Recipe,
    cron: Annotated[str, typer.Option(help='When to build, as cron: "0 2 * * *" is every night at two.')],
    timezone: Annotated[str, typer.Option(help="Time zone of the schedule.")] = "UTC",
    workers: Workers = None,
    runner: RunnerOption = Runner.processes,
    builds: Builds = BUILDS,
    port: Port = 4200,
) -> None:
    """Build RECIPE on a schedule, from this process, until it is stopped."""
    with telling_errors(False):
        quiet_prefect(verbose=True)
        from flows import schedule
        from flows.execution.open_build import open_build
        from flows.execution.server import server
        from training.recipe import preflight

        schedule.check(cron, timezone)
        opened = open_build(recipe, builds)
        preflight.check(opened)
        name = opened.recipe.name
        with server(port) as url:
            if skipped := schedule.skip_missed(name):
                terminal.print(f"skipped {skipped} runs that were missed while nothing served them")
            terminal.print(f"serving [bold]{name}[/] at [bold]{cron}[/] ({timezone}); watch {url.removesuffix('/api')}")
            schedule.serve(name, recipe, cron, timezone, workers, runner.value, builds)


@app.command()
def ui(port: Port = 4200, no_browser: Annotated[bool, typer.Option("--no-browser")] = False) -> None:
    """Start the Prefect server on 127.0.0.1 (or find it running) and open its UI."""
    with telling_errors(False):
        import time
        import webbrowser

        from flows.execution.server import server

        with server(port) as url:
            address = url.removesuffix("/api")
            terminal.print(f"Prefect UI: [bold]{address}[/]  [dim]Ctrl-C stops it[/]")
            if not no_browser:
                webbrowser.open(address)
            while True:
                time.sleep(3600)


def main() -> None:
    sys.exit(app())


if __name__ == "__main__":
    main()
