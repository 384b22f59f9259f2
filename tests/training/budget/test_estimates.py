"""Budgets of what is not trained yet, against sums by hand."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pipeline import MillError
from pipeline.build.build import Build
from pipeline.sources.base import NoFiles
from pipeline.store import files
from pipeline.store.packed_tokens import PackedTokens
from tests.training.conftest import TINY, make_build, pretrain_section, recipe
from training.budget import estimates, laws
from training.pretraining.pretrain import pretrain
from training.recipe.sections import BudgetConfig

RAW, CURATED = 40_000, 30_000


@pytest.fixture
def root(packed_build: str, tmp_path: Path) -> str:
    folder = str(shutil.copytree(packed_build, tmp_path / "build"))
    files.write_json(f"{folder}/funnel.json", {"stages": [{"bytes": RAW}, {"bytes": CURATED}]})
    files.write_json(
        f"{folder}/corpus/manifest.json", {"shards": [], "documents": 120, "bytes": CURATED, "fingerprint": "c"}
    )
    return folder


def test_a_run_that_is_not_trained_yet_is_reckoned_from_its_shape_and_the_packed_tokens(root: str) -> None:
    build = make_build(root, pretrain_section(steps=12))
    (found,) = estimates.of_recipe(build, parameters=1_000_000, tokens_per_parameter=20.0)
    layers, width, vocabulary, positions = 2, 32, 257, 32
    block = 12 * width * width + 13 * width  # GPT-2's: attention 4 d^2 + 4 d, MLP 8 d^2 + 5 d, two norms 4 d
    total = vocabulary * width + positions * width + layers * block + 2 * width
    unique = len(PackedTokens(f"{root}/tokens/bytes/train"))
    trained = 12 * 8 * 32
    assert found["estimated"]
    assert (found["total"], found["unique_tokens"], found["trained_tokens"]) == (total, unique, trained)
    assert found["compute"] == 6 * total * trained
    assert found["epochs"] == pytest.approx(trained / unique)
    assert found["target"]["tokens"] == 20e6
    assert found["target"]["missing_tokens"] == 20e6 - unique
    ratio = found["corpus"]["bytes_per_token"]
    assert found["target"]["missing_raw_bytes"] == pytest.approx((20e6 - unique) * ratio * RAW / CURATED)


def test_once_it_is_trained_its_own_numbers_are_told_and_no_estimate(root: str) -> None:
    build = make_build(root, pretrain_section(steps=4))
    planned = estimates.of_recipe(build)[0]
    summary = pretrain(build, "causal")
    found = estimates.of_recipe(build)[0]
    assert not found["estimated"]
    assert found["trained_tokens"] == summary["trained_tokens"]
    assert found["total"] == planned["total"] == summary["parameters"]["total"]
    files.write_json(f"{root}/recipe.json", build.recipe.model_dump(mode="json"))
    assert estimates.of_folder(f"{root}/models/causal", None, None)[0]["total"] == found["total"]


def test_a_corpus_alone_is_held_against_gpt_2(root: str, tmp_path: Path) -> None:
    alone = shutil.copytree(Path(root, "corpus"), tmp_path / "elsewhere" / "corpus")
    (found,) = estimates.of_corpus(str(alone), BudgetConfig())
    assert found["total"] == 124_439_808  # as published
    assert found["unique_tokens"] == CURATED / 4  # bytes a token, until a tokenizer says otherwise
    assert found["trained_tokens"] == 20 * found["total"]
    assert found["effective_tokens"] == laws.effective_tokens(CURATED / 4, 20 * found["total"])


@pytest.mark.parametrize("sections", [{}, {"pretrain": [pretrain_section(model=TINY["gpt2"], steps=None, epochs=2)]}])
def test_before_curation_it_is_estimated_from_the_sizes_of_the_sources(tmp_path: Path, sections: dict) -> None:
    (tmp_path / "plain.jsonl").write_bytes(b"x" * 6_000)
    (tmp_path / "packed.jsonl.gz").write_bytes(b"x" * 2_000)
    source = {"kind": "jsonl", "name": "s", "path": str(tmp_path / "*.jsonl*"), "domain": "tales"}
    build = Build(str(tmp_path / "build"), recipe(sources=[source], **sections))
    (found,) = estimates.of_recipe(build, parameters=1_000, tokens_per_parameter=20.0)
    assert found["estimated"]
    assert found["unique_tokens"] == 8_000 / 4
    assert found["target"]["missing_tokens"] == 20_000 - 2_000
    assert found["trained_tokens"] == (2 * 2_000 if sections else 20 * found["total"])
    for told in ("nothing is curated yet", "8.00 kB in 2 files", "2.00 kB of it compressed", "4 bytes a token"):
        assert told in found["assumed"]
    assert not Path(build.root).exists()


def test_where_nothing_is_known_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(NoFiles, match="none"):
        estimates.of_recipe(Build(str(tmp_path), recipe()))
    with pytest.raises(MillError, match="neither a corpus"):
        estimates.of_folder(str(tmp_path), None, None)
