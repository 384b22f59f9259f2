"""The trained weights of a fine-tuning alone, beside the name of the base that they belong to.

adapter.safetensors   the parameters that were trained, by name
adapter.json          base (path, SHA-256 of its weights), strategy, what made it
config.json           of the model as it was fine-tuned, its head included
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers
from pydantic import TypeAdapter
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoConfig, PreTrainedModel

from pipeline.store import files
from training.finetuning import bases, strategies
from training.finetuning.long_text import side_files
from training.pretraining import pretrain
from training.recipe.strategies import Lora, Prefix, Strategy

NAME = "adapter.json"


def write(
    folder: Path, model: PreTrainedModel, tensors: dict[str, Tensor], strategy: Strategy, base: str, length: int
) -> None:
    """Write what was trained of ``model``, ``tensors``, into ``folder``; ``length`` is that of its texts in tokens."""
    model.config.architectures = [type(model).__name__]
    model.config.save_pretrained(folder)
    save_file(tensors, folder / "adapter.safetensors")
    notes = {
        "base": files.url_of(str(files.local(base).resolve())),
        "base_weights": pretrain.weights_hash(base),
        "strategy": strategy.model_dump(mode="json"),
        "sequence_length": length,
    }
    files.write_json(str(folder / NAME), notes)


def load(folder: str, base: str | None = None) -> PreTrainedModel:
    """The fine-tuned model of the adapter in ``folder``, ready to predict; ``base`` is where its base lies now.

    Raises bases.WrongBase where that is not there, or its weights are others.
    """
    notes = files.read_json(files.join(folder, NAME))
    base = str(files.local(base or notes["base"]))
    bases.check(base)
    if pretrain.weights_hash(base) != notes["base_weights"]:
        raise bases.WrongBase(
            f"{folder}: its adapter was trained on other weights than those in {base}; give the folder of its own base"
        )
    config: Any = AutoConfig.from_pretrained(files.local(folder), trust_remote_code=False)
    model = bases.opened(getattr(transformers, config.architectures[0]), base, config, 0)
    side_files.restore(folder, model)
    strategy: Any = TypeAdapter(Strategy).validate_python(notes["strategy"])
    if isinstance(strategy, Prefix):
        strategy = strategy.model_copy(update={"reparametrised": False})  # the network is gone
    if isinstance(strategy, Lora):
        strategy = strategy.model_copy(update={"merge": False})
    ready = strategies.prepare(strategy, model, 0, notes["sequence_length"])
    files.check(files.join(folder, "adapter.safetensors"))
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name, tensor in load_file(files.local(files.join(folder, "adapter.safetensors"))).items():
            parameters[name].copy_(tensor)
    ready.finish()
    return model.eval()
