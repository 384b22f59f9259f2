"""A recipe for given files, as a text with a comment beside each choice; what `mill init` writes.

It is checked as any recipe is before it is given out. Thresholds are left at their defaults, which have their sources.
"""

from __future__ import annotations

import itertools
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from pipeline.build.build import Build
from pipeline.curation import forecast
from pipeline.curation import recipe as recipes
from pipeline.sources.base import Document
from pipeline.sources.guess import SourceGuess
from pipeline.stages.dedup.minhash import Config as MinHash
from pipeline.stages.heuristics.families import GopherQuality
from pipeline.stages.language import Config as LanguageConfig
from pipeline.store import fasttext_model, model_files
from pipeline.text import formats
from pipeline.text.excerpts import excerpts
from pipeline.text.fasttext_prediction import predict
from training.recipe.sections import BuildRecipe

#: Documents of each source that are looked at.
_DOCUMENTS = 200
#: Bytes of a token, until one is trained.
_BYTES_PER_TOKEN = 4
#: A language is kept from this share of the documents on.
_SHARE = 0.03
#: Documents with fewer words are no pages, and Gopher's rules (at least 50 words) are not for them.
_WORDS = 100
#: Entries of a tokenizer, by bytes of text: as many as a model of that text can learn well.
_VOCABULARY = ((1e6, 1024), (1e7, 4096), (1e8, 8192), (1e9, 16_384), (1e10, 32_768))
_LARGEST_VOCABULARY = 50_257
#: Models by size, smallest first: parameters without embeddings, width, learning rate (Brown 2020, table 2.1, and for
#: the small ones the demo's), sequence length.
_MODELS = {
    "gpt2-demo": (3.2e6, 256, 2e-3, 256),
    "llama-30m": (10.6e6, 384, 1e-3, 512),
    "gpt2": (85e6, 768, 6e-4, 1024),
    "gpt2-medium": (302e6, 1024, 3e-4, 1024),
    "gpt2-large": (708e6, 1280, 2.5e-4, 1024),
    "gpt2-xl": (1475e6, 1600, 2e-4, 1024),
}
#: Passes over a text that are worth nearly as much as new text (Muennighoff 2023).
_EPOCHS = 4
_CHINCHILLA = 20
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_./-]*$")
_WORD_FOR_YAML = {"true", "false", "null", "yes", "no", "on", "off"}


@dataclass(frozen=True)
class Wanted:
    """What a user asks for: ``name`` of the build, ``languages`` to keep (None: those that are found), a ``model``."""

    name: str
    languages: Sequence[str] | None = None
    model: bool = False


@dataclass(frozen=True)
class _Sample:
    """Documents of the sources: median of words, the languages with their shares (None: the model is not there), and
    whether in most of them fewer words have a letter than Gopher's rule asks for, as in code.
    """

    documents: int
    words: int
    languages: dict[str, float] | None
    signs: bool


def draft(sources: Sequence[SourceGuess], wanted: Wanted, schema: str | None = None) -> str:
    """The recipe for ``sources``, with ``schema``, the path of its JSON Schema, for editors.

    Raises WrongRecipe where what is wanted does not fit, MillError where sources cannot be read.
    """
    plain = {"name": wanted.name, "sources": [guess.values for guess in sources]}
    build = Build(".", recipes.checked(plain, BuildRecipe))
    text = forecast.text(build, remote=False)
    assert text is not None  # all files are here
    size = (max(text.low, 1) * max(text.high, 1)) ** 0.5
    sample = _sample(build)
    head = [f"# yaml-language-server: $schema={schema}"] if schema else []
    head += [
        f"# Written by `mill init` for about {formats.size(size)} of text; `mill check` checks it, and",
        "# `mill fields SECTION` explains a section. Paths are relative to the folder in which mill is run.",
    ]
    parts = [
        [*head, f"name: {wanted.name}"],
        ["sources:", *itertools.chain.from_iterable(map(_source, sources))],
        _language(sample, wanted.languages),
        _heuristics(sample, wanted.languages),
        [
            f"# Equal texts, then near copies: MinHash, from a Jaccard similarity of {MinHash().threshold:g} on.",
            "exact: {}",
            "minhash: {}",
        ],
        ["# To replace e-mail addresses, phone numbers and the like, take out the mark:", "# pii: {}"],
        _tokenizer(size),
        _model(size) if wanted.model else [],
    ]
    made = "\n\n".join("\n".join(part) for part in parts if part) + "\n"
    recipes.parse(made, BuildRecipe)
    return made


def _source(guess: SourceGuess) -> Iterator[str]:
    width = max(len(f"{name}: {_scalar(field.value)}") for name, field in guess.fields.items())
    for at, (name, field) in enumerate(guess.fields.items()):
        entry = f"{name}: {_scalar(field.value)}"
        yield f"  {'-' if at == 0 else ' '} {entry:<{min(width, 60)}}  # {_comment(field.why)}"
    yield from (f"    # {_comment(remark)}" for remark in guess.remarks)


def _comment(text: str) -> str:
    return text if text.isprintable() else text.encode("unicode_escape").decode()


