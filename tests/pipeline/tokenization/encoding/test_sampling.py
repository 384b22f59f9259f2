"""Drawn segmentations against the exact distribution, by enumeration."""

import math
from collections import Counter

import pyarrow as pa
import pytest
import scipy.stats

from pipeline.tokenization.config import TokenizerConfig
from pipeline.tokenization.encoding.sampling import Sampler
from pipeline.tokenization.formats import folder
from pipeline.tokenization.formats.export import BYTE_PIECES, Vocabulary

PIECES = {"▁": 0.1, "h": 0.1, "u": 0.15, "g": 0.05, "s": 0.1, "hu": 0.1, "ug": 0.1, "▁h": 0.05, "▁hug": 0.15, "gs": 0.1}


def sampler(path, byte_fallback: bool = False) -> Sampler:
    options = {"byte_fallback": byte_fallback, "special_tokens": {"eos": "</s>", "unk": "<unk>"}}
    config = TokenizerConfig.model_validate({"name": "x", "algorithm": "unigram", "vocab_size": 300, **options})
    fixed = ["</s>", "<unk>", *(BYTE_PIECES if byte_fallback else [])]
    scores = [-1000.0] * len(fixed) + [math.log(p) for p in PIECES.values()]
    folder.save(str(path), Vocabulary([*fixed, *PIECES], scores=scores), config)
    return Sampler(str(path / "tokenizer.json"))


def ways(word: str) -> list[tuple[str, ...]]:
    if not word:
        return [()]
    heads = [word[:end] for end in range(1, len(word) + 1) if word[:end] in PIECES]
    return [(head, *tail) for head in heads for tail in ways(word[len(head) :])]


def drawn(path, alpha: float, count: int) -> Counter:
    keys = pa.array([str(i) for i in range(count)])
    found = sampler(path).sample(pa.array(["hugs"] * count), alpha, 0, keys)
    names = list(PIECES)
    return Counter(tuple(names[i - 2] for i in ids) for ids in found)


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0, 2.5])
def test_segmentations_are_drawn_with_their_probabilities(tmp_path, alpha):
    every = ways("▁hugs")
    weights = [math.prod(PIECES[piece] for piece in way) ** alpha for way in every]
    count = 6000
    found = drawn(tmp_path, alpha, count)
    assert set(found) <= set(every)
    expected = [count * weight / sum(weights) for weight in weights]
    common = [i for i, n in enumerate(expected) if n >= 5]
    observed = [found[every[i]] for i in common]
    observed.append(count - sum(observed))
    expected = [expected[i] for i in common]
    expected.append(count - sum(expected))
    if expected[-1] < 1e-9:
        assert observed.pop() == 0
        expected.pop()
    assert scipy.stats.chisquare(observed, expected).pvalue > 1e-4  # the draws are seeded: no run differs


def test_a_large_alpha_leaves_the_best_segmentation(tmp_path):
    best = max(ways("▁hugs"), key=lambda way: math.prod(PIECES[piece] for piece in way))
    assert drawn(tmp_path, 200.0, 50) == {best: 50}


def test_a_draw_depends_on_seed_and_key_alone(tmp_path):
    source = sampler(tmp_path)
    texts, keys = pa.array(["hugs hugs", "hug", "gush"] * 20), pa.array([f"d{i}" for i in range(60)])
    found = source.sample(texts, 0.2, 7, keys)
    assert source.sample(texts[::-1], 0.2, 7, keys[::-1]) == found[::-1]
    assert source.sample(texts.slice(5, 3), 0.2, 7, keys.slice(5, 3)) == found[5:8]
    assert source.sample(texts, 0.2, 8, keys) != found
    assert len({tuple(ids) for ids in found[::3]}) > 1


def test_unknown_characters_are_one_unknown_token_or_their_bytes(tmp_path):
    (tmp_path / "a").mkdir()
    texts = pa.array(["hug 🦜🦜s é"])
    ids = sampler(tmp_path / "a").sample(texts, 50.0, 0)[0]
    assert ids.count(1) == 2
    source = sampler(tmp_path / "b", byte_fallback=True)
    assert 1 not in source.sample(texts, 50.0, 0)[0]
    assert source._tokenizer.decode(source.sample(texts, 0.0, 3)[0]) == "hug 🦜🦜s é"


def test_what_cannot_be_sampled_is_refused(tmp_path):
    config = TokenizerConfig(name="x", algorithm="bpe", vocab_size=300)
    folder.save(str(tmp_path), Vocabulary(["<|endoftext|>"]), config)
    with pytest.raises(ValueError, match="a BPE tokenizer has no probabilities"):
        Sampler(str(tmp_path / "tokenizer.json"))
    for alpha in (-0.1, math.nan, math.inf):
        with pytest.raises(ValueError, match="alpha is"):
            sampler(tmp_path).sample(pa.array(["hug"]), alpha, 0)
