from __future__ import annotations

import math
import pydoc_data.topics
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import sentencepiece
from pydantic import ByteSize

from pipeline.build.build import Build, Outcome
from pipeline.stages.perplexity import ccnet, reference_text, scoring, train_model
from pipeline.stages.perplexity import stage as perplexity
from pipeline.stages.perplexity.reference_text import Reference, halves
from pipeline.stages.perplexity.stage import Config, PieceModel
from pipeline.store import files, shards
from pipeline.text.sentence_folding import sentences
from tests.helpers.reading_arpa import read
from tests.helpers.sections import Sections


@dataclass(frozen=True)
class Recipe(Sections):
    """The parts of a recipe that these steps look at."""

    perplexity: Config
    language: bool = True
    seed: int = 7


@dataclass(frozen=True)
class Document:
    text: str
    language: str = "en"
    domain: str = "docs"
    dropped: bool = False


PARAGRAPHS = [part for _, text in sorted(pydoc_data.topics.topics.items()) for part in text.split("\n\n")]
ENGLISH = list(dict.fromkeys("\n".join(PARAGRAPHS[i : i + 4]) for i in range(0, 1240, 4)))[:300]
DOCUMENTS = [
    *map(Document, ENGLISH),
    Document(""),
    Document(" \n "),
    Document("Ein deutscher Satz.", "de"),
    Document(ENGLISH[0], dropped=True),
]
FAST: dict[str, Any] = {"order": 3, "estimator": "own"}


def lay_out(root: Path, documents: list[Document], shard_size: int, config: Config, seed: int = 7) -> Build:
    """A build whose documents have passed language identification."""
    build = Build(str(root), Recipe(config, seed=seed))  # type: ignore[arg-type]
    names = []
    for start in range(0, len(documents), shard_size):
        part = documents[start : start + shard_size]
        names.append(f"docs-{len(names):05d}.arrow")
        columns = {
            "id": [f"docs/{start + i}" for i in range(len(part))],
            "text": [document.text for document in part],
            "source": ["docs"] * len(part),
            "domain": [document.domain for document in part],
            "url": [None] * len(part),
            "metadata": [None] * len(part),
        }
        made_by = files.fingerprint(columns)
        shards.write_table(build.path("documents", names[-1]), pa.table(columns, shards.DOCUMENT_SCHEMA), made_by)
        ledger = {
            "language": pa.array([document.language for document in part]).dictionary_encode(),
            "dropped_by": pa.array(["language.low_score" if d.dropped else None for d in part]).dictionary_encode(),
        }
        build.write_ledger("language", names[-1], ledger, made_by)
    files.write_json(build.path("documents", "manifest.json"), {"shards": names})
    return build


def run(build: Build) -> dict[str, list[Outcome]]:
    return {step.name: [step.work(build, item) for item in step.items(build)] for step in perplexity.steps()}


def ledger(build: Build) -> list[dict]:
    return [row for shard in build.shards() for row in build.ledger("perplexity", shard).to_pylist()]


def model_files(build: Build) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path(build.path("models", "perplexity")).glob("*.arpa")}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Build:
    build = lay_out(tmp_path_factory.mktemp("build"), DOCUMENTS, 97, Config(**FAST))
    run(build)
    return build


def test_each_tail_loses_exactly_its_share(built: Build):
    rows = ledger(built)
    scored = sorted(row["perplexity"] for row in rows if row["perplexity"] is not None)
    assert len(scored) == len(ENGLISH)
    low, high = math.floor(0.02 * len(scored)), math.floor(0.10 * len(scored))
    assert len(set(scored)) == len(scored), "ties would blur what follows"
    for rule, dropped, threshold in (
        ("perplexity.too_low", scored[:low], scored[low]),
        ("perplexity.too_high", scored[-high:], scored[-high - 1]),
    ):
        found = [row for row in rows if row["dropped_by"] == rule]
        assert sorted(row["value"] for row in found) == dropped
        assert {row["threshold"] for row in found} == {threshold}
        assert all(row["value"] == row["perplexity"] for row in found)


def test_buckets_are_cut_at_the_30th_and_60th_percentile(built: Build):
    scored = [row for row in ledger(built) if row["perplexity"] is not None]
    scored.sort(key=lambda row: row["perplexity"])
    third, two_thirds = math.ceil(0.3 * len(scored)), math.ceil(0.6 * len(scored))
    names = [row["perplexity_bucket"] for row in scored]
    assert names == ["head"] * third + ["middle"] * (two_thirds - third) + ["tail"] * (len(scored) - two_thirds)


