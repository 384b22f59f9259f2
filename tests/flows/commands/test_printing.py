"""What a run prints: lines of JSON for programs, one line for the quiet, no control codes outside a terminal."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from flows import cli
from flows.execution.json_lines import JsonReporter
from pipeline.store import shards
from tests.flows.commands.test_cli import offline
from tests.helpers import asking

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A recipe of real texts, of which rules and deduplication drop some."""
    folder = tmp_path_factory.mktemp("printing")
    values = asking.values(folder)
    del values["language"]
    (folder / "r.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    return folder


@pytest.fixture(scope="module")
def built(folder) -> list[dict]:
    """The lines of a first build with --json."""
    found = offline("curate", folder / "r.yaml", "--builds", folder / "b", "--json")
    assert found.exit_code == 0, found.stderr
    return [json.loads(line) for line in found.stdout.splitlines()]


def test_each_step_is_a_line_of_json_and_the_last_line_sums_up(built):
    *steps, summary = built
    assert {line["event"] for line in steps} == {"step"}
    names = [line["name"] for line in steps]
    assert names[0] == "ingest"
    assert {"urls", "heuristics", "exact", "minhash", "corpus"} <= set(names)
    for line in steps:
        assert {"name", "title", "done", "total", "seconds", "bytes", "reused", "finished"} <= line.keys()
        assert line["done"] == line["total"]
    stages = [line for line in steps if line["name"] in ("ingest", "urls", "heuristics", "exact", "minhash", "corpus")]
    assert [line["name"] for line in stages if line["reused"]] == []
    ingest = steps[0]
    assert ingest["mb_per_second"] == pytest.approx(ingest["bytes"] / 1e6 / ingest["seconds"], rel=0.05)
    assert summary["event"] == "summary"
    assert summary["state"] == "completed"
    kept = summary["documents"]["read"] - sum(line.get("dropped", 0) for line in steps)
    assert summary["documents"]["kept"] == kept
    assert summary["dropped"] == {line["name"]: line["dropped"] for line in steps if line.get("dropped")}
    assert Path(summary["outputs"]["corpus"]).is_dir()


def test_the_command_of_the_guide_gives_the_fields_that_it_names(built):
    guide = (ROOT / "docs" / "guide.md").read_text("utf-8").partition("## Output and exit codes")[2]
    guide = guide.partition("\n## ")[0]
    (command,) = re.findall(r"^```sh\nmill (.*?)\n```", guide, re.M | re.S)
    assert command == "curate texts.yaml --json"  # as ``built`` runs it
    named = re.findall(r"`(\w+)`", guide.partition("A step has ")[2].partition("; the last line")[0])
    assert set(named) <= {key for line in built[:-1] for key in line}


def test_steps_of_a_second_run_are_reused(built, folder):
    found = offline("curate", folder / "r.yaml", "--builds", folder / "b", "--json")
    *steps, summary = map(json.loads, found.stdout.splitlines())
    assert [line["name"] for line in steps] == [line["name"] for line in built[:-1]]
    assert all(line["reused"] for line in steps)
    assert summary == built[-1]


def test_quiet_is_the_last_line_and_warnings(built, folder):
    found = offline("curate", folder / "r.yaml", "--builds", folder / "b", "--quiet")
    kept, read = (built[-1]["documents"][name] for name in ("kept", "read"))
    (line,) = found.stdout.splitlines()
    assert line.startswith(f"{folder / 'b' / 'base'}: {read} documents read, {kept} kept (")
    told = " ".join(found.stderr.split())
    assert all(" ".join(warning.split()) in told for warning in built[-1]["warnings"])
    # terminals of other tests are as they were
    assert "Read the sources" in offline("curate", folder / "r.yaml", "--builds", folder / "b").stdout


def test_a_failure_is_the_last_line_too(folder):
    found = offline("curate", folder / "nothing.yaml", "--json")
    assert found.exit_code == 1
    (line,) = map(json.loads, found.stdout.splitlines())
    assert line["state"] == "failed"
    assert "no such recipe" in line["error"]
    assert "no such recipe" in found.stderr


def test_a_stopped_run_says_so_to_both(capsys):
    JsonReporter().stop("stopped by SIGTERM; the same command goes on from here")
    out, err = capsys.readouterr()
    assert json.loads(out) == {"event": "summary", "state": "stopped", "error": err.strip()}
    assert err.startswith("stopped by SIGTERM;")


@pytest.mark.parametrize("arguments", [("build", "r.yaml", "--quiet", "--json"), ("build", "--nosuch"), ("nosuch",)])
def test_wrong_use_is_exit_code_2(arguments):
    assert offline(*arguments).exit_code == 2


def test_the_commands_that_make_something_take_both():
    for name in ("build", "curate", "tokenize", "pretrain", "finetune", "ladder", "ablate", "report"):
        shown = offline(name, "--help").stdout
        assert "--quiet" in shown, name
        assert "--json" in shown, name


def environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "NO_COLOR"))}
    return {**kept, "PREFECT_API_URL": "http://127.0.0.1:1/api", "TERM": "xterm-256color", "COLUMNS": "80", **more}


