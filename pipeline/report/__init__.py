"""The report of a build: one HTML page that needs nothing but itself.

What it says about documents is counted shard by shard (``collect``) and merged; the page of a thousand million
documents is as small as that of a thousand. It can be read, and prints, without its script (``page.js``,
``charts.js``), which makes it answer; a content policy allows that script alone, and no request.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from importlib import resources
from typing import Any

import yaml
from markupsafe import Markup

from pipeline import __version__
from pipeline.build.build import Build, Step
from pipeline.report import (
    canaries,
    charts,
    classifier,
    collect,
    lineage,
    models,
    needs,
    sections,
    signals,
    studies,
    tables,
    tokens,
    understanding,
)
from pipeline.stages import titles
from pipeline.store import files
from pipeline.text import formats


def steps() -> list[Step]:
    return [Step("report.shards", "Collect report statistics", Build.shards, collect.collect)]


def render(build: Build, budget: Mapping[str, Any] | None = None) -> str:
    """Write report/index.html from what the build holds so far, and return its path.

    ``budget`` is what training.budget.of_build gives. Signals and samples need ``steps`` done; a section that the build
    has nothing for is left out.
    """
    path = build.path("report", "index.html")
    ratio = tokens.tokens(build)
    content = {
        "warnings": sections.warnings(build),
        "funnel": sections.funnel(build),
        "tokens": ratio,
        "token_domains": tokens.by_domain(build),
        "token_accounts": tokens.accounts(build),
        "signals": signals.signals(build, ratio["bytes_per_token"]),
        "duplicates": sections.duplicates(build),
        "clusters": sections.cluster_samples(build),
        "contamination": sections.contamination(build),
        "dropped": sections.dropped(build),
        "quarantine": sections.quarantine(build),
        "classifiers": sections.classifiers(build),
        "distilled": sections.distilled(build),
        "tokenizers": sections.tokenizers(build),
        "pretrained": models.pretrained(build),
        "finetuned": [
            {
                **run,
                "table": tables.finetuning(run),
                **_strategies(run),
                "detail": classifier.detail(run),
                "understanding": understanding.detail(run),
                **_cost_ladder(build, run["name"]),
            }
            for run in models.finetuned(build)
        ],
        "needs": needs.needs(build),
        "ablation": studies.ablation(build),
        "ladder": studies.ladder(build),
        "canaries": canaries.canaries(build),
        "budgets": models.budgets(budget),
        "lineage": lineage.lineage(build),
        "recipe_fingerprint": files.fingerprint(build.recipe),
        "program": f"corpusmill {__version__}",
        "name": build.recipe.name,
        "recipe": yaml.safe_dump(build.recipe.model_dump(mode="json", exclude_defaults=True), sort_keys=False),
    }
    page = _STEERS.sub(_code_point, _page(**content, figures=sections.figures(content), tables=_tables(content)))
    with files.replacing(path) as handle:
        handle.write(page.encode())
    return path


#: Characters of data that turn the order of what is read, or that a page may not hold.
_STEERS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def _code_point(match: re.Match[str]) -> str:
    return f"\\u{ord(match[0]):04x}"


#: Of each table the section that it is in, and what lays it out.
_TABLES = {
    "rules": ("funnel", tables.rules),
    "domains": ("funnel", tables.domains),
    "tokens": ("token_domains", tables.tokens_by_domain),
    "canaries": ("canaries", tables.canaries),
    "contamination": ("contamination", tables.contamination),
    "distilled": ("distilled", tables.distilled),
    "tokenizers": ("tokenizers", tables.tokenizers),
    "vocabulary_sizes": ("tokenizers", tables.vocabulary_sizes),
    "pretraining": ("pretrained", tables.pretraining),
    "needs": ("needs", tables.needs),
    "needs_by_domain": ("needs", tables.needs_by_domain),
    "ladder_runs": ("ladder", tables.ladder_runs),
    "ladder_laws": ("ladder", tables.ladder_laws),
    "ladder_predictions": ("ladder", tables.ladder_predictions),
    "ablation": ("ablation", tables.ablation),
    "budgets": ("budgets", tables.budgets),
    "lineage": ("lineage", tables.lineage),
}


def _tables(content: Mapping[str, Any]) -> dict[str, Any]:
    """The tables of the sections that are not left out."""
    made: dict[str, Any] = {
        name: lay_out(content[section]) for name, (section, lay_out) in _TABLES.items() if content[section]
    }
    if account := content["funnel"]:
        made["funnel"] = tables.funnel(account, content["tokens"]["bytes_per_token"])
        made["not_documents"] = tables.not_documents(account, content["quarantine"])
    return made


def _page(**values: Any) -> str:
    import jinja2  # only a written report needs it

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("pipeline.report", ""),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    writers = ("count", "several", "short", "size", "share", "number", "power", "apart")
    environment.filters |= {name: getattr(formats, name) for name in writers} | {"rule": titles.rule, "code": _code}
    environment.globals["meter"] = charts.meter
    style = _source("style.css")
    script = _source("page.js") + _source("charts.js")
    return environment.get_template("page.html").render(
        style=Markup(style), style_hash=_hash(style), script=Markup(script), script_hash=_hash(script), **values
    )


def _code(text: str) -> Markup:
    """A sentence, with what stands between backticks as code."""
    quoted = [
        Markup("<code>{}</code>").format(part) if at % 2 else Markup.escape(part)
        for at, part in enumerate(text.split("`"))
    ]
    return Markup().join(quoted) if len(quoted) % 2 else Markup.escape(text)


def _source(name: str) -> str:
    return resources.files("pipeline.report").joinpath(name).read_text("utf-8")


def _hash(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _cost_ladder(build: Build, name: str) -> dict[str, Any]:
    """What the cost ladder of a fine-tuning said, and its tables; None where none was climbed."""
    path = build.path("cost_ladders", f"{name}.json")
    if not files.exists(path):
        return dict.fromkeys(("cost_ladder", "cost_ladder_table", "learning_curve"))
    said = files.read_json(path)
    curve = said["learning_curve"]
    return {
        "cost_ladder": said,
        "cost_ladder_table": tables.cost_ladder(said),
        "learning_curve": None if curve["rung"] is None else tables.learning_curve(curve),
    }


def _strategies(run: Mapping[str, Any]) -> dict[str, Any]:
    """The tables of a fine-tuning's strategies, settings and starts, where it has some."""
    return {
        "by_strategy": tables.strategies(run) if run.get("strategies") else None,
        "by_setting": tables.grid(run) if run.get("grid") else None,
        "by_start": tables.adaptation(run) if run.get("adaptation") else None,
    }
