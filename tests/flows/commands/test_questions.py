"""The questions to a finished build, asked on the command line without any server."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from flows import cli
from pipeline.build.build import Build
from pipeline.questions import forget
from pipeline.store import checksums, files
from tests.flows.conftest import mill
from tests.helpers import asking, building
from training.recipe.sections import BuildRecipe


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe whose build is done in the folder ``builds`` beside it."""
    root = tmp_path_factory.mktemp("questions")
    values = asking.values(root)
    build = asking.make(values, root / "builds" / "base")
    files.write_json(build.path("recipe.json"), BuildRecipe.model_validate(values).model_dump(mode="json"))
    (root / "base.yaml").write_text(yaml.safe_dump(values))
    return root / "base.yaml"


@pytest.fixture
def ask(recipe):
    def ask(command: str, *arguments: str) -> str:
        """What the command prints: its answer, or the one message of a refusal."""
        words = [command, *arguments, "--builds", str(recipe.parent / "builds")]
        run = CliRunner().invoke(cli.app, words, env={"PREFECT_API_URL": "http://127.0.0.1:1/api", "COLUMNS": "160"})
        assert run.exception is None or isinstance(run.exception, SystemExit), run.exception
        return run.stdout if run.exit_code == 0 else run.stderr

    return ask


def test_whatif_shows_size_domains_rules_and_budget(ask, recipe):
    shown = ask("whatif", str(recipe), "--set", "gopher_quality.min_words=300", "--set", "language.keep={en: 0.9}")
    for part in ("documents", "docs", "gopher quality: min words", "for 124M parameters", "Duplicates"):
        assert part in shown
    wrong = " ".join(ask("whatif", str(recipe), "--set", "minhash.treshold=0.8").split())
    assert wrong == "error minhash.treshold: unknown field; did you mean `threshold`?"
    assert "give field=value" in ask("whatif", str(recipe), "--set", "minhash.threshold")


def test_a_budget_is_told_of_any_recipe_and_what_domains_give_to_a_model_that_is_named(ask, recipe):
    plain = ask("budget", str(recipe))
    assert "Tokens missing" in plain
    assert "unique tokens are missing" not in plain
    named = ask("budget", str(recipe), "--parameters", "350M")
    assert "A model of 350M parameters wants 7.00B tokens" in named
    fresh = recipe.parent / "fresh.yaml"
    fresh.write_text(yaml.safe_dump({**yaml.safe_load(recipe.read_text()), "name": "fresh"}))
    for arguments in ((), ("--parameters", "350M")):
        estimated = " ".join(ask("budget", str(fresh), *arguments).split())
        assert "nothing is curated yet" in estimated
        assert ("known after `mill curate`" in estimated) == bool(arguments)


def test_sample_overlap_and_diff_answer(ask, recipe):
    assert "dropped: value" in ask("sample", str(recipe), "--rule", "near_duplicate", "-n", "2")
    assert "kept: value" in ask("sample", str(recipe), "--rule", "gopher_quality.min_words", "--near-threshold")
    assert "did you mean near_duplicate?" in ask("sample", str(recipe), "--rule", "near_duplicat")
    assert "Jaccard" in ask("overlap", str(recipe))
    assert "the same documents and texts" in ask("diff", "base", "base")
    assert "no finished build here" in ask("diff", "base", "other")


def test_forgetting_an_unknown_document_is_refused_and_why_tells_what_is_forgotten(ask, recipe):
    refused = " ".join(ask("forget", "topics/topics.jsonl#0", "--recipe", str(recipe)).split())
    assert "error topics/topics.jsonl#0: no such document. Nearest: topics/topics.jsonl#" in refused
    build = Build(
        str(recipe.parent / "builds" / "base"), BuildRecipe.model_validate(yaml.safe_load(recipe.read_text()))
    )
    assert not Path(build.path("forgotten.json")).exists()
    forget.record(build, ["topics/topics.jsonl#1"], date(2026, 11, 25))
    told = ask("why", "topics/topics.jsonl#1", "--recipe", str(recipe))
    listed = Path(build.path("forgotten.json"))
    listed.unlink()  # for the tests that share this build; without its checksum, or the list would count as lost
    checksums.sidecar(listed).unlink()
    assert "forgotten on 2026-11-25" in told
    assert "run `mill build` to apply" in told


@pytest.mark.slow
def test_forget_removes_the_document_and_ends_well(recipe, environment, server_url, tmp_path):
    shutil.copytree(recipe.parent / "builds" / "base", tmp_path / "builds" / "base")
    name = "topics/topics.jsonl#1"
    there = {**environment, "PREFECT_API_URL": server_url, "COLUMNS": "160"}
    options = ("--recipe", recipe, "--builds", tmp_path / "builds", "--workers", "1")
    run = mill("forget", name, *options, environment=there)
    assert (run.returncode, run.stderr) == (0, "")
    assert f"{name}\nforgotten on " in run.stdout
    listed = files.read_json(str(tmp_path / "builds" / "base" / "forgotten.json"))
    assert list(listed) == [name]
    again = mill("why", name, *options[:4], environment=there)
    assert "forgotten on" in again.stdout
    assert "still in the build" not in again.stdout


@pytest.mark.slow
def test_after_two_at_once_neither_document_is_in_the_corpus(recipe, environment, server_url, tmp_path):
    shutil.copytree(recipe.parent / "builds" / "base", tmp_path / "builds" / "base")
    build = Build(str(tmp_path / "builds" / "base"), BuildRecipe.model_validate(yaml.safe_load(recipe.read_text())))
    names = sorted(building.curated(build))[:2]
    there = {**environment, "PREFECT_API_URL": server_url, "COLUMNS": "160"}
    options = ("--recipe", recipe, "--builds", tmp_path / "builds", "--workers", "1")
    with ThreadPoolExecutor(2) as pool:
        runs = list(pool.map(lambda name: mill("forget", name, *options, environment=there), names))
    assert [(run.returncode, run.stderr) for run in runs] == [(0, ""), (0, "")]
    assert [f"{name}\nforgotten on " in run.stdout for name, run in zip(names, runs, strict=True)] == [True, True]
    assert ["to apply" in run.stdout for run in runs] == [False, False]
    assert sorted(files.read_json(build.path("forgotten.json"))) == names
    assert not {*names} & {*building.curated(Build(build.root, build.recipe))}
