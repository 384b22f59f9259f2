"""`mill plan`: what a build will cost on a stated cluster."""

from __future__ import annotations

import re
from typing import Annotated

import typer

from flows.commands.options import BUILDS, Builds, Recipe, say, telling_errors, terminal
from pipeline import MillError

#: Of text, in bytes, where no size is given: beside the corpus at hand.
SIZES = {"1 TB": 1e12, "100 TB": 1e14, "1 PB": 1e15}
#: Dollars: a core-hour on demand, a GB and month of object storage, a thousand requests (most are reads).
CORE_HOUR, GIGABYTE_MONTH, REQUESTS = 0.04, 0.023, 0.0004
_HOURS_OF_A_MONTH = 730


def plan(
    recipe: Recipe,
    measure: Annotated[
        bool, typer.Option("--measure", help="Measure the rates of all stages on a sample of the sources first.")
    ] = False,
    sample: Annotated[str, typer.Option(help="Text to measure with.")] = "32MB",
    size: Annotated[
        list[str] | None,
        typer.Option(help="Text to plan for, such as 1TB; 1 TB, 100 TB and 1 PB if absent. Repeat it."),
    ] = None,
    cluster: Annotated[
        str | None, typer.Option(help="MACHINESxCORES, such as 64x8; this machine if absent.", show_default=False)
    ] = None,
    core_hour: Annotated[float, typer.Option(help="Dollars for a core-hour.")] = CORE_HOUR,
    builds: Builds = BUILDS,
) -> None:
    """Plan time, memory, disk, requests and cost of RECIPE's corpus and of larger ones, from rates measured on it.

    It covers curation, tokenizers and packing; `mill check` and `mill budget` estimate training.
    """
    with telling_errors(False):
        from flows.execution.open_build import open_build
        from flows.execution.run_steps import loaded
        from flows.views import plan as views
        from pipeline.build.machine import cores
        from pipeline.curation import plan as plans
        from pipeline.text import formats

        machines, each = _cluster(cluster) if cluster else (1, cores())
        sizes = {text: float(_bytes(text, "--size")) for text in size} if size else SIZES
        opened = open_build(recipe, builds)
        rates = plans.measure(opened, _bytes(sample, "--sample"), loaded) if measure else plans.read(opened)
        if rates is None:
            raise MillError(
                f"{recipe}: no rates are measured for this recipe; `mill plan {recipe} --measure` measures them on a"
                " sample of its sources, and `mill check` gives rough ranges without"
            )
        rows = []
        this = ("this corpus", rates["text"], rates["shards"])
        for name, text, known in [this, *((name, text, None) for name, text in sizes.items())]:
            planned = plans.of(rates, text, opened.recipe.shard_bytes, machines * each, known)
            month = planned.clock / 3600 / _HOURS_OF_A_MONTH
            dollars = planned.processor / 3600 * core_hour
            dollars += planned.disk / 1e9 * GIGABYTE_MONTH * month + planned.opened / 1000 * REQUESTS
            rows.append((name, planned, dollars))
        price = (
            f"${core_hour:g} a core-hour, ${GIGABYTE_MONTH:g} a GB and month of storage, ${REQUESTS:g} a thousand"
            f" requests; rates of {formats.size(rates['sample'])} of this corpus"
        )
        terminal.print(views.plan_view(rows, machines, each, price))
        if not measure:
            say("rates as measured before; --measure takes them again")


def _cluster(text: str) -> tuple[int, int]:
    matched = re.fullmatch(r"([1-9]\d{0,5})x([1-9]\d{0,3})", text)
    if matched is None:
        raise MillError(f"--cluster: {text!r} is not MACHINESxCORES; write 64x8 for 64 machines of 8 cores")
    return int(matched[1]), int(matched[2])


def _bytes(text: str, option: str) -> int:
    from pydantic import ByteSize, TypeAdapter, ValidationError

    try:
        return int(TypeAdapter(ByteSize).validate_python(text))
    except ValidationError:
        raise MillError(f"{option}: {text!r} is no size; write 100GB or 1TB") from None
