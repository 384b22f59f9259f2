"""Vocabularies that others do not train: superwords (SuperBPE), and BPE that treats languages alike.

Superwords: tokens of held-out prose beside BPE of the same size, ours and Hugging Face tokenizers', by domain as well,
and what a MB of text takes to learn from. Parity: the Gini coefficient of tokens over the same texts in English and
German (XQuAD of the acceptance data), with ten times as much English, judged by half of the texts and measured on the
others; and over the articles of the Universal Declaration of Human Rights, learned from a thousand sentences of each
language and ten times as much English, German, French and Russian. Processor time on one core.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import re
import time
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import tokenizers
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from benchmarks.documents import SHARED, named_prose
from pipeline.tokenization.config import TokenizerConfig
from pipeline.tokenization.encoding.encode import Encoder
from pipeline.tokenization.formats import export
from pipeline.tokenization.formats.export import Vocabulary
from pipeline.tokenization.training import counts, superwords, train

FEWER, CUT = 0.25, 0.8  # tokens of superwords; Gini of parity
LANGUAGES = ("de", "en")
LARGE = ("deu_1996", "eng", "fra", "rus")
#: The declaration's names of languages beside those of the sentences.
DECLARED = """
afr af  als sq  arb ar  azj_latn az  bel be  ben bn  bul bg  cat ca  ces cs  cym cy  dan da  deu_1996 de
ell_monotonic el  eng en  epo eo  eus eu  fin fi  fra fr  gle ga  guj gu  heb he  hin hi  hrv hr  hun hu  hye hy  ind id
isl is  ita it  jpn ja  kat ka  kaz kk  khk mn  kor ko  lat la  lit lt  lug lg  mar mr  mkd mk  mri mi  nld nl  nno nn
nob nb  pan pa  pol pl  por_PT pt  ron_2006 ro  rus ru  slk sk  slv sl  sna sn  som so  sot st  spa es  srp_cyrl sr
swe sv  swh sw  tam ta  tel te  tgl tl  tha th  tsn tn  tur tr  ukr uk  urd ur  vie vi  xho xh  yor yo  zul zu
"""
ARTICLES, ALIGNED = 50, 0.93  # paragraphs of the thirty articles; least correlation of their lengths with English's


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=12)
    parser.add_argument("--vocabulary", type=int, default=65_536)
    parser.add_argument("--share", type=float, default=0.8)
    options = parser.parse_args()
    os.environ |= {"TOKENIZERS_PARALLELISM": "false", "RAYON_NUM_THREADS": "1"}
    _superwords(list(named_prose(options.megabytes)), options.vocabulary, options.share)
    _parity()
    for size in (8_192, 32_768):
        _declaration(size)


def _superwords(named: Sequence[tuple[str, str]], size: int, share: float) -> None:
    """Every twentieth text is held out."""
    texts = pa.array([text for _, text in named], pa.string())
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
        f"    fewer by domain: {_by_domain(named[::20], (words, plain), (several, config))}\n"
        f"    a MB of text takes {(end - after) / megabytes:.3f} s, our BPE {(after - began) / megabytes:.3f} s,"
        f" tokenizers' {peer / megabytes:.3f} s",
        flush=True,
    )


def _by_domain(
    named: Sequence[tuple[str, str]],
    plain: tuple[Vocabulary, TokenizerConfig],
    other: tuple[Vocabulary, TokenizerConfig],
) -> str:
    """Code and text with hard line breaks have few words side by side that nothing cuts."""
    texts: dict[str, list[str]] = {}
    for name, text in named:
        texts.setdefault(name.partition("/")[0], []).append(text)
    tokens = {domain: [_tokens(*by, pa.array(part)) for by in (plain, other)] for domain, part in texts.items()}
    fewer = sorted((1 - after / before, domain) for domain, (before, after) in tokens.items())
    return ", ".join(f"{domain} {share:.1%}" for share, domain in reversed(fewer))


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


def _declaration(size: int) -> None:
    """Vowel signs stay in their words, and text is composed: else where words are cut limits, not the merges."""
    articles, sentences = _languages()
    if not articles:
        print("parity: the acceptance data, which holds the declaration of human rights, is not there")
        return
    plain = _config(vocab_size=size, pre_tokenizer="gpt2_marks", normalizer="nfc")
    config = _config(vocab_size=size, pre_tokenizer="gpt2_marks", normalizer="nfc", parity={})
    usual = _config(vocab_size=size)
    seen, unseen = ({name: texts[at::2] for name, texts in articles.items()} for at in (1, 0))
    heavy = {name: sentences[name] * (10 if name in LARGE else 1) for name in articles}
    texts, learned = pa.array(chain.from_iterable(heavy.values())), {}
    for name, asked in (("same", plain), ("usual", usual)):
        learned[name] = train.train(counts.count(texts, asked), asked), asked
    counted = {name: counts.count(pa.array(texts), config) for name, texts in heavy.items()}
    judged = {name: (counts.count(pa.array(texts), config), len(texts)) for name, texts in seen.items()}
    learned["parity"] = train.train_alike(counted, config, judged)[0], config
    measured = {
        name: _gini(unseen, lambda texts, by=by, asked=asked: _tokens(by, asked, pa.array(texts)))
        for name, (by, asked) in learned.items()
    }
    cut = {name: 1 - measured["parity"] / measured[name] for name in ("same", "usual")}
    print(
        f"parity in {len(articles)} languages, {size:,} entries: Gini of tokens {measured['parity']:.3f},"
        f" {cut['same']:.0%} below the {measured['same']:.3f} of BPE that is cut alike and {cut['usual']:.0%} below the"
        f" {measured['usual']:.3f} of GPT-2's cut  {_verdict(min(cut.values()) >= CUT)} ({CUT:.0%})",
        flush=True,
    )


def _languages() -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """The articles' paragraphs and a thousand sentences of each language whose declaration stands paragraph for
    paragraph as the English one."""
    folder = SHARED.parent / "langid"
    if not folder.is_dir():
        return {}, {}
    declared, written = _lines(folder / "udhr_paragraphs.tsv.gz"), _lines(folder / "lingua_sentences.tsv.gz")
    codes = dict(re.findall(r"(\w+) (\w+)", DECLARED))
    lengths = {name: [len(text) for text in declared[name][-ARTICLES:]] for name in codes}
    alike = [
        name
        for name, sizes in lengths.items()
        if 57 <= len(declared[name]) <= 61 and np.corrcoef(sizes, lengths["eng"])[0, 1] >= ALIGNED
    ]
    return {name: declared[name][-ARTICLES:] for name in alike}, {name: written[codes[name]] for name in alike}


def _lines(path: Path) -> dict[str, list[str]]:
    """The second column of a file of tab-separated values by the first."""
    gathered: dict[str, list[str]] = {}
    with gzip.open(path, "rt", encoding="utf-8", newline="\n") as lines:
        for line in lines:
            name, text = line.rstrip("\n").split("\t", 1)
            gathered.setdefault(name, []).append(text)
    return gathered


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
