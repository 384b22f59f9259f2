import math
from pathlib import Path

import kenlm
import numpy as np
import pyarrow as pa
import pytest

from pipeline import MillError
from pipeline.stages.perplexity import scoring, train_model
from pipeline.text.sentence_folding import LONGEST_SENTENCE, sentences
from tests.helpers.reading_arpa import read

TEXTS = [
    "The cat sat on the mat.\nThe dog sat on the log.",
    "A dog and a cat!",
    "",
    "\n \n",
    "Unknown words everywhere: qwx, zzy\n\nThe cat.",
    "the cat " * LONGEST_SENTENCE,
]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    found = str(tmp_path_factory.mktemp("model") / "en.arpa")
    train_model.train(sentences(pa.array(TEXTS[:2] * 3)).lines, found, 3, [], "own")
    return found


def test_perplexity_is_that_of_the_file_s_probabilities_over_words_and_ends(path: str):
    found, tokens = scoring.perplexity(pa.array(TEXTS), path)
    arpa = read(Path(path))
    for text, value, count in zip(TEXTS, found, tokens, strict=True):
        lines = [line.split() for line in sentences(pa.array([text])).lines.to_pylist()]
        if not lines:
            assert math.isnan(value)
            assert count == 0
            continue
        assert count == sum(len(line) + 1 for line in lines)
        assert value == pytest.approx(10 ** (-sum(map(arpa.sentence, lines)) / count), rel=1e-4)


def test_what_was_trained_on_is_less_surprising_than_the_same_words_in_another_order(path: str):
    (seen, shuffled), _ = scoring.perplexity(pa.array(["The cat sat on the mat.", "mat the on sat cat. The"]), path)
    assert seen < shuffled / 2


def test_a_text_has_the_same_perplexity_in_any_company(path: str):
    together, _ = scoring.perplexity(pa.array(TEXTS), path)
    for text, value in zip(TEXTS, together, strict=True):
        np.testing.assert_array_equal(scoring.perplexity(pa.array([text]), path)[0], value)


def test_a_model_that_was_replaced_is_read_again(path: str, tmp_path: Path):
    copy = tmp_path / "model.arpa"
    copy.write_bytes(Path(path).read_bytes())
    before, _ = scoring.perplexity(pa.array(TEXTS[:1]), str(copy))
    train_model.train(pa.array(["something else"]), str(copy), 2, [], "own")
    after, _ = scoring.perplexity(pa.array(TEXTS[:1]), str(copy))
    assert before != after
    assert kenlm.Model(str(copy)).order == 2


def test_no_texts_have_no_perplexity(path: str):
    found, tokens = scoring.perplexity(pa.array([], pa.string()), path)
    assert (len(found), len(tokens)) == (0, 0)


@pytest.mark.parametrize(
    "content",
    ["not an arpa " + "x" * 100_000, "\\data\\\nngram 1=1\nngram 2=1\n\n\\1-grams:\n" + "y" * 100_000, ""],
    ids=["other", "broken", "empty"],
)
def test_a_file_that_is_no_language_model_is_named_and_not_printed(content: str, tmp_path: Path):
    path = tmp_path / "x.arpa"
    path.write_text(content)
    with pytest.raises(MillError, match=r"x\.arpa: not a language model .* ARPA file") as refused:
        scoring.perplexity(pa.array(["a text"]), str(path))
    assert len(str(refused.value)) < 600 + len(str(path))
