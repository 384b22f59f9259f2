"""Our heuristic families beside datatrove's own filters, on real English documents."""

import pytest

from benchmarks import decisions, peer


@pytest.mark.slow
@pytest.mark.usefixtures("shared")
def test_each_family_decides_as_datatrove_does_on_99_percent_of_5000_documents():
    if not peer.installed():
        pytest.skip(peer.MISSING)
    documents = decisions.sample(5000)
    texts = [text for _, text in documents]
    assert len(set(documents)) == 5000
    theirs = decisions.judged_by_datatrove(texts)
    for family in peer.FILTERS:
        dropped = sum(verdict.reason is not None for verdict in theirs[family])
        assert 100 < dropped < 4900, "both verdicts occur, so that agreement says something"
        differences = decisions.compare(documents, decisions.judged_by_us(family, texts), theirs[family])
        assert decisions.agreement(differences, documents) >= 0.99, differences
