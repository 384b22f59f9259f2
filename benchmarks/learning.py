"""What a toy model learns per token and per second of processor time, by optimiser, schedule and architecture.

    python -m benchmarks learning [--steps 250] [--seeds 0 1] [--only TEXT]

Models of some 1.3 M parameters read about half a million tokens of prose. Each row is compared with the first of its
objective: after as many tokens, and, trained again with as many steps as fit its seconds, after as much processor time
of one thread. Beside it the loss that token frequencies alone come to. One learning rate for all: nothing is tuned.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from tokenizers import ByteLevelBPETokenizer

from benchmarks.documents import packed, prose
from benchmarks.training import Clock
from pipeline.store.packed_tokens import PackedTokens
from training import objectives
from training.batches import random_streams
from training.batches.vocabulary import Vocabulary
from training.loop import loop
from training.models import architectures
from training.objectives.base import Task
from training.pretraining import evaluation, unigram_loss
from training.recipe.pretraining import PretrainConfig

ENTRIES = 4096
SPECIAL = {"eos": 0, "cls": 1, "sep": 2, "mask": 3, "pad": 4}
MEGABYTES, EVERY = 4, 20  # one document in twenty is held out
LENGTH, BATCH, RATE = 128, 16, 2e-3
WIDTH, LAYERS, HEADS = 128, 3, 4
BLOCK = {"hidden_size": WIDTH, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS}
#: A gated layer has three matrices where a plain one has two.
GATED = {**BLOCK, "intermediate_size": round(4 * WIDTH * 2 / 3 / 8) * 8}
MODELS: dict[str, dict[str, Any]] = {
    "GPT-2": {"type": "gpt2", "n_layer": LAYERS, "n_embd": WIDTH, "n_head": HEADS},
    "Qwen3": {"type": "qwen3", **GATED, "num_key_value_heads": HEADS, "head_dim": WIDTH // HEADS},
    "BERT": {"type": "bert", **BLOCK, "intermediate_size": 4 * WIDTH},
    "ModernBERT": {"type": "modernbert", **GATED, "local_attention": 64, "global_attn_every_n_layers": 3},
}
#: objective, model, algorithm, schedule; the first of an objective is what its others are compared with
RUNS = (
    ("causal", "GPT-2", "adamw", "cosine"),
    ("causal", "GPT-2", "adamw", "wsd"),
    ("causal", "GPT-2", "muon", "cosine"),
    ("causal", "Qwen3", "adamw", "cosine"),
    ("causal", "Qwen3", "muon", "wsd"),
    ("mlm", "BERT", "adamw", "cosine"),
    ("mlm", "BERT", "muon", "cosine"),
    ("mlm", "ModernBERT", "adamw", "cosine"),
    ("mlm", "ModernBERT", "muon", "wsd"),
)


@dataclass(frozen=True)
class Texts:
    """Packed tokens, by split, of an objective."""

    train: PackedTokens
    heldout: PackedTokens


def texts(folder: str) -> dict[str, Texts]:
    """The prose in a vocabulary of its own, with an end token for causal models and without for masked ones."""
    documents = prose(MEGABYTES).to_pylist()
    tokenizer = ByteLevelBPETokenizer()
    tokenizer.train_from_iterator(documents, ENTRIES, show_progress=False, special_tokens=list(SPECIAL))
    ids = [np.array(encoded.ids) for encoded in tokenizer.encode_batch(documents)]
    special = {"causal": {"eos": 0}, "mlm": {name: at for name, at in SPECIAL.items() if name != "eos"}}
    return {
        objective: Texts(
            *(
                packed(f"{folder}/{objective}-{split}", _closed(part, objective), ENTRIES, roles)
                for split, part in (
                    ("train", [own for at, own in enumerate(ids) if at % EVERY]),
                    ("heldout", ids[::EVERY]),
                )
            )
        )
        for objective, roles in special.items()
    }


def _closed(ids: list[np.ndarray], objective: str) -> list[np.ndarray]:
    return [np.append(own, SPECIAL["eos"]) for own in ids] if objective == "causal" else ids


def train(run: tuple[str, str, str, str], own: Texts, steps: int, seed: int) -> dict[str, float]:
    """Loss on held-out text after ``steps``, processor time of a step and sizes."""
    name, model, algorithm, schedule = run
    config = PretrainConfig.model_validate(
        {
            "name": "run", "objective": name, "tokenizer": "prose", "model": MODELS[model], "sequence_length": LENGTH,
            "batch_size": BATCH, "steps": steps, "precision": "fp32", "eval_tokens": 40_000,
            "optimiser": {"algorithm": algorithm, "schedule": schedule, "learning_rate": RATE, "warmup": 0.1},
        }
    )  # fmt: skip
    objective, task = objectives.of(config), Task(config, Vocabulary.of(own.train), seed)
    order = objective.order(task, own.train, random_streams.seed("order", seed), True)
    module, clock = objective.create(task), Clock()
    clock.tick()
    windows, size = evaluation.held_out(objective, task, own.heldout)
    work = loop.Work(
        batch=lambda step: objective.examples(task, order.read(evaluation.positions(BATCH, step))),
        loss=objective.loss,
        weights=objective.weights(task),
        evaluate=lambda measure: evaluation.evaluate(objective, task, windows, size, measure),
        documents=lambda _step: [],
        flops_per_token=objective.flops(module, task),
    )
    with tempfile.TemporaryDirectory() as folder:
        plan = loop.Plan(
            folder, "run", steps, seed, BATCH, config.optimiser, "fp32", log_every=1, checkpoint_every=steps
        )
        state = loop.train(module, work, plan, lambda *_: clock.tick())
    seconds = float(np.quantile(np.diff(clock.ticks, axis=0)[:, 1], 0.2))  # other work on the machine only ever slows
    parameters = architectures.count(objective.checkpoint(module)).total
    alone = unigram_loss.loss(own.train, own.heldout, np.arange(len(own.heldout.documents)), [])
    return {"loss": state.evaluation["loss"], "seconds": seconds, "parameters": parameters, "frequencies": alone}


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.learning", description=__doc__.split("\n", 1)[0])  # type: ignore[union-attr]
    parser.add_argument("--steps", type=int, default=250)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--only", default="", help="rows that hold this text, and the first of each objective")
    options = parser.parse_args()
    torch.set_num_threads(1)
    row = "{:<8} {:<11} {:<6} {:<7} {:>4} {:>10} {:>12} {:>9} {:>9} {:>13} {:>11}"
    titles = ("parameters", "equal tokens", "lead", "s a step", "equal seconds", "steps")
    print(row.format("", "model", "by", "rate", "seed", *titles))
    with tempfile.TemporaryDirectory() as folder:
        own = texts(folder)
        for seed in options.seeds:
            for name in own:
                runs = [run for run in RUNS if run[0] == name]
                first: dict[str, float] = {}
                for run in runs:
                    if first and options.only not in " ".join(run):
                        continue
                    outcome = train(run, own[name], options.steps, seed)
                    first = first or outcome
                    fitting = round(options.steps * first["seconds"] / outcome["seconds"])
                    # as long by its kind, or within what a clock can tell
                    near = run[:3] == runs[0][:3] or abs(fitting - options.steps) <= 0.02 * options.steps
                    again = outcome if near else train(run, own[name], fitting, seed)
                    cells = (
                        f"{outcome['parameters'] / 1e6:.2f} M",
                        f"{outcome['loss']:.3f}",
                        f"{first['loss'] - outcome['loss']:+.3f}",
                        f"{outcome['seconds']:.3f}",
                        f"{again['loss']:.3f}",
                        f"{options.steps if near else fitting}",
                    )
                    print(row.format(*run, seed, *cells), flush=True)
                print(f"{name}: token frequencies alone {first['frequencies']:.3f} nats", flush=True)


if __name__ == "__main__":
    main()
