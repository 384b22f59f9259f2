"""The report of a build's tokenizers: each measured on the held-out documents, beside published ones."""

from __future__ import annotations

from functools import partial
from typing import Any

import tokenizers

from pipeline.build.build import Build, Made, Outcome, make
from pipeline.store import files, shards
from pipeline.tokenization import card, report, roundtrip
from pipeline.tokenization.encoding.encode import Encoder
from pipeline.tokenization.formats import references
from pipeline.tokenization.steps.inputs import (
    corpus_shards,
    heldout_parts,
    limits,
    manifest_of,
    shard_fingerprint,
    tokenizer_names,
    trained_encoder,
)
from pipeline.tokenization.training import counts, curve, superwords


def compare(build: Build, _item: str) -> Outcome:
    trained = {name: manifest_of(build, name)["sha256"] for name in tokenizer_names(build)}
    published = build.section("references") or []
    digests = {entry.name: [files.file_digest(f) for f in references.files_of(entry.path)] for entry in published}
    inputs = [shard_fingerprint(build, shard) for shard in corpus_shards(build)]
    made_by = files.fingerprint(
        "report", report.VERSION, tokenizers.__version__, trained, digests, limits(build), inputs
    )
    cards = {name: build.path("tokenizers", name, "README.md") for name in trained}

    def has_cards(_report: dict[str, Any]) -> bool:
        return all(map(files.exists, cards.values()))

    return make(build.path("tokenizers", "report.json"), made_by, partial(_measurements, build, cards), has_cards)


def _measurements(build: Build, cards: dict[str, str]) -> Made:
    rows, curves, trips = [], [], []
    texts, corpus = roundtrip.sample(heldout_parts(build), build.recipe.seed), _corpus_size(build)
    for config in build.recipe.tokenizers:
        encoder = trained_encoder(build, config.name)
        measured = report.measure(heldout_parts(build), encoder, config.name)
        rows += measured
        trips.append(roundtrip.measure(texts, encoder, config.name, report.unknown_id(encoder.tokenizer)))
        whole = report.as_rows(measured[:1])[0]
        seen = {key: size - whole[key] for key, size in corpus.items()}
        with files.replacing(cards[config.name]) as handle:
            handle.write(card.card(config, build.recipe.name, seen, whole, trips[-1]).encode())
        has_curve = config.algorithm == "bpe" and config.byte_level and config.superwords is None
        if has_curve and encoder.model is not None:
            table = counts.merge(counts.count(part["text"].combine_chunks(), config) for part in heldout_parts(build))
            curves.append(curve.summary(config.name, *curve.sizes(table, encoder.model, len(config.reserved))))
    for entry in build.section("references") or []:
        rows += report.measure(heldout_parts(build), Encoder(references.load(entry.path)), entry.name, reference=True)
    content = {
        "rows": report.as_rows(rows),
        "notes": _notes(build),
        "curves": curves,
        "round_trip": trips,
        "warnings": report.warnings(rows),
    }
    return Outcome(rows[0].documents, rows[0].bytes), content


def _notes(build: Build) -> list[str]:
    """What is to be said of tokenizers with superwords, and of those made for all groups alike."""
    said = []
    for config in build.recipe.tokenizers:
        manifest = manifest_of(build, config.name)
        if config.superwords is not None:
            actual = superwords.several(files.read_json(build.path("tokenizers", config.name, "tokenizer.json")))
            said.append(f"{config.name}: {len(actual):,} entries are superwords, such as {actual[:3]}")
        if left_out := manifest.get("sequences_left_out"):
            said.append(
                f"{config.name}: superwords were learned without the rarest sequences of words, which stand"
                f" {left_out:,} times in the text, as all do not fit in memory"
            )
        if chosen := manifest.get("chosen_by"):
            parts = ", ".join(
                f"{name} {count:,}" for name, count in sorted(chosen.items(), key=lambda e: (-e[1], e[0]))
            )
            said.append(f"{config.name}: merges chosen by {parts}")
    return said


def _corpus_size(build: Build) -> dict[str, int]:
    """Documents and bytes of the corpus, each document once."""
    sizes = [shards.read_size(build.path("corpus", shard)) for shard in corpus_shards(build)]
    return {"documents": sum(size[0] for size in sizes), "bytes": sum(size[1] for size in sizes)}
