"""How the answer of the cost ladder looks in the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType

from flows.execution.terminal import Text
from flows.views.layout import drawn, line
from pipeline.report import tables
from pipeline.text import formats


def answer(said: Mapping[str, Any]) -> RenderableType:
    """All that training.finetuning.advice says, but the suspect labels, which are in a file."""
    parts: list[RenderableType] = [_counted(said), Text(), drawn(tables.cost_ladder(said))]
    parts += [Text(f"left out: {title}: {why}", "dim") for title, why in said["left_out"].items()]
    parts += [Text(), line("recommended", _recommended(said["recommended"])), line("confidence", _confidence(said))]
    curve = said["learning_curve"]
    parts += [Text(), Text(f"More labels would bring ({curve['rung'] or 'not measured'})", "bold")]
    if curve["rung"] is None:
        parts.append(Text(curve["why"], "dim"))
    else:
        parts.append(drawn(tables.learning_curve(curve)))
        parts.append(Text(_gain(curve)))
    if suspects := said["suspects"]:
        parts += [Text(), line("labels that look wrong", _suspects(suspects))]
    return Group(*parts)


def _counted(said: Mapping[str, Any]) -> RenderableType:
    rows, labels = said["documents"], len(said["labels"])
    return Text(
        f"{labels} labels; {rows['train']:,} rows to learn from, {rows['dev']:,} to choose by, {rows['test']:,} to be"
        " judged by"
    )


def _recommended(chosen: Mapping[str, Any]) -> str:
    return chosen["why"] if chosen["name"] else f"nothing: {chosen['why']}"


def _confidence(said: Mapping[str, Any]) -> str:
    trust = said["confidence"]
    ece, sets = trust["ece"], trust["conformal"]
    spread = trust.get("spread", 0.0)
    evenly = f", {formats.share(spread, 1)} of the probability spread evenly" if spread else ""
    if trust.get("curve"):
        evenly = " and probabilities mapped by a rising curve"
    return (
        f"calibration error of {said['assessed']} {ece['before']:.3f}, {ece['after']:.3f} with logits divided by"
        f" {trust['temperature']:.2f}{evenly} ({ece['by_chance']:.3f} if perfect); sets of {sets['mean_size']:.2f}"
        f" labels hold the true one in {formats.share(sets['coverage']['value'], 1)} (meant:"
        f" {formats.share(1 - sets['alpha'], 1)})"
    )


def _gain(curve: Mapping[str, Any]) -> str:
    if curve["gain"] is None:
        return "too few sizes to say what more labels would bring"
    gain = curve["gain"]
    return (
        f"{curve['more']} more labels would add about {100 * gain['value']:.1f} points of"
        f" accuracy ({100 * gain['low']:.1f} to {100 * gain['high']:.1f}), if the error goes on falling as a power of"
        " their number"
    )


def _suspects(audit: Mapping[str, Any]) -> str:
    if "why" in audit:
        return f"not looked for: {audit['why']}"
    scores, unseen = audit["accuracy"], audit["unseen_right"]
    without = "" if scores["without"] is None else f", {formats.share(scores['without'], 1)} without them"
    of_test = "1 is a test row" if audit["test_suspects"] == 1 else f"{audit['test_suspects']:,} are test rows"
    return (
        f"{audit['count']:,} of {audit['audited']:,} rows, doubted by a model that is right on"
        f" {formats.share(unseen, 1)} of rows that it did not see; {of_test}: accuracy"
        f" {formats.share(scores['all'], 1)} with{without}"
    )