def test_what_has_no_sentence_no_model_or_no_life_is_not_scored_and_passes(built: Build):
    for row in ledger(built)[len(ENGLISH) :]:
        assert set(row.values()) == {None}


def test_the_model_that_scores_a_document_has_not_seen_its_text_even_in_a_copy(tmp_path: Path):
    """Every document holds a word that no other text has: the scoring model must not know it, the other one must."""
    rng = np.random.default_rng(3)
    texts = [" ".join(rng.choice(["see", "the", "big", "dog", "run"], 12)) + f" own{'x' * i}" for i in range(40)]
    build = lay_out(tmp_path, [Document(text) for text in texts + texts[:15]], 20, Config(**FAST))
    run(build)
    words = [{gram[0] for gram in read(tmp_path / "models/perplexity" / f"en.{half}.arpa").grams} for half in (0, 1)]
    found = [row["perplexity"] for row in ledger(build)]
    models = [str(tmp_path / "models/perplexity" / f"en.{half}.arpa") for half in (0, 1)]
    for i, (text, half) in enumerate(zip(texts, halves(pa.array(texts), build.recipe.seed).tolist(), strict=True)):
        own = text.split()[-1]
        assert own in words[half]
        assert own not in words[1 - half]
        (fair,), _ = scoring.perplexity(pa.array([text]), models[1 - half])
        assert found[i] == pytest.approx(fair, rel=1e-6)
        if i < 15:
            assert found[len(texts) + i] == found[i]
    assert sorted(gathered(build)) == sorted(text.encode() for text in texts), "a copy is trained on twice"


@pytest.mark.parametrize("shard_size", [41, 1000])
def test_models_and_verdicts_are_the_same_for_any_shard_size(built: Build, tmp_path: Path, shard_size: int):
    other = lay_out(tmp_path, DOCUMENTS, shard_size, Config(**FAST))
    run(other)
    assert model_files(other) == model_files(built)
    assert len(model_files(other)) == 2
    assert ledger(other) == ledger(built)


@pytest.mark.slow
def test_models_and_verdicts_are_the_same_with_worker_processes(built: Build, tmp_path: Path):
    other = lay_out(tmp_path, DOCUMENTS, 97, Config(**FAST))
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        for step in perplexity.steps():
            items = list(step.items(other))
            list(pool.map(step.work, [other] * len(items), items[::-1]))
    assert model_files(other) == model_files(built)
    assert ledger(other) == ledger(built)


def test_a_second_run_does_nothing(built: Build):
    assert all(outcome.reused for outcomes in run(built).values() for outcome in outcomes)


def changed(build: Build, **changes) -> Build:
    return replace(build, recipe=replace(build.recipe, perplexity=Config(**{**FAST, **changes})))  # type: ignore[type-var]


def test_new_cut_offs_score_nothing_again(tmp_path: Path):
    build = lay_out(tmp_path, DOCUMENTS[:60], 30, Config(**FAST))
    run(build)
    outcomes = run(changed(build, drop={"lowest": 0.1, "highest": 0}, maximum={"en": 1e9}))
    again = {step for step, items in outcomes.items() if not all(item.reused for item in items)}
    assert again == {"perplexity.cutoffs", "perplexity"}
    assert sum(row["dropped_by"] is not None for row in ledger(build)) == 6


def test_quantised_models_score_again_and_train_nothing(tmp_path: Path):
    build = lay_out(tmp_path, DOCUMENTS[:120], 60, Config(**FAST))
    run(build)
    models, exact = model_files(build), [row["perplexity"] for row in ledger(build)]
    coded = changed(build, quantised=True)
    outcomes = run(coded)
    assert all(outcome.reused for outcome in outcomes["perplexity.model"])
    assert not any(outcome.reused for outcome in outcomes["perplexity.score"])
    assert model_files(build) == models
    found = [row["perplexity"] for row in ledger(coded)]
    scorers = perplexity._scorers(coded)["en"]
    of_half = halves(pa.array([document.text for document in DOCUMENTS[:120]]), build.recipe.seed)
    wanted = [
        scoring.perplexity(pa.array([document.text]), scorers[half].model, quantised=True)[0][0]
        for document, half in zip(DOCUMENTS[:120], of_half, strict=True)
    ]
    np.testing.assert_allclose(found, wanted, rtol=1e-6)
    assert found != exact


