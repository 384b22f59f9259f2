"""The image, the compose file and the job template refer to what is there, and say nothing that is secret."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from prefect.cli._app import _app as prefect_app
from prefect.settings import Settings
from prefect.settings.legacy import _get_settings_fields
from prefect.utilities.templating import apply_values, find_placeholders
from typer.main import get_command

from flows.cli import app as mill_app

ROOT = Path(__file__).parents[1]
DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text("utf-8")
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text("utf-8"))
TEMPLATE: dict[str, Any] = json.loads((ROOT / "deploy" / "kubernetes.json").read_text("utf-8"))
DOCUMENTS = [
    "README.md",
    *(f"docs/{name}.md" for name in ("guide", "index", "recipes", "report", "faq", "laptop")),
    "prefect.yaml",
]
SECRET = re.compile(r"password|secret|token|credential|_key\b", re.IGNORECASE)


def instructions() -> list[tuple[str, str]]:
    """The lines of the Dockerfile: instruction and what follows it."""
    text = re.sub(r"\\\n", " ", re.sub(r"^#.*\n", "", DOCKERFILE, flags=re.MULTILINE))
    return [(line.split()[0], line.partition(" ")[2]) for line in text.splitlines() if line.strip()]


def check_command(words: list[str]) -> None:
    """Fails unless ``mill``, ``prefect`` or ``python -m`` takes these words: nothing is run."""
    program, *rest = words
    if program == "mill":
        command: Any = get_command(mill_app)
        context = command.make_context("mill", list(rest), resilient_parsing=not rest or rest[0].startswith("-"))
        while hasattr(command, "commands") and (left := [*context._protected_args, *context.args]):
            name, command, remaining = command.resolve_command(context, left)
            context = command.make_context(name, remaining, parent=context)
    elif program == "prefect":
        rest = [word for word in rest if word != "--no-prompt"]
        prefect_app.parse_args(rest, exit_on_error=False, print_error=False)
    else:
        assert words[:2] == ["python", "-m"], words
        assert find_spec(words[2]), words


def commands(command: list[str]) -> Iterator[list[str]]:
    """What a service runs: its command, or the lines of the script that bash gets."""
    if command[0] == "bash":
        yield from (shlex.split(line) for line in command[-1].splitlines())
    else:
        yield command


def test_the_dockerfile_has_no_fault_that_hadolint_knows():
    program = shutil.which("hadolint") or Path(sys.executable).with_name("hadolint")
    done = subprocess.run(
        [program, "--no-color", ROOT / "deploy" / "Dockerfile"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_the_image_copies_what_is_there_and_is_run_by_no_root():
    ignored = (ROOT / "deploy" / "Dockerfile.dockerignore").read_text("utf-8").splitlines()
    assert "*" in ignored
    sent = [line[1:] for line in ignored if line.startswith("!")]
    copied = [
        source
        for name, rest in instructions()
        if name == "COPY" and not rest.startswith("--from")
        for source in rest.split()[:-1]
    ]
    assert sorted(copied) == sorted(sent)
    assert [source for source in copied if not (ROOT / source).exists()] == []
    assert {"corpusmill", "flows", "pipeline", "training", "requirements.lock"} <= set(copied)
    bases = [rest.split()[0] for name, rest in instructions() if name == "FROM"]
    assert len(bases) == 2
    assert all(re.fullmatch(r"python:3\.\d+-slim-\w+", base) for base in bases)
    assert [rest for name, rest in instructions() if name == "USER"] == ["10001"]
    assert not any(SECRET.search(rest) for name, rest in instructions() if name in ("ENV", "ARG"))
    (start,) = [json.loads(rest) for name, rest in instructions() if name == "CMD"]
    check_command(start)


def test_all_that_the_image_installs_is_pinned():
    lock = (ROOT / "requirements.lock").read_text("utf-8").splitlines()
    pinned = {canonicalize_name(line.split("==")[0]) for line in lock if line and not line.startswith("#")}
    left, needed = [("corpusmill", frozenset({"dask", "ray", "s3"}))], set[str]()
    assert "pip install --use-pep517 --constraint requirements.lock '.[dask,ray,s3]'" in DOCKERFILE
    while left:
        name, extras = left.pop()
        if (name, extras) in needed:
            continue
        needed.add((name, extras))  # pyright: ignore[reportArgumentType]
        try:
            requirements = distribution(name).requires or []
        except PackageNotFoundError:
            continue
        for line in requirements:
            one = Requirement(line)
            if one.marker is None or any(one.marker.evaluate({"extra": extra}) for extra in extras or {""}):
                left.append((canonicalize_name(one.name), frozenset(one.extras)))
    names = {name for name, _ in needed} - {"corpusmill", "setuptools"}
    assert len(names) > 100
    assert names - pinned == set()


def test_the_services_run_what_there_is_and_publish_nothing_to_others():
    services = COMPOSE["services"]
    assert services.keys() == {"database", "server", "deploy", "worker"}
    settings = _get_settings_fields(Settings)
    for name, service in services.items():
        assert re.fullmatch(r"corpusmill|postgres:\d+-\w+", service["image"]), name
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), name
        assert set(service.get("depends_on", {})) <= services.keys()
        for volume in service.get("volumes", []):
            source, target, *_ = volume.split(":")
            if source.startswith("."):
                assert source.removeprefix("../") == target.removeprefix("/work/"), volume
                assert source == "../data/drop" or (ROOT / "deploy" / source).is_dir(), volume
            else:
                assert source in COMPOSE["volumes"], volume
        environment = service.get("environment", {})
        unknown = [variable for variable in environment if variable.startswith("PREFECT_") and variable not in settings]
        assert unknown == []
        secret = {variable: value for variable, value in environment.items() if SECRET.search(variable)}
        assert all(re.fullmatch(r"\$\{\w+:\?.+\}", value) for value in secret.values()), name
        assert bool(secret) == (name in ("database", "server"))
        if name == "database":
            continue
        assert service["build"] == {"context": "..", "dockerfile": "deploy/Dockerfile"}
        assert service["read_only"]
        for command in commands(service["command"]):
            check_command(command)
    port = services["server"]["command"][-1]
    assert services["server"]["ports"] == [f"127.0.0.1:{port}:{port}"]
    assert services["worker"]["environment"]["PREFECT_API_URL"] == f"http://server:{port}/api"
    pools = {entry["work_pool"]["name"] for entry in yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]}
    made = [words[4] for words in commands(services["deploy"]["command"]) if words[2:4] == ["work-pool", "create"]]
    assert pools == set(made)


def test_a_job_of_the_template_is_what_kubernetes_takes():
    variables = TEMPLATE["variables"]["properties"]
    assert {one.name for one in find_placeholders(TEMPLATE["job_configuration"])} == variables.keys()
    given = {"name": "curate", "labels": {"run": "1"}, "command": "prefect flow-run execute", "env": {"A": "1"}}
    defaults = {name: field["default"] for name, field in variables.items() if "default" in field}
    manifest: Any = apply_values(TEMPLATE["job_configuration"]["job_manifest"], {**defaults, **given})
    (container,) = manifest["spec"]["template"]["spec"]["containers"]
    check_command(shlex.split(container["args"]))
    container["args"] = shlex.split(container["args"])  # these two by Prefect's Kubernetes worker
    container["env"] = [{"name": name, "value": value} for name, value in container["env"].items()]
    manifest["spec"]["template"]["spec"].pop("serviceAccountName", None)
    kubernetes_validate.validate(manifest, "1.37", strict=True)
    pod = manifest["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert ["USER", str(pod["securityContext"]["runAsUser"])] in map(list, instructions())
    assert {one["name"] for one in container["volumeMounts"]} == {one["name"] for one in pod["volumes"]}
    assert container["envFrom"] == [{"secretRef": {"name": "corpusmill", "optional": True}}]
    assert container["resources"]["limits"] == {"memory": "16Gi", "nvidia.com/gpu": 0}
    manifest["spec"]["backofLimit"] = 0
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(manifest, "1.37", strict=True)


def shown(document: str) -> tuple[list[str], list[str]]:
    """The commands of `mill` and `prefect` in a document: lines of its blocks, and what stands between backticks."""
    text = (ROOT / document).read_text("utf-8")
    text = re.sub(r"\\\n\s*", "", text)
    lines = re.findall(r"^(?:#   |    )?((?:mill|prefect) [a-z].*)$", text, re.MULTILINE)
    text = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    return lines, [re.sub(r"\s+", " ", quoted) for quoted in re.findall(r"`((?:mill|prefect) [a-z][^`]*)`", text)]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_command_that_is_shown_is_one(document):
    whole, mentioned = shown(document)
    assert whole or mentioned
    faults = []
    for line in [*whole, *mentioned]:
        words = shlex.split(re.sub(r"[\[\]]", "", line.split(" > ")[0]), comments=True)
        if words[1:2] == ["flow-run"] or "..." in line:
            continue  # the id of a run is the reader's
        try:
            check_command(["7" if word == "N" else word for word in words])
        except Exception as error:  # noqa: BLE001 - of two command lines, each with errors of its own
            kind = type(error).__name__
            short = line in mentioned and kind.startswith("Missing")  # a sentence may leave out what every call needs
            if not short and not str(error).endswith("does not exist."):  # the files are the reader's
                faults.append(f"{line}: {kind}: {error}")
    assert faults == []
