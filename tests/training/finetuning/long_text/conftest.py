from __future__ import annotations

from tests.training.finetuning.strategies.conftest import bases_of as bases_of
