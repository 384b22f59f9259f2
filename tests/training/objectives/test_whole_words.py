"""Where words go on, by the marks of each kind of tokenizer, trained by the project's own trainer."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from pipeline.tokenization import pack
from pipeline.tokenization.config import TokenizerConfig
from pipeline.tokenization.formats import export
from pipeline.tokenization.training import counts, train
from training.objectives.whole_words import continuations

TEXT = "the unhappy bird sees unhappiness in happy birds and birds see the unhappy fish"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("algorithm", "pre_tokenizer"), [("wordpiece", "bert"), ("bpe", "gpt2"), ("bpe", "metaspace"), ("unigram", None)]
)
def test_the_words_of_a_text_are_found_again(tmp_path: Path, algorithm: str, pre_tokenizer: str | None) -> None:
    config = TokenizerConfig.model_validate(
        {"name": "x", "algorithm": algorithm, "vocab_size": 300, "pre_tokenizer": pre_tokenizer}
    )
    vocabulary = train.train(counts.count(pa.array([TEXT] * 3), config), config)
    (tmp_path / "tokenizer.json").write_bytes(export.to_json(vocabulary, config))
    tokenizer = pack.load(str(tmp_path / "tokenizer.json"))
    found = continuations(str(tmp_path), tokenizer.get_vocab_size())
    assert found is not None
    text = f"{TEXT} nuspaheb"  # the last one of single letters
    encoding = tokenizer.encode(text, add_special_tokens=False)
    begins = [at for at, id_ in enumerate(encoding.ids) if at == 0 or not found[id_]]
    assert len(encoding.ids) > len(begins) == len(text.split())
    shown = [text[: encoding.offsets[at][1]].split()[-1] for at in begins if encoding.tokens[at] != "\u2581"]
    assert all(any(word.startswith(begin) for word in text.split()) for begin in shown)
    assert found.any()
    assert not found[list(export.special_ids(config).values())].any()


def test_a_tokenizer_that_is_not_there_shows_no_words(tmp_path: Path) -> None:
    assert continuations(str(tmp_path), 10) is None
