from __future__ import annotations

import numpy as np

from training.batches import random_streams


def test_a_draw_is_a_function_of_its_name_and_place() -> None:
    again = random_streams.uniforms(np.array([[1, 5]]), (4,), "mask", 7)
    both = random_streams.uniforms(np.array([[0, 2], [1, 5]]), (4,), "mask", 7)
    np.testing.assert_array_equal(again[0], both[1])


def test_names_epochs_and_positions_have_streams_of_their_own() -> None:
    places = np.array([[epoch, position] for epoch in range(8) for position in range(50)])
    draws = np.concatenate([random_streams.uniforms(places, (16,), "mask", seed) for seed in range(5)])
    assert len(np.unique(draws)) == draws.size
    assert abs(draws.mean() - 0.5) < 4 * np.sqrt(1 / 12 / draws.size)


def test_seeds_fit_torch_and_differ() -> None:
    seeds = {random_streams.seed("dropout", 1, step) for step in range(1000)}
    assert len(seeds) == 1000
    assert all(0 <= seed < 2**63 for seed in seeds)
