"""The names that others may use, and what importing them costs."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import corpusmill
import pipeline
from pipeline.store import model_files

GUIDE = Path(__file__).parents[2] / "docs" / "python.md"


def test_every_public_name_is_there_and_explained():
    assert corpusmill.__version__ == pipeline.__version__
    texts = GUIDE.read_text("utf-8") + GUIDE.with_name("plugins.md").read_text("utf-8")
    for name in corpusmill.__all__:
        value = getattr(corpusmill, name)
        if name != "__version__":
            assert inspect.getdoc(value), name
            assert re.search(rf"\b{name}\b", texts) or name in ("Build",), f"{name} is in no guide"


@pytest.mark.slow
def test_the_whole_face_loads_neither_torch_nor_prefect_and_its_import_no_arrow():
    program = (
        "import sys, corpusmill; assert 'pyarrow' not in sys.modules\n"
        "for name in corpusmill.__all__: getattr(corpusmill, name)\n"
        "assert not {'torch', 'prefect', 'transformers', 'flows'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=GUIDE.parents[1])
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.usefixtures("built")
def test_the_guide_runs_as_it_stands(home, monkeypatch, capsys):
    monkeypatch.setenv("CORPUSMILL_MODELS", str(model_files.folder().resolve()))
    monkeypatch.chdir(home)
    names = {"__name__": "guide"}
    blocks = re.findall(r"^```python\n(.*?)^```", GUIDE.read_text("utf-8"), re.M | re.S)
    for number, block in enumerate(blocks):
        exec(compile(block, f"docs/python.md, block {number}", "exec"), names)  # one after the other, as a reader does
    shown = capsys.readouterr().out
    assert "Write to <MAIL> about it." in shown
    assert "[True, False] [None, 'gopher_repetition." in shown
    assert "shouting.most" in shown
