"""URL rules: lists of domains to block or to allow, and words banned from addresses.

A domain in a list stands for itself and all its subdomains (``example.com`` for ``www.example.com``, not for
``myexample.com``), as in RefinedWeb (Penedo et al. 2023, section 3.1 and G.1). Documents without a URL pass.
"""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path
from typing import Annotated

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from pipeline.build.stage import Batch, Measured, Stage
from pipeline.store import model_files, recipe_file
from pipeline.store.ledger import Rule

VERSION = 1
_HOST = r"^[A-Za-z][A-Za-z0-9+.-]*://(?:[^/?#@]*@)?(?P<host>[^/?#:]+)"


class Config(recipe_file.Config):
    """``blocklist``, ``allowlist``: files of domains, one a line (a hosts file will do); ``#`` begins a comment.

    ``banned_words`` are whole words, in any case, anywhere in the URL; more than ``max_banned_words`` drop it.
    """

    blocklist: Annotated[
        str | None,
        Field(description="file of domains to drop, one per line, subdomains included; a hosts file will do"),
    ] = None
    allowlist: Annotated[
        str | None,
        Field(description="file of domains to keep, one per line, subdomains included; all others are dropped"),
    ] = None
    banned_words: Annotated[
        list[Annotated[str, Field(min_length=1)]],
        Field(description="whole words to look for in addresses, in any letter case"),
    ] = []
    max_banned_words: Annotated[int, Field(ge=0, description="banned words that an address may hold")] = 0


SIGNALS = {"url_blocked": pa.uint8(), "url_allowed": pa.uint8(), "url_banned_words": pa.int32()}


def rules(config: Config) -> list[Rule]:
    return [
        *([Rule("urls.blocklist", "url_blocked", maximum=0)] if config.blocklist else []),
        *([Rule("urls.allowlist", "url_allowed", minimum=1)] if config.allowlist else []),
        *([Rule("urls.banned_words", "url_banned_words", maximum=config.max_banned_words)] * bool(config.banned_words)),
    ]


def measure(config: Config, batch: Batch) -> Measured:
    """``url_blocked``, ``url_allowed``: 1 where the host is in the list; ``url_banned_words``: how many there are."""
    urls = batch.documents["url"]
    signals: dict[str, pa.Array] = {}
    hosts = pc.utf8_lower(pc.struct_field(pc.extract_regex(urls, _HOST), "host")).dictionary_encode()
    for signal, name in (("url_blocked", "blocklist"), ("url_allowed", "allowlist")):
        if name in batch.models:
            path = batch.models[name]
            domains = _domains(path, model_files.digest(path))
            listed = np.array([_is_listed(host, domains) for host in hosts.dictionary.to_pylist()] + [False])
            signals[signal] = pa.array(listed.astype(np.uint8)).take(hosts.indices)
    if config.banned_words:
        pattern = "|".join(sorted(re.escape(word) for word in config.banned_words))
        signals["url_banned_words"] = pc.count_substring_regex(urls, rf"(?i)\b(?:{pattern})\b").cast(pa.int32())
    return Measured(signals)


def _is_listed(host: str, domains: frozenset[str]) -> bool:
    labels = host.rstrip(".").split(".")
    return any(".".join(labels[start:]) in domains for start in range(len(labels)))


@lru_cache(maxsize=8)
def _domains(path: str, _digest: str) -> frozenset[str]:
    lines = (line.partition("#")[0].split() for line in Path(path).read_text("utf-8").lower().split("\n"))
    return frozenset(fields[-1].strip(".") for fields in lines if fields)


def _models(config: Config) -> dict[str, str]:
    named = {"blocklist": config.blocklist, "allowlist": config.allowlist}
    return {name: path for name, path in named.items() if path is not None}


def _measured(config: Config) -> list[str]:
    return [rule.signal for rule in rules(config)]


STAGE = Stage(
    name="urls",
    title="URL rules",
    about="drop documents by their address: lists of domains, banned words",
    config=Config,
    version=VERSION,
    signals=SIGNALS,
    rules=rules,
    measure=measure,
    models=_models,
    measured=_measured,
)
