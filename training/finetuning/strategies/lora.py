"""LoRA: Hu et al. 2021, by peft. W x + (alpha / r) B A x, A drawn, B zero; r (inputs + outputs) parameters a layer.

The layers are replaced within the model, whose forward pass, configuration and tasks stay what they are.
"""

from __future__ import annotations

from typing import cast

import torch
from peft import LoraConfig
from peft.tuners.lora import LoraModel
from peft.utils.constants import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING
from transformers import PreTrainedModel

from training.finetuning.strategies.base import Ready, WrongStrategy, head, train_only
from training.recipe.strategies import Lora

_TARGETS = {
    **TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING,
    "distilbert": ["q_lin", "v_lin"],
    "albert": ["query", "value"],
    "modernbert": ["Wqkv"],
}


def lora(model: PreTrainedModel, config: Lora, seed: int) -> Ready:
    """Raises WrongStrategy where no layer is called so, or none is known for the architecture."""
    kind, above = model.config.model_type, head(model)
    targets = config.targets or _TARGETS.get(kind)
    if targets is None:
        raise WrongStrategy(f"strategy lora: which layers of {kind} get one is not known; name them in `targets`")
    torch.manual_seed(seed)
    settings = LoraConfig(
        r=config.rank,
        lora_alpha=cast(int, config.alpha),
        use_rslora=config.rslora,
        target_modules=targets,
        exclude_modules=sorted({name.rpartition(".")[0] for name in above}) or None,  # a head is trained whole
        lora_dropout=config.dropout,
        fan_in_fan_out=kind == "gpt2",
    )
    try:
        tuner = LoraModel(model, {"default": settings}, "default")
    except ValueError as error:
        raise WrongStrategy(f"strategy lora: `targets` {', '.join(targets)} do not go with {kind}: {error}") from error
    count = train_only(model, lambda name: name in above or ".lora_" in name)

    def finish() -> None:
        if config.merge:
            tuner.merge_and_unload()
        if hasattr(model, "peft_config"):
            del model.peft_config  # the model is ours to save

    return Ready(count, finish=finish, adapter=True, plain=config.merge)
