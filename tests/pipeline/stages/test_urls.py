"""URL rules: a listed domain covers its subdomains and nothing else, and documents without a URL pass."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.build.stage import Batch
from pipeline.stages import urls
from pipeline.stages.urls import STAGE, Config
from pipeline.store import ledger


def verdicts(addresses: list[str | None], config: Config) -> list[str | None]:
    """The rule that drops each address; None for kept."""
    texts = pa.array(["text"] * len(addresses), pa.string())
    batch = Batch(texts, {"url": pa.array(addresses, pa.string())}, {}, STAGE.models(config))
    signals = STAGE.measure(config, batch).signals
    assert all(array.type == STAGE.signals[name] and len(array) == len(texts) for name, array in signals.items())
    return ledger.judge(STAGE.rules(config), signals, len(texts)).columns()["dropped_by"].to_pylist()


@pytest.fixture
def listed(tmp_path) -> str:
    path = tmp_path / "domains.txt"
    path.write_text(
        "# a comment\nexample.com\n0.0.0.0 Ads.Example.ORG # hosts file\n\ncafé.fr\nxn--caf-dma.fr\n127.0.0.9\n"
    )
    return str(path)


CASES = {
    "http://example.com/": True,
    "https://www.example.com/a?b#c": True,
    "HTTP://A.B.EXAMPLE.COM:8080": True,
    "http://user:pw@example.com/": True,
    "http://example.com./": True,
    "http://ads.example.org": True,
    "http://café.fr/x": True,
    "http://127.0.0.9/": True,
    "http://example.org/": False,
    "http://myexample.com/": False,
    "http://example.com.evil.net/": False,
    "http://other.net/example.com": False,
    "http://other.net?http://example.com": False,
    "http://com/": False,
    "example.com": False,
    "": False,
}


def test_a_listed_domain_blocks_itself_and_its_subdomains(listed):
    found = verdicts([*CASES, None], Config(blocklist=listed))
    assert found == ["urls.blocklist" if blocked else None for blocked in CASES.values()] + [None]


def test_with_an_allow_list_only_its_domains_pass(listed):
    addresses = [address for address in CASES if "://" in address]
    found = verdicts([*addresses, None], Config(allowlist=listed))
    assert found == [None if CASES[address] else "urls.allowlist" for address in addresses] + [None]


def test_banned_words_are_whole_words_in_any_case():
    addresses = ["http://casino.com/", "http://a.com/Free-CASINO/x", "http://a.com/casinos", "http://essex.gov/", None]
    config = Config(banned_words=["casino", "sex", "a.b"])
    assert verdicts(addresses, config) == ["urls.banned_words"] * 2 + [None] * 3
    assert verdicts(
        ["http://casino.com/", "http://casino.com/casino"], config.model_copy(update={"max_banned_words": 1})
    ) == [
        None,
        "urls.banned_words",
    ]
    assert verdicts(["http://axb.com/"], config) == [None], "a dot in a word is a dot"


def test_rules_that_are_not_configured_do_not_apply():
    assert STAGE.rules(Config()) == []
    assert verdicts(["http://example.com/"], Config()) == [None]


LABEL = st.sampled_from(["a", "b", "c", "aa", "com", "x-y"])


@given(st.lists(LABEL, min_size=1, max_size=4), st.lists(st.lists(LABEL, min_size=1, max_size=3), max_size=4))
def test_listed_is_to_end_in_a_listed_domain_at_a_dot(host, listed):
    domains = frozenset(".".join(labels) for labels in listed)
    name = ".".join(host)
    assert urls._is_listed(name, domains) == any(name == domain or name.endswith("." + domain) for domain in domains)


def test_a_changed_list_is_read_again(listed, tmp_path):
    assert verdicts(["http://other.net/"], Config(blocklist=listed)) == [None]
    (tmp_path / "domains.txt").write_text("other.net\n")
    assert verdicts(["http://other.net/", "http://example.com"], Config(blocklist=listed)) == ["urls.blocklist", None]