def _scalar(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, str) and _PLAIN.match(value) and value.lower() not in _WORD_FOR_YAML:
        return value
    return json.dumps(value)  # JSON is YAML


def _sample(build: Build) -> _Sample:
    texts: list[str] = []
    for source in build.recipe.sources:
        reader = build.recipe.readers[source.kind]
        records = itertools.chain.from_iterable(
            reader.read(source, file) for file in reader.list_files(source)[:_DOCUMENTS]
        )
        documents = (record for record in itertools.islice(records, 20 * _DOCUMENTS) if isinstance(record, Document))
        texts += [document.text for document in itertools.islice(documents, _DOCUMENTS)]
    counts = sorted(len(text.split()) for text in texts)
    words, signs = counts[len(counts) // 2] if counts else 0, 2 * sum(map(_has_signs, texts)) > len(texts)
    try:
        path = model_files.locate(LanguageConfig().model, ".")
    except model_files.ModelMissing:
        return _Sample(len(texts), words, None, signs)
    model = fasttext_model.load(path)
    labels, _ = predict(model, excerpts(pa.array(texts, pa.string()), 1000))
    languages = Counter(model.labels[label] for label in labels[:, 0] if label >= 0)
    shares = {name: number / len(texts) for name, number in languages.most_common()}
    return _Sample(len(texts), words, shares, signs)


def _has_signs(text: str) -> bool:
    least = GopherQuality.model_fields["min_words_with_letter"].default
    words = text.split()
    return sum(any(map(str.isalpha, word)) for word in words) < least * len(words)


def _language(sample: _Sample, languages: Sequence[str] | None) -> list[str]:
    if sample.languages is None and languages is None:
        return [
            "# Which languages there are is not known without their model. After `mill models pull lid.176`:",
            "# language: {keep: {en: 0.5}}",
        ]
    shares = sample.languages or {}
    chosen = list(languages or [name for name, share in shares.items() if share >= _SHARE])
    if not chosen:
        return []
    listed = ", ".join(f"{name} {formats.share(share, 1)}" for name, share in list(shares.items())[:6])
    why = (
        f"# {listed} of {formats.several(sample.documents, 'document')} looked at" if shares else "# as --language says"
    )
    keep = ", ".join(f"{json.dumps(name)}: 0.5" for name in chosen)
    return [f"{why}; others are dropped, and those below CCNet's score of 0.5.", f"language: {{keep: {{{keep}}}}}"]


def _heuristics(sample: _Sample, languages: Sequence[str] | None) -> list[str]:
    if sample.languages is None and languages is None:
        return ["# Rules of quality go by language: they are left out as long as there is no `language` section."]
    if sample.words < _WORDS:
        return [
            f"# Half of the documents have at most {formats.several(sample.words, 'word')}:",
            "# the rules for whole pages, which ask for 50, are left out.",
            "# heuristics: {gopher_quality: {min_words: 10}}",
        ]
    return [
        "# The rules of Gopher, C4 and FineWeb; of C4 without those that FineWeb left out.",
        "heuristics:",
        "  # gopher_quality: {} # would drop most: in them fewer than 80 % of the words have a letter"
        if sample.signs
        else "  gopher_quality: {}",
        "  gopher_repetition: {}",
        "  c4: {end_punctuation: false, drop_curly_bracket: false}",
        "  fineweb: {}",
    ]


def _entries(size: float) -> int:
    return next((entries for most, entries in _VOCABULARY if size < most), _LARGEST_VOCABULARY)


def _tokenizer(size: float) -> list[str]:
    return [
        f"# {formats.count(_entries(size))} entries suit about {formats.size(size)} of text.",
        "tokenizers:",
        f"  - {{name: bpe, algorithm: bpe, vocab_size: {_entries(size)}}}",
    ]


def _model(size: float) -> list[str]:
    tokens = max(1, round(size / _BYTES_PER_TOKEN))
    entries = _entries(size)
    sizes = {name: body + entries * width for name, (body, width, *_) in _MODELS.items()}
    fitting = [name for name, parameters in sizes.items() if parameters * _CHINCHILLA <= tokens * _EPOCHS]
    name = fitting[-1] if fitting else next(iter(_MODELS))
    asked = sizes[name] * _CHINCHILLA
    _, _, rate, length = _MODELS[name]
    read = max(32 * length, float(f"{min(asked, tokens * _EPOCHS):.1e}"))
    lines = [
        f"# About {formats.short(tokens)} tokens. {name} has {formats.short(sizes[name])} parameters;"
        f" {_CHINCHILLA} tokens each (Hoffmann 2022) are {formats.short(asked)}."
    ]
    if asked > tokens:
        lines.append(f"# Up to {_EPOCHS} passes over a text are worth nearly as much as new text (Muennighoff 2023).")
    if asked > tokens * _EPOCHS:
        lines.append("# The text is too small even for this model: more text would help more than a larger one.")
    return [
        *lines,
        "pretrain:",
        "  - name: causal",
        "    objective: causal",
        "    tokenizer: bpe",
        f"    model: {name}",
        f"    sequence_length: {length}",
        "    batch_size: 32",
        f"    tokens: {int(read)}",
        f"    optimiser: {{learning_rate: {rate:g}}}",
    ]
