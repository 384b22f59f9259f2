"""Every labelled set of the acceptance data, end to end from small models that are pretrained here on the prose.

    python -m benchmarks.finetuning_sets [FOLDER]

An encoder (BERT tiny of Turc 2019) learns masked tokens and next segments of the prose and of the sets' own training
texts without their labels, an encoder-decoder spans of the prose and of German captions. Each set is then learned from
it, and at equal steps from random weights of the same shape. One thread. The pretrained models stay in FOLDER, where a
later run finds them.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import yaml
from transformers import AutoConfig, AutoModelForMaskedLM, AutoModelForSeq2SeqLM
from transformers.utils import logging

from benchmarks.documents import PIECE, SHARED, named_prose
from benchmarks.labelled_sets import SETS, LabelledSet, captions
from training.finetuning.finetune import run
from training.finetuning.job import Job
from training.finetuning.scores import over_seeds
from training.labelled import files
from training.labelled.few import few
from training.labelled.rows import Labelled, texts
from training.pretraining import pretrain
from training.recipe.finetuning import FinetuneConfig

DATA = SHARED.parent
MEGABYTES = {"encoder": 16, "writer": 3}
MODELS: dict[str, dict[str, Any]] = {
    "encoder": {
        "objective": "mlm_nsp",
        "mask_share": 0.2,
        "model": {
            "type": "bert", "num_hidden_layers": 2, "hidden_size": 128, "num_attention_heads": 2,
            "intermediate_size": 512,
        },
        "sequence_length": 128,
        "steps": 1_600,
        "batch_size": 32,
        "optimiser": {"learning_rate": 1e-3, "warmup_steps": 500, "schedule": "linear"},
    },
    "writer": {
        "objective": "span_corruption",
        "model": {"type": "t5", "num_layers": 2, "d_model": 128, "num_heads": 2, "d_ff": 512, "d_kv": 64},
        "sequence_length": 128,
        "steps": 300,
        "batch_size": 16,
        "optimiser": {"learning_rate": 3e-3, "warmup": 0.1},
    },
}  # fmt: skip
TOKENIZERS = {
    "encoder": {"algorithm": "wordpiece", "vocab_size": 8192, "score": "frequency"},
    "writer": {"algorithm": "unigram", "vocab_size": 4096},
}
#: Sets of which the share of right labels says little, as one label has most rows: they are judged by the Matthews
#: correlation, CoLA's own measure, of the answers by costs that weigh both labels alike.
BY_COST = {"CoLA": {"0": {"1": 7 / 3}}}
#: Beside the set's own fields: for each the length, the epochs, and the rate, chosen once for all sets of a task.
SETTINGS: dict[str, dict[str, Any]] = {
    "SST-2": {"sequence_length": 64, "epochs": 3},
    "CoLA": {"sequence_length": 48, "epochs": 4, "costs": BY_COST["CoLA"]},
    "RTE": {"sequence_length": 96, "epochs": 4},
    "AG News": {"sequence_length": 64, "epochs": 2},
    "movie reviews": {"sequence_length": 128, "epochs": 3, "batch_size": 16},
    "WNUT-17": {"sequence_length": 96, "epochs": 4, "batch_size": 16},
    "WikiANN": {"sequence_length": 64, "epochs": 3, "batch_size": 16},
    "XQuAD (en)": {"sequence_length": 128, "epochs": 2, "batch_size": 16},
    "Multi30k": {"sequence_length": 64, "epochs": 3, "text2text": {"target_length": 48, "measure": "bleu"}},
}
RATES = {"text2text": 3e-3}
RATE = 5e-4
SEEDS = {"SST-2": 3, "movie reviews": 3}
#: Labels a class, and epochs, of the learning curves.
CURVES = {"SST-2": ((32, 12), (128, 8), (512, 4)), "movie reviews": ((32, 12), (128, 6))}
#: Rows by the name of their set, as they are read for the first of its runs.
_LOADED: dict[str, Labelled] = {}


def own_texts(folder: Path) -> Iterator[tuple[str, str]]:
    """The training rows of all sets as documents without labels; test rows take no part."""
    for labelled in SETS:
        if labelled.fields.get("task") == "text2text":
            continue
        own = {"name": "set", "base": "none", "data": labelled.data(DATA, folder), "allow_near_copies": True}
        config = FinetuneConfig.model_validate({**own, **labelled.fields, "documents": None})
        first, second = texts(files.load(config, 0).train)
        gathered: list[str] = []
        for at, parts in enumerate(zip(first, second or [""] * len(first), strict=True)):
            gathered.append("\n".join(part for part in parts if part))
            if sum(map(len, gathered)) >= PIECE or at == len(first) - 1:  # short rows together
                yield f"{labelled.name}#{at}", "\n".join(gathered)
                gathered = []


def pretrained(kind: str, folder: Path) -> str:
    """The folder of the small model ``kind``, trained unless it is there and current."""
    corpus = folder / f"{kind}.jsonl"
    if not corpus.exists():
        documents = [{"id": name, "text": text} for name, text in named_prose(MEGABYTES[kind])]
        if kind == "encoder":
            documents += [{"id": name, "text": text} for name, text in own_texts(folder)]
        else:
            for name, side in zip(("en", "de"), zip(*captions(DATA, "train"), strict=True), strict=True):
                pieces = [side[at : at + 40] for at in range(0, len(side), 40)]
                documents += [{"id": f"{name}#{at}", "text": "\n".join(piece)} for at, piece in enumerate(pieces)]
        corpus.write_text("\n".join(json.dumps(document) for document in documents), "utf-8")
    entry = {"name": kind, "tokenizer": kind, "sequence_length": 256, "initial_embeddings": "cooccurrence"}
    recipe = {
        "name": f"sets-{kind}",
        "seed": 1,
        "sources": [{"name": "prose", "kind": "jsonl", "path": str(corpus)}],
        "tokenizers": [{"name": kind, **TOKENIZERS[kind]}],
        "pretrain": [{**entry, **MODELS[kind], "log_every": 50, "checkpoint_every": 500}],
    }
    path = folder / f"{kind}.yaml"
    path.write_text(yaml.safe_dump(recipe), "utf-8")
    command = [sys.executable, "-m", "flows.cli", "pretrain", str(path), "--builds", str(folder), "--workers", "1"]
    subprocess.run(command, check=True)
    return str(folder / f"sets-{kind}" / "models" / kind)


def random_weights(base: str, folder: Path, seed: int) -> str:
    """``base`` with weights as drawn before any training."""
    made = folder / f"random-{Path(base).name}-{seed}"
    config = AutoConfig.from_pretrained(base)
    torch.manual_seed(seed)
    (AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForMaskedLM).from_config(config).save_pretrained(
        made
    )
    for path in Path(base).glob("*token*.json"):
        shutil.copy(path, made)
    return str(made)


def finetuned(
    labelled: LabelledSet, base: str, seed: int, folder: Path, per_class: int | None = None, **more: Any
) -> dict[str, Any]:
    """The summary of the set's model from ``base``, of ``per_class`` rows of each label or of all."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    task = labelled.fields.get("task", "classify")
    optimiser = {"learning_rate": RATES.get(task, RATE), "schedule": "linear", "warmup": 0.1, "weight_decay": 0.01}
    own = {"name": "set", "base": base, "data": labelled.data(DATA, folder), "optimiser": optimiser}
    config = FinetuneConfig.model_validate({**own, **labelled.fields, **SETTINGS[labelled.name], **more})
    if labelled.name not in _LOADED:
        _LOADED[labelled.name] = files.load(config, 0)
    rows = _LOADED[labelled.name]
    if per_class is not None:
        rows = few(rows, config.name, per_class, config.dev_share, seed)
    job = Job(
        config=config,
        rows=rows,
        base=base,
        seed=seed,
        result=str(folder / "model"),
        work=str(folder / "work"),
        started_from=pretrain.weights_hash(base),
        made_from={"base": base},
        compared=per_class is None,
    )
    return run(job)


