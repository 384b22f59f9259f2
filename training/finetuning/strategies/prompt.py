"""Prompt tuning: Lester et al. 2021, "The Power of Scale for Parameter-Efficient Prompt Tuning".

``tokens`` trained embeddings are read with each text; at first they are those of tokens of the vocabulary. They stand
before the text; in an encoder after its first token, which the head reads. A decoder sees what an encoder made of them.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from training.finetuning.strategies.base import Ready, WrongStrategy, head, train_only
from training.models import architectures
from training.recipe.strategies import Prompt

_DECODERS = ("gpt2", "llama", "qwen3")


class _Read(nn.Module):
    """Embeddings [tokens, width] that are put in at a position of what a model reads, and taken out of its states."""

    def __init__(self, embeddings: Tensor, at: int) -> None:
        super().__init__()
        self.embeddings, self.at = nn.Parameter(embeddings), at

    def put_in(self, module: Any, inputs: tuple, named: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
        ids = named.get("input_ids")
        read = inputs[0] if ids is None else ids
        texts = module.get_input_embeddings()(read)
        added = self.embeddings.to(texts.dtype).expand(len(read), -1, -1)
        named = {**named, "input_ids": None, "inputs_embeds": self._between(texts, added)}
        flat = torch.ones(added.shape[:2], dtype=torch.int64, device=read.device)
        for name, filler in (("attention_mask", flat), ("token_type_ids", 0 * flat)):
            if named.get(name) is not None:
                named[name] = self._between(named[name], filler.to(named[name].dtype))
        return (), named

    def take_out(self, _module: Any, _inputs: tuple, output: Any) -> Any:
        states = output.last_hidden_state
        output.last_hidden_state = torch.cat([states[:, : self.at], states[:, self.at + len(self.embeddings) :]], dim=1)
        return output

    def widen(self, _module: Any, inputs: tuple, named: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
        """Let a decoder see what the encoder made of the embeddings."""
        mask, states = named.get("encoder_attention_mask"), named.get("encoder_hidden_states")
        if mask is None or states is None or mask.shape[1] == states.shape[1]:
            return inputs, named
        ones = torch.ones(len(mask), states.shape[1] - mask.shape[1], dtype=mask.dtype, device=mask.device)
        return inputs, {**named, "encoder_attention_mask": self._between(mask, ones)}

    def _between(self, whole: Tensor, added: Tensor) -> Tensor:
        return torch.cat([whole[:, : self.at], added, whole[:, self.at :]], dim=1)


def prompt(model: PreTrainedModel, config: Prompt, length: int, seed: int) -> Ready:
    """Raises WrongStrategy where texts of ``length`` tokens and the embeddings are more than the model's positions."""
    most = architectures.positions(model.config)
    if most is not None and length + config.tokens > most:
        raise WrongStrategy(
            f"strategy prompt: {config.tokens} tokens beside `sequence_length` {length} are more than the {most}"
            f" positions of the model; lower `sequence_length` to {most - config.tokens}"
        )
    above, both = head(model), model.config.is_encoder_decoder
    reader: Any = model.get_encoder() if both else model.base_model
    table = reader.get_input_embeddings()
    torch.manual_seed(seed)
    with torch.no_grad():
        drawn = table(torch.randint(table.num_embeddings, (config.tokens,), device=model.device)).clone()
    reader.prompt = _Read(drawn, 0 if both or model.config.model_type in _DECODERS else 1)
    reader.register_forward_pre_hook(reader.prompt.put_in, with_kwargs=True)
    if both:
        decoder: Any = model.get_decoder()
        decoder.register_forward_pre_hook(reader.prompt.widen, with_kwargs=True)
    else:
        reader.register_forward_hook(reader.prompt.take_out)
    count = train_only(model, lambda name: name in above or ".prompt." in f".{name}")
    return Ready(count, adapter=True, plain=False)
