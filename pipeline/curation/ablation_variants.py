"""Variants of a build that leave stages out, for models that tell what each stage is worth.

A variant is a folder of links to the build's documents and ledgers, ``ablation/<name>/``, in which the stages of its
recipe run: what no left-out stage touches is current there and stays. All variants share the build's tokenizer and the
build's split: a document that the build holds out is trained on by none, and neither are its copies, as far as the
build's own deduplication found them (else the raw text, where they still are, would be trained on the test).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from pipeline import MillError
from pipeline.build.build import Build, Made, Outcome, Step, make
from pipeline.build.linked_copy import LINKED, link_tree
from pipeline.curation import ingest, write_corpus
from pipeline.curation import steps as curation
from pipeline.curation.recipe import Recipe
from pipeline.sources import Source
from pipeline.stages import registry
from pipeline.stages.rules import stage as rules
from pipeline.store import files, shards
from pipeline.tokenization import pack
from pipeline.tokenization import steps as tokenization
from pipeline.tokenization.steps.inputs import corpus_shards

R = TypeVar("R", bound=Recipe)
CURATED, RAW, NEUTRAL = "curated", "raw", "neutral"
VERSION = 1
_LEFT_OUT = "left-out.arrow"


def variants(recipe: R, leave_out: Sequence[str] | None) -> tuple[dict[str, R], dict[str, str]]:
    """The recipe of each variant by name, and for each stage that cannot be left out alone why.

    ``leave_out`` names stages; None: all that the recipe runs but balance. Raises MillError for one that it does not.
    """
    runs = list(recipe.stages_before(None))
    wanted = [name for name in runs if name != "balance"] if leave_out is None else list(leave_out)
    for name in wanted:
        if name not in runs:
            raise MillError(f"ablation.leave_out: the recipe runs no stage {name!r}; it runs {', '.join(runs)}")
    bare = recipe.model_copy(update={"against": [], "index": False})
    recipes = {CURATED: recipe, RAW: bare.model_copy(update=dict.fromkeys(runs))}
    kept: dict[str, str] = {}
    for name in wanted:
        if name == "language" and (
            others := [stage for stage in runs if stage != name and _reads_language(recipe, stage)]
        ):
            kept[name] = f"{', '.join(others)} needs it"
            continue
        variant = bare.model_copy(update={name: None})
        if name != "rules" and _lacks_signals(variant):
            kept[name] = "rules needs its signals"
        else:
            recipes[f"without-{name}"] = variant
    return recipes, kept


def _lacks_signals(recipe: Recipe) -> bool:
    """Whether the recipe's own rules name a signal that no stage of it measures."""
    try:
        if recipe.rules is not None:
            rules.check(recipe.rules, recipe.signals_before("rules"))
    except MillError:
        return True
    return False


def _reads_language(recipe: Recipe, stage: str) -> bool:
    """Whether ``stage`` needs each document's language: perplexity does, and limits given per language alone."""
    bounds = [
        bound
        for rule in registry.rules(Build("", recipe), stage)
        if rule.by == "language"
        for bound in (rule.minimum, rule.maximum)
    ]
    return stage == "perplexity" or any(isinstance(bound, Mapping) and "*" not in bound for bound in bounds)


def open_variant(build: Build, name: str, recipe: R, tokenizer: str) -> Build[R]:
    """The folder of a variant, linked to ``build`` as it is now; what the variant made itself stays."""
    variant = replace(build, root=build.path("ablation", name), recipe=_with_tokenizer(recipe, tokenizer))
    for part in (*LINKED, "tokenizers"):
        link_tree(files.local(build.path(part)), files.local(variant.path(part)))
    _leave_out_copies(build, variant)
    return variant


def open_neutral(build: Build[R], sources: Sequence[Source], tokenizer: str) -> Build[R]:
    """A build of ``sources`` alone, without any stage; all of its tokens are in the split ``train``."""
    bare = {**dict.fromkeys(build.recipe.stages_before(None)), "sources": list(sources), "against": [], "index": False}
    neutral = Build(build.path("ablation", NEUTRAL), _with_tokenizer(build.recipe.model_copy(update=bare), tokenizer))
    link_tree(files.local(build.path("tokenizers")), files.local(neutral.path("tokenizers")))
    return neutral


