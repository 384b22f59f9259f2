"""Rows of words, each with its tag: by IOB2, or one that stands by itself, as a part of speech does."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa
from tokenizers import Encoding, Tokenizer

from pipeline.sources.base import value_of
from training.labelled import tags
from training.labelled.findings import Findings
from training.labelled.formats import Record
from training.labelled.kinds.base import DOUBT, MISSING, Kind, Names, Row
from training.recipe.finetuning import FinetuneConfig, Format


class Words(Kind):
    name = "tokens"
    columns = {"words": pa.list_(pa.string()), "tags": pa.list_(pa.string())}
    label = "tags"
    fewest = 1

    def names(self, config: FinetuneConfig, format: Format, /) -> Names:
        made = super().names(config, format)
        return made._replace(text="words") if config.text == "text" and format == "conll" else made

    def texts(self, _at: Names) -> dict[str, str]:
        return {}

    def labelled(
        self, _config: FinetuneConfig, at: Names, record: Record, label: Any, _: Mapping[str, str], findings: Findings
    ) -> dict[str, Any] | None:
        words = value_of(record.values, at.text, MISSING)
        if not isinstance(words, list) or not isinstance(label, list):
            findings.fault(
                "lists",
                record.place,
                f"{at.text!r} and {at.label!r} must be lists, of words and of their tags; a CoNLL file has them, or"
                " JSON lines",
            )
            return None
        if len(words) != len(label):
            findings.fault("lengths", record.place, f"{len(words)} words and {len(label)} tags; give each word one tag")
            return None
        if not words:
            findings.fault("text", record.place, f"{at.text!r} is empty; correct the row, or leave it out")
            return None
        doubt: tuple[str, str] | None = None
        for number, (word, tag) in enumerate(zip(words, label, strict=True)):
            place = record.place
            if record.lines is not None:
                place = f"{record.place.rpartition(':')[0]}:{record.lines[number]}"
            if not isinstance(word, str) or not word.strip():
                findings.fault("word", place, f"word {number + 1} is {word!r}; a word is a text that is not empty")
                return None
            if not isinstance(tag, str) or not tag.strip():
                findings.fault("tag", place, f"the tag of {word!r} is {tag!r}; a tag is a text that is not empty")
                return None
            if doubt is None and not tags.is_known(tag):
                kinds = "tags are O, B-TYPE and I-TYPE (IOB1, IOB2), or BIOES"
                doubt = place, f"unknown tag {tag!r} of {word!r}; {kinds}"
        return {"words": words, "tags": label, DOUBT: doubt}

    def compared(self, rows: Sequence[Row], findings: Findings, /) -> None:
        """An unknown tag is a fault where other tags mark entities; else each tag stands by itself."""
        if any(tags.is_marked(tag) for row in rows for tag in row.values["tags"]):
            for place, message in (row.doubt for row in rows if row.doubt is not None):
                findings.fault("tag", place, message)

    def settled(self, split: dict[str, list[Row]], findings: Findings, /) -> dict[str, list[Row]]:
        """With tags by IOB2, whichever scheme the files have. Where no tag marks an entity, as they are."""
        if any(row.doubt is not None for part in split.values() for row in part):
            findings.note("no tag marks where an entity begins (B-): each word's tag stands by itself")
            return split
        scheme = tags.scheme(row.values["tags"] for part in split.values() for row in part)
        changed, first = 0, ""
        made: dict[str, list[Row]] = {}
        for name, part in split.items():
            made[name] = []
            for row in part:
                new, different = tags.to_iob2(row.values["tags"])
                if different and not changed:
                    first = row.place
                changed += different
                made[name].append(replace(row, values={**row.values, "tags": new}))
        if changed:
            what = "I- tags that begin an entity" if scheme == "IOB2" else "tags"
            findings.note(f"tags by {scheme}: {changed:,} {what} were written as IOB2 has them ({first})")
        else:
            findings.note(f"tags by {scheme}")
        return made

    def key(self, row: Mapping[str, Any]) -> str:
        return self.shown(row)

    def shown(self, row: Mapping[str, Any]) -> str:
        return " ".join(row["words"])

    def classes(self, label: Any) -> list[str]:
        """The types of entities; the tags themselves where they mark none."""
        return [tags.kind(tag) for tag in label if tag != "O"]

    def labels(self, classes: Iterable[str]) -> list[str]:
        """O, and B- and I- of each type."""
        return sorted({"O", *(f"{mark}-{kind}" for mark in "BI" for kind in classes)})

    def labels_of(self, rows: Iterable[Any]) -> list[str]:
        rows = list(rows)
        every = {tag for row in rows for tag in row}
        return super().labels_of(rows) if tags.mark_entities(every) else sorted(every)

    def counts(self, table: pa.Table) -> dict[str, Any] | None:
        """The entities of each type; where tags mark none the words of each."""
        begun = [
            [tag for tag in row if tag.startswith("B-") or not tags.is_known(tag)] for row in table["tags"].to_pylist()
        ]
        return super().counts(pa.table({"tags": pa.array(begun, pa.list_(pa.string()))}))

    def encode(self, table: pa.Table, tokenizer: Tokenizer) -> list[Encoding]:
        return tokenizer.encode_batch(table["words"].to_pylist(), is_pretokenized=True)

    def not_expressible(self, table: pa.Table, encoded: Sequence[Encoding], /) -> tuple[list[str], int]:
        """Words without a piece."""
        wrong: list[str] = []
        count = 0
        for place, words, encoding in zip(table["place"].to_pylist(), table["words"].to_pylist(), encoded, strict=True):
            count += len(words)
            pieces = set(encoding.word_ids)
            wrong += [f"{place}: {word!r}" for number, word in enumerate(words) if number not in pieces]
        return wrong, count
