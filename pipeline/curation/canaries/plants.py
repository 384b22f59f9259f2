"""What is planted: documents of known sort, made from documents of the build. All by the seed, nothing by chance."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from pipeline.curation.canaries.foreign import SENTENCES
from pipeline.stages.dedup.repeats import Repeats
from pipeline.text.shingles import shingle_sets

_WORD = re.compile(r"[^\W\d_]+")
_OTHER_WORDS = ("harbour", "lantern", "meadow", "pebble", "quarry", "saffron", "thimble", "willow")


@dataclass(frozen=True)
class Host:
    """A document of the build that a canary is made from."""

    id: str
    text: str


@dataclass(frozen=True)
class Canary:
    """``text`` is planted for the stage ``stage``; ``fact`` is what was planted, by which it is known when found.

    ``beside``: the host is planted with it, as what it is a duplicate of. ``similarity``: of a near duplicate with it.
    ``passage``: what both hold.
    """

    stage: str
    text: str
    fact: str
    host: Host | None = None
    beside: bool = False
    similarity: float = 1.0
    passage: str = ""


def exact(host: Host, rng: random.Random, spaced: bool) -> Canary:
    """A copy; with ``spaced`` every second time in other whitespace."""
    text = host.text.replace(" ", "  ") if spaced and rng.random() < 0.5 else host.text
    return Canary("exact", text, f"a copy of {host.id}", host, beside=True)


def near(host: Host, rng: random.Random, ngram: int, threshold: float) -> Canary | None:
    """The host with some words changed, at a similarity between ``threshold`` and 1; None if it is too short."""
    words = list(_WORD.finditer(host.text))
    wanted = threshold + (1 - threshold) * rng.random()
    changes = min(len(words), max(1, int(len(words) * (1 - wanted) / (1 + wanted) / ngram)))
    while changes:
        text = host.text
        for word in sorted(rng.sample(words, changes), key=lambda match: -match.start()):
            text = text[: word.start()] + rng.choice(_OTHER_WORDS) + text[word.end() :]
        similarity = jaccard(host.text, text, ngram)
        if threshold <= similarity < 1:
            fact = f"{host.id} with {changes} words changed, Jaccard {similarity:.2f}"
            return Canary("minhash", text, fact, host, beside=True, similarity=similarity)
        changes //= 2
    return None


def repeated(host: Host, rng: random.Random, stage: str, config: Repeats) -> Canary | None:
    """The words of the host in another order and a passage of them; beside it the host with the same passage.

    The passage is as many units as ``config`` cuts, with tokens in the midst of a line. None if the host has no words.
    """
    words = _WORD.findall(host.text)
    if not words:
        return None
    if config.unit == "token":
        passage = " ".join(rng.choices(words, k=config.length + 5))
        before, after = "\n", " "
    else:
        size = max(12, 1 + config.minimum // config.length)
        between = {"sentence": " ", "line": "\n", "paragraph": "\n\n"}[config.unit]
        passage = between.join(" ".join(rng.choices(words, k=size)) + "." for _ in range(config.length))
        before = after = "\n\n"
    more = max(len(words), 2 * len(passage.split()))  # so that the two are no near duplicates
    first, last = (" ".join(rng.choices(words, k=more // 2 + 1)) for _ in range(2))
    beside = Host(host.id, f"{host.text}{before}{passage}{after}{words[0]}")
    text = f"{first}.{before}{passage}{after}{last}."
    return Canary(stage, text, f"a passage that is also in {host.id}", beside, beside=True, passage=passage)


def jaccard(one: str, other: str, ngram: int) -> float:
    """The similarity of the sets of word n-grams of two texts."""
    hashes, offsets = shingle_sets(pa.array([one, other]), ngram)
    a, b = (hashes[offsets[i] : offsets[i + 1]] for i in (0, 1))
    both = len(np.intersect1d(a, b))
    return both / max(len(a) + len(b) - both, 1)


def personal(host: Host, rng: random.Random, kinds: Sequence[str]) -> Canary:
    """The host with one piece of made-up personal data, at the end of its first line."""
    kind = rng.choice(list(kinds))
    value = _PERSONAL[kind](rng)
    first, line_end, rest = host.text.partition("\n")
    return Canary("pii", f"{first} Contact: {value} now.{line_end}{rest}", f"{kind}: {value}", host)


def evaluation(host: Host, rng: random.Random, item: str, text: str) -> Canary:
    """The host with an evaluation item between two of its lines."""
    lines = host.text.split("\n")
    at = rng.randrange(len(lines) + 1)
    return Canary("decontaminate", "\n".join([*lines[:at], text, *lines[at:]]), item, host)


def foreign(rng: random.Random, unwanted: Sequence[str]) -> Canary:
    """Sentences in a language that the recipe does not keep."""
    language = rng.choice(list(unwanted))
    sentences = SENTENCES[language][1]
    return Canary("language", " ".join(rng.sample(sentences, len(sentences))), language)


def unwanted(keep: Sequence[str]) -> list[str]:
    """The languages of which there are sentences and that ``keep`` does not name, by either of their labels."""
    if "*" in keep:
        return []
    return [code for code, (label, _) in SENTENCES.items() if code not in keep and label not in keep]


def _digits(rng: random.Random, count: int) -> str:
    return "".join(rng.choice("0123456789") for _ in range(count))


def _card(rng: random.Random) -> str:
    """A number that begins as Visa's do, with Luhn's check digit."""
    digits = [4, *(int(digit) for digit in _digits(rng, 14))]
    doubled = [digit * 2 if place % 2 == 0 else digit for place, digit in enumerate(digits)]
    total = sum(digit - 9 if digit > 9 else digit for digit in doubled)
    return "".join(map(str, [*digits, -total % 10]))


def _iban(rng: random.Random) -> str:
    """A German account, with the check digits of ISO 13616."""
    account = _digits(rng, 18)
    return f"DE{98 - int(account + '131400') % 97:02d}{account}"


_PERSONAL: dict[str, Callable[[random.Random], str]] = {
    "email": lambda rng: f"{rng.choice(_OTHER_WORDS)}.{_digits(rng, 4)}@{rng.choice(_OTHER_WORDS)}-mail.com",
    "ip": lambda rng: ".".join(["81", *(str(rng.randrange(32, 250)) for _ in range(3))]),
    "phone": lambda rng: f"+49 30 {rng.randrange(2, 9)}{_digits(rng, 6)}",
    "iban": _iban,
    "card": _card,
}


KINDS = tuple(_PERSONAL)


def numbered(seed: int, kind: str) -> Iterator[random.Random]:
    """A source of choices for each canary of a kind, the same for the same seed."""
    number = 0
    while True:
        yield random.Random(f"canary {seed} {kind} {number}")
        number += 1
