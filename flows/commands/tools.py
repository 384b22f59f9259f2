"""The commands that need no recipe: model files, and single tools for tokenizers and language models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from flows.commands.options import Verbose, on_this_machine, quiet_prefect, shown, telling_errors, terminal


def models_pull(
    names: Annotated[
        list[str] | None, typer.Argument(help="Names in pipeline/store/models.lock; all if absent.")
    ] = None,
) -> None:
    """Fetch the model files named in pipeline/store/models.lock and check their hashes."""
    with telling_errors(False):
        from pipeline.store import model_files

        for name, path in model_files.pull(names).items():
            terminal.print(f"[green]✓[/] {name}  [dim]{escape(str(path))}[/]", highlight=False)


def extend_tokenizer(
    tokenizer: Annotated[str, typer.Argument(help="A folder or file: tokenizer.json, GPT-2's files, vocab.txt.")],
    corpus: Annotated[str, typer.Argument(help="The corpus folder of a build, or its address.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to write.", callback=on_this_machine)],
    tokens: Annotated[int, typer.Option(min=1, help="Maximum number of tokens to add.")] = 1000,
    domain: Annotated[str | None, typer.Option(help="Only this domain of the corpus.")] = None,
    model: Annotated[
        str | None, typer.Option(help="A model of that tokenizer, to write with embeddings for the new tokens.")
    ] = None,
    verbose: Verbose = False,
) -> None:
    """Add to TOKENIZER the words of a domain that shorten its text most; with --model, embeddings for them too."""
    with telling_errors(verbose):
        from flows.views import summary
        from pipeline.store import files
        from training.models.extend_tokenizer import extend

        given = None if model is None else files.local(model)
        facts = extend(str(files.local(tokenizer)), files.local_name(corpus), output, tokens, domain, given)
        terminal.print(summary.facts_view(str(output), facts, False))


def train_lm(
    inputs: Annotated[
        list[str], typer.Argument(help="Files or globs (JSON lines, Parquet, Arrow, text), or a build's corpus folder.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The ARPA file to write.", callback=on_this_machine)],
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
        from pipeline.curation.recipe import checked
        from pipeline.stages.perplexity.from_files import Config

        values = {"inputs": inputs, "order": order, "prune": prune.split(), "max_bytes": max_bytes, "seed": seed}
        config = checked({**values, "text_field": text_field, "sentencepiece": sentencepiece}, Config)

        from flows.studies import language_model, rows
        from flows.views import summary

        with shown("train-lm", output, str(output)):
            facts = language_model(config, output)
        terminal.print(summary.facts_view(str(output), rows(facts), facts["reused"]))