def test_a_new_order_trains_and_scores_again(tmp_path: Path):
    build = lay_out(tmp_path, DOCUMENTS[:60], 30, Config(**FAST))
    run(build)
    outcomes = run(changed(build, order=2))
    assert all(item.reused for item in outcomes["perplexity.sizes"])
    assert not any(item.reused for step in list(outcomes)[1:] for item in outcomes[step])


@pytest.mark.parametrize(
    "harm", [lambda path: path.unlink(), lambda path: path.write_text("\\data\\\n")], ids=["gone", "cut"]
)
def test_a_model_that_is_lost_or_damaged_is_trained_again(tmp_path: Path, harm):
    build = lay_out(tmp_path, DOCUMENTS[:60], 60, Config(**FAST))
    run(build)
    before = model_files(build)
    harm(tmp_path / "models/perplexity/en.1.arpa")
    assert [item.reused for item in run(build)["perplexity.model"]] == [True, False]
    assert model_files(build) == before


def test_the_reference_holds_at_most_the_bytes_asked_for_and_nearly_those(tmp_path: Path):
    limit = ByteSize(1 << 16)
    build = lay_out(tmp_path, DOCUMENTS, 97, Config(**FAST, reference=Reference(max_bytes=limit)))
    run(build)
    assert limit - 1000 < sum(len(text) for text in gathered(build)) <= limit


def gathered(build: Build) -> list[bytes]:
    """The texts that the models of a build were trained on."""
    sizes = [build.path("work", "perplexity.sizes", shard) for shard in build.shards()]
    end = reference_text._end(sizes, "en", perplexity._config(build).reference.max_bytes)
    texts = [reference_text._gather(build, "en", half, end) for half in (0, 1)]
    return [text.encode() for part in texts for text in part.to_pylist()]


def test_no_document_gives_more_than_a_hundredth_of_the_reference(tmp_path: Path):
    huge = Document("\n".join(ENGLISH))
    build = lay_out(tmp_path, [huge, *DOCUMENTS], 97, Config(**FAST, reference=Reference(max_bytes=ByteSize(1 << 17))))
    run(build)
    assert max(map(len, gathered(build))) <= (1 << 17) // 100
    assert ledger(build)[0]["perplexity_tokens"] == sum(sentences(pa.array([huge.text])).tokens + 1)


def test_the_reference_may_be_a_share_or_some_domains(tmp_path: Path):
    documents = [replace(document, domain="books" if i % 4 else "code") for i, document in enumerate(DOCUMENTS)]
    seen = {}
    for name, part in {"all": {}, "half": {"share": 0.5}, "books": {"domains": ["books"]}}.items():
        build = lay_out(tmp_path / name, documents, 97, Config(**FAST, reference=Reference(**part)))
        run(build)
        seen[name] = set(gathered(build))
        assert sum(row["perplexity"] is not None for row in ledger(build)) == len(ENGLISH)
    assert 0.4 < len(seen["half"]) / len(seen["all"]) < 0.6
    assert seen["half"] < seen["all"]
    assert seen["books"] == {
        d.text.encode() for d in documents if d.domain == "books" and d.language == "en" and not d.dropped
    }


def test_languages_have_models_and_cut_offs_of_their_own(tmp_path: Path):
    """The German model is the English one of another build, given by its path."""
    first = lay_out(tmp_path / "first", DOCUMENTS[:100], 50, Config(**FAST))
    run(first)
    path = str(tmp_path / "first/models/perplexity/en.0.arpa")
    documents = [replace(d, language="de") if i % 2 else d for i, d in enumerate(DOCUMENTS[:200])]
    config = Config(**FAST, models={"en": "build", "de": path}, minimum={"de": 1e-3}, maximum={"de": 100.0})
    build = lay_out(tmp_path / "second", documents, 50, config)
    run(build)
    rows = ledger(build)
    german, english = rows[1::2], rows[0::2]
    direct, _ = scoring.perplexity(pa.array([document.text for document in documents[1::2]]), path)
    assert [row["perplexity"] for row in german] == direct.astype(np.float32).tolist()
    assert [row["dropped_by"] is not None for row in german] == (direct > 100).tolist()
    assert 0 < sum(direct > 100) < 100
    assert {row["threshold"] for row in german} == {None, 100.0}
    assert sum(row["dropped_by"] is not None for row in english) == 2 + 10
    assert sum(row["perplexity_bucket"] == "head" for row in german) == 30


