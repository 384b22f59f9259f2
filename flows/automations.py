"""Automations of the Prefect server that this project brings: what a run's end or silence sets off."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from datetime import timedelta
from typing import Any
from uuid import UUID

from prefect.blocks.webhook import Webhook
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.objects import StateType
from prefect.client.schemas.responses import DeploymentResponse
from prefect.events.actions import ActionTypes, CallWebhook, ChangeFlowRunState, RunDeployment
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.exceptions import ObjectNotFound

from pipeline import MillError

PREFIX = "corpusmill: "
WEBHOOK_BLOCK = "corpusmill-alarms"

SILENCE_SECONDS = 80
"""A run that was not heard for so long is dead: two heartbeats (tracking.py), and time for a slow server."""
PENDING_SECONDS = 600
ARRIVAL_SECONDS = 60
"""Files that arrive within this time of the first are one run, which begins after it. A skipped run waits as long."""

#: A run of ours, by the tag of its deployment.
_OURS: dict[str, Any] = {
    "match": {"prefect.resource.id": "prefect.flow-run.*"},
    "match_related": {"prefect.resource.id": "prefect.tag.corpusmill", "prefect.resource.role": "tag"},
    "for_each": {"prefect.resource.id"},
}
_ENDS = {f"prefect.flow-run.{state}" for state in ("Completed", "Failed", "Cancelled", "Crashed", "Paused")}


class NoDeployment(MillError):
    """There is no deployment of that name, or none that can be run without being asked more."""


def install(webhook: str | None, train: str | None, arrivals: str | None) -> list[str]:
    """Have the automations on the configured server, as they are here; returns their names.

    ``webhook``: an address that alarms and failures are sent to, kept there as a block. ``train``: the deployment
    that is run when a corpus is published, ``<flow>/<name>``; ``arrivals``: the one that is run when somebody says, by
    the event `corpusmill.file.arrived`, that a file is there, and again if it was skipped. Raises NoDeployment.
    """
    return asyncio.run(_install(webhook, train, arrivals))


def remove() -> list[str]:
    """Delete the automations that ``install`` made; returns their names."""
    return asyncio.run(_remove())


async def _install(webhook: str | None, train: str | None, arrivals: str | None) -> list[str]:
    wanted = [_zombies(), stuck()]
    async with get_client() as client:
        if webhook is not None:
            block: Any = Webhook(method="POST", url=webhook)  # pyright: ignore[reportArgumentType]
            identifier = await block.save(WEBHOOK_BLOCK, overwrite=True)
            wanted.append(_alarms(identifier))
        if train is not None:
            wanted.append(_training(await _deployment(client, "--train", train, {"recipe", "builds", "set"})))
        if arrivals is not None:
            wanted += _arrivals(await _deployment(client, "--arrivals", arrivals))
        for automation in wanted:
            known = await client.read_automations_by_name(automation.name)
            if known:
                await client.update_automation(known[0].id, automation)
            else:
                await client.create_automation(automation)
    return [automation.name for automation in wanted]


async def _deployment(client: PrefectClient, option: str, name: str, given: Collection[str] = ()) -> DeploymentResponse:
    """The deployment ``name``, whose runs get the parameters ``given`` and its own. Raises NoDeployment."""
    try:
        deployment = await client.read_deployment_by_name(name)
    except (ObjectNotFound, ValueError):
        raise NoDeployment(
            f"{option} {name}: the server has no such deployment; `prefect deployment ls` lists <flow>/<name>"
        ) from None
    needed = (deployment.parameter_openapi_schema or {}).get("required", [])
    if missing := [parameter for parameter in needed if parameter not in {*deployment.parameters, *given}]:
        raise NoDeployment(
            f"{option} {name}: this deployment asks for {', '.join(missing)} when it is run; name one that brings it, "
            "such as those of `mill serve --recipe` and of prefect.yaml"
        )
    return deployment


async def _remove() -> list[str]:
    async with get_client() as client:
        ours = [entry for entry in await client.read_automations() if entry.name.startswith(PREFIX)]
        for automation in ours:
            await client.delete_automation(automation.id)
    return [automation.name for automation in ours]


def _crashed(message: str) -> ChangeFlowRunState:
    """Not by force: a run that has ended stays as it ended, though a busy server hears its last word late."""
    return ChangeFlowRunState(state=StateType.CRASHED, name=None, message=message, force=False)


def _zombies() -> AutomationCore:
    heartbeat = "prefect.flow-run.heartbeat"
    trigger = EventTrigger(
        after={"prefect.flow-run.Running", heartbeat},
        expect={"prefect.flow-run.*"},  # an end is an event by the state's name, such as "Nothing new"
        posture=Posture.Proactive,
        threshold=1,
        within=timedelta(seconds=SILENCE_SECONDS),
        **_OURS,
    )
    message = f"not heard of for {SILENCE_SECONDS} s: its process or machine is gone; the next run goes on from there"
    return _automation(
        "a dead run is Crashed",
        "A run whose worker or process was killed says nothing any more.",
        trigger,
        _crashed(message),
    )


def stuck() -> AutomationCore:
    """A run that waits in Pending for PENDING_SECONDS is Crashed."""
    trigger = EventTrigger(
        after={"prefect.flow-run.Pending"},
        expect={"prefect.flow-run.Running", *_ENDS},
        posture=Posture.Proactive,
        threshold=1,
        within=timedelta(seconds=PENDING_SECONDS),
        **_OURS,
    )
    message = f"stuck in Pending for {PENDING_SECONDS // 60} minutes, where it held a place of its pool"
    return _automation(
        "a run stuck in Pending is Crashed",
        "A run that never began would hold its place in a work pool for ever.",
        trigger,
        _crashed(message),
    )


def _alarms(block: UUID) -> AutomationCore:
    payload = (
        '{"event": "{{ event.event }}", "resource": "{{ event.resource.id }}", '
        '"occurred": "{{ event.occurred }}", "payload": {{ event.payload | tojson }}}'
    )
    return _automation(
        "alarms go to the webhook",
        f"Alarms of a source, a canary, the error budget or a loss, and failed builds; the block is {WEBHOOK_BLOCK}.",
        EventTrigger(expect={"corpusmill.alarm.*", "corpusmill.build.failed"}, posture=Posture.Reactive),
        CallWebhook(block_document_id=block, payload=payload),
    )


def _training(deployment: DeploymentResponse) -> AutomationCore:
    settings = {"__prefect_kind": "json", "value": _of_the_event("payload['set'] | tojson")}
    corpus = {
        "recipe": _of_the_event("payload['recipe']"),
        "builds": _of_the_event("payload['builds']"),
        "set": settings,
    }
    takes = (deployment.parameter_openapi_schema or {}).get("properties", {})
    return _automation(
        "a published corpus is trained on",
        "Runs the training deployment with the recipe of the corpus, and where it is.",
        EventTrigger(expect={"corpusmill.corpus.published"}, posture=Posture.Reactive),
        _run(deployment, parameters={name: value for name, value in corpus.items() if name in takes}),
    )


def _of_the_event(expression: str) -> dict[str, str]:
    return {"__prefect_kind": "jinja", "template": f"{{{{ event.{expression} }}}}"}


def _arrivals(deployment: DeploymentResponse) -> list[AutomationCore]:
    """A run begins after the last file that it is for, and there is one a minute at most, however many files come."""
    wait = timedelta(seconds=ARRIVAL_SECONDS)
    skipped = EventTrigger(
        expect={"prefect.flow-run.Skipped"},
        match_related={
            "prefect.resource.id": f"prefect.deployment.{deployment.id}",
            "prefect.resource.role": "deployment",
        },
        posture=Posture.Reactive,
        threshold=1,
        within=wait,
    )
    arrived = EventTrigger(expect={"corpusmill.file.arrived"}, posture=Posture.Reactive, threshold=1, within=wait)
    return [
        _automation(
            "a file that arrived is curated",
            "For stores that announce files: an event is posted to the server's /api/events.",
            arrived,
            _run(deployment, after=wait),
        ),
        _automation(
            "a run for files that was skipped is asked for again",
            "It was skipped because another was at work, which may not have seen the files.",
            skipped,
            _run(deployment, after=wait),
        ),
    ]


def _run(
    deployment: DeploymentResponse, parameters: dict[str, Any] | None = None, after: timedelta = timedelta(0)
) -> RunDeployment:
    return RunDeployment(
        source="selected",
        deployment_id=deployment.id,
        parameters=parameters,
        job_variables=None,
        schedule_after=after,
    )


def _automation(name: str, about: str, trigger: EventTrigger, action: ActionTypes) -> AutomationCore:
    return AutomationCore(name=f"{PREFIX}{name}", description=about, trigger=trigger, actions=[action])