def scores_of(labelled: LabelledSet, summary: dict[str, Any]) -> dict[str, dict[str, float]]:
    """The measure that the set goes by of the model and its baselines, in percent."""
    by_cost = labelled.name in BY_COST
    name, sides = "matthews" if by_cost else summary["main"], dict(summary["scores"])
    if by_cost:
        sides["model"] = sides.pop("least_cost")
    return {who: {end: 100 * value for end, value in measures[name].items()} for who, measures in sides.items()}


def written(score: dict[str, float] | None) -> str:
    return "" if score is None else f"{score['value']:.1f} ({score['low']:.1f} to {score['high']:.1f})"


def row(labelled: LabelledSet, base: str, folder: Path) -> list[str]:
    """The cells of a set's row."""
    ours, drawn, seconds = [], [], 0.0
    for seed in range(1, 1 + SEEDS.get(labelled.name, 1)):
        started = time.process_time()
        ours.append(finetuned(labelled, base, seed, folder / "run"))
        seconds = seconds or time.process_time() - started
        drawn.append(finetuned(labelled, random_weights(base, folder, seed), seed, folder / "run"))
    first, random = (scores_of(labelled, runs[0]) for runs in (ours, drawn))
    cells = [written(side["model"]) for side in (first, random)]
    for place, runs in enumerate((ours, drawn)):
        if len(runs) > 1:
            score = over_seeds([scores_of(labelled, summary)["model"]["value"] for summary in runs])
            cells[place] += f"; {score.runs} seeds {score.mean:.1f} +- {score.deviation:.1f}"
    measure = "100 Matthews" if labelled.name in BY_COST else ours[0]["main"].replace("_", " ")
    rows = f"{ours[0]['documents']['train']:,}"
    majority, bag_of_words, overlap = (written(first.get(name)) for name in ("majority", "bag_of_words", "overlap"))
    beside = f"{bag_of_words}; shared words {overlap}" if overlap else bag_of_words
    return [labelled.name, measure, rows, majority, *cells, beside, f"{seconds:.0f}"]