def test_a_ccnet_model_scores_pieces_and_cuts_at_the_published_perplexities(tmp_path: Path, piece_model: PieceModel):
    config = Config(models={"en": piece_model}, edges="ccnet", drop={"lowest": 0, "highest": 0})  # type: ignore[arg-type]
    build = lay_out(tmp_path, DOCUMENTS[:200], 50, config)
    run(build)
    scored = [row for row in ledger(build) if row["perplexity"] is not None]
    direct, tokens = scoring.piece_perplexity(pa.array(ENGLISH[:200]), piece_model.kenlm, piece_model.sentencepiece)
    assert [row["perplexity"] for row in scored] == direct.astype(np.float32).tolist()
    assert [row["perplexity_tokens"] for row in scored] == tokens.tolist()
    low, high = 340, 520
    wanted = ["head" if value <= low else "middle" if value <= high else "tail" for value in direct]
    assert [row["perplexity_bucket"] for row in scored] == wanted


def test_edges_by_language_hold_there_and_the_percentiles_elsewhere(tmp_path: Path, piece_model: PieceModel):
    documents = [replace(d, language="de") if i % 2 else d for i, d in enumerate(DOCUMENTS[:200])]
    values = scoring.piece_perplexity(pa.array(ENGLISH[:200:2]), piece_model.kenlm, piece_model.sentencepiece)[0]
    edges = {"en": (float(np.quantile(values, 0.1)), float(np.quantile(values, 0.2)))}
    build = lay_out(tmp_path, documents, 50, Config(models={"en": piece_model, "de": piece_model}, edges=edges))
    run(build)
    rows = ledger(build)
    for mine, shares in ((rows[0::2], (0.1, 0.1, 0.8)), (rows[1::2], (0.3, 0.3, 0.4))):
        counts = [sum(row["perplexity_bucket"] == name for row in mine) / len(mine) for name in perplexity.BUCKETS]
        assert counts == pytest.approx(shares, abs=0.011)


def test_a_changed_sentencepiece_model_scores_again(tmp_path: Path, piece_model: PieceModel):
    copy = tmp_path / "copy.model"
    copy.write_bytes(Path(piece_model.sentencepiece).read_bytes())
    mine = piece_model.model_copy(update={"sentencepiece": str(copy)})
    build = lay_out(tmp_path, DOCUMENTS[:20], 20, Config(models={"en": mine}))
    run(build)
    train_pieces(ENGLISH[:100], copy, 300)
    assert not any(outcome.reused for outcome in run(build)["perplexity.score"])


def train_pieces(texts: list[str], path: Path, size: int) -> None:
    with path.open("wb") as handle:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(texts), model_writer=handle, vocab_size=size, minloglevel=2, num_threads=1
        )


@pytest.fixture(scope="module")
def piece_model(tmp_path_factory: pytest.TempPathFactory) -> PieceModel:
    """A small model of the CCNet kind: a 3-gram model of SentencePiece pieces."""
    folder = tmp_path_factory.mktemp("pieces")
    train_pieces(ENGLISH[:150], folder / "en.sp.model", 400)
    lines = [" ".join(p) for batch in ccnet.pieces(pa.array(ENGLISH), str(folder / "en.sp.model")) for p in batch]
    train_model.train(pa.array(lines[150:]), str(folder / "en.arpa"), 3, [], "own")
    return PieceModel(kenlm=str(folder / "en.arpa"), sentencepiece=str(folder / "en.sp.model"))


def test_too_little_text_for_two_models_means_no_verdict(tmp_path: Path):
    build = lay_out(tmp_path, [Document("One sentence only.")], 10, Config(**FAST))
    run(build)
    assert ledger(build)[0]["perplexity"] is None
    assert ledger(build)[0]["dropped_by"] is None


def test_a_build_without_documents_passes(tmp_path: Path):
    run(lay_out(tmp_path, [], 10, Config(**FAST)))


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"drop": {"lowest": 0.5, "highest": 0.5}}, "no document"),
        ({"drop": {"lowest": 2}}, "less than or equal to 1"),
        ({"prune": [1, 1]}, "prune"),
        ({"prune": [0, 2, 1]}, "prune"),
        ({"models": {}}, "models"),
        ({"maximum": {"de": 100}}, "'de'"),
        ({"minimum": {"en": 0}}, "minimum"),
        ({"estimator": "srilm"}, "own"),
        ({"edges": {"en": [520, 340]}}, "edges"),
        ({"edges": "published"}, "ccnet"),
        ({"reference": {"max_bytes": "1KB"}}, "max_bytes"),
    ],
    ids=str,
)
def test_a_wrong_configuration_is_refused(wrong: dict, says: str):
    with pytest.raises(ValueError, match=says):
        Config(**wrong)
