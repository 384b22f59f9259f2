"""What the report says about the corpus that a model asks for: the budget mode of domain balancing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.build.build import Build
from pipeline.store import files
from pipeline.text.formats import number, short

Row = tuple[str, str, str]


def needs(build: Build) -> dict[str, Any] | None:
    """The budget of a build's ``balance.json``, as rows; None if the recipe names no model."""
    path = build.path("balance.json")
    if build.section("balance") is None or not files.exists(path):
        return None
    budget = files.read_json(path)["budget"]
    return laid_out(budget) if budget else None


def laid_out(budget: Mapping[str, Any]) -> dict[str, Any]:
    """``TokenBudget.asdict`` as a sentence, rows (name, value, what it is) and the domains."""
    return {"verdict": verdict(budget), "reached": budget["reached"], "rows": rows(budget), "domains": domains(budget)}


def verdict(budget: Mapping[str, Any]) -> str:
    """The answer in a sentence."""
    model = f"A model of {short(budget['parameters'])} parameters wants {short(budget['needed_once'])} tokens"
    epochs = f"within {number(budget['max_epochs'])} epochs"
    if budget["reached"]:
        return f"{model}: the corpus gives them {epochs}."
    return (
        f"{model}: the corpus gives {short(budget['most'])} {epochs}, enough for {short(budget['largest_model'])} "
        f"parameters; {short(budget['missing'])} unique tokens are missing."
    )


def rows(budget: Mapping[str, Any]) -> list[Row]:
    """Name, value and what it is."""
    epochs = number(budget["max_epochs"])
    return [
        ("Tokens wanted", short(budget["needed_once"]), f"{number(budget['tokens_per_parameter'])} a parameter"),
        ("Unique tokens needed", short(budget["needed"]), f"if each is read {epochs} times"),
        ("the same, worth as much", short(budget["needed_worth"]), "as if all were fresh: Muennighoff 2023"),
        ("Unique tokens there", short(budget["unique"]), "after all filters, before balancing"),
        ("Tokens they give", short(budget["most"]), f"within {epochs} epochs"),
        ("Tokens given", short(budget["given"]), "by the weights below"),
        ("which are worth", short(budget["worth"]), "in fresh tokens: Muennighoff 2023"),
        ("Unique tokens missing", short(budget["missing"]), f"for {epochs} epochs, of any domain"),
        ("the same, worth as much", short(budget["missing_worth"]), "as if all were fresh"),
        ("Largest model", short(budget["largest_model"]), "parameters that this corpus feeds within the epochs"),
    ]


def domains(budget: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """Each domain, the largest share first, with what it can give and what it lacks."""
    return sorted(budget["domains"].items(), key=lambda item: (-item[1]["share"], item[0]))
