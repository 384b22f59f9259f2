"""Strategies that train the base's own weights: all, all but the first layers, or each layer at a rate of its own.

Sun et al. 2019, "How to Fine-Tune BERT for Text Classification?"; Clark et al. 2020, "ELECTRA" (its run_finetuning);
Howard and Ruder 2018, "Universal Language Model Fine-tuning"; Ben Zaken et al. 2022, "BitFit".
"""

from __future__ import annotations

from transformers import PreTrainedModel

from training.finetuning.strategies.base import Ready, WrongStrategy, head, train_only, trained
from training.finetuning.strategies.depth import depth, layers
from training.loop.loop import Rates
from training.recipe.strategies import Bitfit, GradualUnfreezing, LayerwiseDecay, Partial


def full(model: PreTrainedModel) -> Ready:
    return Ready(trained(model))


def partial(model: PreTrainedModel, config: Partial) -> Ready:
    """Raises WrongStrategy where the model has fewer layers."""
    count, of = len(layers(model)), depth(model)
    if config.layers > count:
        raise WrongStrategy(
            f"strategy partial: {config.layers} layers are to be frozen, and {model.config.model_type} has {count} of"
            " its own (layers that share weights count once); lower `layers`"
        )
    return Ready(train_only(model, lambda name: of(name) > config.layers))


def layerwise_decay(model: PreTrainedModel, config: LayerwiseDecay) -> Ready:
    count = len(layers(model))

    def factor(depth: int, _step: int) -> float:
        """``depth`` counts embeddings as 0 and the head as count + 1, where ELECTRA's is count + 2."""
        if depth > count:
            return 1.0
        below = count + 2 - depth if config.convention == "electra" else count - depth
        return config.share**below

    return Ready(trained(model), Rates(depth(model), factor))


def gradual_unfreezing(model: PreTrainedModel, config: GradualUnfreezing, steps_per_epoch: int) -> Ready:
    top = len(layers(model)) + 1

    def factor(depth: int, step: int) -> float:
        below = top - depth
        return config.decay**below if below <= step // steps_per_epoch else 0.0

    return Ready(trained(model), Rates(depth(model), factor))


def bitfit(model: PreTrainedModel, _config: Bitfit) -> Ready:
    """Raises WrongStrategy for a model without biases."""
    above = head(model)
    biases = {name for name, _ in model.named_parameters() if name.endswith(".bias")}
    if not biases - above:
        raise WrongStrategy(
            f"strategy bitfit: {model.config.model_type} has no biases to train; take lora or adapters instead"
        )
    return Ready(train_only(model, lambda name: name in above | biases), adapter=True)
