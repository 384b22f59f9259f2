"""`mill finetune DATA --minutes N`: which model the labelled rows need, and which labels to look at next."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.commands.options import Columns, Verbose, conclude, names_of, say, telling_errors, terminal
from pipeline import MillError
from pipeline.text import formats

if TYPE_CHECKING:
    from training.recipe.finetuning import FinetuneConfig

#: Of the rows that are not for the test: with as many rows as the test has, a model is recommended as surely as judged.
_DEV_SHARE = 0.25


def climb(
    config: FinetuneConfig, minutes: float, folder: Path, vectors: Sequence[str] = (), wanted: int = 0,
    unlabelled: Path | None = None,
) -> None:  # fmt: skip
    """Compare models on the rows of ``config.data`` within ``minutes``, and write what was found into ``folder``.

    ladder.json is all of it, suspects.csv the labels that look wrong, next.csv the ``wanted`` rows of the file
    ``unlabelled`` that are most worth labelling. Where the config's ``base`` is empty, the rungs on one are left out.
    """
    if wanted and unlabelled is None:
        raise MillError("--next chooses among texts that have no label yet: name their file by --unlabelled FILE")
    from rich.console import Group

    from flows.execution.terminal import Text
    from flows.views import cost_ladder as views
    from flows.views.labelled import audit_view
    from pipeline.store import files
    from training.finetuning import advice, bases, cost_ladder
    from training.finetuning.rungs.base import joined
    from training.labelled import files as labelled_files
    from training.labelled import unlabelled_texts

    base = None
    if config.base:
        bases.check(config.base)
        base = str(files.local(config.base))
    folders = [str(files.local(folder)) for folder in vectors]
    given = config.data is not None and config.data.dev is not None
    if not given and "dev_share" not in config.model_fields_set:
        config = config.model_copy(update={"dev_share": _DEV_SHARE})
    rows = labelled_files.load(config, config.seed or 0)
    terminal.print(audit_view(rows))
    length, settings = config.sequence_length, cost_ladder.settings(config)
    pairs = config.pair is not None
    rungs = cost_ladder.rungs(folders, base, length, str(folder / "work"), pairs, **settings)
    pool: list[unlabelled_texts.Unlabelled] = []
    if unlabelled is not None:
        pool, without = unlabelled_texts.read(unlabelled, config.text, config.pair)
        if without:
            what = "row has" if without == 1 else "rows have"
            say(f"{unlabelled}: {without:,} {what} no text{' or no second one' if pairs else ''}, passed over")
    texts = [row.text if row.pair is None else joined(row.text, row.pair) for row in pool]
    advised = advice.advise(rows, rungs, minutes, texts, wanted, lambda what: say(f"... {what}"))
    if base is None:
        advised.said["left_out"]["models on a pretrained encoder"] = "no --base was given"
    with files.replacing(str(folder / "ladder.json"), summed=False) as handle:
        handle.write(json.dumps(advised.said, indent=1).encode())
    line = f"all of it: {folder / 'ladder.json'}"
    conclude(Group(views.answer(advised.said), Text(f"\n{line}")), {"state": "completed", **advised.said}, line)
    if suspects := advised.said["suspects"]:
        columns = ("place", "label", "suggested", "margin", "decision", "text")
        _write(folder / "suspects.csv", columns, ({"decision": "", **row} for row in suspects["rows"]))
        say(f"labels that look wrong: {folder / 'suspects.csv'}")
    if wanted:
        names = [config.text, *([config.pair] if config.pair else [])]
        chosen = (dict(zip(("place", *names), pool[row], strict=False)) for row in advised.next_rows)
        _write(folder / "next.csv", ("place", *names, config.label), chosen)
        say(f"texts to label next: {folder / 'next.csv'}")


def _write(path: Path, columns: Sequence[str], rows: Iterable[dict]) -> None:
    from pipeline.store import files

    text = io.StringIO()
    table = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    with files.replacing(str(path), summed=False) as handle:
        handle.write(text.getvalue().encode())


def labels(
    decisions: Annotated[Path, typer.Argument(help="suspects.csv of the cost ladder with your decisions.")],
    label: Annotated[str, typer.Option(help="Column of the labels in the files that the rows are in.")],
    columns: Columns = None,
    verbose: Verbose = False,
) -> None:
    """Apply DECISIONS (keep, remove, suggested, or the right label) to copies of the files that they are about."""
    with telling_errors(verbose):
        from training.labelled import fixes

        made = fixes.apply(decisions, label, names_of(columns))
        if not made:
            say(f"{decisions}: no row has a decision, so nothing was written; fill in the column `decision`")
        for fixed in made:
            say(f"{fixed.copy}: {formats.count(fixed.relabelled)} with another label, {fixed.removed:,} removed")