@pytest.mark.slow
def test_a_log_has_no_control_codes_and_80_columns(built, folder):
    command = [sys.executable, "-m", "flows.cli", "curate", str(folder / "r.yaml"), "--builds", str(folder / "b")]
    run = subprocess.run(command, env=environment(), text=True, capture_output=True, timeout=120, check=True, cwd=ROOT)
    assert "\x1b" not in run.stdout + run.stderr
    assert "\r" not in run.stdout + run.stderr
    lines = run.stdout.splitlines()
    assert len([line for line in lines if line.startswith("✓ ")]) == len(built) - 1
    paths = re.compile(re.escape(str(folder)))
    assert [line for line in lines if len(line.rstrip()) > 80 and not paths.search(line)] == []


@pytest.mark.slow
@pytest.mark.usefixtures("built")
def test_no_color_is_heeded_in_a_terminal(folder):
    def shown(**more: str) -> str:
        parent, child = pty.openpty()
        command = [sys.executable, "-m", "flows.cli", "verify", str(folder / "b" / "base")]
        subprocess.run(command, env=environment(**more), stdout=child, stderr=child, timeout=120, check=True, cwd=ROOT)
        os.close(child)
        return os.read(parent, 1 << 16).decode()

    colour = re.compile(r"\x1b\[[0-9;]*3[0-9]")
    assert colour.search(shown())
    assert not colour.search(shown(NO_COLOR="1"))


def test_a_shell_completes_commands():
    asked = {"_MILL_COMPLETE": "complete_bash", "COMP_WORDS": "mill bu", "COMP_CWORD": "1"}
    found = CliRunner().invoke(cli.app, [], prog_name="mill", env=asked)
    assert set(found.output.split()) == {"build", "budget"}


def test_help_loads_nothing_heavy():
    heavy = ("prefect", "torch", "pyarrow", "numba", "pydantic", "yaml", "transformers")
    code = f"import flows.cli, sys; print([name for name in {heavy} if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], text=True, capture_output=True, check=True, cwd=ROOT)
    assert run.stdout.strip() == "[]"


@pytest.mark.usefixtures("built")
def test_fields_and_why_load_nothing_that_they_do_not_need(folder):
    document = next((folder / "b" / "base" / "documents").glob("*.arrow"))
    name = shards.read_table(str(document), ["id"])["id"][0].as_py()
    heavy = ("numba", "prefect", "torch", "pandas", "scipy", "tokenizers", "transformers", "sentencepiece", "fsspec")
    heavy += ("datasketch", "ftfy", "jinja2", "pyarrow.parquet", "pyarrow.dataset")
    code = f"""if True:
        import sys
        from flows import cli
        for question in (["fields"], ["fields", "minhash"], ["why", {name!r}, "--builds", {str(folder / "b")!r}]):
            cli.app(question, standalone_mode=False)
        print([name for name in {heavy} if name in sys.modules])
    """
    run = subprocess.run([sys.executable, "-c", code], text=True, capture_output=True, check=True, cwd=ROOT)
    assert name in run.stdout
    assert run.stdout.splitlines()[-1] == "[]"


def test_every_exit_code_of_the_guide_has_its_test():
    guide = (ROOT / "docs" / "guide.md").read_text("utf-8").partition("| exit code |")[2].partition("\n\n")[0]
    codes = set(re.findall(r"^\| (\d+) \|", guide, re.M))
    assert codes == {"0", "1", "2", "130", "143"}
    stopping = (ROOT / "tests" / "flows" / "execution" / "test_stopping.py").read_text("utf-8")
    assert "130" in stopping
    assert "143" in stopping
