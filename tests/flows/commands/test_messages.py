"""A user's mistake and the world's troubles give one message; a fault of ours keeps its traceback."""

from __future__ import annotations

import copy
import errno
import re
import resource
from pathlib import Path

import botocore.exceptions
import pyarrow as pa
import pytest
import typer
from typer.testing import CliRunner

from flows import cli
from flows.commands import options
from pipeline import MillError
from pipeline.store import files, messages, shards
from training.loop.loop import Diverged


def invoke(*arguments: str | Path) -> tuple[int, str, BaseException | None]:
    """Exit code, what was printed, and the exception that a user would see as a traceback."""
    found = CliRunner().invoke(cli.app, [str(argument) for argument in arguments], env={"COLUMNS": "200"})
    fault = None if isinstance(found.exception, SystemExit | type(None)) else found.exception
    return found.exit_code, " ".join(found.output.split()), fault


def refused(*arguments: str | Path) -> str:
    """What is printed of a command that must end in one message."""
    code, shown, fault = invoke(*arguments)
    assert fault is None, repr(fault)
    assert code == 1
    assert shown.startswith("error ")
    return shown


def test_what_a_user_can_put_right_is_one_message(tmp_path):
    missing = tmp_path / "absent"
    assert "no model 'nosuch'" in refused("models", "pull", "nosuch")
    assert f"{missing}: no build here yet" in refused("why", "a#1", "--builds", missing)
    assert "no finished build here" in refused("diff", "a", "b", "--builds", missing)
    assert "neither a corpus" in refused("budget", tmp_path)
    assert f"{missing}: no such recipe" in refused("curate", missing)
    assert "give the folder of a model" in refused("lineage", missing)
    assert "no section 'nosuch'" in refused("fields", "nosuch")
    wrong = refused("train-lm", tmp_path / "x.txt", "-o", tmp_path / "lm", "--prune", "0 one", "--max-bytes", "much")
    assert wrong.startswith("error prune.1: must be a valid integer")
    assert "max_bytes: could not parse value" in wrong
    assert "pydantic" not in wrong
    assert "no corpus of a build" in refused("extend-tokenizer", "gpt2", missing, "-o", tmp_path / "out")


def test_a_fault_of_ours_keeps_its_traceback():
    for fault in (ValueError("a bug"), KeyError("models"), RuntimeError("a bug"), pa.ArrowInvalid("a bug")):
        assert messages.message(fault) is None
        with pytest.raises(type(fault), match=str(fault)), options.telling_errors(False):
            raise fault
    assert messages.message(OSError("Couldn't deserialize thrift")) is None


def test_errors_of_ours_are_shown_plainly_also_out_of_another_process(capsys):
    for error in (Diverged("step 3: the loss is nan"), files.MillError("x"), shards.DamagedFile("y")):
        travelled = copy.copy(error)  # as pickle does it
        with pytest.raises(typer.Exit), options.telling_errors(False):
            raise travelled
        assert capsys.readouterr().err == f"error {error}\n"
        with pytest.raises(MillError), options.telling_errors(True):
            raise travelled


def test_errors_of_the_system_name_the_path_and_a_remedy(tmp_path):
    cases = {
        OSError(errno.ENOSPC, "No space left on device", "/data/x"): "/data/x: the disk is full .*free some space",
        PermissionError(errno.EACCES, "Permission denied", "/data/x"): "/data/x: Permission denied; check who may",
        FileNotFoundError(errno.ENOENT, "No such file or directory", b"/data/x"): "/data/x: No such file or directory$",
        FileNotFoundError("s3://bucket/x"): "s3://bucket/x: no such file",
        Exception("No space left on device (os error 28)"): "the disk is full .*free some space",  # of Rust
    }
    for error, pattern in cases.items():
        assert re.search(pattern, messages.message(error) or ""), error
    with pytest.raises(FileNotFoundError) as caught:
        pa.memory_map(str(tmp_path / "absent"))
    assert str(tmp_path / "absent") in (messages.message(caught.value) or "")


def test_a_file_that_may_not_grow_is_named(tmp_path):
    def limited(path: Path) -> str | None:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, hard))
        try:
            shards.write_table(str(path), pa.table({"text": ["x" * (1 << 20)]}), "made by")
        except OSError as error:
            return messages.message(error)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        return None

    told = limited(tmp_path / "shard.arrow")
    assert told is not None
    assert told.startswith(f"{tmp_path / 'shard.arrow'}: File too large; ")
    assert "ulimit -f" in told
    assert list(tmp_path.iterdir()) == []


def test_a_store_that_is_not_reached_is_named():
    refusal = r"s3://bucket/x: not reached \(Unable to locate credentials\)"
    with pytest.raises(MillError, match=refusal), files.reaching("s3://bucket/x"):
        raise botocore.exceptions.NoCredentialsError
    with pytest.raises(MillError, match="nosuch://x: Protocol not known"):
        files.exists("nosuch://x")
    with pytest.raises(ValueError, match="a bug") as caught, files.reaching("s3://bucket/x"):
        raise ValueError("a bug")
    assert not isinstance(caught.value, MillError)