def _with_tokenizer(recipe: R, name: str) -> R:
    return recipe.model_copy(update={"tokenizers": [config for config in recipe.tokenizers if config.name == name]})


def steps(variant: Build) -> list[Step]:
    """From the variant's documents to its packed tokens."""
    before = ingest.steps() if _is_neutral(variant) else curation.stage_steps(variant.recipe)
    return [
        *before,
        Step("ablation.corpus", "Write the variant's corpus", Build.shards, _write_shard),
        *(step for step in write_corpus.steps() if step.name == "corpus.manifest"),
        Step("ablation.split", "Split as the build does", lambda _build: ["split"], _split),
        *(step for step in tokenization.steps() if step.name.startswith("pack")),
    ]


def _is_neutral(variant: Build) -> bool:
    return Path(variant.root).name == NEUTRAL


def _thresholds(root: str) -> dict[str, int]:
    """The hash below which documents of each domain are held out, as the build in ``root`` decided."""
    return files.read_json(files.join(root, "tokenizers", "split.json"))["thresholds"]


def _leave_out_copies(build: Build, variant: Build) -> None:
    """Write the ids of documents that the variant must not train on: copies of what ``build`` holds out."""
    limits, seed = _thresholds(build.root), build.recipe.seed
    heldout: list[pa.Array] = []
    for shard in corpus_shards(build):
        table = shards.read_table(build.path("corpus", shard), ["id", "domain"])
        ids, domains = (table[name].combine_chunks() for name in ("id", "domain"))
        heldout.append(ids.filter(pa.array(pack.is_heldout(ids, domains, limits, seed))))
    survivors = pa.concat_arrays([pa.array([], pa.string()), *heldout])
    copies = pa.array([], pa.string())
    for stage in ("minhash", "exact"):  # an exact copy may name a survivor that was itself a near-duplicate
        if stage in build.stages:
            copied = [copies]
            for shard in build.shards():
                ledger = build.ledger(stage, shard)
                is_copy = pc.is_in(ledger["duplicate_of"], value_set=pa.concat_arrays([survivors, copies]))
                copied.append(build.documents(shard)["id"].filter(is_copy).combine_chunks())
            copies = pa.concat_arrays(copied)
    made_by = files.fingerprint("ablation.left_out", VERSION, copies.to_pylist())
    make(variant.path(_LEFT_OUT), made_by, lambda: (Outcome(len(copies)), pa.table({"id": copies})))


def _write_shard(variant: Build, shard: str) -> Outcome:
    left_out = variant.path(_LEFT_OUT)
    excluded = shards.read_fingerprint(left_out) if files.exists(left_out) else None
    made_by = files.fingerprint(
        "ablation.corpus", VERSION, write_corpus.VERSION, excluded, variant.view_fingerprint(shard)
    )

    def corpus() -> Made:
        table = write_corpus.corpus_table(variant, shard)
        if excluded is not None:
            ids = shards.read_table(left_out)["id"].combine_chunks()
            table = table.filter(pc.invert(pc.is_in(table["id"], value_set=ids))).combine_chunks()
        return Outcome(len(table), table["text"].nbytes), table

    return make(variant.path("corpus", write_corpus.shard_name(variant, shard)), made_by, corpus)


def _split(variant: Build, _item: str) -> Outcome:
    """The build's thresholds; a domain that curation left nothing of has none held out."""
    limits = {} if _is_neutral(variant) else _thresholds(str(Path(variant.root).parents[1]))
    domains: set[str] = set()
    for shard in corpus_shards(variant):
        domains |= set(shards.read_table(variant.path("corpus", shard), ["domain"])["domain"].unique().to_pylist())
    limits = {**dict.fromkeys(sorted(domains), 0), **limits}
    path = variant.path("tokenizers", "split.json")
    files.write_json(path, {"fingerprint": files.fingerprint("ablation.split", limits), "thresholds": limits})
    return Outcome()
