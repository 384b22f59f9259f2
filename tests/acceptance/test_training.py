"""Real prose: every objective learns it from a uniform guess, and the compressed size of held-out text shows it."""

from __future__ import annotations

import gzip
import json
import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from pipeline.build.build import Build
from pipeline.store import files, packed_tokens
from pipeline.tokenization import pack as packing
from pipeline.tokenization.config import Role, TokenizerConfig
from pipeline.tokenization.encoding.encode import Encoder
from pipeline.tokenization.formats import export
from pipeline.tokenization.formats.folder import save
from pipeline.tokenization.training import counts, train
from tests.training.conftest import (
    END,
    SPECIAL,
    _one_thread,
    make_build,
    pack,
    pretrain_section,
    write_tokenizer,
)
from training import objectives
from training.batches.vocabulary import Vocabulary
from training.batches.windows import IGNORE
from training.objectives.base import Task
from training.pretraining.pretrain import held_out, pretrain
from training.recipe.sections import BuildRecipe

__all__ = ["_one_thread"]

ENCODER = {"num_hidden_layers": 2, "hidden_size": 64, "num_attention_heads": 2, "intermediate_size": 256}
SHAPES = {
    "causal": {"type": "gpt2", "n_layer": 2, "n_embd": 64, "n_head": 2},
    "mlm": {"type": "bert", **ENCODER},
    "mlm_nsp": {"type": "bert", **ENCODER},
    "mlm_sop": {"type": "albert", **ENCODER, "embedding_size": 64, "num_hidden_groups": 1},
    "electra": {"type": "electra", **ENCODER, "embedding_size": 64},
}
SHAPES_OF_WRITERS = {
    "span_corruption": {"type": "t5", "num_layers": 2, "d_model": 64, "num_heads": 2, "d_ff": 256, "d_kv": 32},
    "denoising": {
        "type": "bart",
        "d_model": 64,
        **{
            f"{side}_{field}": value
            for side in ("encoder", "decoder")
            for field, value in (("layers", 2), ("attention_heads", 2), ("ffn_dim", 256))
        },
    },
}
#: What the loss of a part comes down to, as a share of the entropy of single bytes, which needs no context.
REACHED = {
    "causal": ("causal", 0.95),
    "mlm": ("mlm", 1.05),
    "mlm_nsp": ("mlm", 1.05),
    "mlm_sop": ("mlm", 1.05),
    "electra": ("mlm", 1.05),
}
#: Steps and learning rate of the two that write text. T5's embeddings start at N(0, 1), 50 times BART's, and AdamW
#: moves a weight by about the rate: it needs a higher one (T5 itself trained by Adafactor, which scales its steps).
WRITERS = {"span_corruption": (150, 1e-2), "denoising": (60, 5e-3)}


def prose(shared: Path, documents: int = 400, size: int = 1_000) -> list[str]:
    """The beginning of WikiText-2's validation part, in pieces."""
    with gzip.open(shared / "prose" / "encyclopedia" / "wikitext2_valid.txt.gz") as handle:
        text = handle.read(documents * size).decode("utf-8", "ignore")
    return [text[at : at + size] for at in range(0, len(text), size)]


def entropy(texts: list[str]) -> float:
    """Of single bytes, in nats: what a model without context comes to."""
    counts = np.bincount(np.frombuffer("".join(texts).encode(), np.uint8))
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log(shares)).sum())


def write_build(root: Path, texts: list[str], config: TokenizerConfig) -> None:
    """A tokenizer of the project's own trainer, and the texts packed with it; the last 40 are held out."""
    folder = root / "tokenizers" / config.name
    vocabulary = train.train(counts.count(pa.array(texts[:-40]), config), config)
    save(str(folder), vocabulary, config)
    encoder = Encoder(packing.load(str(folder / "tokenizer.json")))
    digest = files.file_digest(str(folder / "tokenizer.json"))
    for split, part in (("train", texts[:-40]), ("heldout", texts[-40:])):
        tokens = str(root / "tokens" / config.name / split)
        names = [f"{split}:{row}" for row in range(len(part))]
        corpus = {"id": names, "text": part, "domain": ["x"] * len(part), "repeats": np.ones(len(part), np.int32)}
        packing.pack_shard(tokens, 0, pa.table(corpus), encoder, None, split)
        packed_tokens.write_manifest(tokens, [0], len(vocabulary.pieces), export.special_ids(config), digest)


def write_bytes(root: Path, name: str, texts: list[str], special: dict[str, int]) -> None:
    """The tokenizer of bytes, and the texts packed as bytes; the last 20 are held out."""
    write_tokenizer(str(root / "tokenizers" / name), special)
    digest = files.file_digest(str(root / "tokenizers" / name / "tokenizer.json"))
    for split, part in (("train", texts[:-20]), ("heldout", texts[-20:])):
        pack(str(root / "tokens" / name / split), part, special, 256 + len(special), tokenizer=digest)


