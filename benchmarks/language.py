"""Accuracy of language identification, by language and by length of the text.

    python -m benchmarks.language [MODEL]

MODEL is any fastText model whose labels are languages by ISO 639-1 or 639-3 (lid.176, GlotLID); lid.176.ftz if not
given. The texts are labelled ones of the acceptance data: single words, pairs of words and sentences (lingua-py),
paragraphs of the Declaration of Human Rights, and documents of some 3 KB put together from the sentences.
"""

from __future__ import annotations

import gzip
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa

from benchmarks.documents import PIECE, SHARED
from pipeline.build.stage import Batch
from pipeline.stages import language
from pipeline.store import fasttext_model, model_files

DATA = SHARED.parent / "langid"
LENGTHS = ("word", "two words", "sentence", "paragraph", "document")
_FILES = {
    "word": "lingua_single_words",
    "two words": "lingua_word_pairs",
    "sentence": "lingua_sentences",
    "paragraph": "udhr_paragraphs",
}
#: Documents made of a language's sentences.
MOST_DOCUMENTS = 40

#: ISO 639-3 and 639-2 codes to 639-1, for the languages of the data; macrolanguages and their largest member alike.
SHORT = {
    **{"afr": "af", "sqi": "sq", "als": "sq", "ara": "ar", "arb": "ar", "hye": "hy", "aze": "az", "azj": "az"},
    **{"eus": "eu", "bel": "be", "ben": "bn", "nob": "nb", "bos": "bs", "bul": "bg", "cat": "ca", "zho": "zh"},
    **{"cmn": "zh", "hrv": "hr", "ces": "cs", "dan": "da", "nld": "nl", "eng": "en", "epo": "eo", "est": "et"},
    **{"ekk": "et", "fin": "fi", "fra": "fr", "lug": "lg", "kat": "ka", "deu": "de", "ell": "el", "guj": "gu"},
    **{"heb": "he", "hin": "hi", "hun": "hu", "isl": "is", "ind": "id", "gle": "ga", "ita": "it", "jpn": "ja"},
    **{"kaz": "kk", "kor": "ko", "lat": "la", "lav": "lv", "lvs": "lv", "lit": "lt", "mkd": "mk", "msa": "ms"},
    **{"zsm": "ms", "mri": "mi", "mar": "mr", "mon": "mn", "khk": "mn", "nno": "nn", "fas": "fa", "pes": "fa"},
    **{"pol": "pl", "por": "pt", "pan": "pa", "ron": "ro", "rus": "ru", "srp": "sr", "sna": "sn", "slk": "sk"},
    **{"slv": "sl", "som": "so", "sot": "st", "spa": "es", "swa": "sw", "swh": "sw", "swe": "sv", "tgl": "tl"},
    **{"tam": "ta", "tel": "te", "tha": "th", "tso": "ts", "tsn": "tn", "tur": "tr", "ukr": "uk", "urd": "ur"},
    **{"vie": "vi", "cym": "cy", "xho": "xh", "yor": "yo", "zul": "zu"},
    "no": "nb",  # lid.176 has one label for Norwegian beside Nynorsk
}

Labelled = dict[str, dict[str, list[str]]]


def main(model: str | None = None) -> None:
    if not DATA.is_dir():
        print(f"the labelled texts are not there ({DATA})")
        return
    path = model or model_files.pull(["lid.176"])["lid.176"]
    texts = labelled()
    known = {short(label) for label in fasttext_model.labels(path)}
    measured = {length: accuracy(texts[length], path) for length in LENGTHS}
    names = sorted({name for length in LENGTHS for name in texts[length]} & known)
    print(f"{Path(path).name}: percent of texts whose language is named right\n")
    print(f"{'language':10}" + "".join(f"{length:>12}" for length in LENGTHS))
    for name in names:
        print(f"{name:10}" + "".join(cell(measured[length].get(name)) for length in LENGTHS))
    means = [
        float(np.mean([measured[length][name] for name in names if name in measured[length]])) for length in LENGTHS
    ]
    print(f"{'mean':10}" + "".join(cell(mean) for mean in means))
    unknown = sorted({name for length in LENGTHS for name in texts[length]} - known)
    print(f"\nlanguages of the data that the model has no label for: {', '.join(unknown) or 'none'}")


def cell(percent: float | None) -> str:
    return f"{'':>12}" if percent is None else f"{percent:12.1f}"


def short(label: str) -> str:
    """``eng_Latn``, ``eng`` and ``en`` are all ``en``."""
    name = label.split("_")[0]
    return SHORT.get(name, name)


def labelled() -> Labelled:
    """Length of text -> language (ISO 639-1) -> texts."""
    texts: Labelled = {length: defaultdict(list) for length in LENGTHS}
    for length, name in _FILES.items():
        for code, text in _rows(DATA / f"{name}.tsv.gz"):
            texts[length][short(code)].append(text)
    for name, sentences in texts["sentence"].items():
        texts["document"][name] = _documents(sentences)
    return texts


def _rows(path: Path) -> Iterator[list[str]]:
    with gzip.open(path, "rt", encoding="utf-8", newline="\n") as lines:
        for line in lines:
            yield line.removesuffix("\n").split("\t", 1)


def _documents(sentences: list[str]) -> list[str]:
    joined = "\n".join(sentences).encode()
    starts = range(0, len(joined) - PIECE + 1, PIECE)
    return [joined[at : at + PIECE].decode("utf-8", "ignore") for at in starts][:MOST_DOCUMENTS]


def accuracy(texts: Mapping[str, list[str]], path: str, **config) -> dict[str, float]:
    """Percent of the texts of each language that the stage names right."""
    settings = language.Config(model=path, **config)
    percentages = {}
    for name, examples in texts.items():
        signals = language.measure(settings, Batch(pa.array(examples), models={"language": path})).signals
        named = signals["language"].dictionary_decode().to_pylist()
        percentages[name] = 100 * float(np.mean([short(label) == name for label in named]))
    return percentages


if __name__ == "__main__":
    main(*sys.argv[1:])
