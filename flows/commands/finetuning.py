"""`mill finetune`: a model fine-tuned on files of labelled rows, without a recipe; or the fine-tuning of a recipe."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.commands import building, cost_ladder
from flows.commands.options import (
    BUILDS,
    Builds,
    Columns,
    Json,
    Quiet,
    Runner,
    RunnerOption,
    Verbose,
    Workers,
    conclude,
    names_of,
    on_this_machine,
    printing,
    quiet_prefect,
    reporter,
    telling_errors,
    terminal,
)
from pipeline import MillError

if TYPE_CHECKING:
    from training.finetuning.job import Job
    from training.recipe.finetuning import FinetuneConfig

_RECIPES = (".yaml", ".yml")
_NO_NAME = re.compile(r"[^a-z0-9_.-]+")


class WrongUse(MillError):
    """Options that do not go together; the message names them."""


def finetune(
    what: Annotated[
        str,
        typer.Argument(
            help="A file of labelled rows (csv, tsv, jsonl, parquet, arrow, conll, SQuAD json), a folder that"
            " `datasets` saved, or a recipe.",
            show_default=False,
        ),
    ],
    base: Annotated[str | None, typer.Option(help="Folder of the model to start from.")] = None,
    text: Annotated[str | None, typer.Option(help="Column of the text, or of the question.")] = None,
    pair: Annotated[str | None, typer.Option(help="Column of the second text, or of the context.")] = None,
    label: Annotated[str | None, typer.Option(help="Column to predict; default for conll: tags.")] = None,
    columns: Columns = None,
    group: Annotated[str | None, typer.Option(help="Column whose equal rows stay on one side of the split.")] = None,
    task: Annotated[
        str | None,
        typer.Option(help="classify (the default), multi_label, regression, tokens, answers, text2text, similarity."),
    ] = None,
    dev: Annotated[str | None, typer.Option(help="File to choose the epoch by; default: a share of the rows.")] = None,
    test: Annotated[str | None, typer.Option(help="File to score on; default: a share of the rows.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training rows.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Highest learning rate.")] = None,
    sequence_length: Annotated[int | None, typer.Option(help="Tokens in a sequence; longer texts are cut.")] = None,
    long_text: Annotated[
        str | None,
        typer.Option(help="What is read of longer texts: head (the default), tail, head_tail, chunks, hierarchical."),
    ] = None,
    compare: Annotated[
        str | None,
        typer.Option(help="Strategies to try, as full,lora,bitfit; the best on the development rows is kept."),
    ] = None,
    grid: Annotated[
        bool, typer.Option(help="Try learning rates 2e-5, 3e-5, 5e-5, batches of 16 and 32, and 2 to 4 epochs.")
    ] = False,
    understand: Annotated[
        str | None, typer.Option(help="What to look into, after training: probes,attention,pooling,bound.")
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Any other field of `finetune` in a recipe, as field=value.")
    ] = None,
    plugins: Annotated[
        list[str] | None, typer.Option("--plugin", help="A Python file with a task of your own (docs/plugins.md).")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "-o", "--out", help="Folder of the model; default: models/ and the file's name.", callback=on_this_machine
        ),
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(min=0.1, help="Compare models from the cheapest up, in about this time, and recommend one."),
    ] = None,
    wanted: Annotated[
        int, typer.Option("--next", min=0, help="With --minutes: texts of --unlabelled to label next.")
    ] = 0,
    unlabelled: Annotated[
        Path | None,
        typer.Option(help="With --minutes: a file of texts without labels.", callback=on_this_machine),
    ] = None,
    vectors: Annotated[
        list[str] | None, typer.Option(help="With --minutes: a folder of word vectors to compare with.")
    ] = None,
    workers: Workers = None,
    runner: RunnerOption = Runner.processes,
    builds: Builds = BUILDS,
    verbose: Verbose = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Fine-tune a model on a file of labelled rows, or find which one they need; or build RECIPE up to its models."""
    given: dict[str, Any] = {"base": base, "text": text, "pair": pair, "label": label, "group": group, "task": task}
    given |= {"epochs": epochs, "sequence_length": sequence_length}
    given |= {"long_text": long_text and {"kind": long_text}}
    given |= {"compare": compare and [name.strip() for name in compare.split(",")], "grid": {} if grid else None}
    given |= {"understand": understand and [page.strip() for page in understand.split(",")]}
    files = {"dev": dev, "test": test, "columns": names_of(columns)}
    if Path(what).suffix.lower() in _RECIPES:
        with telling_errors(verbose):
            others = {"learning_rate": learning_rate, "set": settings or None, "out": out, "minutes": minutes}
            others |= {"next": wanted or None, "unlabelled": unlabelled, "vectors": vectors or None}
            others |= {"plugin": plugins or None}
            if used := [name for name, value in {**given, **files, **others}.items() if value is not None]:
                raise WrongUse(f"--{used[0].replace('_', '-')} is for files; of a recipe change the section `finetune`")
        with printing(quiet, as_json):
            building.run(Path(what), "finetune", workers, runner.value, builds, verbose)
        return
    with printing(quiet, as_json), telling_errors(verbose):
        quiet_prefect(verbose)
        if minutes is None and (wanted or unlabelled or vectors):
            raise WrongUse("--next, --unlabelled and --vectors go with --minutes, which compares models")
        if minutes is not None and understand:
            raise WrongUse("--understand looks into one model, and --minutes compares several: leave one of them out")
        if minutes is not None:
            given["base"] = base or ""  # without one the cheap models are compared
        config = _config(what, given, files, learning_rate, settings or [], plugins or [], out)
        if minutes is not None and config.long_text.kind != "head":
            raise WrongUse("--minutes compares models that read the first tokens of a text; leave out --long-text")
        if minutes is not None and (config.compare or config.grid):
            raise WrongUse("--minutes compares models, --compare and --grid ways to train one: give one of them")
        folder = out or Path("models") / config.name
        if minutes is None:
            _train(config, folder)
        else:
            cost_ladder.climb(config, minutes, folder, vectors or [], wanted, unlabelled)


