"""kenlm's own programs, lmplz and build_binary, which CI builds beside its Python (`make lmplz`)."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

_PATH = os.pathsep.join([os.environ["PATH"], str(Path(sys.executable).parent)])


def needs(program: str) -> pytest.MarkDecorator:
    """Skips a test, and says so, where ``program`` is not built."""
    missing = shutil.which(program, path=_PATH) is None
    return pytest.mark.skipif(missing, reason=f"no {program} here: `make lmplz` builds it")


@pytest.fixture
def kenlm_on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only for the test that asks: `estimator: auto` takes lmplz wherever it is on the PATH."""
    monkeypatch.setenv("PATH", _PATH)
