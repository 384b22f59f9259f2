"""The text that the price of a terabyte is measured on: the same every time, with copies and hosts as it says."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from benchmarks import synthetic_web

pytestmark = pytest.mark.slow


def test_documents_are_functions_of_seed_and_number_with_the_stated_copies_and_hosts(shared):
    assert shared.is_dir()
    model = synthetic_web.model(1)
    data = synthetic_web.lines(model, 0, 4000, 1)
    rows = [json.loads(line) for line in data.decode().split("\n")[:-1]]
    assert len(rows) == 4000
    assert data == synthetic_web.lines(model, 0, 1500, 1) + synthetic_web.lines(model, 1500, 2500, 1)
    assert data[:5000] != synthetic_web.lines(model, 0, 10, 2)[:5000]
    texts = Counter(row["text"] for row in rows)
    copies = len(rows) - len(texts)
    assert copies / len(rows) == pytest.approx(synthetic_web.COPIES, rel=0.3)
    hosts = Counter(row["url"].split("/")[2] for row in rows)
    assert [host for host, _ in hosts.most_common(1)] == ["host-0.example"]
    assert hosts["host-0.example"] / len(rows) == pytest.approx(1 / 12.1, rel=0.3), "1 / H(100,000)"
    assert sum(text.count(" ") for text in texts) / sum(map(len, texts)) == pytest.approx(1 / 6, rel=0.3)
