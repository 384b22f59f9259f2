"""The command line, `mill`: its commands in the order of its help. What each one does stands in flows/commands."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from flows.commands import (
    building,
    cost_ladder,
    exporting,
    finetuning,
    planning,
    predicting,
    questions,
    starting,
    tools,
)
from pipeline import __version__

app = typer.Typer(
    name="mill",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_show_locals=False,
    rich_markup_mode="rich",
    help="""Raw text in; a curated corpus, tokenizers, trained models and a token budget out.

    Start with:  [bold]mill build data/recipes/demo.yaml[/]

    Run the same command again after a stop or a change: what is still valid is not made twice.""",
)


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


app.command()(starting.init)
app.command()(starting.check)
app.command()(planning.plan)
app.command()(building.build)
app.command()(building.curate)
app.command()(building.tokenize)
app.command()(building.pretrain)
app.command()(finetuning.finetune)
app.command()(cost_ladder.labels)
app.command()(exporting.export)
app.command()(predicting.predict)
app.command()(predicting.serve_model)
app.command()(building.ladder)
app.command()(building.ablate)
app.command()(building.report)
app.command()(tools.extend_tokenizer)
app.command()(tools.train_lm)
app.command()(questions.why)
app.command()(questions.similar)
app.command()(questions.forget)
app.command()(questions.verify)
app.command()(questions.whatif)
app.command()(questions.budget)
app.command()(questions.lineage)
app.command()(questions.sample)
app.command()(questions.overlap)
app.command()(questions.diff)
app.command()(questions.runs)
app.command()(questions.fields)
app.command()(building.serve)
app.command()(building.watch)
app.command()(building.automations)
app.command()(building.ui)

models = typer.Typer(no_args_is_help=True, help="Model files that recipes name: language ID and others.")
models.command("pull")(tools.models_pull)
app.add_typer(models, name="models")


def main() -> None:
    sys.exit(app())


if __name__ == "__main__":
    main()
