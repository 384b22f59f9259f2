import json

import pytest
import yaml
from typer.testing import CliRunner, Result

from flows import cli
from tests.flows.conftest import mill


def offline(*arguments) -> Result:
    """The command where any call to a server fails: what is refused must be refused before."""
    environment = {"PREFECT_API_URL": "http://127.0.0.1:1/api", "COLUMNS": "400"}
    run = CliRunner().invoke(cli.app, [str(argument) for argument in arguments], env=environment)
    assert run.exception is None or isinstance(run.exception, SystemExit), run.exception
    return run


def test_help_teaches_the_first_command_and_names_every_other(environment):
    shown = mill("--help", environment=environment).stdout
    assert "mill build data/recipes/demo.yaml" in shown
    commands = [
        "build",
        "curate",
        "tokenize",
        "pretrain",
        "finetune",
        "report",
        "models",
        "why",
        "forget",
        "runs",
        "ui",
        "serve",
    ]
    assert [name for name in commands if f" {name} " not in shown] == []


def test_a_wrong_recipe_is_refused_before_any_work(topics_recipe, tmp_path):
    recipe = yaml.safe_load(topics_recipe.read_text())
    recipe["minhash"] = {"bnads": 3}
    topics_recipe.write_text(yaml.safe_dump(recipe, sort_keys=False))
    line = 1 + topics_recipe.read_text().splitlines().index("  bnads: 3")
    run = offline("build", topics_recipe, "--builds", tmp_path / "builds")
    assert run.exit_code == 1
    assert f"line {line}: minhash.bnads: unknown field; did you mean `bands`?" in " ".join(run.stderr.split())
    assert not (tmp_path / "builds").exists()


def test_a_missing_recipe_names_those_that_are_there():
    run = offline("build", "data/recipes/dmo.yaml")
    assert run.exit_code == 1
    assert "data/recipes/demo.yaml" in run.stderr


@pytest.mark.parametrize(
    ("option", "value", "remedy"),
    [
        ("--timezone", "CET/Nowhere", "--timezone CET/Nowhere: no such time zone"),
        ("--cron", "0 25 * * *", '--cron "0 25 * * *": not a cron line'),
    ],
)
def test_a_wrong_schedule_is_refused_before_anything_starts(topics_recipe, option, value, remedy):
    schedule = {"--cron": "0 2 * * *", "--timezone": "UTC", option: value}
    run = offline("serve", "--recipe", topics_recipe, *[word for pair in schedule.items() for word in pair])
    assert run.exit_code == 1
    assert " ".join(run.stderr.split()).startswith(f"error {remedy}")
    assert "serving" not in run.stdout
    assert "pydantic" not in run.stderr


def test_the_schema_is_all_that_is_printed():
    shown = offline("fields", "--schema")
    assert (shown.exit_code, shown.stderr) == (0, "")
    assert json.loads(shown.stdout)["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    refused = offline("fields", "minhash", "--schema")
    assert refused.exit_code == 1
    assert "leave out 'minhash'" in refused.stderr
