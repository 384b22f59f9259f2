from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModel

from training.embeddings import elmo


def small(hidden_size: int = 8) -> elmo.ElmoModel:
    torch.manual_seed(0)
    config = elmo.ElmoConfig(
        vocab_size=40,
        hidden_size=hidden_size,
        cell_size=2 * hidden_size,
        filters=[[1, 4], [2, 4]],
        max_characters=10,
        dropout=0.0,
    )
    return elmo.ElmoModel(config).train()


def arrays(*sequences: list[str], length: int = 6, places: dict[str, int] | None = None) -> dict[str, torch.Tensor]:
    known = places or {}
    rows = [(words, np.array([known.get(word, -1) for word in words], np.int64)) for words in sequences]
    return {name: torch.from_numpy(array) for name, array in elmo.examples(rows, length, 10).items()}


def test_the_forward_states_know_nothing_of_later_words_and_the_backward_ones_nothing_of_earlier() -> None:
    model = small().eval()
    one, two = (model.layers(a["characters"], a["lengths"]) for a in (arrays(list("abcde")), arrays(list("abXde"))))
    for layer in (1, 2):
        np.testing.assert_array_equal(one[0][layer][:, :3].detach(), two[0][layer][:, :3].detach())  # begin, a, b
        np.testing.assert_array_equal(one[1][layer][:, 4:7].detach(), two[1][layer][:, 4:7].detach())  # d, e, end
        assert not torch.equal(one[0][layer][:, 3:7], two[0][layer][:, 3:7])
        assert not torch.equal(one[1][layer][:, :4], two[1][layer][:, :4])


def test_padding_and_neighbours_in_the_batch_change_nothing() -> None:
    model = small().eval()
    alone, beside = arrays(["one", "two"], length=2), arrays(["one", "two"], ["x"] * 6)
    states = [model(a["characters"], a["lengths"]).last_hidden_state[0, :4] for a in (alone, beside)]
    torch.testing.assert_close(states[0], states[1], rtol=0, atol=1e-6)


def test_the_loss_is_that_of_the_next_word_in_each_direction() -> None:
    model = small().eval()
    given = arrays(["a", "b", "c"], ["b"], places={"a": 0, "b": 1})
    found = elmo.loss(model, given)
    ahead, behind = model.layers(given["characters"], given["lengths"])
    wanted = {"forward": 0.0, "backward": 0.0}
    labels = [[elmo.BEGIN, 3, 4, elmo.UNKNOWN, elmo.END], [elmo.BEGIN, 4, elmo.END]]
    for row, words in enumerate(labels):
        for at in range(len(words) - 1):
            for name, state, label in (
                ("forward", ahead[-1][row, at], words[at + 1]),
                ("backward", behind[-1][row, at + 1], words[at]),
            ):
                wanted[name] -= float(torch.log_softmax(model.head(state), 0)[label])
    assert {name: float(value) for name, value in found.items()} == pytest.approx(wanted, rel=1e-5)


@pytest.mark.slow
def test_it_starts_at_a_uniform_guess_and_learns_a_text_by_heart() -> None:
    model = small(hidden_size=16)
    text = ["the", "cat", "sees", "the", "dog", "and", "the", "dog", "hears", "the", "bird"]
    places = {word: place for place, word in enumerate(sorted(set(text)))}
    given = arrays(text, length=12, places=places)
    predicted = len(text) + 1
    optimiser = torch.optim.Adam(model.parameters(), 1e-2)
    losses = []
    for _ in range(200):
        loss = torch.stack(list(elmo.loss(model, given).values())).sum() / 2 / predicted
        losses.append(float(loss.detach()))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert losses[0] == pytest.approx(math.log(40), abs=0.1)
    assert losses[-1] < 0.1  # every word follows from those before, or behind it


def test_words_of_any_script_and_length_are_spelled_within_the_room() -> None:
    found = elmo.spell(["a", "naïve", "", "very-long-word-indeed", "字字字字字"], 10)
    assert found.shape == (5, 10)
    assert found[0].tolist()[:4] == [elmo.WORD_BEGIN + 1, ord("a") + 1, elmo.WORD_END + 1, 0]
    assert found.max() < elmo.CHARACTERS
    assert (found[3] > 0).all()  # cut, with its end mark
    assert found[3, -1] == elmo.WORD_END + 1


def test_the_mix_is_gamma_times_the_softmax_weighted_sum() -> None:
    mix = elmo.ScalarMix(3)
    with torch.no_grad():
        mix.scalars.copy_(torch.tensor([0.0, 1.0, -1.0]))
        mix.gamma.fill_(2.0)
    layers = torch.randn(3, 4, 5)
    weights = np.exp([0.0, 1.0, -1.0]) / np.exp([0.0, 1.0, -1.0]).sum()
    wanted = 2 * sum(float(w) * layer for w, layer in zip(weights, layers, strict=True))
    torch.testing.assert_close(mix(layers), wanted)


def test_it_opens_with_auto_model(tmp_path: Path) -> None:
    model = small().eval()
    model.save_pretrained(tmp_path)
    opened = AutoModel.from_pretrained(tmp_path).eval()
    given = arrays(["one", "two"])
    torch.testing.assert_close(
        opened(given["characters"]).last_hidden_state, model(given["characters"]).last_hidden_state
    )