def curve(labelled: LabelledSet, base: str, folder: Path) -> Iterator[list[str]]:
    """The cells of a row for each number of labels: the mean of three seeds, each with rows and random weights of its
    own, and of the differences.
    """
    for per_class, epochs in CURVES[labelled.name]:
        results = []
        for seed in (1, 2, 3):
            bases = (base, random_weights(base, folder, seed))
            runs = [finetuned(labelled, each, seed, folder / "run", per_class, epochs=epochs) for each in bases]
            values = [scores_of(labelled, summary)["model"]["value"] for summary in runs]
            results.append([*values, values[0] - values[1]])
        steps = runs[0]["steps"]
        sides = [over_seeds(list(side)) for side in zip(*results, strict=True)]
        yield [
            labelled.name,
            f"{per_class}",
            f"{steps}",
            *(f"{side.mean:.1f} +- {side.deviation:.1f}" for side in sides),
        ]


def described(base: str) -> str:
    """A line that says how a base was pretrained."""
    summary = json.loads(Path(base, "summary.json").read_text())
    return (
        f"{summary['name']}: {summary['parameters']['total']:,} parameters, {summary['trained_tokens']:,} tokens,"
        f" held-out loss {summary['evaluation']['loss']:.2f} (frequencies alone {summary['unigram_loss']:.2f})"
    )


def main(folder: str | None = None) -> None:
    """One table for each of the two models, a row a set."""
    if not DATA.is_dir():
        print(f"the acceptance data is not there ({DATA})")
        return
    torch.set_num_threads(1)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    titles = ("set", "measure", "training rows", "majority", "ours, pretrained", "ours, random weights")
    with tempfile.TemporaryDirectory() as passing:
        at = Path(folder or passing)
        for kind in MODELS:
            base = pretrained(kind, at)
            print(described(base))
            print("| " + " | ".join([*titles, "bag of words", "processor s"]) + " |\n|" + "---|" * 8, flush=True)
            for labelled in SETS:
                if (labelled.fields.get("task") == "text2text") == (kind == "writer"):
                    print("| " + " | ".join(row(labelled, base, at)) + " |", flush=True)
            if kind == "encoder":
                print("\n| set | labels a class | steps | pretrained | random weights | lead |\n|" + "---|" * 6)
                for cells in (
                    cells for labelled in SETS if labelled.name in CURVES for cells in curve(labelled, base, at)
                ):
                    print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
