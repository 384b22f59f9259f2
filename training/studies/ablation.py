"""What curation is worth: equal models trained on raw text, on curated text, and with each stage left out in turn.

Every model has the same shape, tokenizer, number of tokens, schedule and, seed by seed, the same initial weights; only
the text differs. They are compared in bits per byte on text that none of them saw: what the build holds out of the
curated corpus, what the same split holds out of the raw text, and, where the recipe brings it, neutral text.

    ablation/<variant>/models/<variant>-s<seed>/     ablation/results.json
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from scipy import stats
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from pipeline import MillError
from pipeline.build.build import Build
from pipeline.curation.ablation_variants import CURATED, NEUTRAL, RAW
from pipeline.store import files
from pipeline.store.packed_tokens import PackedTokens
from training import objectives
from training.batches.vocabulary import Vocabulary
from training.loop import hardware
from training.objectives.base import Task
from training.pretraining.pretrain import evaluate, held_out
from training.recipe.sections import AblationConfig, BuildRecipe, PretrainConfig

VERSION = 1
LEVEL = 0.95


@dataclass(frozen=True)
class Trial:
    """One model of one variant."""

    variant: str
    seed: int
    config: PretrainConfig


def ablation_config(build: Build[BuildRecipe]) -> AblationConfig:
    """The recipe's `ablation` section. Raises MillError where it has none."""
    if build.recipe.ablation is None:
        raise MillError(f"recipe {build.recipe.name!r} has no `ablation` section; `mill fields ablation` explains it")
    return build.recipe.ablation


def trials(build: Build[BuildRecipe], variants: Sequence[str]) -> list[Trial]:
    """The models to train, seed by seed. Their configurations differ in name and seed alone."""
    config = ablation_config(build)
    first = build.recipe.seed if config.seed is None else config.seed
    return [
        Trial(name, seed, _run_config(config, f"{name}-s{seed}", seed))
        for seed in range(first, first + config.seeds)
        for name in variants
    ]


def _run_config(config: AblationConfig, name: str, seed: int) -> PretrainConfig:
    return PretrainConfig(
        name=name,
        objective="causal",
        tokenizer=config.tokenizer,
        model=config.model,
        sequence_length=config.sequence_length,
        batch_size=config.batch_size,
        micro_batch=config.micro_batch,
        precision=config.precision,
        compile=config.compile,
        seed=seed,
        tokens=config.tokens,
        optimiser=config.optimiser,
        eval_tokens=config.eval_tokens,
        checkpoint_every=1000,
        keep_last=1,
    )


def with_trials(variant: Build[BuildRecipe], configs: Sequence[PretrainConfig]) -> Build[BuildRecipe]:
    """``variant`` with the runs ``configs`` for its `pretrain` section, as training.pretraining.pretrain takes them."""
    return Build(variant.root, variant.recipe.model_copy(update={"pretrain": list(configs)}))


def measure(build: Build[BuildRecipe], trial: Trial) -> dict[str, float]:
    """Bits per byte of a trained model on each kind of held-out text that there is."""
    config = ablation_config(build)
    objective, device = objectives.load("causal"), hardware.device()
    folder = build.path("ablation", trial.variant, "models", trial.config.name)
    files.check_folder(str(folder))
    loaded = AutoModelForCausalLM.from_pretrained(
        folder, attn_implementation="sdpa", use_safetensors=True, trust_remote_code=False
    )
    model = cast(nn.Module, loaded).to(device).eval()

    @torch.no_grad()
    def sums(arrays: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
        return objective.loss(model, {name: torch.from_numpy(array).to(device) for name, array in arrays.items()})

    measures = {}
    for kind, split in ((CURATED, "heldout"), (RAW, "heldout"), (NEUTRAL, "train")):
        text = build.path("ablation", kind, "tokens", config.tokenizer, split)
        if kind == NEUTRAL and not config.neutral:
            continue
        packed = PackedTokens(text)
        task = Task(trial.config, Vocabulary.of(packed), trial.seed)
        windows, size = held_out(objective, task, packed)
        measures[kind] = evaluate(objective, task, windows, size, sums)["bits_per_byte"]
    return measures


def summarise(
    build: Build[BuildRecipe],
    done: Sequence[tuple[Trial, dict[str, Any], dict[str, float]]],
    kept: Mapping[str, str],
) -> dict[str, Any]:
    """Write ablation/results.json from (trial, its summary, what ``measure`` gave), and return it.

    ``kept`` says why stages were not left out. For each variant and kind of text: the mean over seeds, and the mean
    difference to the curated variant, seed by seed, with its 95 % interval (Student's t).
    """
    by_variant: dict[str, list[tuple[dict[str, Any], dict[str, float]]]] = {}
    for trial, summary, bits in done:
        by_variant.setdefault(trial.variant, []).append((summary, bits))
    kinds = list(done[0][2])
    rows = []
    for variant, entries in by_variant.items():
        summary = entries[0][0]
        rows.append(
            {
                "variant": variant,
                "unique_tokens": summary["unique_tokens"],
                "trained_tokens": summary["trained_tokens"],
                "epochs": summary["epochs"],
                "bits_per_byte": {
                    kind: _compared(
                        [bits[kind] for _, bits in entries], [bits[kind] for _, bits in by_variant[CURATED]]
                    )
                    for kind in kinds
                },
            }
        )
    made_by = files.fingerprint("ablation", VERSION, [summary["fingerprint"] for _, summary, _ in done])
    results = {
        "fingerprint": made_by,
        "seeds": len(by_variant[CURATED]),
        "model": done[0][1]["model_type"],
        "parameters": done[0][1]["parameters"]["total"],
        "kinds": kinds,
        "kept": dict(kept),
        "rows": rows,
    }
    files.write_json(build.path("ablation", "results.json"), results)
    return results


def _compared(values: Sequence[float], curated: Sequence[float]) -> dict[str, Any]:
    """Mean of ``values`` and of their differences to ``curated``, pair by pair, with its interval."""
    worse = np.subtract(values, curated)
    mean, spread = float(worse.mean()), float(worse.std(ddof=1)) / np.sqrt(len(worse))
    half = float(stats.t.ppf(0.5 + LEVEL / 2, len(worse) - 1) * spread)
    return {
        "values": [float(value) for value in values],
        "mean": float(np.mean(values)),
        "difference": mean,
        "interval": [mean - half, mean + half],
    }
