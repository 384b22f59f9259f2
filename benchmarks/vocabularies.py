"""Vocabularies that others do not train: superwords (SuperBPE), and BPE that treats languages alike.

Superwords: tokens of held-out prose beside BPE of the same size, ours and Hugging Face tokenizers', and what a MB of
text takes to learn from. Parity: the Gini coefficient of tokens over the same texts in English and German (XQuAD of the
acceptance data), with ten times as much English, judged by half of the texts and measured on the others. Processor time
on one core.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import tokenizers
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from benchmarks.documents import SHARED, prose
from pipeline.tokenization.config import TokenizerConfig
from pipeline.tokenization.encoding.encode import Encoder
from pipeline.tokenization.formats import export
from pipeline.tokenization.formats.export import Vocabulary
from pipeline.tokenization.training import counts, superwords, train

FEWER, CUT = 0.25, 0.8  # tokens of superwords; Gini of parity
LANGUAGES = ("de", "en")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=12)
    parser.add_argument("--vocabulary", type=int, default=65_536)
    parser.add_argument("--share", type=float, default=0.8)
    options = parser.parse_args()
    os.environ |= {"TOKENIZERS_PARALLELISM": "false", "RAYON_NUM_THREADS": "1"}
    _superwords(prose(options.megabytes), options.vocabulary, options.share)
    _parity()


def _superwords(texts: pa.StringArray, size: int, share: float) -> None:
    """Every twentieth text is held out."""
    held_out = np.arange(len(texts)) % 20 == 0
    seen, unseen = texts.filter(pa.array(~held_out)), texts.filter(pa.array(held_out))
    plain = _config(vocab_size=size)
    config = _config(vocab_size=size, superwords={"share": share})
    for part in (seen.slice(0, 20), seen):  # the first so that the kernels are there before the clock starts
        began = time.process_time()
        counted = counts.count(part, plain)
        words = train.train(counted, plain)
        after = time.process_time()
        frequent = superwords.frequent([superwords.count_neighbours(part, config)], config)
        sequences, _ = superwords.sequences([superwords.count_sequences(part, config, frequent)])
        several = train.train(counted, config, sequences)
        end = time.process_time()
    theirs, peer = _hugging_face(seen.to_pylist(), size)
    tokens = {"superwords": _tokens(several, config, unseen), "ours": _tokens(words, plain, unseen)}
    tokens["theirs"] = sum(len(encoding.ids) for encoding in theirs.encode_batch(unseen.to_pylist()))
    fewer = {name: 1 - tokens["superwords"] / tokens[name] for name in ("ours", "theirs")}
    megabytes = seen.nbytes / 1e6
    print(
        f"superwords: {size:,} entries learned from {megabytes:.0f} MB, share {share}: {fewer['ours']:.1%} fewer tokens"
        f" of held-out text than BPE of the same size, {fewer['theirs']:.1%} fewer than BPE of tokenizers"
        f" {tokenizers.__version__}  {_verdict(fewer['ours'] >= FEWER)} ({FEWER:.0%})\n"
        f"    a MB of text takes {(end - after) / megabytes:.3f} s, our BPE {(after - began) / megabytes:.3f} s,"
        f" tokenizers' {peer / megabytes:.3f} s",
        flush=True,
    )


def _parity() -> None:
    lines = {name: _xquad(name) for name in LANGUAGES}
    if not all(lines.values()):
        print("parity: the acceptance data, which holds XQuAD, is not there")
        return
    seen = {name: texts[1::2] for name, texts in lines.items()}
    unseen = {name: texts[::2] for name, texts in lines.items()}
    plain, config = _config(vocab_size=8_192), _config(vocab_size=8_192, parity={})
    heavy = {name: texts * (10 if name == "en" else 1) for name, texts in seen.items()}
    counted = {name: counts.count(pa.array(texts), plain) for name, texts in heavy.items()}
    judged = {name: (counts.count(pa.array(texts), plain), len(texts)) for name, texts in seen.items()}
    words = train.train(counts.merge(counted.values()), plain)
    alike, _ = train.train_alike(counted, config, judged)
    theirs, _ = _hugging_face([text for texts in heavy.values() for text in texts], 8_192)
    measured = {
        "parity": _gini(unseen, lambda texts: _tokens(alike, config, pa.array(texts))),
        "ours": _gini(unseen, lambda texts: _tokens(words, plain, pa.array(texts))),
        "theirs": _gini(unseen, lambda texts: sum(len(e.ids) for e in theirs.encode_batch(texts))),
    }
    cut = {name: 1 - measured["parity"] / measured[name] for name in ("ours", "theirs")}
    print(
        f"parity: Gini of tokens {measured['parity']:.3f}, {cut['ours']:.0%} below BPE's {measured['ours']:.3f} and"
        f" {cut['theirs']:.0%} below the {measured['theirs']:.3f} of tokenizers {tokenizers.__version__} "
        f" {_verdict(cut['ours'] >= CUT)} ({CUT:.0%})",
        flush=True,
    )


def _xquad(language: str) -> list[str]:
    """Contexts and questions, the same in each language; none where the data is not there."""
    path = SHARED.parent / "finetune" / "xquad" / f"xquad.{language}.json.gz"
    if not path.is_file():
        return []
    articles = json.loads(gzip.decompress(path.read_bytes()))["data"]
    paragraphs = [paragraph for article in articles for paragraph in article["paragraphs"]]
    return [part["context"] for part in paragraphs] + [
        asked["question"] for part in paragraphs for asked in part["qas"]
    ]


def _gini(lines: Mapping[str, list[str]], tokens: Any) -> float:
    """Of the tokens of each language's lines: 0 where all are written alike."""
    ordered = np.sort([tokens(texts) for texts in lines.values()])
    ranks = 2 * np.arange(1, len(ordered) + 1) - len(ordered) - 1
    return float(ranks @ ordered / (len(ordered) * ordered.sum()))


def _config(**values: Any) -> TokenizerConfig:
    return TokenizerConfig.model_validate({"name": "x", "algorithm": "bpe", **values})


def _tokens(learned: Vocabulary, config: TokenizerConfig, texts: pa.StringArray) -> int:
    return sum(len(block.tokens) for block in Encoder(export.to_tokenizer(learned, config)).encode(texts))


def _hugging_face(texts: Sequence[str], size: int) -> tuple[Tokenizer, float]:
    """Byte-level BPE, and how long it takes to learn."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # type: ignore[assignment]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=size, min_frequency=2, initial_alphabet=alphabet, show_progress=False)
    began = time.process_time()
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer, time.process_time() - began


def _verdict(holds: bool) -> str:
    return "PASS" if holds else "short"


if __name__ == "__main__":
    main()
