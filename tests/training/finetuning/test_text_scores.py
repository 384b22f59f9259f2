from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import sacrebleu
from rouge_score.rouge_scorer import RougeScorer

from tests.training.conftest import sentences
from training.finetuning import text_scores


def texts() -> tuple[list[str], list[str]]:
    draw = np.random.default_rng(0)
    true = sentences(40)
    written = [" ".join(word for word in text.split() if draw.random() < 0.8) for text in true]
    return [*written, ""], [*true, "the cat"]


def test_scores_are_those_of_sacrebleu_and_rouge_score() -> None:
    written, true = texts()
    found = {m.name: m.score for m in text_scores.measures(written, true, [str(n) for n in range(len(true))])}
    assert found["bleu"] == pytest.approx(sacrebleu.corpus_bleu(written, [true]).score / 100)
    assert found["chrf"] == pytest.approx(sacrebleu.corpus_chrf(written, [true]).score / 100)
    rouge = [RougeScorer(["rougeL"]).score(t, w)["rougeL"].fmeasure for w, t in zip(written, true, strict=True)]
    assert found["rouge_l"] == pytest.approx(np.mean(rouge))
    assert found["exact_match"] == np.mean([w == t for w, t in zip(written, true, strict=True)])


def test_a_resample_is_scored_as_a_test_set_of_its_own() -> None:
    written, true = texts()
    bleu = next(m for m in text_scores.measures(written, true, [f"{n:03d}" for n in range(41)]) if m.name == "bleu")
    drawn = np.random.default_rng(1).integers(41, size=41)
    weights = np.bincount(drawn, minlength=41)
    expected = sacrebleu.corpus_bleu([written[at] for at in drawn], [[true[at] for at in drawn]]).score / 100
    assert bleu.value(weights @ bleu.counts) == pytest.approx(expected)
    found = bleu.interval()
    assert found.low < found.value < found.high


def test_setting_up_logging_again_closes_no_stream() -> None:
    """absl, which rouge-score imports, keeps the stream of its import and closes it where it is no longer stderr."""
    code = (
        "import io, logging.config, sys; stream = sys.stderr = io.StringIO()\n"
        "import training.finetuning.text_scores\n"
        "sys.stderr = io.StringIO(); logging.config.dictConfig({'version': 1}); assert not stream.closed"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
