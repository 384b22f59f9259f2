"""`mill predict`: what a fine-tuned model says of the rows of a file, or of a text; `mill serve-model` says it by HTTP.

Data goes to the output or to stdout, everything else to stderr.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer

from flows.commands.options import Columns, Verbose, errors, names_of, on_this_machine, telling_errors
from pipeline import MillError

if TYPE_CHECKING:
    from training.prediction.model import Model
    from training.prediction.predict import Outcome
    from training.prediction.reading import Source
    from training.prediction.writing import Writer

Folder = Annotated[
    str,
    typer.Argument(
        metavar="MODEL", help="Folder or address of a fine-tuned model, or of an adapter.", show_default=False
    ),
]
Base = Annotated[str | None, typer.Option(help="Of an adapter alone: the folder where its base lies now.")]

#: Said where a model carries what its errors cost.
BY_COSTS = "labels are those of the least expected cost by the `costs` of the model's recipe, not always the likeliest"


class WrongUse(MillError):
    """Options that do not go together; the message names them."""


def predict(
    folder: Folder,
    file: Annotated[
        str | None,
        typer.Argument(
            help="Rows to predict: a jsonl, csv, tsv, parquet, arrow or (of questions) SQuAD json file, a pattern of"
            " them, or - for stdin."
        ),
    ] = None,
    text: Annotated[list[str] | None, typer.Option(help="A text to predict, instead of a file.")] = None,
    pair: Annotated[list[str] | None, typer.Option(help="The second text, or the context, of each --text.")] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="A jsonl, csv, tsv or parquet file; default: JSON lines to stdout.",
            callback=on_this_machine,
        ),
    ] = None,
    kind: Annotated[
        str | None, typer.Option("--format", help="Format of FILE; default: by its name, of stdin jsonl.")
    ] = None,
    text_column: Annotated[str | None, typer.Option(help="Column of the text; default: as in training.")] = None,
    pair_column: Annotated[str | None, typer.Option(help="Column of the second text, or of the context.")] = None,
    columns: Columns = None,
    error_budget: Annotated[
        float | None, typer.Option(min=0, max=1, help="Share of bad rows above which it fails; default: 0.01.")
    ] = None,
    quarantine: Annotated[
        Path | None,
        typer.Option(
            help="File of the bad rows; default: the output's name and .quarantine.jsonl.", callback=on_this_machine
        ),
    ] = None,
    base: Base = None,
    verbose: Verbose = False,
) -> None:
    """Predict the rows of FILE, or of --text, with the fine-tuned MODEL; the columns of FILE are kept."""
    with telling_errors(verbose), _quiet_pipe():
        if (file is None) == (not text):
            raise WrongUse("give a FILE to predict, or --text")
        if columns is not None and file is None:
            raise WrongUse("--columns are those of a FILE without a header; leave them out beside --text")
        if pair and len(pair) != len(text or []):
            raise WrongUse(f"{len(text or [])} --text and {len(pair)} --pair; give each text its second one")
        from training.prediction import writing

        if output is not None:
            writing.check(str(output))
            if file is not None and Path(file).resolve() == output.resolve():
                raise WrongUse(f"--output {output} is the file that is read; write to another")
        with tempfile.TemporaryDirectory() as spool:
            model = opened(folder, base, text_column, pair_column)
            if file is None:
                sources = [_of_texts(model, text or [], pair or [], Path(spool))]
            else:
                sources = _sources(file, kind, columns, Path(spool), model.usage.task)
            if output is None:
                outcome = _written(model, sources, writing.Lines(sys.stdout.buffer), quarantine, error_budget)
            else:
                beside = quarantine or output.with_name(f"{output.name}.quarantine.jsonl")
                outcome = _to_file(model, sources, output, beside, error_budget)
        _tell(outcome, model, output)


def opened(folder: str, base: str | None, text_column: str | None = None, pair_column: str | None = None) -> Model:
    """The model in ``folder``, which reads the columns that are given instead of those of its training."""
    from dataclasses import replace

    from transformers.utils import logging as transformers_logging

    from pipeline.store import files
    from training.prediction import model as models

    transformers_logging.disable_progress_bar()
    model = models.open(files.local(folder), None if base is None else str(files.local(base)))
    given = {"text": text_column, "pair": pair_column}
    columns = {name: column for name, column in given.items() if column is not None}
    return replace(model, usage=model.usage.model_copy(update=columns))


def _sources(file: str, kind: str | None, columns: str | None, spool: Path, task: str) -> list[Source]:
    from pipeline.sources.base import File
    from training.prediction import reading

    known = get_args(reading.Format)
    if kind is not None and kind not in known:
        raise WrongUse(f"--format {kind} is not read; take one of {', '.join(known)}")
    if file != "-":
        return reading.sources(file, kind, names_of(columns), reading.json_of(task))  # type: ignore[arg-type]
    path = spool / "stdin"
    with path.open("wb") as handle:
        shutil.copyfileobj(sys.stdin.buffer, handle)
    given = File(str(path), "stdin", path.stat().st_size)
    source = reading.Source(given, kind or "jsonl", "stdin", names_of(columns))  # type: ignore[arg-type]
    reading.check_columns(source)
    return [source]


def _of_texts(model: Model, texts: list[str], pairs: list[str], spool: Path) -> Source:
    """The texts of the options as the file that they would be."""
    from pipeline.sources.base import File, dump_json
    from training.prediction import reading

    path, names = spool / "texts", (model.usage.text, model.usage.pair or "pair")
    if pairs and model.usage.pair is None:
        raise WrongUse("--pair: the model reads no second text; leave it out, or name its column by --pair-column")
    if not pairs and model.usage.pair is not None and model.usage.task != "similarity":
        what = "the context of each question" if model.usage.task == "answers" else "the second text of each --text"
        raise WrongUse(f"--pair is missing: the model reads two texts; give {what} by it")
    rows = zip(texts, pairs, strict=True) if pairs else ((text,) for text in texts)
    path.write_text("".join(dump_json(dict(zip(names, row, strict=False))) + "\n" for row in rows), encoding="utf-8")
    return reading.Source(File(str(path), "texts", path.stat().st_size), "jsonl", "--text")


def _to_file(model: Model, sources: list[Source], output: Path, beside: Path, budget: float | None) -> Outcome:
    from pipeline.store import files
    from training.prediction import writing

    with files.replacing(str(output), summed=False) as handle:
        out = writing.writer(handle, writing.check(str(output)))
        return _written(model, sources, out, beside, budget)


def _written(model: Model, sources: list[Source], out: Writer, beside: Path | None, budget: float | None) -> Outcome:
    """Raises ErrorBudgetExceeded, with the bad rows in the file ``beside``."""
    from training.prediction import predict as predicting

    outcome = predicting.predict(model, sources, out)
    if beside is not None:
        predicting.write_quarantine(str(beside), outcome)
        if outcome.quarantined:
            _say(f"bad rows: {beside}")
    outcome.check(predicting.ERROR_BUDGET if budget is None else budget)
    return outcome


def _tell(outcome: Outcome, model: Model, output: Path | None) -> None:
    from pipeline.text import formats

    _say(f"predicted: {formats.several(outcome.rows, 'row')}" + ("" if output is None else f", in {output}"))
    if model.usage.costs:
        _say(BY_COSTS)
    if outcome.cut:
        length = model.reach(paired=model.usage.pair is not None)
        what = "row has" if outcome.cut == 1 else "rows have"
        _say(f"{outcome.cut:,} {what} more than the {length:,} tokens that the model reads: the end was not read")
    if outcome.quarantined:
        _say(f"left out: {formats.several(outcome.quarantined, 'bad row')}")
    for line in outcome.bad():
        _say(f"  {line}")


def _say(line: str) -> None:
    errors.print(line, markup=False, highlight=False)


@contextlib.contextmanager
def _quiet_pipe() -> Iterator[None]:
    """End in silence where what reads our output has enough, as `head` has."""
    try:
        yield
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(141) from None  # as a process that the signal ends


def serve_model(
    folder: Folder,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8000,
    host: Annotated[
        str, typer.Option(help="Address to listen at; every other than the default lets other machines in.")
    ] = "127.0.0.1",
    base: Base = None,
    verbose: Verbose = False,
) -> None:
    """Serve the predictions of MODEL by HTTP: POST /predict, GET /health, and their description at /docs."""
    with telling_errors(verbose):
        from training.prediction import server

        with server.listening(host, port) as where:
            model = opened(folder, base)
            if not server.is_local(host):
                _say(f"warning: whoever reaches {host} can use the model, and is not asked for a password")
            address = f"http://{f'[{host}]' if ':' in host else host}:{where.getsockname()[1]}"
            _say(f"{model.name} ({model.usage.task}) at {address}; its description: {address}/docs")
            if model.usage.costs:
                _say(BY_COSTS)
            server.serve(model, where, host)