def _config(
    data: str,
    given: dict[str, Any],
    files: dict[str, Any],
    learning_rate: float | None,
    settings: list[str],
    plugins: list[str],
    out: Path | None,
) -> FinetuneConfig:
    """The options as the section `finetune` of a recipe has them. Raises WrongUse, and WrongRecipe for wrong values."""
    from pipeline.curation.recipe import checked
    from pipeline.curation.settings import parse
    from training.recipe.finetuning import with_task

    values: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    values["data"] = {"train": data, **{name: value for name, value in files.items() if value is not None}}
    file = Path(data).name
    name = _NO_NAME.sub("-", out.name.lower() if out else file.partition(".")[0].lower())
    values["name"] = name.strip("-._") or "model"
    if learning_rate is not None:
        values["optimiser"] = {"learning_rate": learning_rate}
    for field, value in parse(settings).items():
        *path, last = field.split(".")
        section = values
        for name in path:
            section = section.setdefault(name, {})
            if not isinstance(section, dict):
                raise WrongUse(f"--set {field}: {name} has no fields")
        section[last] = value
    if ".conll" in file.lower() or values["data"].get("format") == "conll":
        values = {"task": "tokens", "label": "tags", **values}
    if values.get("task") == "answers":
        values.setdefault("label", "answers")
    for name, why in (("base", "the folder of a model to start from"), ("label", "the column to predict")):
        if name not in values:
            raise WrongUse(f"--{name} is missing: give {why}")
    return checked(values, with_task(values.get("task"), plugins))


def _train(config: FinetuneConfig, out: Path) -> None:
    """Read and check the rows, show what is in them, train, and show the scores."""
    from flows.views import labelled

    with terminal.status("reading the rows"):
        job = _job(config, out)
    terminal.print(labelled.audit_view(job.rows))

    from rich.console import Group
    from transformers.utils import logging as transformers_logging

    from flows.execution import progress, stopping
    from flows.execution.terminal import Text
    from training.finetuning.finetune import run

    transformers_logging.disable_progress_bar()

    with (
        reporter() as shows,
        progress.reporting(shows),
        stopping.stoppable(shows.stop),
        shows.training("finetune", f"Fine-tune {config.name}") as advance,
    ):
        summary = run(job, advance)
    line = f"model: {out}"
    shown = [labelled.scores_view(summary, job.rows)]
    if config.understand:
        shown.append(labelled.understanding_view(summary))
    conclude(Group(*shown, Text(line)), {"state": "completed", **summary}, line)


def _job(config: FinetuneConfig, out: Path) -> Job:
    from dataclasses import replace

    from tokenizers import Tokenizer

    from pipeline.store import files as stored
    from training.finetuning import bases
    from training.finetuning.job import Job
    from training.labelled import audit, files
    from training.labelled.few import few
    from training.pretraining import pretrain

    if config.baselines:
        raise WrongUse(
            "`baselines` are word vectors of a recipe; leave them out, or compare them by --minutes --vectors"
        )
    bases.check(config.base)
    base = str(stored.local(config.base))
    seed = config.seed or 0
    rows = files.load(config, seed)
    if config.per_class is not None:
        rows = few(rows, config.name, config.per_class, config.dev_share, seed)
    work = f"{out}.work"
    folder = bases.tokenizer_folder(base, work)
    with bases.opening(config.base):
        tokenizer = Tokenizer.from_file(str(Path(folder, "tokenizer.json")))
    weights = pretrain.weights_hash(base)
    assert config.data is not None
    return Job(
        config=config,
        rows=replace(rows, audit=audit.extended(config, rows, tokenizer)),
        base=base,
        seed=seed,
        result=str(out),
        work=work,
        started_from=weights,
        made_from={"base": weights, "data": config.data.train, "rows": rows.fingerprint},
        held_out=config.held_out,
        corpus=config.adapt and config.adapt.corpus,
    )
