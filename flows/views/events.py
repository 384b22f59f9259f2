"""What a run announces: events of the Prefect server, with resource ids and numbers, that automations can act on.

``corpusmill.build.{started,finished,nothing-new,failed}``, ``corpusmill.stage.finished``,
``corpusmill.alarm.{source,canary,error-budget,loss-spike}``, ``corpusmill.{corpus,model}.published``. What is
published is a materialised asset, too, with what it was made of upstream.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from flows.execution import tracking
from pipeline.build.build import Build
from pipeline.report import models, sections
from pipeline.sources.quarantine import ErrorBudgetExceeded
from pipeline.store import files, messages

ASSET = "prefect.asset.materialization.succeeded"


def started(build: Build, recipe: Path) -> None:
    tracking.event("corpusmill.build.started", build_id(build.recipe.name), {"recipe": str(recipe.resolve())})


def finished(build: Build, recipe: Path, worked: bool, summary: str) -> None:
    """The end of a build that completed; ``worked``: whether anything was made."""
    name = "corpusmill.build.finished" if worked else "corpusmill.build.nothing-new"
    payload = {"recipe": str(recipe.resolve()), "summary": summary, "root": build.address, **_documents(build)}
    tracking.event(name, build_id(build.recipe.name), payload)


def failed(name: str, error: BaseException) -> None:
    """The end of the build of the recipe ``name`` by an error."""
    payload = {"error": messages.in_short(error)}
    tracking.event("corpusmill.build.failed", build_id(name), payload)
    if isinstance(error, ErrorBudgetExceeded):
        tracking.event("corpusmill.alarm.error-budget", build_id(name), payload)


def curated(build: Build) -> None:
    """A new corpus: each stage's numbers, the alarms, and the corpus as an asset."""
    account = sections.funnel(build)
    if account is None:
        return
    name = build.recipe.name
    for row in account["rows"]:
        payload = {
            "build": name,
            "stage": row["stage"],
            "documents": row["documents"],
            "bytes": row["bytes"],
            "documents_dropped": row["losses"]["documents"],
            "bytes_dropped": row["losses"]["bytes"],
        }
        tracking.event("corpusmill.stage.finished", f"corpusmill.stage.{name}.{row['stage']}", payload)
    for kind, warning in _alarms(build):
        tracking.event(f"corpusmill.alarm.{kind}", build_id(name), {"build": name, "warning": warning})
    payload = {"build": name, "folder": build.path("corpus"), **_documents(build)}
    sources = [asset_key(path) for path in source_paths(build)]
    tracking.event(ASSET, asset_key(build.path("corpus")), payload, related=upstream(sources))


def published(build: Build, recipe: Path, settings: Sequence[str] = ()) -> None:
    """The new corpus may be read: what `mill automations --train` runs needs the build's lock, so it is free by now.

    ``settings``: the fields of the recipe that have another value, ``field=value``.
    """
    name = build.recipe.name
    payload = {
        "build": name,
        "recipe": str(recipe.resolve()),
        "set": list(settings),
        "builds": build.address.rpartition("/")[0],
        "folder": build.path("corpus"),
        **_documents(build),
    }
    tracking.event("corpusmill.corpus.published", f"corpusmill.corpus.{name}", payload)


def trained(build: Build, kind: str, name: str) -> None:
    """A new model: ``kind`` is pretrain or finetune."""
    run = next((run for run in models.summaries(build, kind) if run["name"] == name), None)
    if run is None:
        return
    folder = build.path("models", name)
    numbers = {key: run[key] for key in ("steps", "trained_tokens", "parameters", "evaluation") if run.get(key)}
    payload = {"build": build.recipe.name, "model": name, "kind": kind, "folder": folder, **numbers}
    resource = f"corpusmill.model.{build.recipe.name}.{name}"
    for spike in run.get("spikes") or []:
        tracking.event("corpusmill.alarm.loss-spike", resource, {**payload, "spike": spike})
    tracking.event("corpusmill.model.published", resource, payload)
    tracking.event(ASSET, asset_key(folder), payload, related=upstream([asset_key(build.path("corpus"))]))


def build_id(name: str) -> str:
    return f"corpusmill.build.{name}"


def asset_key(path: str) -> str:
    """The key of what lies in ``path``, as Prefect's assets have it: an address."""
    return files.uri(path)


def upstream(keys: Sequence[str]) -> list[dict[str, str]]:
    return [{"prefect.resource.id": key, "prefect.resource.role": "asset"} for key in keys]


def source_paths(build: Build) -> list[str]:
    """Where the sources of a build are, those that name a path or address."""
    values = [source.model_dump(mode="json") for source in build.recipe.sources]
    places = [value.get("path") or value.get("dataset") for value in values]
    return [str(place) for place in places if place]


def _documents(build: Build) -> dict[str, int]:
    account = sections.funnel(build)
    if account is None:
        return {}
    first, last = account["first"], account["last"]
    return {"documents_read": first["documents"], "documents_kept": last["documents"], "bytes_kept": last["bytes"]}


def _alarms(build: Build) -> Iterator[tuple[str, str]]:
    """Each warning of the corpus, with what it is about."""
    account: Mapping[str, Any] = sections.read_json(build, "funnel.json") or {}
    canaries = account.get("canaries", {}).get("warnings", [])
    for warning in sections.warnings(build):
        yield ("canary" if warning in canaries else "source"), warning
