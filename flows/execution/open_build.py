"""The build that a recipe describes: checked, locked and on record while it runs."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from flows.execution.progress import reporter
from flows.execution.stopping import on_stop
from pipeline import MillError
from pipeline.build import linked_copy, mend, record
from pipeline.build.build import Build
from pipeline.build.lock import BuildBusy, locked
from pipeline.curation import recipe as recipes
from pipeline.curation.settings import parse, with_settings
from pipeline.store import files, mirror, objects, recipe_file
from training.prediction.scorer import probabilities
from training.recipe import sections
from training.recipe.sections import BuildRecipe, stored

BUILDS = Path("data/builds")


class LinkOut(MillError):
    """A link in the folder of a build leads out of it."""


class OtherRecipe(MillError):
    """The build's folder belongs to another recipe with the same name."""


def open_build(recipe: Path, builds: str | Path = BUILDS, settings: Sequence[str] = ()) -> Build[BuildRecipe]:
    """The build of ``recipe`` in ``builds/<its name>``, which may be an address in an object store.

    Raises WrongRecipe or MillError before any work.

    ``settings``: ``field=value`` for fields of the recipe that are to have another value.
    """
    loaded = recipes.load(recipe, BuildRecipe)
    if settings:
        loaded = with_settings(loaded, parse(settings), recipe.parent)
    place = files.join(os.fspath(builds), loaded.name)
    if files.is_local(place):
        folder = files.local_name(place)
        if folder.is_symlink() and not folder.resolve().is_relative_to(folder.parent.resolve()):
            raise LinkOut(
                f"{folder}: a link out of the folder of builds, to {folder.resolve()}; outputs stay within: remove it"
            )
    return Build(files.here(place), loaded, probabilities)


def finished_build(root: str) -> Build[BuildRecipe]:
    """The build in the folder ``root`` with the recipe it ran. Raises MillError unless it is finished."""
    return replace(sections.finished_build(root), scorer=probabilities)


def latest_build(builds: str | Path = BUILDS) -> Build[BuildRecipe]:
    """The build that ran last in ``builds``, with the recipe it ran. Raises MillError if there is none."""
    roots = record.roots(os.fspath(builds))
    if not roots:
        raise MillError(f"{builds}: no build here yet; run `mill build data/recipes/demo.yaml`")
    root = max(roots, key=_last_run)
    return Build(root, stored(root), probabilities)


def _last_run(root: str) -> float:
    path = files.join(root, "build.json")
    if not files.is_mirrored(root):
        return files.local(path).stat().st_mtime
    return max((datetime.fromisoformat(run["started"]).timestamp() for run in files.read_json(path)["runs"]), default=0)


def recipe_of(build: Build) -> Path:
    """The file of the recipe that the latest run of ``build`` followed."""
    return Path(files.read_json(build.path("build.json"))["recipe"])


@contextlib.contextmanager
def on_record(
    build: Build,
    recipe: Path,
    flow_run: Callable[[], str | None],
    seconds: dict[str, float],
    on_wait: Callable[[str], object] | None = None,
) -> Iterator[None]:
    """Hold the build's lock, and note in its ``build.json`` when this run began, ended, and how.

    ``flow_run`` (its page in the Prefect UI) and ``seconds`` (the time each step took) are read when the block ends.
    Raises BuildBusy if another process is at work, unless that is waited for with a line to ``on_wait``; OtherRecipe
    if the folder is another recipe's.
    """
    _check_links(build.root)
    with locked(build.root, on_wait), mending(build.root):
        _check_owner(build, recipe)
        files.write_json(build.path("recipe.json"), build.recipe.model_dump(mode="json"))
        entry: dict[str, Any] = {
            "started": record.now(),
            "ended": None,
            "state": "running",
            "process": os.getpid(),
            "recipe": files.fingerprint(build.recipe),
            "flow_run": None,
            "steps": {},
            "error": None,
        }
        objects.requests.taken()  # those of earlier runs of this process
        earlier = record.close_interrupted(record.runs_of(build))
        record.write(build, recipe, [*earlier, entry])

        def close(state: str, error: str | None = None) -> None:
            if entry["ended"] is None:
                steps = {name: round(value, 3) for name, value in seconds.items()}
                entry.update(ended=record.now(), state=state, error=error, steps=steps, flow_run=flow_run())
                if files.is_mirrored(build.root):
                    entry["requests"] = objects.requests.taken()
                record.write(build, recipe, [*earlier, entry])

        with on_stop(close):
            try:
                yield
            except Exception as error:  # handled nowhere here: the record says how the run ended, and it goes on
                close("failed", files.masked(mirror.shown(f"{type(error).__name__}: {error}")))
                raise
            except BaseException:  # an interrupt, or Prefect's own signal to end
                close("cancelled")
                raise
            close("completed")


@contextlib.contextmanager
def mending(root: str) -> Iterator[None]:
    """Set aside what was found damaged in the build in ``root``, with a line on each; after the block delete it."""
    units = mend.marked(root)
    for unit in units:
        reporter().tell(f"{unit}: damaged; set aside, to be made again")
    yield
    mend.clear(units)


def close_record(recipe: Path, builds: str | Path, state: str, error: str | None) -> None:
    """Note that the latest run of the build of ``recipe`` ended as ``state``, where its own process could not.

    Nothing is noted of a build that is at work again, or of a run that said itself how it ended.
    """
    opened = open_build(recipe, builds)
    if not files.exists(opened.path("build.json")):
        return
    with contextlib.suppress(BuildBusy), locked(opened.root):
        runs = record.runs_of(opened)
        if runs and runs[-1]["state"] == "running":
            ended = {**runs[-1], "state": state, "ended": record.now(), "error": error}
            record.write(opened, recipe_of(opened), [*runs[:-1], ended])


def _check_links(root: str) -> None:
    """Raises LinkOut where a link in the build's folder leads out of it: outputs would be written there."""
    for link in linked_copy.links_out(files.local_name(root)):
        raise LinkOut(f"{link}: a link out of the build's folder, to {link.resolve()}; outputs stay within: remove it")


def _check_owner(build: Build, recipe: Path) -> None:
    """Raises OtherRecipe if the folder was built from another file that still is a recipe of this name.

    A recipe that was edited, moved or copied goes on with its build.
    """
    if not files.exists(build.path("build.json")):
        return
    owner = recipe_of(build)
    if not owner.is_file() or owner.samefile(recipe) or owner.read_bytes() == recipe.read_bytes():
        return
    try:
        _, content = recipe_file.read(recipe_file.read_file(owner), str(owner))
    except recipe_file.WrongRecipe:
        return  # no longer a recipe
    if isinstance(content, dict) and content.get("name") == build.recipe.name:
        raise OtherRecipe(
            f"{build.address}: this folder holds the build of {owner}, and {recipe.resolve()} is another recipe with "
            f"the same name, {build.recipe.name!r}: give it another `name`, or another folder with --builds"
        )
