"""Variants that leave stages out, against real builds of the shorter recipe, on Python's own documentation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.build.build import Build
from pipeline.curation import ablation_variants
from pipeline.curation import recipe as recipes
from pipeline.store import files, shards
from pipeline.store.packed_tokens import PackedTokens
from pipeline.tokenization import pack
from tests.helpers import asking, building

TOKENIZER = {"name": "bpe", "algorithm": "bpe", "vocab_size": 400}


def run(variant: Build) -> Build:
    for step in ablation_variants.steps(variant):
        for item in step.items(variant):
            step.work(variant, item)
    return variant


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> tuple[Build, dict[str, Any]]:
    root = tmp_path_factory.mktemp("ablation")
    values = asking.values(root, tokenizers=[TOKENIZER], pack={"heldout": 0.1})
    return asking.make(values, root / "base"), values


@pytest.fixture(scope="module")
def made(base: tuple[Build, dict[str, Any]]) -> dict[str, Build]:
    build, _ = base
    wanted, kept = ablation_variants.variants(build.recipe, ["heuristics", "exact"])
    assert kept == {}
    return {name: run(ablation_variants.open_variant(build, name, recipe, "bpe")) for name, recipe in wanted.items()}


def held_out(build: Build) -> set[str]:
    return set(PackedTokens(build.path("tokens", "bpe", "heldout")).documents["id"].to_pylist())


def trained_on(build: Build) -> set[str]:
    return set(PackedTokens(build.path("tokens", "bpe", "train")).documents["id"].to_pylist())


def ids(build: Build) -> dict[str, str | None]:
    """Every ingested document and the document that it was dropped for as a copy, if it was."""
    found: dict[str, str | None] = {}
    for shard in build.shards():
        names = build.documents(shard)["id"].to_pylist()
        found |= dict.fromkeys(names)
        for stage in ("exact", "minhash"):
            copies = build.ledger(stage, shard)["duplicate_of"].to_pylist()
            found |= {name: of for name, of in zip(names, copies, strict=True) if of is not None}
    return found


def copies_of(held: set[str], survivors: dict[str, str | None]) -> set[str]:
    def ends_in_held(name: str) -> bool:
        return name in held or (survivors[name] is not None and ends_in_held(survivors[name]))  # type: ignore[arg-type]

    return {name for name in survivors if name not in held and ends_in_held(name)}


def test_the_curated_variant_is_the_build(base: tuple[Build, dict[str, Any]], made: dict[str, Build]) -> None:
    build, _ = base
    assert building.curated(made["curated"]) == building.curated(build)
    for split in ("train", "heldout"):
        one, two = (PackedTokens(b.path("tokens", "bpe", split)) for b in (build, made["curated"]))
        assert one.documents.to_pylist() == two.documents.to_pylist()
        assert one.tokens(0, len(one)).tolist() == two.tokens(0, len(two)).tolist()


def test_raw_text_is_every_document_but_copies_of_what_is_held_out(
    base: tuple[Build, dict[str, Any]], made: dict[str, Build]
) -> None:
    build, _ = base
    survivors = ids(build)
    copies = copies_of(held_out(build), survivors)
    assert copies, "the fixture has no copy of a held-out document: the test would be empty"
    corpus = building.curated(made["raw"])
    assert set(corpus) == set(survivors) - copies
    assert trained_on(made["raw"]) <= set(survivors) - copies


@pytest.mark.parametrize("stage", ["heuristics", "exact"])
def test_leaving_a_stage_out_is_a_build_of_the_recipe_without_it(
    base: tuple[Build, dict[str, Any]], made: dict[str, Build], stage: str, tmp_path: Path
) -> None:
    build, values = base
    shorter = {name: value for name, value in values.items() if name not in (stage, "tokenizers")}
    wanted = building.curated(building.make(recipes.Recipe.model_validate(shorter), tmp_path / "real")[0])
    copies = copies_of(held_out(build), ids(build))
    assert building.curated(made[f"without-{stage}"]) == {
        name: row for name, row in wanted.items() if name not in copies
    }
    account = {entry["stage"]: entry for entry in files.read_json(build.path("funnel.json"))["stages"]}
    assert account[stage]["dropped"], "the stage drops nothing: the test would be empty"


def test_no_variant_trains_on_held_out_text(base: tuple[Build, dict[str, Any]], made: dict[str, Build]) -> None:
    build, _ = base
    held = held_out(build)
    copies = copies_of(held, ids(build))
    assert held
    for variant in made.values():
        assert not trained_on(variant) & (held | copies)
        limits = files.read_json(variant.path("tokenizers", "split.json"))["thresholds"]
        for shard in files.read_json(variant.path("corpus", "manifest.json"))["shards"]:
            table = shards.read_table(variant.path("corpus", shard))
            held_here = pack.is_heldout(
                table["id"].combine_chunks(), table["domain"].combine_chunks(), limits, build.recipe.seed
            )
            assert set(table.filter(held_here)["id"].to_pylist()) <= held_out(variant)


def test_variants_write_nothing_of_the_build_and_are_current_a_second_time(
    base: tuple[Build, dict[str, Any]], made: dict[str, Build]
) -> None:
    build, _ = base
    before = {name: digest for name, digest in building.contents(Path(build.root)).items() if "ablation/" not in name}
    for name, variant in made.items():
        files_before = building.outputs(Path(variant.root))
        again = run(ablation_variants.open_variant(build, name, variant.recipe, "bpe"))
        mine = {
            path: stamp
            for path, stamp in files_before.items()
            if path.startswith(("corpus/data", "tokens/", "ledgers/"))
        }
        after = building.outputs(Path(again.root))
        assert {path: after[path] for path in mine} == mine
    after = {name: digest for name, digest in building.contents(Path(build.root)).items() if "ablation/" not in name}
    assert after == before


def test_a_stage_that_others_need_is_not_left_out_alone(base: tuple[Build, dict[str, Any]]) -> None:
    _, values = base
    recipe = recipes.Recipe.model_validate({**values, "perplexity": {}})
    found, kept = ablation_variants.variants(recipe, None)
    assert kept == {"language": "perplexity needs it"}
    assert set(found) == {
        "curated",
        "raw",
        *(f"without-{name}" for name in ("urls", "heuristics", "perplexity", "exact", "minhash")),
    }
    with pytest.raises(ValueError, match="runs no stage 'pii'"):
        ablation_variants.variants(recipe, ["pii"])


def test_a_stage_whose_signals_the_rules_name_is_not_left_out_alone(base: tuple[Build, dict[str, Any]]) -> None:
    _, values = base
    recipe = recipes.Recipe.model_validate({**values, "rules": {"shouting": "word_count < 80"}})
    found, kept = ablation_variants.variants(recipe, ["heuristics", "rules"])
    assert kept == {"heuristics": "rules needs its signals"}
    assert set(found) == {"curated", "raw", "without-rules"}


def test_neutral_text_is_packed_whole_with_the_builds_tokenizer(
    base: tuple[Build, dict[str, Any]], tmp_path: Path
) -> None:
    build, _ = base
    (tmp_path / "neutral.txt").write_text("Neither corpus has a claim to this sentence.\n" * 5, "utf-8")
    source = recipes.Recipe.model_validate(
        {
            "name": "n",
            "sources": [{"name": "n", "kind": "text", "path": str(tmp_path / "neutral.txt"), "domain": "other"}],
        }
    ).sources
    neutral = run(ablation_variants.open_neutral(build, source, "bpe"))
    packed = PackedTokens(neutral.path("tokens", "bpe", "train"))
    assert packed.documents.num_rows == len(building.curated(neutral)) > 0
    assert packed.manifest["tokenizer"] == PackedTokens(build.path("tokens", "bpe", "train")).manifest["tokenizer"]
