"""Acceptance tests run on real data that lies beside the checkout; without it they skip and say so."""

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"


@pytest.fixture(scope="session")
def shared() -> Path:
    if not SHARED.is_dir():
        pytest.skip(f"the acceptance data is not there ({SHARED})")
    return SHARED
