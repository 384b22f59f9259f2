from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from transformers import AutoModel

from pipeline.build.build import Build
from pipeline.store import files, shards
from pipeline.tokenization import pack
from tests.training.conftest import pretrain_section, recipe, sentences
from training.embeddings import words
from training.embeddings.embed import embed, load_vectors, load_words
from training.finetuning.finetune import finetune
from training.pretraining.pretrain import pretrain
from training.recipe.sections import BuildRecipe

SMALL = {
    "cbow": {"dimensions": 8, "epochs": 30, "thinning": 1.0},
    "skipgram": {"dimensions": 8, "epochs": 30, "thinning": 1.0},
    "glove": {"dimensions": 8, "epochs": 30},
    "elmo": {"dimensions": 16, "cell_size": 16, "epochs": 2, "filters": [(1, 4), (2, 4)], "sequence_length": 16},
}


@pytest.fixture(scope="module")
def root(packed_build: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A build with a corpus of two kinds of tales, told apart by one verb."""
    folder = str(shutil.copytree(packed_build, tmp_path_factory.mktemp("embed") / "build"))
    rows = []
    for number, text in enumerate(sentences(240, seed=3)):
        kind = number % 2
        told = text.replace("sees", ("sees", "spots")[kind]).replace("likes", ("likes", "loves")[kind])
        told += (" The end, sees all.", " The end, spots all.")[kind]
        metadata = json.dumps({"kind": "docstring", "package": "p", "module": f"m{number // 12}"})
        rows.append((f"d{number:03d}", told, "tales", f"kind-{kind}", metadata))
    names = ("id", "text", "source", "domain", "metadata")
    table = pa.table({name: [row[at] for row in rows] for at, name in enumerate(names)})
    shards.write_table(f"{folder}/corpus/data-0.arrow", table, "corpus")
    files.write_json(f"{folder}/corpus/manifest.json", {"shards": ["data-0.arrow"], "fingerprint": "corpus"})
    ids, domains = table["id"].combine_chunks(), table["domain"].combine_chunks()
    limits = pack.thresholds(pack.document_hash(ids, 0), domains.dictionary_encode(), 0.1)
    files.write_json(f"{folder}/tokenizers/split.json", {"fingerprint": "split", "thresholds": limits})
    return folder


def build_of(root: str, *methods: str, **more) -> Build[BuildRecipe]:
    entries = [{"name": method, "method": method, "min_count": 2, **SMALL[method]} for method in methods]
    return Build(root, recipe(embeddings=entries, **more))


def test_words_are_cut_lower_cased_and_stay_with_their_document() -> None:
    found, bounds = words.cut(pa.array(["The cat, 3 CATS!", "", "ÉTÉ 日本"]), lowercase=True)
    assert found.to_pylist() == ["the", "cat", ",", "3", "cats", "!", "été", "日", "本"]
    assert bounds.tolist() == [0, 6, 6, 9]
    assert words.cut(pa.array(["The"]), lowercase=False)[0].to_pylist() == ["The"]


def test_held_out_documents_are_not_read(root: str) -> None:
    build = build_of(root, "cbow")
    train, heldout = (
        {name for ids, _ in words.texts_of(build, split) for name in ids} for split in ("train", "heldout")
    )
    assert len(train) + len(heldout) == 240
    assert len(heldout) == 24
    assert not train & heldout


@pytest.mark.parametrize("method", ["cbow", "skipgram", "glove"])
def test_static_vectors_are_of_the_vocabulary_and_the_same_every_time(root: str, tmp_path: Path, method: str) -> None:
    again = str(shutil.copytree(root, tmp_path / "again"))
    summary = embed(build_of(root, method), method)
    folder = f"{root}/models/{method}"
    assert load_vectors(folder).shape == (summary["words"], 8) == (len(load_words(folder)), 8)
    assert {"cat", "sees", "spots"} <= set(load_words(folder))
    embed(build_of(again, method), method)
    np.testing.assert_array_equal(load_vectors(folder), load_vectors(f"{again}/models/{method}"))
    assert embed(build_of(root, method), method) == summary


def test_words_used_alike_have_like_vectors(root: str) -> None:
    embed(build_of(root, "skipgram"), "skipgram")
    place = {word: at for at, word in enumerate(load_words(f"{root}/models/skipgram"))}
    vectors = load_vectors(f"{root}/models/skipgram")
    vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def likeness(group: tuple[str, ...], other: tuple[str, ...]) -> float:
        pairs = [(a, b) for a in group for b in other if a != b]
        return float(np.mean([vectors[place[a]] @ vectors[place[b]] for a, b in pairs]))

    animals, verbs = ("cat", "dog", "bird", "fish"), ("hears", "follows")
    assert likeness(animals, animals) > likeness(animals, verbs)


def test_elmo_is_trained_by_the_loop_judged_on_held_out_text_and_opens_with_auto_model(root: str) -> None:
    summary = embed(build_of(root, "elmo"), "elmo")
    assert summary["evaluation"]["loss"] < np.log(summary["words"] + 3)
    assert AutoModel.from_pretrained(f"{root}/models/elmo").config.model_type == "elmo"


@pytest.mark.slow
def test_fine_tuning_is_compared_with_the_embeddings(root: str) -> None:
    section = pretrain_section("mlm", steps=4)
    run = {
        "name": "kinds", "base": "mlm", "smallest_class": 10, "sequence_length": 32, "epochs": 1, "label": "domain",
        "baselines": ["glove", "elmo"], "precision": "fp32",
    }  # fmt: skip
    build = build_of(root, "glove", "elmo", pretrain=[section], finetune=[run])
    for name in ("glove", "elmo"):
        embed(build, name)
    pretrain(build, "mlm")
    scores = finetune(build, "kinds")["scores"]
    assert set(scores) == {"model", "bag_of_words", "glove", "elmo", "majority"}
    for name in ("glove", "elmo"):
        assert scores[name]["accuracy"]["value"] > scores["majority"]["accuracy"]["high"]
