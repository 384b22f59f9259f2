"""The corpus in real tokens: what the recipe's first tokenizer packed, by domain, beside what balancing assumed.

Balancing comes before any tokenizer of the same build and never reads what an earlier run of it measured: a build would
else depend on its history. So the measured bytes per token are given in the form in which the recipe takes them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from pipeline.build.build import Build
from pipeline.stages.balance.stage import BYTES_PER_TOKEN
from pipeline.store import files
from pipeline.text.formats import count

_CLOSE = 0.01  # a ratio that is off by less is left alone
_UNITS = ("documents", "bytes", "tokens", "repeated_tokens")


def tokens(build: Build) -> dict[str, Any]:
    """How bytes become tokens: as the recipe's first tokenizer packed the corpus, or by a common ratio."""
    packed = _packed(build)
    if packed is None:
        origin = "a rule of thumb, until a tokenizer is trained"
        return {"bytes_per_token": BYTES_PER_TOKEN, "origin": origin, "exact": False}
    name, domains = packed
    size, packed_tokens = (sum(entry[unit] for entry in domains.values()) for unit in ("bytes", "tokens"))
    return {
        "bytes_per_token": size / max(1, packed_tokens),
        "origin": f"what {name} makes of the corpus",
        "exact": True,
    }


def by_domain(build: Build) -> dict[str, Any] | None:
    """Tokens of each domain, train and held-out, the largest first; None unless the corpus as it is now is packed.

    A row has ``tokens``, ``read`` (each as often as its document is repeated), ``bytes_per_token``, and of the balance
    plan, or None, ``assumed`` bytes per token and ``planned`` tokens read. ``advice`` is the line for the recipe's
    `balance` section, None where there is none to correct.
    """
    packed, account = _packed(build), build.path("funnel.json")
    if packed is None or not files.exists(account):
        return None
    name, domains = packed
    corpus = files.read_json(account)["stages"][-1]["domains"]
    now = {domain: (entry["documents"], entry["bytes"]) for domain, entry in corpus.items()}
    if now != {domain: (entry["documents"], entry["bytes"]) for domain, entry in domains.items()}:
        return None  # packed from an earlier corpus; the pack step has yet to run again
    balance, path = build.section("balance"), build.path("balance.json")
    plan = files.read_json(path)["domains"] if balance is not None and files.exists(path) else {}
    rows = [_row(domain, entry, plan.get(domain)) for domain, entry in domains.items()]
    rows.sort(key=lambda row: (-row["tokens"], row["domain"]))
    measured = {row["domain"]: row["bytes_per_token"] for row in rows if row["tokens"]}
    off = any(row["assumed"] and abs(row["bytes_per_token"] / row["assumed"] - 1) > _CLOSE for row in rows)
    advice = _advice(balance.bytes_per_token, measured) if balance and balance.tokenizer is None and off else None
    total = {unit: sum(row[unit] for row in rows) for unit in ("documents", "bytes", "tokens", "read")}
    return {"tokenizer": name, "rows": rows, "total": total, "advice": advice}


def accounts(build: Build) -> list[str]:
    """A sentence for each tokenizer whose packed tokens were counted against the corpus; none before that."""
    path = build.path("tokens", "account.json")
    actual = files.read_json(path) if files.exists(path) else {}
    return [
        f"{name}: {count(_sum(entry, 'content'))} of text and {count(_sum(entry, 'special'))} that end documents,"
        f" {count(_sum(entry, 'read'))} read in a pass; none lost, {entry['canaries']} token canaries found"
        for name, entry in actual.items()
    ]


def _sum(entry: Mapping[str, Any], unit: str) -> int:
    return sum(part[unit] for part in entry.values() if isinstance(part, Mapping))


def _packed(build: Build) -> tuple[str, dict[str, dict[str, int]]] | None:
    """The first tokenizer that has packed both splits, and what each domain came to in them."""
    for tokenizer in build.section("tokenizers") or []:
        paths = [build.path("tokens", tokenizer.name, split, "manifest.json") for split in ("train", "heldout")]
        if all(map(files.exists, paths)):
            parts = [files.read_json(path)["domains"] for path in paths]
            names = sorted({domain for part in parts for domain in part})
            nothing = dict.fromkeys(_UNITS, 0)
            return tokenizer.name, {
                domain: {unit: sum(part.get(domain, nothing)[unit] for part in parts) for unit in _UNITS}
                for domain in names
            }
    return None


def _row(domain: str, entry: Mapping[str, int], plan: Mapping[str, Any] | None) -> dict[str, Any]:
    return {
        "domain": domain,
        **{unit: entry[unit] for unit in ("documents", "bytes", "tokens")},
        "read": entry["repeated_tokens"],
        "bytes_per_token": entry["bytes"] / max(1, entry["tokens"]),
        "assumed": plan["bytes"] / plan["tokens"] if plan and plan["tokens"] else None,
        "planned": plan["epochs"] * plan["tokens"] if plan else None,
    }


def _advice(given: float | Mapping[str, float], measured: Mapping[str, float]) -> str:
    """``bytes_per_token`` for the recipe: as it was given, with what was measured in its place."""
    if not isinstance(given, Mapping):
        given = {} if given == BYTES_PER_TOKEN else {"*": given}
    ratios = {**given, **{domain: round(ratio, 3) for domain, ratio in sorted(measured.items())}}
    written = yaml.safe_dump(ratios, default_flow_style=True, sort_keys=False, width=10_000, allow_unicode=True)
    return f"bytes_per_token: {written.strip()}"
