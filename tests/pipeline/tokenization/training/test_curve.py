import json

import numpy as np
import pyarrow as pa

from pipeline.tokenization.config import TokenizerConfig
from pipeline.tokenization.encoding.encode import Encoder
from pipeline.tokenization.formats import export
from pipeline.tokenization.formats.export import Vocabulary
from pipeline.tokenization.training import counts, curve, train
from tests.pipeline.tokenization.conftest import documents

CONFIG = TokenizerConfig(name="bytes", algorithm="bpe", vocab_size=400)
TEXTS = [d["text"] for d in documents(60)]


def test_every_smaller_vocabulary_makes_the_tokens_that_the_curve_says():
    words = counts.count(pa.array(TEXTS), CONFIG)
    whole = train.train(words, CONFIG)
    held_out = [text[::-1] + " lowest" for text in TEXTS[:20]]
    model = Encoder(export.to_tokenizer(whole, CONFIG)).model
    assert model is not None
    entries, ratios = curve.sizes(counts.count(pa.array(held_out), CONFIG), model, len(CONFIG.reserved))
    size = sum(len(text.encode()) for text in held_out)
    for merges in (0, 1, 17, 60, len(whole.merges)):
        smaller = Vocabulary(whole.pieces[: 257 + merges], whole.merges[:merges])
        tokenizer = export.to_tokenizer(smaller, CONFIG)
        tokens = sum(len(e.ids) for e in tokenizer.encode_batch(held_out, add_special_tokens=False))
        assert entries[merges] == tokenizer.get_vocab_size()
        assert ratios[merges] == size / tokens


def test_the_recommended_size_is_the_cheapest_and_grows_with_the_model():
    entries = np.arange(257, 100_000)
    ratios = 1 + np.log(entries / 256)
    advice = [curve.recommend(entries, ratios, width, layers) for width, layers in curve.MODELS]
    sizes = [entry["size"] for entry in advice]
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[-1]
    for entry, (width, layers) in zip(advice, curve.MODELS, strict=True):
        cost = (12 * layers * width**2 + entries * width) / ratios
        assert cost[entry["size"] - 257] == cost.min()
        assert entry["largest"] == (entry["size"] == 99_999)
        assert json.dumps(entry)