def label_entropy(build: Build[BuildRecipe], objective: str) -> float:
    """Of the held-out labels, in nats: the least that a model comes to that knows frequencies only.

    T5's sentinels count as one, as if it were known which comes next.
    """
    config = build.recipe.pretrain[0]
    text = packed_tokens.PackedTokens(build.path("tokens", config.tokenizer, "heldout"))
    task = Task(config, Vocabulary.of(text), 0)
    windows, _ = held_out(objectives.load(objective), task, text)
    labels = objectives.load(objective).examples(task, windows).arrays["labels"]
    frequency = np.bincount(np.minimum(labels[labels != IGNORE], text.vocab_size))
    shares = frequency[frequency > 0] / frequency.sum()
    return float(-(shares * np.log(shares)).sum())


@pytest.mark.slow
@pytest.mark.parametrize("objective", WRITERS)
def test_writers_learn_more_of_real_text_than_frequencies(shared: Path, tmp_path: Path, objective: str) -> None:
    """T5 and BART on pieces of words; single bytes would say little of what a decoder has learned of its encoder."""
    roles: dict[Role, str] = {"cls": "[CLS]", "sep": "[SEP]", "pad": "[PAD]", "mask": "[MASK]"}
    tokenizer = TokenizerConfig(
        name="masked", algorithm="bpe", pre_tokenizer="gpt2", vocab_size=512, special_tokens=roles
    )
    write_build(tmp_path, prose(shared, documents=900), tokenizer)
    steps, rate = WRITERS[objective]
    build = make_build(
        str(tmp_path),
        pretrain_section(
            objective,
            model=SHAPES_OF_WRITERS[objective],
            sequence_length=64,
            batch_size=16,
            steps=steps,
            checkpoint_every=steps,
            eval_tokens=15_000,
            optimiser={"learning_rate": rate},
        ),
    )
    summary = pretrain(build, objective)
    first = json.loads((tmp_path / f"models/{objective}/metrics.jsonl").read_text().splitlines()[0])["loss"]
    uniform = math.log(summary_vocabulary(tmp_path / f"models/{objective}"))
    if objective == "denoising":
        assert first == pytest.approx(uniform, rel=0.04)
    else:  # half a nat above, and what its tied head makes of the input token: tests/training/.../test_span_corruption
        assert uniform + 0.4 < first < 1.15 * uniform
    assert summary["evaluation"]["loss"] < label_entropy(build, objective)


def summary_vocabulary(folder: Path) -> int:
    """Entries of the model's head, padding included."""
    return int(json.loads((folder / "config.json").read_text())["vocab_size"])


@pytest.mark.slow
@pytest.mark.parametrize("objective", REACHED)
def test_loss_on_real_text_falls_from_a_uniform_guess(shared: Path, tmp_path: Path, objective: str) -> None:
    texts = prose(shared)
    assert len(texts) > 100
    special = END if objective == "causal" else SPECIAL
    name = "bytes" if objective == "causal" else "masked"
    write_bytes(tmp_path, name, texts, special)
    section = pretrain_section(
        objective,
        model=SHAPES[objective],
        sequence_length=128,
        batch_size=16,
        steps=120,
        checkpoint_every=60,
        eval_tokens=20_000,
    )
    # a quarter of this width would be a generator that learns next to nothing
    more = {"electra": {"generator": 1.0}} if objective == "electra" else {}
    summary = pretrain(make_build(str(tmp_path), {**section, **more}), objective)
    log = [json.loads(line) for line in (tmp_path / f"models/{objective}/metrics.jsonl").read_text().splitlines()]
    part, share = REACHED[objective]
    assert log[0].get(part, log[0]["loss"]) == pytest.approx(math.log(320), rel=0.04)
    found = summary["evaluation"]
    assert found.get(part, found["loss"]) < share * entropy(texts[-20:])
    if objective == "causal":
        assert found["bits_per_byte"] == pytest.approx(found["loss"] / math.log(2), rel=0.01)  # a token is a byte
    if objective == "electra":  # better than always saying original
        replaced = 0.15 * 0.9
        assert found["discriminator"] < -(replaced * math.log(replaced) + (1 - replaced) * math.log(1 - replaced))


@pytest.mark.slow
def test_a_student_of_real_text_starts_with_what_its_teacher_knows_and_comes_close_to_it(
    shared: Path, tmp_path: Path
) -> None:
    texts = prose(shared)
    write_bytes(tmp_path, "masked", texts, SPECIAL)
    common = {"sequence_length": 128, "batch_size": 16, "eval_tokens": 20_000, "checkpoint_every": 60}
    teacher = pretrain_section("mlm", name="known", model=SHAPES["mlm"], steps=240, **common)
    student = pretrain_section(
        "distillation",
        model={"type": "distilbert", "n_layers": 1, "dim": 64, "n_heads": 2, "hidden_dim": 256},
        distillation={
            "teacher": "known",
            "rare_word_power": 0.0,
        },  # masks as the teacher's, whose loss it is held against
        steps=120,
        **common,
    )
    build = make_build(str(tmp_path), teacher, student)
    known = pretrain(build, "known")["evaluation"]["loss"]
    found = pretrain(build, "distillation")["evaluation"]
    log = [json.loads(line) for line in (tmp_path / "models/distillation/metrics.jsonl").read_text().splitlines()]
    assert log[0]["mlm"] < math.log(320)  # the head and half of the layers are the teacher's
    assert known < 1.05 * entropy(texts[-20:])
    assert found["mlm"] < 1.05 * entropy(texts[-20:])
    assert found["soft"] < 0.5 * log[0]["soft"]
