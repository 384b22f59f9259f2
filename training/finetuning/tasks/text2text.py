"""A text for a text: translation, summaries, answers in free words; by an encoder-decoder (T5, BART).

Raffel et al. 2020: a prefix says what is to be done. The decoder is trained on the true tokens before each token
(teacher forcing), and writes one token after another when it is tested.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import pyarrow as pa
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoModelForSeq2SeqLM, PreTrainedModel

from training.finetuning import text_scores
from training.finetuning.bases import WrongBase
from training.finetuning.encoded import IGNORED, Encoded, Reader, encoded
from training.finetuning.scores import Measure
from training.finetuning.tasks.base import Task
from training.labelled.rows import Labelled
from training.models import architectures, seq2seq
from training.recipe.finetuning import FinetuneConfig


class Text2Text(Task):
    """Predictions are a text for each row; outputs are the ids that the decoder writes, int64 [length]."""

    auto = AutoModelForSeq2SeqLM

    def __init__(self, config: FinetuneConfig, rows: Labelled) -> None:
        super().__init__(config, rows)
        self.main = config.text2text.measure

    def fields(self) -> dict[str, Any]:
        return {}

    def encode(self, reader: Reader, table: pa.Table) -> Encoded:
        self.tokenizer = reader.tokenizer  # which also writes what the decoder says
        options = self.config.text2text
        sources = [options.prefix + text for text in table["text"].to_pylist()]
        data = encoded(reader.read(sources), reader.pad, {})
        tokens = [_ended(ids, reader, reader.length) for ids in data.tokens]
        types = [np.zeros_like(ids) for ids in tokens]
        if "target" not in table.column_names:
            return Encoded(tokens, types, data.row, {}, reader.pad)
        targets = reader.read(table["target"].to_pylist(), length=options.target_length)
        cut = sum(bool(encoding.overflowing) for encoding in targets)
        labels = [_ended(np.array(one.ids, np.int64), reader, options.target_length) for one in targets]
        unread = {"targets cut to target_length": cut} if cut else {}
        return Encoded(tokens, types, data.row, {"labels": labels}, reader.pad, unread=unread)

    def prepare(self, model: PreTrainedModel, /) -> None:
        """Let the model write as the recipe says, here and where it is opened later."""
        options, most = self.config.text2text, architectures.positions(model.config)
        if most is not None and options.target_length > most:
            raise WrongBase(
                f"{self.config.base}: its decoder has {most} positions, and `text2text.target_length` is"
                f" {options.target_length}; lower it"
            )
        writing: Any = model.generation_config
        writing.max_length, writing.max_new_tokens = None, options.target_length
        writing.num_beams = options.beams if options.method == "beam" else 1
        writing.do_sample = options.method == "sample"
        if writing.do_sample:
            writing.temperature, writing.top_p, writing.top_k = options.temperature, options.top_p, 0

    def counts(self, arrays: Mapping[str, np.ndarray]) -> dict[str, int]:
        return {"loss": int((arrays["labels"] != IGNORED).sum())}

    def loss(self, model: nn.Module, arrays: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Cross-entropy in nats over the tokens of the targets."""
        labels = arrays["labels"]
        before = cast(Any, model).prepare_decoder_input_ids_from_labels(labels=labels)
        outputs = model(
            input_ids=arrays["tokens"], attention_mask=arrays["mask"], decoder_input_ids=before, use_cache=False
        )
        logits = outputs.logits.float().flatten(0, 1)
        return {"loss": F.cross_entropy(logits, labels.flatten(), ignore_index=IGNORED, reduction="sum")}

    def outputs(self, model: nn.Module, arrays: Mapping[str, Tensor]) -> list[np.ndarray]:
        torch.manual_seed(zlib.crc32(arrays["tokens"].cpu().numpy().tobytes()))  # of samples: by what is read
        made = cast(Any, model).generate(input_ids=arrays["tokens"], attention_mask=arrays["mask"])
        return list(made.cpu().numpy())

    def predictions(self, outputs: list[np.ndarray], _data: Encoded, _table: pa.Table, /) -> list[str]:
        texts = self.tokenizer.decode_batch([ids.tolist() for ids in outputs], skip_special_tokens=True)
        return [text.strip() for text in texts]

    def measures(self, predictions: list[str], table: pa.Table) -> list[Measure]:
        return text_scores.measures(predictions, table["target"].to_pylist(), table["group"].to_pylist())

    def baselines(self) -> dict[str, list[str]]:
        """The most frequent target of the training rows, and the text itself."""
        counts = Counter(self.rows.train["target"].to_pylist())
        most = min(counts, key=lambda text: (-counts[text], text))
        return {"majority": [most] * len(self.rows.test), "copy": self.rows.test["text"].to_pylist()}

    def flops_per_token(self, model: PreTrainedModel, data: Encoded) -> float:
        source = float(data.lengths.mean())
        target = float(np.mean([len(labels) for labels in data.targets["labels"]]))
        return seq2seq.flops(model, round(source), round(target)) / source


def _ended(ids: np.ndarray, reader: Reader, most: int) -> np.ndarray:
    """``ids`` with the end token of the model, at most ``most`` of them, for tokenizers that do not set it."""
    if reader.end is None or (len(ids) and ids[-1] == reader.end):
        return ids
    return np.append(ids[: most - 1], reader.end)
