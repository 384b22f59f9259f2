"""Bases for every task, each made once."""

from __future__ import annotations

import pytest

from tests.helpers import foreign_models
from tests.training.conftest import sentences


@pytest.fixture(scope="session")
def bert(tmp_path_factory: pytest.TempPathFactory) -> str:
    return foreign_models.bert(tmp_path_factory.mktemp("bert"), sentences(200))


@pytest.fixture(scope="session")
def roberta(tmp_path_factory: pytest.TempPathFactory) -> str:
    return foreign_models.roberta(tmp_path_factory.mktemp("roberta"), sentences(200))


@pytest.fixture(scope="session")
def t5(tmp_path_factory: pytest.TempPathFactory) -> str:
    return foreign_models.t5(tmp_path_factory.mktemp("t5"), sentences(200))


@pytest.fixture(scope="session")
def bart(tmp_path_factory: pytest.TempPathFactory) -> str:
    return foreign_models.bart(tmp_path_factory.mktemp("bart"), sentences(200))
