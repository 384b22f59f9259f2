from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import chisquare
from torch import Tensor
from transformers import AutoModelForMaskedLM, AutoModelForPreTraining

from tests.training.conftest import SPECIAL, TINY, vocabulary
from tests.training.objectives.conftest import read, task, tensors
from training.batches.vocabulary import Vocabulary
from training.batches.windows import IGNORE, NOTHING
from training.models import architectures
from training.objectives import electra
from training.objectives.base import Task
from training.recipe.model_shapes import PRESETS
from training.recipe.objectives import ElectraConfig


def one_document(documents) -> tuple[electra.Electra, dict[str, Tensor]]:
    """Four windows seen as one document each, as transformers sees them."""
    arrays = tensors(read(task("electra"), documents["masked"], np.arange(4)).arrays)
    arrays["segments"] = torch.zeros_like(arrays["segments"])
    arrays["positions"] = torch.arange(64).expand(4, 64)
    return electra.create(task("electra")).eval(), arrays


def test_equal_to_transformers_own_losses(documents) -> None:
    module, arrays = one_document(documents)
    found = electra.loss(module, arrays)
    labels = torch.full((4, 64), IGNORE)
    for row in range(4):
        there = arrays["labels"][row] != IGNORE
        labels[row, arrays["picked"][row, there]] = arrays["labels"][row, there]
    generated = module.generator(input_ids=arrays["tokens"], labels=labels)
    torch.testing.assert_close(found["mlm"] / (labels != IGNORE).sum(), generated.loss)

    at = arrays["picked"][:, :, None].expand(-1, -1, generated.logits.shape[-1])
    logits = torch.gather(generated.logits, 1, at).flatten(0, 1)
    sampled = electra.draw(logits, arrays["drawn"].flatten(), 260).view_as(arrays["labels"])
    tokens = electra.replace(arrays["original"], arrays["picked"], arrays["labels"], sampled)
    judged = module.discriminator(input_ids=tokens, labels=(tokens != arrays["original"]).long())
    torch.testing.assert_close(found["discriminator"] / 256, judged.loss)


def test_a_place_changes_only_where_it_was_picked_and_drawn_otherwise() -> None:
    original = torch.tensor([[9, 1, 2, 3, 4]])
    picked, labels = torch.tensor([[2, 4, 0]]), torch.tensor([[2, 4, IGNORE]])
    found = electra.replace(original, picked, labels, torch.tensor([[2, 7, 8]]))
    assert found.tolist() == [[9, 1, 2, 3, 7]]  # the first was drawn equal to the original: no change


def test_tokens_are_drawn_by_the_generators_distribution_without_padding() -> None:
    logits = torch.tensor([0.0, 1.0, 2.0, -1.0, 9.0])  # the last is vocabulary padding
    uniform = torch.from_numpy(np.random.default_rng(0).random(20_000))
    found = electra.draw(logits.expand(20_000, 5), uniform, 4)
    shares = torch.softmax(logits[:4], 0).double().numpy()
    assert chisquare(np.bincount(found.numpy(), minlength=4), 20_000 * shares / shares.sum()).pvalue > 1e-3


def test_no_gradient_passes_through_the_drawn_tokens(documents) -> None:
    module, arrays = one_document(documents)
    electra.loss(module, arrays)["discriminator"].backward()
    shared = {id(parameter) for parameter in module.discriminator.parameters()}
    own = [parameter for parameter in module.generator.parameters() if id(parameter) not in shared]
    assert own
    assert all(parameter.grad is None for parameter in own)


def test_embeddings_are_one() -> None:
    module = electra.create(task("electra"))
    assert module.generator.electra.embeddings is module.discriminator.electra.embeddings
    assert module.generator.generator_lm_head.weight is module.discriminator.get_input_embeddings().weight
    assert len(dict(module.named_parameters())) == len({id(p) for p in module.parameters()})


def test_85_percent_of_the_picked_are_masked_and_the_rest_stays(documents) -> None:
    batch = read(task("electra"), documents["masked"], np.arange(3000))
    rows, slots = np.nonzero(batch.arrays["labels"] != IGNORE)
    places = batch.arrays["picked"][rows, slots]
    now, before = batch.arrays["tokens"][rows, places], batch.arrays["original"][rows, places]
    masked = now == SPECIAL["mask"]
    np.testing.assert_array_equal(now[~masked], before[~masked])
    counts = np.array([masked.sum(), (~masked).sum()])
    assert chisquare(counts, counts.sum() * np.array([0.85, 0.15])).pvalue > 1e-3
    assert batch.counts["discriminator"] == (batch.arrays["segments"] != NOTHING).sum()


@pytest.mark.parametrize(
    ("preset", "share", "width", "heads"), [("electra-small", 1 / 4, 64, 1), ("electra-base", 1 / 3, 256, 4)]
)
def test_the_generators_size_is_a_share_of_the_discriminators(preset, share, width, heads) -> None:
    config = task("electra", model=preset, electra={"generator": share}).config
    small, large = electra.configurations(Task(config, Vocabulary(30522, pad=0), 0))
    assert (small.hidden_size, small.num_attention_heads, small.intermediate_size) == (width, heads, 4 * width)
    assert (small.num_hidden_layers, small.embedding_size) == (large.num_hidden_layers, large.embedding_size)


def test_published_parameter_counts() -> None:
    """electra-small: 13,483,008 and 66,049 of the head that tells replaced tokens."""
    fields = {"vocab_size": 30522, "max_position_embeddings": 512}
    config = architectures.configuration(PRESETS["electra-small"], Vocabulary(30522, pad=0), 512, **fields)
    with torch.device("meta"):
        assert architectures.count(AutoModelForPreTraining.from_config(config)).total == 13_483_008 + 66_049


def test_defaults_are_the_papers() -> None:
    assert (ElectraConfig().generator, ElectraConfig().weight) == (0.25, 50.0)
    weights = electra.OBJECTIVE.weights(task("electra"))
    assert {name: weight for name, weight in weights.items() if weight} == {"mlm": 1.0, "discriminator": 50.0}


def test_heads_that_do_not_divide_the_width_are_refused() -> None:
    with pytest.raises(ValueError, match="which 2 attention heads do not divide; choose another share"):
        task("electra", electra={"generator": 0.84})


def test_the_generator_is_published_too(packed_build: str, tmp_path) -> None:
    import shutil

    from tests.training.conftest import make_build, pretrain_section
    from training.pretraining.pretrain import pretrain

    root = str(tmp_path / "build")
    shutil.copytree(packed_build, root)
    pretrain(make_build(root, pretrain_section("electra", steps=1)), "electra")
    discriminator = AutoModelForPreTraining.from_pretrained(f"{root}/models/electra")
    generator = AutoModelForMaskedLM.from_pretrained(f"{root}/models/electra/generator")
    ours, theirs = discriminator.get_input_embeddings().weight, generator.get_input_embeddings().weight
    assert torch.equal(ours, theirs)
    assert generator.config.hidden_size == TINY["electra"]["hidden_size"] // 4
    assert vocabulary(SPECIAL).size == generator.config.vocab_size
