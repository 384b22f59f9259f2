"""How a fine-tuning changes its base, by the name that a recipe gives it."""

from __future__ import annotations

from transformers import PreTrainedModel

from training.finetuning.strategies import whole
from training.finetuning.strategies.base import Ready
from training.recipe import strategies as recipe


def prepare(
    strategy: recipe.Strategy,
    model: PreTrainedModel,
    seed: int,
    length: int,
    steps_per_epoch: int = 1,
    folder: str = "",
    weights: str = "",
) -> Ready:
    """Make ``model`` ready in place. Raises WrongStrategy where the strategy does not go with it.

    New parameters are drawn by ``seed``; texts have up to ``length`` tokens; features are kept in ``folder`` by the
    name of the base's ``weights``.
    """
    match strategy:
        case recipe.Full():
            return whole.full(model)
        case recipe.Partial():
            return whole.partial(model, strategy)
        case recipe.LayerwiseDecay():
            return whole.layerwise_decay(model, strategy)
        case recipe.GradualUnfreezing():
            return whole.gradual_unfreezing(model, strategy, steps_per_epoch)
        case recipe.Bitfit():
            return whole.bitfit(model, strategy)
        case recipe.Features():
            from training.finetuning.strategies.features import features

            return features(model, folder, weights)
        case recipe.Lora():
            from training.finetuning.strategies.lora import lora  # it takes seconds to import

            return lora(model, strategy, seed)
        case recipe.Adapters():
            from training.finetuning.strategies.adapters import adapters

            return adapters(model, strategy, seed)
        case recipe.Prefix():
            from training.finetuning.strategies.prefix import prefix

            return prefix(model, strategy, seed)
        case recipe.Prompt():
            from training.finetuning.strategies.prompt import prompt

            return prompt(model, strategy, length, seed)
