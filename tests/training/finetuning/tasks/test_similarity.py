from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats
from transformers import AutoModel, AutoTokenizer

from tests.helpers.foreign_models import job, rows
from tests.training.conftest import NAMES, VERBS
from training.finetuning import bases
from training.finetuning.finetune import run
from training.finetuning.tasks import task_of
from training.finetuning.tasks.similarity import Similarity, is_nearest, pooled


def scored(draw: np.random.Generator) -> dict:
    """Sentences are alike if they are of the same animal."""
    first, second = draw.integers(4, size=2)
    texts = [f"the {NAMES[name]} {VERBS[draw.integers(4)]} the thing." for name in (first, second)]
    return {"text": texts[0], "pair": texts[1], "score": float(first == second)}


def alike(draw: np.random.Generator) -> dict:
    name, verb = NAMES[draw.integers(4)], VERBS[draw.integers(4)]
    return {"text": f"the {name} {verb} it.", "pair": f"it {verb} a {name}", "score": 1.0}


def made(count: int, seed: int, row=scored) -> list[dict]:
    draw = np.random.default_rng(seed)
    return [row(draw) for _ in range(count)]


@pytest.mark.parametrize("pooling", ["mean", "cls", "max"])
def test_padding_is_not_in_a_vector(bert: str, tmp_path: Path, pooling: str) -> None:
    given = rows("similarity", [], made(2, 0), [{**made(1, 0)[0], "pair": "the " * 20}], made(2, 0))
    task = task_of(job(tmp_path, bert, given, similarity={"pooling": pooling}).config, given)
    assert isinstance(task, Similarity)
    reader = bases.reader(bert, bert, 32)
    model = bases.load(task.auto, bert, task.fields(), 0.0, 0).eval()
    found = []
    for table in (given.train, given.dev):
        arrays = task.encode(reader, table).arrays(np.arange(len(table)))
        with torch.no_grad():
            found.append(task.vectors(model, {name: torch.from_numpy(array) for name, array in arrays.items()}))
    assert torch.allclose(found[0][0, 0], found[1][0, 0], atol=1e-5)
    hidden = torch.tensor([[[1.0], [3.0], [9.0]]])
    expected = {"mean": 2.0, "cls": 1.0, "max": 3.0}[pooling]
    assert pooled(hidden, torch.tensor([[1, 1, 0]]), pooling).item() == expected  # type: ignore[arg-type]


def test_the_contrast_with_negatives_by_hand(bert: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = rows("similarity", [], made(4, 0), made(2, 0), made(2, 0))
    task = task_of(job(tmp_path, bert, given, similarity={"contrast": "negatives"}).config, given)
    assert isinstance(task, Similarity)
    draw = np.random.default_rng(0)
    vectors = torch.nn.functional.normalize(torch.tensor(draw.normal(size=(2, 4, 5)), dtype=torch.float32), dim=-1)
    monkeypatch.setattr(task, "vectors", lambda *_: vectors)
    arrays = {
        "tokens": torch.tensor([[1, 2], [1, 2], [3, 4], [5, 6]]),  # the first two are the same text
        "other": torch.tensor([[1, -100], [2, -100], [3, -100], [4, -100]]),
        "scores": torch.tensor([1.0, 0.9, 0.1, 1.0]),
    }
    cosines = 20 * (vectors[0] @ vectors[1].T).numpy().astype(np.float64)
    allowed = {0: [0, 2, 3], 1: [1, 2, 3], 3: [0, 1, 2, 3]}  # the third pair is not alike: its text is a negative only
    expected = sum(np.log(np.exp(cosines[row, of]).sum()) - cosines[row, row] for row, of in allowed.items())
    assert task.loss(torch.nn.Identity(), arrays)["loss"].item() == pytest.approx(expected, rel=1e-5)
    assert task.counts({"scores": arrays["scores"].numpy()}) == {"loss": 3}


def test_the_published_model_gives_the_vectors_by_the_code_of_its_card(bert: str, tmp_path: Path) -> None:
    given = rows("similarity", [], made(200, 0), made(40, 1), made(60, 2))
    summary = run(job(tmp_path, bert, given, epochs=6))
    scores = summary["scores"]["model"]
    assert summary["main"] == "spearman"
    assert summary["chosen"] == {"pooling": "mean"}
    assert scores["spearman"]["value"] > 0.7
    folder = str(tmp_path / "model")
    told = Path(folder, "README.md").read_text()
    assert "pipeline_tag: sentence-similarity" in told
    model, tokenizer = AutoModel.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    assert tokenizer.model_max_length == 64
    sides = []
    for name in ("text", "pair"):
        inputs = tokenizer(given.test[name].to_pylist(), padding=True, return_tensors="pt")
        with torch.no_grad():
            hidden, mask = model(**inputs).last_hidden_state, inputs["attention_mask"].unsqueeze(-1)
        sides.append((hidden * mask).sum(1) / mask.sum(1))
    assert re.search(r"^vectors = \(hidden \* mask\)\.sum\(1\) / mask\.sum\(1\)", told, re.MULTILINE)
    cosines = torch.nn.functional.cosine_similarity(*sides).numpy()
    expected = stats.spearmanr(cosines, given.test["score"].to_pylist())[0]
    assert scores["spearman"]["value"] == pytest.approx(expected, abs=1e-3)


def test_pairs_without_scores_are_judged_by_the_nearest(bert: str, tmp_path: Path) -> None:
    given = rows("similarity", [], made(200, 0, alike), made(30, 1, alike), made(40, 2, alike))
    summary = run(job(tmp_path, bert, given, epochs=6, similarity={"contrast": "negatives"}))
    assert summary["main"] == "nearest"
    assert summary["scores"]["model"]["nearest"]["value"] > 0.5
    assert is_nearest(np.eye(3)[:, None].repeat(2, 1)).all()


def test_options_that_would_do_nothing_are_refused(bert: str, tmp_path: Path) -> None:
    given = rows("similarity", [], made(4, 0), made(2, 0), made(2, 0))
    with pytest.raises(ValueError, match="leave out `micro_batch`"):
        job(tmp_path, bert, given, similarity={"contrast": "negatives"}, micro_batch=4)
    with pytest.raises(ValueError, match="`text2text` sets options of the task text2text, and `task` is similarity"):
        job(tmp_path, bert, given, text2text={"prefix": "x"})
