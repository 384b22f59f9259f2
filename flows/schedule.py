"""The flows that Prefect runs for a deployment: one for each thing that `mill` makes, with typed parameters.

Each is the same plain function that the command line calls, shown in the flow run that Prefect began for it.
"""

# No `from __future__ import annotations` here: Prefect checks a deployment's parameters by the types themselves.
import contextlib
import logging
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from prefect import Flow
from prefect.client.schemas.objects import FlowRun, State
from prefect.exceptions import FailedRun
from prefect.logging import get_run_logger
from prefect.runtime import flow_run as this_run
from prefect.settings import PREFECT_API_URL
from prefect.states import Cancelled, Completed, Failed
from pydantic import BeforeValidator, Field, GetJsonSchemaHandler
from pydantic_core import CoreSchema

from flows import build as builds_of
from flows.build import Stop
from flows.execution import progress, stopping, tracking
from flows.execution.end_with_parent import end_with
from flows.execution.open_build import BUILDS, close_record, open_build
from flows.execution.run_steps import Runner
from flows.views import artifacts
from pipeline import MillError
from pipeline.build.lock import BuildBusy
from pipeline.store import messages

RECIPES = Path("data/recipes")
"""Where the recipes are looked for that a form offers."""


class OneOfTheRecipes:
    """How a form asks for a recipe: one of those in data/recipes, or the path of another."""

    def __get_pydantic_json_schema__(self, _schema: CoreSchema, _handler: GetJsonSchemaHandler) -> dict[str, Any]:
        known = sorted(str(path) for path in RECIPES.glob("*.yaml"))
        path = {"title": "Path of a recipe", "type": "string", "format": "path"}
        return {"anyOf": [{"title": "Recipe", "type": "string", "enum": known}, path]} if known else path


class Options(NamedTuple):
    """What a flow run was asked for."""

    recipe: Path
    settings: list[str]
    workers: int | None
    runner: Runner
    builds: str


Recipe = Annotated[Path, OneOfTheRecipes()]
#: The folder of builds, or its address in an object store.
Folder = Annotated[str, BeforeValidator(os.fspath)]
Workers = Annotated[int, Field(ge=1, le=4096)]
Hours = Annotated[float, Field(gt=0)]

_ARGUMENTS = """

Args:
    recipe: The recipe, a YAML file; its path is relative to the folder in which the deployment runs.
    set: Fields of the recipe that get another value, such as `minhash.threshold=0.8`, one entry a field.
    workers: Tasks at a time; all cores if absent. The result is the same for any number.
    runner: Where tasks run; dask and ray reach other machines.
    builds: The folder that holds the builds, one folder a recipe.
    timeout_hours: After this time the run fails as "TimedOut"; what it has made is kept, and the next run goes on.
"""


@contextlib.contextmanager
def _stoppable(hours: float | None, tracker: tracking.Tracker, tell: Callable[[str], None]) -> Iterator[None]:
    """In the block SIGTERM, the end of the process that started this one, and the time limit end all work in seconds.

    Prefect's runner says of the flow run itself how it ended; what is within it is marked here.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # a subflow of somebody else's flow: that one is stopped
        return
    end_with(os.getppid())

    def stopped(why: stopping.Stopped) -> None:
        if why == "timed out":
            tracker.time_out(f"stopped after {hours:g} hours, its timeout_hours; the next run goes on from here", 30)
        else:
            tracker.cancel(3)

    with stopping.stoppable(tell), stopping.on_stop(stopped), stopping.time_limit(hours):
        yield


def _tracked(name: str, work: Callable[[], str | None], hours: float | None) -> State:
    """Do ``work`` as part of the flow run that Prefect started, and return the state in which that run ends.

    ``work`` returns the state's message if it has not said it. Skipped while another run is at work on the build.
    """
    logger = get_run_logger()
    try:
        with (
            progress.reporting(progress.Reporter()),
            tracking.tracking(PREFECT_API_URL.value(), logger.warning, this_run.id) as tracker,
            _stoppable(hours, tracker, logger.warning),
            artifacts.failing(name),
        ):
            said = work()
            state, message = tracking.conclusion() or ("Completed", said or "")
    except BuildBusy as busy:
        return Cancelled(message=str(busy), name="Skipped")
    except Exception as error:
        if messages.message(error) is None:
            raise  # a fault of ours: Prefect logs its traceback
        logger.error(messages.in_short(error))
        logging.getLogger("prefect.flow_runs").addFilter(_says_more_than_the_state)
        return Failed(message=messages.in_short(error))
    logger.info(message)
    return Completed(message=message, name=state)


def _says_more_than_the_state(record: logging.LogRecord) -> bool:
    """Not so Prefect's traceback of how it read the state that we returned."""
    return not (record.exc_info and isinstance(record.exc_info[1], FailedRun))


