"""Personal data: e-mail addresses, public IP addresses, phone numbers, IBANs and credit cards, found by their form.

What is found and what is not say ``emails``, ``addresses``, ``phones`` and ``numbers`` in ``pipeline.text``. What is
replaced is gone for all later stages and the corpus; ``<MAIL>``, ``<IP>``, ``<PHONE>``, ``<IBAN>`` or ``<CARD>`` is put
in its place.
No placeholder is longer than the shortest thing of its kind, so it is written over the first characters of that, with
blanks to the end of the last of them; these and the rest are cut: no place in a text moves, and the account of bytes
holds.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Annotated, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field

from pipeline.build.build import Build, edited
from pipeline.build.canaries import RARE_WORDS, Canaries, Canary, Host, Maker, Room
from pipeline.build.stage import Batch, Measured, Stage
from pipeline.store import recipe_file
from pipeline.store.ledger import Rule
from pipeline.text import pii, spans
from pipeline.text.buffers import string_array

VERSION = 3
PLACEHOLDERS = {"email": "<MAIL>", "ip": "<IP>", "phone": "<PHONE>", "iban": "<IBAN>", "card": "<CARD>"}
SIGNALS = {f"pii_{kind}": pa.int32() for kind in pii.KINDS}

Action = Literal["replace", "drop", "keep"]


class Config(recipe_file.Config):
    """For each kind: ``replace`` it by its placeholder, ``drop`` the document, or ``keep`` it. All are counted.

    ``reserved_ips``: also IP addresses that are not public (private networks, loopback, documentation).
    """

    email: Annotated[Action, Field(description="what to do with e-mail addresses")] = "replace"
    ip: Annotated[Action, Field(description="what to do with IP addresses")] = "replace"
    phone: Annotated[Action, Field(description="what to do with phone numbers")] = "replace"
    iban: Annotated[Action, Field(description="what to do with bank account numbers (IBAN)")] = "replace"
    card: Annotated[Action, Field(description="what to do with credit card numbers")] = "replace"
    reserved_ips: Annotated[
        bool,
        Field(
            description="treat IP addresses that are not public like the others: private networks, loopback,"
            " documentation"
        ),
    ] = False


def rules(config: Config) -> list[Rule]:
    return [Rule(f"pii.{kind}", f"pii_{kind}", maximum=0) for kind in pii.KINDS if getattr(config, kind) == "drop"]


def measure(config: Config, batch: Batch) -> Measured:
    """How many there are of each kind (``pii_email``, ...); what is replaced, as overwritten and cut ranges."""
    matches = pii.find(batch.texts, config.reserved_ips)
    text = np.repeat(np.arange(len(batch.texts)), np.diff(matches.offsets))
    counts = np.bincount(text * len(pii.KINDS) + matches.kinds, minlength=len(batch.texts) * len(pii.KINDS))
    signals = dict(
        zip(SIGNALS, map(pa.array, counts.astype(np.int32).reshape(-1, len(pii.KINDS)).T.copy()), strict=True)
    )
    replaced = np.array([getattr(config, kind) == "replace" for kind in pii.KINDS])[matches.kinds]
    kept = pii.Found(_offsets(text[replaced], batch), *(values[replaced] for values in matches[1:]))
    written, cut = pii.places(batch.texts, kept, _SIZES)
    sizes = np.diff(written)
    fill = _PADDED[kept.kinds][np.arange(_PADDED.shape[1]) < sizes]
    edges = np.concatenate([[0], np.cumsum(sizes)])[kept.offsets]
    overwrites = (spans.from_ranges(kept.offsets, *written.T), string_array(fill, edges))
    return Measured(signals, spans.merge([spans.from_ranges(kept.offsets, *cut.T)]), overwrites)


def _offsets(text: np.ndarray, batch: Batch) -> np.ndarray:
    """int64 [n + 1]: where the entries of each of n texts begin; ``text`` is the sorted number of each entry's."""
    return np.concatenate([[0], np.cumsum(np.bincount(text, minlength=len(batch.texts)))])


_SIZES = np.array([len(PLACEHOLDERS[kind]) for kind in pii.KINDS])
_PADDED = np.array([list(PLACEHOLDERS[kind].ljust(_SIZES.max() + 3).encode()) for kind in pii.KINDS], np.uint8)


def _plant(build: Build, choices: Sequence[random.Random]) -> Iterator[Maker] | None:
    kinds = [kind for kind, action in build.section("pii") if kind in _MADE_UP and action != "keep"]
    return (partial(_personal, rng=rng, kinds=kinds) for rng in choices) if kinds else None


def _personal(host: Host, rng: random.Random, kinds: Sequence[str]) -> Canary:
    """The host with one piece of made-up personal data, at the end of its first line."""
    kind = rng.choice(kinds)
    value = _MADE_UP[kind](rng)
    first, line_end, rest = host.text.partition("\n")
    return Canary(f"{first} Contact: {value} now.{line_end}{rest}", f"{kind}: {value}", host)


def _caught(room: Room, canaries: Mapping[str, Canary]) -> set[str]:
    entry = room.ledger("pii")
    dropped = entry["dropped_by"].is_valid().to_pylist()
    texts = edited(room.build.documents(room.shard)["text"].combine_chunks(), [entry])[0]
    values = {name: canary.fact.partition(": ")[2] for name, canary in canaries.items()}
    rows = room.rows(list(canaries)).items()
    return {name for name, row in rows if dropped[row] or values[name] not in texts[row].as_py()}


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


_MADE_UP: dict[str, Callable[[random.Random], str]] = {
    "email": lambda rng: f"{rng.choice(RARE_WORDS)}.{_digits(rng, 4)}@{rng.choice(RARE_WORDS)}-mail.com",
    "ip": lambda rng: ".".join(["81", *(str(rng.randrange(32, 250)) for _ in range(3))]),
    "phone": lambda rng: f"+49 30 {rng.randrange(2, 9)}{_digits(rng, 6)}",
    "iban": _iban,
    "card": _card,
}

STAGE = Stage(
    name="pii",
    title="Personal data",
    about="replace personal data: e-mail and IP addresses, phone numbers, IBANs, card numbers",
    config=Config,
    version=VERSION,
    signals=SIGNALS,
    rules=rules,
    measure=measure,
    canaries=Canaries("personal data", _plant, _caught),
)
