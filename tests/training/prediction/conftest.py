from __future__ import annotations

from typing import Any

import pytest

from tests.helpers import published
from training.labelled.rows import Labelled

Published = dict[str, tuple[str, Labelled, dict[str, Any]]]


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Published:
    """By task the folder of a model, its rows and its summary."""
    return {task: published.publish(tmp_path_factory.mktemp(task), task) for task in published.TASKS}
