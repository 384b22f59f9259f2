"""A tag for each word: named entities and the like, tags by IOB2.

Devlin et al. 2019, section 5.3: the first piece of a word is labelled, the others and special tokens are not. A model
reads the words with a space between them, as it reads running text, so that its pieces are those of pretraining.
"""

from __future__ import annotations

import functools
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import torch.nn.functional as F
from seqeval.metrics.sequence_labeling import get_entities
from seqeval.scheme import IOB2, Entities
from tokenizers import Encoding
from torch import Tensor, nn
from transformers import AutoModelForTokenClassification, PreTrainedModel

from training.finetuning import scores
from training.finetuning.encoded import IGNORED, Encoded, Reader, encoded
from training.finetuning.forward import inputs
from training.finetuning.scores import Measure
from training.finetuning.tasks.base import Task
from training.labelled import tags as schemes
from training.labelled.rows import Labelled
from training.loop.log import Metrics
from training.recipe.finetuning import FinetuneConfig

OUTSIDE = "O"
#: An entity: its type, its first and its last word.
Entity = tuple[str, int, int]


class Tokens(Task):
    """Predictions are a tag for each word of each row; outputs are int64 [length], the index of each piece's tag.

    A word that the model does not read is predicted to be outside of entities.
    """

    auto = AutoModelForTokenClassification

    def __init__(self, config: FinetuneConfig, rows: Labelled) -> None:
        super().__init__(config, rows)
        self.of_entities = schemes.mark_entities(rows.labels)
        self.main = "entity_f1" if self.of_entities else "word_accuracy"

    def encode(self, reader: Reader, table: pa.Table) -> Encoded:
        sentences = table["words"].to_pylist()
        encodings = reader.read([" ".join(words) for words in sentences])
        places = [first_pieces(words, encoding) for words, encoding in zip(sentences, encodings, strict=True)]
        made = encoded(encodings, reader.pad, self._targets(table, places))
        return replace(made, places=places, unread=_unread(sentences, encodings, places))

    def _targets(self, table: pa.Table, places: list[np.ndarray]) -> dict[str, list[np.ndarray]]:
        if "tags" not in table.column_names:
            return {}
        index = {label: at for at, label in enumerate(self.labels)}
        targets = []
        for tags, place in zip(table["tags"].to_pylist(), places, strict=True):
            ids = np.array([*(index[tag] for tag in tags), IGNORED], np.int64)
            targets.append(ids[place])  # the place -1 takes the last
        return {"tags": targets}

    def counts(self, arrays: Mapping[str, np.ndarray]) -> dict[str, int]:
        return {"loss": int((arrays["tags"] != IGNORED).sum())}

    def loss(self, model: nn.Module, arrays: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Cross-entropy in nats over the first pieces of words."""
        logits = model(**inputs(model, arrays)).logits.float().flatten(0, 1)
        return {"loss": F.cross_entropy(logits, arrays["tags"].flatten(), ignore_index=IGNORED, reduction="sum")}

    def outputs(self, model: nn.Module, arrays: Mapping[str, Tensor]) -> list[np.ndarray]:
        return list(model(**inputs(model, arrays)).logits.argmax(-1).cpu().numpy())

    def predictions(self, outputs: list[np.ndarray], data: Encoded, table: pa.Table, /) -> list[list[str]]:
        made = []
        for words, output, place in zip(table["words"].to_pylist(), outputs, data.places, strict=True):
            tags = [OUTSIDE] * len(words)
            for at in np.flatnonzero(place >= 0):
                tags[place[at]] = self.labels[output[at]]
            made.append(tags)
        return made

    def measures(self, predictions: list[list[str]], table: pa.Table) -> list[Measure]:
        """Entity F1 as conlleval and seqeval count it, and F1 of entities whose tags are by IOB2 throughout.

        Of tags that mark no entities the share of words and of whole rows whose tags are right.
        """
        groups, true = table["group"].to_pylist(), table["tags"].to_pylist()
        right = [sum(map(str.__eq__, *pair)) for pair in zip(true, predictions, strict=True)]
        words = np.stack([right, [len(tags) for tags in true]], axis=1)
        accuracy = Measure("word_accuracy", scores.by_group(words, groups), scores.ratio)
        if not self.of_entities:
            whole = np.stack([words[:, 0] == words[:, 1], np.ones(len(words))], axis=1)
            return [accuracy, Measure("exact_match", scores.by_group(whole, groups), scores.ratio)]
        counts = scores.by_group(_counts(true, predictions, entities), groups)
        strict = scores.by_group(_counts(true, predictions, strict_entities), groups)
        return [
            Measure("entity_f1", counts, scores.f1),
            Measure("precision", counts[:, :2], scores.ratio),
            Measure("recall", counts[:, ::2], scores.ratio),
            Measure("strict_f1", strict, scores.f1),
            accuracy,
        ]

    def parts(self, predictions: list[list[str]], table: pa.Table) -> dict[str, list[Measure]]:
        """Entity F1, precision and recall of each type of entity, or F1 of each tag that marks none."""
        groups, true = table["group"].to_pylist(), table["tags"].to_pylist()
        if not self.of_entities:
            return {
                tag: [Measure("f1", scores.by_group(_counts(true, predictions, _places_of(tag)), groups), scores.f1)]
                for tag in self.labels
            }
        made = {}
        for kind in sorted({label[2:] for label in self.labels if label != OUTSIDE}):
            of_kind = functools.partial(_of_kind, kind)
            counts = scores.by_group(_counts(true, predictions, of_kind), groups)
            made[kind] = [
                Measure("entity_f1", counts, scores.f1),
                Measure("precision", counts[:, :2], scores.ratio),
                Measure("recall", counts[:, ::2], scores.ratio),
            ]
        return made

    def judge(self, model: PreTrainedModel, dev: Encoded, /) -> Metrics:
        return self.measured(model, dev, self.rows.dev)

    def baselines(self) -> dict[str, list[list[str]]]:
        """The tag that most words have, and the one that each word has most often in the training rows."""
        seen: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for row in self.rows.train.select(["words", "tags"]).to_pylist():
            for word, tag in zip(row["words"], row["tags"], strict=True):
                seen[word][tag] += 1
        everywhere = sum(seen.values(), Counter())
        most = min(everywhere, key=lambda tag: (-everywhere[tag], tag))
        of_word = {word: min(tags, key=lambda tag: (-tags[tag], tag)) for word, tags in seen.items()}
        unseen = OUTSIDE if self.of_entities else most
        sentences = self.rows.test["words"].to_pylist()
        return {
            "majority": [[most] * len(words) for words in sentences],
            "seen_words": [[of_word.get(word, unseen) for word in words] for words in sentences],
        }


def first_pieces(words: Sequence[str], encoding: Encoding) -> np.ndarray:
    """For each token of ``encoding`` the word whose first piece it is, else -1: int64 [length].

    ``encoding`` is of the words with a space between them. A token that begins in one word and ends in the next is of
    the first, and the next then begins with the token after it, if that begins in it, or has none.
    """
    starts = np.cumsum([0, *(len(word) + 1 for word in words[:-1])])
    text, last = " ".join(words), -1
    made = np.full(len(encoding.ids), -1, np.int64)
    for at, (of, (start, end)) in enumerate(zip(encoding.sequence_ids, encoding.offsets, strict=True)):
        start += len(text[start:end]) - len(text[start:end].lstrip())
        if of is None or start >= end:
            continue  # a special token, or one of white space
        word = int(np.searchsorted(starts, start, side="right")) - 1
        if word > last:
            made[at] = last = word
    return made


def _unread(sentences: list[list[str]], encodings: list[Encoding], places: list[np.ndarray]) -> dict[str, int]:
    cut = within = 0
    for words, encoding, place in zip(sentences, encodings, places, strict=True):
        missing = len(words) - int((place >= 0).sum())
        after = len(words) - 1 - int(place.max(initial=-1)) if encoding.overflowing else 0
        cut, within = cut + after, within + missing - after
    made = {"words cut off by sequence_length": cut, "words that have no token of their own": within}
    return {kind: count for kind, count in made.items() if count}


def entities(tags: Sequence[str]) -> set[Entity]:
    """The entities in ``tags`` as conlleval finds them: an I- tag that continues nothing begins one."""
    return set(get_entities(list(tags)))


def strict_entities(tags: Sequence[str]) -> set[Entity]:
    """The entities in ``tags`` that are written as IOB2 has them."""
    spans = Entities([list(tags)], IOB2).entities[0]
    return {(entity.tag, entity.start, entity.end - 1) for entity in spans}


def _of_kind(kind: str, tags: Sequence[str]) -> set[Entity]:
    return {entity for entity in entities(tags) if entity[0] == kind}


def _places_of(tag: str) -> Callable[[Sequence[str]], set[Entity]]:
    """Finds the words that have ``tag``, each as an entity of its own."""
    return lambda row: {(tag, at, at) for at, own in enumerate(row) if own == tag}


def _counts(
    true: list[list[str]], predicted: list[list[str]], find: Callable[[Sequence[str]], set[Entity]]
) -> np.ndarray:
    """Entities that are right, predicted and labelled, by row: int64 [rows, 3]."""
    rows: list[Any] = []
    for gold, answer in zip(true, predicted, strict=True):
        wanted, answers = find(gold), find(answer)
        rows.append((len(wanted & answers), len(answers), len(wanted)))
    return np.array(rows, np.int64)
