"""ELMo: contextual vectors of words from their characters, by a forward and a backward language model.

Peters et al. 2018, "Deep contextualized word representations". A word is the bytes of its spelling between two marks;
convolutions of several widths are max-pooled, go through highway layers and a projection. Two LSTM layers with
projections read the words forwards, two others backwards, each adding its input to its output from the second layer on;
both directions predict the next word by one softmax. A task reads gamma x sum_j softmax(s)_j h_j over the three layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

#: Characters are bytes 0 to 255 and these; 0 is left for padding, so all are stored plus one.
WORD_BEGIN, WORD_END, SENTENCE_BEGIN, SENTENCE_END = 256, 257, 258, 259
CHARACTERS = 261
#: Entries of the output vocabulary before the words.
UNKNOWN, BEGIN, END = 0, 1, 2
RESERVED = 3


class ElmoConfig(PreTrainedConfig):
    model_type = "elmo"

    def __init__(
        self,
        vocab_size: int = 1000,
        max_characters: int = 50,
        character_size: int = 16,
        filters: Sequence[Sequence[int]] | None = None,
        highway_layers: int = 2,
        hidden_size: int = 512,
        cell_size: int = 4096,
        num_hidden_layers: int = 2,
        dropout: float = 0.1,
        **more: Any,
    ) -> None:
        self.vocab_size, self.max_characters, self.character_size = vocab_size, max_characters, character_size
        self.filters = (
            [list(entry) for entry in filters]
            if filters
            else [[1, 32], [2, 32], [3, 64], [4, 128], [5, 256], [6, 512], [7, 1024]]
        )
        self.highway_layers, self.hidden_size, self.cell_size = highway_layers, hidden_size, cell_size
        self.num_hidden_layers, self.dropout = num_hidden_layers, dropout
        super().__init__(**more)


class CharacterEncoder(nn.Module):
    """int64 characters [..., max_characters] -> vectors of words [..., hidden_size]."""

    def __init__(self, config: ElmoConfig) -> None:
        super().__init__()
        self.embedding = nn.Embedding(CHARACTERS, config.character_size, padding_idx=0)
        self.convolutions = nn.ModuleList(nn.Conv1d(config.character_size, n, width) for width, n in config.filters)
        size = sum(n for _, n in config.filters)
        self.highways = nn.ModuleList(nn.Linear(size, 2 * size) for _ in range(config.highway_layers))
        self.projection = nn.Linear(size, config.hidden_size)

    def forward(self, characters: Tensor) -> Tensor:
        shape = characters.shape[:-1]
        embedded = self.embedding(characters.flatten(0, -2)).transpose(1, 2)
        pooled = [F.relu(convolution(embedded).amax(-1)) for convolution in self.convolutions]
        vectors = torch.cat(pooled, -1)
        for highway in self.highways:
            new, gate = highway(vectors).chunk(2, -1)
            gate = torch.sigmoid(gate)
            vectors = gate * vectors + (1 - gate) * F.relu(new)
        return self.projection(vectors).unflatten(0, shape)


class ScalarMix(nn.Module):
    """gamma x sum_j softmax(s)_j h_j: how a task reads the layers."""

    def __init__(self, layers: int) -> None:
        super().__init__()
        self.scalars = nn.Parameter(torch.zeros(layers))
        self.gamma = nn.Parameter(torch.ones(()))

    def forward(self, layers: Tensor) -> Tensor:
        """[layers, ...] -> [...]."""
        return self.gamma * torch.einsum("l,l...->...", torch.softmax(self.scalars, 0), layers)


class ElmoModel(PreTrainedModel):
    """``AutoModel`` of type elmo. Its hidden states are the word layer and each LSTM layer, [n, length, 2 x hidden]."""

    config_class = ElmoConfig
    base_model_prefix = "elmo"

    def __init__(self, config: ElmoConfig) -> None:
        super().__init__(config)
        self.characters = CharacterEncoder(config)
        self.directions = nn.ModuleList(
            nn.ModuleList(
                nn.LSTM(config.hidden_size, config.cell_size, proj_size=config.hidden_size, batch_first=True)
                for _ in range(config.num_hidden_layers)
            )
            for _ in range(2)
        )
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(config.hidden_size, config.vocab_size)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear | nn.Conv1d):
            nn.init.normal_(module.weight, std=0.02 if module is self.head else module.weight[0].numel() ** -0.5)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight)
            with torch.no_grad():
                module.weight[0].zero_()
        if isinstance(module, CharacterEncoder):
            for highway in module.highways:
                with torch.no_grad():  # at first mostly carry (Srivastava 2015)
                    cast(nn.Linear, highway).bias.chunk(2)[1].fill_(1.0)

    def layers(self, characters: Tensor, lengths: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """States [n, length, hidden] of each layer forwards and backwards, the words' own vectors first in both.

        ``characters`` int64 [n, length, max_characters]; only the first ``lengths`` (int64 [n]) words of a row count.
        """
        words = self.characters(characters)
        turned = _turn(words, lengths)
        ways = []
        for way, states in enumerate((words, turned)):
            outputs = [states]
            for number, lstm in enumerate(self.directions[way]):  # type: ignore[arg-type]
                new = lstm(self.dropout(outputs[-1]))[0]
                outputs.append(new + outputs[-1] if number else new)
            ways.append(outputs if way == 0 else [_turn(state, lengths) for state in outputs])
        return ways[0], ways[1]

    def forward(self, characters: Tensor, lengths: Tensor | None = None, **_: Any) -> BaseModelOutput:
        if lengths is None:
            lengths = (characters != 0).any(-1).sum(-1)
        ahead, behind = self.layers(characters, lengths)
        states = tuple(torch.cat(pair, -1) for pair in zip(ahead, behind, strict=True))
        return BaseModelOutput(last_hidden_state=states[-1], hidden_states=states)  # type: ignore[arg-type]


def _turn(states: Tensor, lengths: Tensor) -> Tensor:
    """Each row [length, d] with its first ``lengths`` entries the other way round."""
    place = torch.arange(states.shape[1], device=states.device)
    source = torch.where(place < lengths[:, None], lengths[:, None] - 1 - place, place)
    return states.gather(1, source[..., None].expand_as(states))


AutoConfig.register("elmo", ElmoConfig)
AutoModel.register(ElmoConfig, ElmoModel)


def loss(module: nn.Module, arrays: dict[str, Tensor]) -> dict[str, Tensor]:
    """Nats of the words of a batch, summed, in each direction: ``forward`` and ``backward``.

    ``arrays`` are ``examples``'. A word is predicted from the state of the word before it, or behind it.
    """
    assert isinstance(module, ElmoModel)
    words, lengths = arrays["words"], arrays["lengths"]
    ahead, behind = module.layers(arrays["characters"], lengths)
    inside = torch.arange(words.shape[1], device=words.device) < lengths[:, None] - 1
    losses = {}
    for name, states, labels in (
        ("forward", ahead[-1][:, :-1], words[:, 1:]),
        ("backward", behind[-1][:, 1:], words[:, :-1]),
    ):
        chosen = inside[:, :-1]
        logits = module.head(module.dropout(states[chosen])).float()
        losses[name] = F.cross_entropy(logits, labels[chosen], reduction="sum")
    return losses


def spell(words: list[str], most: int) -> np.ndarray:
    """int64 [len(words), most]: bytes between marks, all plus one, 0 where there is nothing; long words are cut."""
    codes = np.zeros((len(words), most), np.int64)
    for row, word in enumerate(words):
        inner = list(word.encode()[: most - 2])
        codes[row, : len(inner) + 2] = [WORD_BEGIN + 1, *(byte + 1 for byte in inner), WORD_END + 1]
    return codes


def spell_sentence_marks(most: int) -> np.ndarray:
    """int64 [2, most]: the words that begin and end a sequence, as ``spell`` writes them."""
    codes = np.zeros((2, most), np.int64)
    codes[:, 0], codes[:, 2] = WORD_BEGIN + 1, WORD_END + 1
    codes[:, 1] = SENTENCE_BEGIN + 1, SENTENCE_END + 1
    return codes


def examples(sequences: list[tuple[list[str], np.ndarray]], length: int, most: int) -> dict[str, np.ndarray]:
    """``characters`` int64 [n, length + 2, most], ``words`` int64 [n, length + 2], ``lengths`` int64 [n].

    ``sequences`` are (spellings, places in the vocabulary or -1) of at most ``length`` words each. Every sequence
    stands between the words that mark its ends.
    """
    characters = np.zeros((len(sequences), length + 2, most), np.int64)
    words = np.zeros((len(sequences), length + 2), np.int64)
    lengths = np.array([len(places) + 2 for _, places in sequences], np.int64)
    first, last = spell_sentence_marks(most)
    for row, (spellings, places) in enumerate(sequences):
        end = len(places) + 1
        characters[row, 0], characters[row, 1:end], characters[row, end] = first, spell(spellings, most), last
        words[row, 0], words[row, end] = BEGIN, END
        words[row, 1:end] = np.where(places < 0, UNKNOWN, places + RESERVED)
    return {"characters": characters, "words": words, "lengths": lengths}
