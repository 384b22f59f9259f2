"""`mill export`: a fine-tuned model in a format that other programs run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.commands.options import Verbose, on_this_machine, say, telling_errors, terminal
from pipeline import MillError

#: The largest share of labels that may differ, by the precision.
_MAX_FLIPS = {"fp32": 0.001, "int8": 0.01}


class WrongUse(MillError):
    """Options that do not go together; the message names them."""


def export(
    model_folder: Annotated[
        str, typer.Argument(metavar="MODEL", help="Folder or address of a fine-tuned model.", show_default=False)
    ],
    onnx: Annotated[bool, typer.Option("--onnx", help="As an ONNX graph, for onnxruntime.")] = False,
    int8: Annotated[bool, typer.Option("--int8", help="With matrices of 8 bits: smaller, and often faster.")] = False,
    texts: Annotated[
        str | None, typer.Option(help="Rows to check the export on; default: the model's own test rows.")
    ] = None,
    max_flips: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Largest share of labels that may differ; default: 0.001, with --int8 0.01."),
    ] = None,
    allow_slower: Annotated[
        bool, typer.Option("--allow-slower", help="Accept an export that is slower than torch.")
    ] = False,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads of both in the check; default: all cores.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "-o", "--out", help="Folder to write; default: MODEL-onnx or MODEL-onnx-int8.", callback=on_this_machine
        ),
    ] = None,
    verbose: Verbose = False,
) -> None:
    """Export MODEL, unless what it says or its speed gets worse by it; both figures are shown."""
    with telling_errors(verbose):
        if not onnx:
            raise WrongUse("say in which format: --onnx")
        from pipeline.store import files

        if out is None and not files.is_local(model_folder):
            raise WrongUse(f"{model_folder}: an export is written to a folder of this machine; name one by --out")
        folder = files.local(model_folder)
        made = out or folder.with_name(f"{folder.name}-onnx{'-int8' if int8 else ''}")
        if made.resolve() == folder.resolve():
            raise WrongUse(f"--out {made} is the model itself; name another folder")
        if made.exists() and not (made / "export.json").is_file():
            raise WrongUse(f"{made} is there and no export that could be replaced; name another folder by --out")
        precision = "int8" if int8 else "fp32"
        allowed = _MAX_FLIPS[precision] if max_flips is None else max_flips

        from transformers.utils import logging as transformers_logging

        from flows.build import cores
        from training.export import examples
        from training.export import onnx as exporting
        from training.export.check import Limits
        from training.prediction import model as models

        transformers_logging.disable_progress_bar()
        with terminal.status("exporting and checking"):
            model = models.open(folder)
            exporting.require(model)
            rows = examples.held_out(str(folder)) if texts is None else examples.of_file(model, texts)
            said = exporting.export(
                model, str(folder), str(made), rows,
                int8=int8, limits=Limits(allowed, allow_slower), threads=threads or cores(),
            )  # fmt: skip
        say(f"{said['check']['rows']:,} {rows.where}: {said['sentence']}")
        size = said["files"]["model.onnx"]
        say(f"model: {made} (ONNX, opset {said['opset']}, {precision}, {size / 1e6:,.1f} MB)")
