"""What a release holds and needs: files, version, dependencies."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version
from typer.testing import CliRunner

import pipeline
from flows import cli

ROOT = Path(__file__).parents[1]
PACKAGES = ("corpusmill", "flows", "pipeline", "training")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
#: Modules that a declared dependency always installs, in the release that fits it.
BROUGHT = {
    "dask": "distributed",
    "huggingface_hub": "transformers",
    "llvmlite": "numba",
    "markupsafe": "jinja2",
    "pydantic_core": "pydantic",
    "starlette": "fastapi",
    "uvicorn": "prefect",
}


def ranges() -> dict[str, Requirement]:
    extras = PROJECT["project"]["optional-dependencies"].values()
    lines = [*PROJECT["project"]["dependencies"], *(line for extra in extras for line in extra)]
    requirements = [Requirement(line) for line in lines]
    return {canonicalize_name(one.name): one for one in requirements}


def locked() -> dict[str, Version]:
    lines = (ROOT / "requirements.lock").read_text("utf-8").splitlines()
    pins = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(name): Version(version) for name, version in pins}


def imported() -> Iterator[tuple[str, str]]:
    """Top-level modules that the packages import, with the file that does."""
    for path in (path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                yield from ((alias.name.split(".")[0], str(path.relative_to(ROOT))) for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                yield node.module.split(".")[0], str(path.relative_to(ROOT))


def test_every_range_holds_the_release_that_the_tests_run_with():
    pins = locked()
    for name, requirement in ranges().items():
        assert requirement.specifier.contains(pins[name]), f"{requirement}: the lock has {pins[name]}"


def test_the_oldest_release_of_every_range_is_tested():
    """What `make test-oldest` installs is the lower bound of each requirement, and no release besides."""
    wanted = {
        name: Version(one.version)
        for name, requirement in ranges().items()
        for one in requirement.specifier
        if one.operator in (">=", "==")
    }
    assert wanted.keys() == ranges().keys()
    done = subprocess.run(
        ["make", "--dry-run", "--always-make", ".venv-oldest"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    (extraction,) = [line for line in done.stdout.splitlines() if line.startswith("sed ")]
    command = extraction.rpartition(">")[0]
    lines = subprocess.run(command, shell=True, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    installed = dict(line.split("==") for line in lines)
    assert {canonicalize_name(name): Version(version) for name, version in installed.items()} == wanted


def test_every_upper_bound_says_why():
    lines = (ROOT / "pyproject.toml").read_text("utf-8").splitlines()
    bounded = [line for line in lines if re.match(r'\s+"[\w-]+(==|[^"]*<)', line)]
    assert len(bounded) >= 4
    assert [line for line in bounded if "#" not in line] == []


def test_what_is_imported_is_declared():
    distributions = packages_distributions()
    known = {*sys.stdlib_module_names, *PACKAGES, *BROUGHT, "corpusmill"}
    declared = set(ranges())
    assert set(BROUGHT.values()) <= declared
    modules = {module: path for module, path in imported() if module not in known}
    assert len(modules) > 20
    missing = {
        module: path
        for module, path in modules.items()
        if not declared & {canonicalize_name(name) for name in distributions.get(module, [module])}
    }
    assert missing == {}


def test_the_version_is_one():
    result = CliRunner().invoke(cli.app, ["--version"])
    assert result.exit_code == 0
    assert result.output == f"corpusmill {pipeline.__version__}\n"
    changes = (ROOT / "CHANGELOG.md").read_text("utf-8")
    released = re.findall(r"^## \[(\d+\.\d+\.\d+)\]", changes, re.MULTILINE)
    assert "## [Unreleased]" in changes
    assert all(Version(one) <= Version(pipeline.__version__) for one in released)


@pytest.mark.slow
def test_a_release_holds_every_file_and_works_in_an_environment_of_its_own(tmp_path):
    """What `make dist` does, on a clone: what lies in this folder and is in no commit is in no release."""
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(tmp_path / "clone")], check=True)
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=tmp_path / "clone", capture_output=True, text=True, check=True
    ).stdout.split("\0")
    build = [sys.executable, "-m", "build", "--quiet", "--outdir", str(tmp_path / "dist"), str(tmp_path / "clone")]
    subprocess.run(build, check=True, timeout=300)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    (source,) = (tmp_path / "dist").glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as archive:
        held = set(archive.namelist())
    assert len(listed) > 300
    parts = (*(f"{package}/" for package in PACKAGES), "corpusmill.py")
    assert {name for name in listed if name.startswith(parts)} - held == set()
    assert any(name.endswith("licenses/LICENSE") for name in held)
    with tarfile.open(source) as archive:
        unpacked = {name.split("/", 1)[-1] for name in archive.getnames()}
    assert {name for name in listed if name and not name.startswith((".git", ".pre-commit"))} - unpacked == set()
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment["PREFECT_API_URL"] = "http://127.0.0.1:1/api"  # `make dist` starts a server, too, which takes longer
    done = subprocess.run(
        [str(ROOT / ".ci" / "smoke"), str(wheel), sys.executable],
        capture_output=True,
        text=True,
        env=environment,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
