from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest

from pipeline import MillError
from pipeline.build.build import Build
from pipeline.store import files, shards
from training.batches import random_streams
from training.labelled import corpus
from training.labelled.hiding import cut_words
from training.labelled.rows import Labelled
from training.recipe.sections import BuildRecipe, FinetuneConfig

SETTINGS = {
    **{"name": "family", "base": "mlm", "label": "domain", "smallest_class": 10},
    **{"only": {"kind": "docstring"}, "group": "module", "hide": ["package"]},
}
RECIPE = {"name": "corpus", "sources": [{"kind": "text", "name": "env", "path": "x"}]}
Row = tuple[str, str, str, dict]


def build_of(root: Path, rows: list[Row]) -> Build[BuildRecipe]:
    columns = {
        "id": [id_ for id_, _, _, _ in rows],
        "text": [text for _, text, _, _ in rows],
        "source": ["env"] * len(rows),
        "domain": [domain for _, _, domain, _ in rows],
        "metadata": [json.dumps(metadata) for _, _, _, metadata in rows],
    }
    shards.write_table(f"{root}/corpus/data-0.arrow", pa.table(columns), "corpus")
    files.write_json(f"{root}/corpus/manifest.json", {"shards": ["data-0.arrow"], "fingerprint": "corpus"})
    return Build(str(root), BuildRecipe.model_validate(RECIPE))


def config(**changed) -> FinetuneConfig:
    return FinetuneConfig.model_validate({**SETTINGS, **changed})


def documents(count: int = 200) -> list[Row]:
    """Two families, told apart by a verb and (which must not count) by the package's name."""
    rows: list[Row] = []
    for number in range(count):
        package, verb = (("alpha", "sees"), ("beta", "hears"))[number % 2]
        metadata = {"kind": "docstring", "package": package, "module": f"{package}.m{number // 2 % 20}"}
        rows.append((f"d{number:04d}", f"{package.title()} {verb} the {number}.", f"family-{number % 2}", metadata))
    return [*rows, ("licence", "sees sees", "licences", {"kind": "licence"})]


def tables(data: Labelled) -> list[pa.Table]:
    return [data.train, data.dev, data.test]


def column(data: Labelled, name: str) -> list[str]:
    return [value for table in tables(data) for value in table[name].to_pylist()]


def test_no_group_is_in_two_sets_and_no_document_is_lost(tmp_path: Path) -> None:
    data = corpus.load(build_of(tmp_path, documents()), config(), 0)
    groups = [set(table["group"].to_pylist()) for table in tables(data)]
    assert all(groups)
    assert sum(map(len, groups)) == 40
    assert sorted(column(data, "id")) == [f"d{number:04d}" for number in range(200)]  # the licence is no docstring
    assert data.labels == ["family-0", "family-1"]
    assert data.audit["rows"] == {"train": len(data.train), "dev": len(data.dev), "test": len(data.test)}


def test_test_set_and_development_set_go_by_the_hash_of_the_group(tmp_path: Path) -> None:
    data = corpus.load(build_of(tmp_path, documents()), config(test_share=0.3, dev_share=0.2), 5)

    def below(purpose: str, module: str, share: float) -> bool:
        return random_streams.seed("task", purpose, 5, module) < share * 2**63

    modules = {metadata["module"] for _, _, _, metadata in documents()[:-1]}
    in_test = {module for module in modules if below("split", module, 0.3)}
    assert set(data.test["group"].to_pylist()) == in_test
    assert set(data.dev["group"].to_pylist()) == {m for m in modules - in_test if below("dev", m, 0.2)}


def test_the_packages_names_are_cut_from_every_text(tmp_path: Path) -> None:
    data = corpus.load(build_of(tmp_path, documents()), config(), 0)
    text = " ".join(column(data, "text")).lower()
    assert "alpha" not in text
    assert "beta" not in text
    assert "sees" in text
    assert data.hidden_words == 2


def test_words_are_cut_whole_and_in_any_case() -> None:
    cut = cut_words("Torch, torch.nn and torchvision; PyTorch", frozenset({"torch"}))
    assert cut == ", .nn and torchvision; PyTorch"


def test_the_sample_does_not_depend_on_the_order_of_the_corpus(tmp_path: Path) -> None:
    chosen = corpus.load(build_of(tmp_path / "a", documents()), config(documents=60), 0)
    assert len(column(chosen, "id")) == 60
    again = corpus.load(build_of(tmp_path / "b", documents()[::-1]), config(documents=60), 0)
    assert again == chosen
    other = corpus.load(build_of(tmp_path / "b", documents()[::-1]), config(documents=60), 1)
    assert other.fingerprint != chosen.fingerprint


def test_too_few_labels_are_refused_with_the_counts(tmp_path: Path) -> None:
    with pytest.raises(corpus.TooFewDocuments, match=r"counts of 'domain': \{'family-0': 100, 'family-1': 100\}"):
        corpus.load(build_of(tmp_path, documents()), config(smallest_class=150), 0)


def test_labels_that_are_left_out_are_counted(tmp_path: Path) -> None:
    rare: list[Row] = [(f"r{n}", "rare", "rare", {"kind": "docstring", "module": "r", "package": "r"}) for n in "ab"]
    data = corpus.load(build_of(tmp_path, [*documents(), *rare]), config(), 0)
    rare_rows = {"rows": 2, "example": "ra"}
    assert data.audit["passed_over"] == {
        "documents that `only` leaves out": {"rows": 1, "example": "licence"},
        "documents of labels with fewer than 10 documents (`smallest_class`)": rare_rows,
    }


@pytest.mark.parametrize(
    ("metadata", "changed", "message"),
    [
        ({"topic": "a"}, {"label": "topics"}, r"the field 'topics' that `label` names. Fields there .*topic \(in 9\)"),
        ({"topic": "a"}, {"group": "module"}, r"no document has the field 'module' that `group` names"),
        ({"topic": "a"}, {"hide": ["package"]}, r"no document has the field 'package' that `hide` names"),
        ({"topic": "a"}, {"only": {"kind": "docstring"}}, r"no document has the field 'kind' that `only` names"),
        ({"topic": "a", "kind": "b"}, {"only": {"kind": "c"}}, r"of 0 documents that `only` \(.*'c'.*\) leaves, none"),
        ({"topic": ["a"]}, {}, r"'topic' of document 'd0' is \[\"a\"\], and a label is one text"),
        ({"topic": {"of": 1}}, {}, r"is \{\"of\": 1\}, and a label is one text"),
        ({"topic": "a"}, {}, r"all 9 documents that take part have the label 'a' in 'topic'"),
    ],
)  # fmt: skip
def test_labels_that_cannot_be_learned_are_refused(tmp_path: Path, metadata: dict, changed: dict, message: str) -> None:
    build = build_of(tmp_path, [(f"d{number}", "a text", "all", metadata) for number in range(9)])
    wanted = FinetuneConfig.model_validate({"name": "x", "base": "mlm", "label": "topic", **changed})
    with pytest.raises(MillError, match=message):
        corpus.load(build, wanted, 0)