def _close(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:  # noqa: ARG001 - Prefect's names
    """Say in the build's record how a run ended that could not say so itself. Its lock went with its process."""
    parameters = {"builds": str(BUILDS), **flow_run.parameters}
    close_record(Path(parameters["recipe"]), parameters["builds"], state.type.value.lower(), state.message)


def _deployed(name: str, about: str, work: Callable[[Options], str | None]) -> Flow:
    """The flow ``name``, which does ``work``."""

    def run(
        recipe: Recipe,
        set: list[str] = [],  # noqa: B006 - Prefect shows the default in its form
        workers: Workers | None = None,
        runner: Runner = "processes",
        builds: Folder = str(BUILDS),
        timeout_hours: Hours | None = None,
    ) -> Any:
        options = Options(recipe, list(set), workers, runner, builds)
        return _tracked(_build_name(options), lambda: work(options), timeout_hours)

    run.__name__, run.__qualname__, run.__doc__ = name, name, about + _ARGUMENTS
    hooks: Any = [_close]
    shown = f"{name} {{recipe.stem}}"
    return Flow(run, name=name, description=about, flow_run_name=shown, on_cancellation=hooks, on_crashed=hooks)


def _build_name(options: Options) -> str:
    """What the build's artifacts and events are called by; of a recipe that is none, the name of its file."""
    try:
        return open_build(options.recipe, options.builds, options.settings).recipe.name
    except (MillError, OSError):  # whatever is wrong with it, the work says it
        return options.recipe.stem


def _build(options: Options, until: Stop, with_report: bool = False) -> None:
    recipe, settings, workers, runner, builds = options
    builds_of.build(recipe, until, workers, runner, builds, with_report=with_report, settings=settings)


build = _deployed(
    "build",
    "The whole way, from the sources to the report: corpus, tokenizers, models.",
    lambda options: _build(options, "report"),
)
curate = _deployed(
    "curate",
    "From the sources to the curated corpus: ingest, filter, deduplicate, balance. Only new files are read.",
    lambda options: _build(options, "curate", with_report=True),
)
tokenize = _deployed(
    "tokenize", "The corpus, the recipe's tokenizers, and packed tokens.", lambda options: _build(options, "tokenize")
)
pretrain = _deployed(
    "pretrain", "Up to the models of the recipe's `pretrain` section.", lambda options: _build(options, "pretrain")
)
finetune = _deployed(
    "finetune", "Up to the models of the recipe's `finetune` section.", lambda options: _build(options, "finetune")
)
report = _deployed(
    "report",
    "The HTML report of the build as it stands; nothing else is made.",
    lambda options: builds_of.report_as_it_stands(options.recipe, options.workers, options.builds, options.settings),
)
ladder = _deployed(
    "ladder",
    "Small models of several sizes on the recipe's corpus, the scaling laws they follow, and the next size.",
    lambda options: _study("ladder", options),
)
ablate = _deployed(
    "ablate",
    "Equal models on raw and curated text, and with each stage left out: what each part of curation is worth.",
    lambda options: _study("ablate", options),
)

FLOWS: dict[str, Flow] = {
    flow.name: flow for flow in (build, curate, tokenize, pretrain, finetune, report, ladder, ablate)
}


def _study(name: str, options: Options) -> str:
    from flows import studies  # torch and all that trains comes with it

    recipe, settings, workers, runner, builds = options
    study = {"ladder": studies.ladder, "ablate": studies.ablate}[name]
    study(recipe, workers, runner, builds, settings)
    return "the results are artifacts of this run and a section of the report"
