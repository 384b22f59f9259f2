"""What must hold for every objective, whatever its noise."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import PreTrainedModel

from tests.training.conftest import TINY, TRAINED
from tests.training.objectives.conftest import losses, pack_documents, read, task, tensors
from training import objectives
from training.batches.windows import IGNORE, NOTHING
from training.loop import optimisers
from training.models import architectures, seq2seq
from training.recipe.model_shapes import dropout_fields
from training.recipe.objectives import OBJECTIVES, PAIRED
from training.recipe.run import OptimiserConfig

PACKED = [name for name in OBJECTIVES if name not in PAIRED]


@pytest.mark.parametrize(
    ("objective", "packing"),
    [*((name, {}) for name in OBJECTIVES), *((name, {"packing": "best_fit"}) for name in PACKED)],
)
def test_an_example_depends_on_its_place_only(documents, teacher: str, objective: str, packing: dict) -> None:
    """Not on what else is in the batch, nor on what was read before: over three epochs, forwards and backwards."""
    found = task(objective, teacher, **packing)
    packed = documents[found.config.tokenizer]
    epoch = objectives.load(objective).order(found, packed, 3, True).windows_per_epoch
    places = np.array([5, 2 * epoch + 1, 0, epoch - 1, epoch])
    together = read(found, packed, places)
    for at, place in reversed(list(enumerate(places))):
        alone = read(found, packed, np.array([place]))
        for name, array in together.arrays.items():
            np.testing.assert_array_equal(alone.arrays[name][0], array[at])
    counted = [read(found, packed, np.array([place])).counts for place in places]
    assert together.counts == {name: sum(counts[name] for counts in counted) for name in together.counts}


@pytest.mark.parametrize("objective", [name for name in OBJECTIVES if name != "causal"])
def test_noise_is_drawn_anew_at_each_visit_and_seed(documents, teacher: str, objective: str) -> None:
    found = task(objective, teacher)
    packed = documents["masked"]
    reader = objectives.load(objective).order(found, packed, 3, True)
    windows = reader.read(np.arange(4))
    again = type(windows)(**{**vars(windows), "visits": windows.visits + np.array([1, 0])})
    first, other, seeded = (
        objectives.load(objective).examples(run, read)
        for run, read in ((found, windows), (found, again), (task(objective, teacher, seed=1), windows))
    )
    assert (first.arrays["tokens"] != other.arrays["tokens"]).any()
    assert (first.arrays["tokens"] != seeded.arrays["tokens"]).any()


def without(arrays, segment: int) -> dict[str, np.ndarray]:
    """The same arrays as if the document of ``segment`` were padding."""
    changed = {name: array.copy() for name, array in arrays.items()}
    target = arrays.get("decoder_segments", arrays["segments"])
    if "picked" in arrays:
        owner = np.take_along_axis(arrays["segments"], arrays["picked"], axis=1)
        changed["labels"][owner == segment] = IGNORE
    else:
        changed["labels"][target == segment] = IGNORE
    for name in ("segments", "decoder_segments"):
        if name in changed:
            changed[name][changed[name] == segment] = NOTHING
    return changed


@pytest.mark.parametrize("objective", PACKED)
def test_a_document_in_a_pack_is_unchanged_by_the_others_text(tmp_path: Path, teacher: str, objective: str) -> None:
    """Its loss is that of the window less that of the window without it; seen as one document, the two do depend."""
    found = task(objective, teacher, length=48)
    module = objectives.load(objective).create(found).eval()
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.dim() == 2:
                parameter.mul_(4)  # so that attention is far from uniform
    mine = "the bird hears the fish in the sea."
    parts, joint = [], []
    for text in ("the cat sees the dog on the hill...", "THE DOG LIKES A CAT. A FISH. BIRDS!"):
        packed = pack_documents(tmp_path / text[:3], found, [mine, text])
        windows = objectives.load(objective).order(found, packed, 3, True).read(np.array([0]))
        arrays = objectives.load(objective).examples(found, windows).arrays
        segment = int(windows.segments[windows.documents == 0][0])
        full, rest = (losses(module, objective, of) for of in (arrays, without(arrays, segment)))
        parts.append({name: full[name] - rest[name] for name in full})
        merged = {name: np.where(a >= 0, 0, a) if name.endswith("segments") else a for name, a in arrays.items()}
        joint.append(losses(module, objective, merged))
    for name, value in parts[0].items():
        assert value > 0 or "accuracy" in name
        assert value == pytest.approx(parts[1][name], abs=2e-4)
    assert any(abs(joint[0][name] - joint[1][name]) > 0.01 for name in parts[0])


@pytest.mark.parametrize(
    ("objective", "close"),
    [
        ("mlm", 0.01),
        ("mlm_nsp", 0.03),
        ("mlm_sop", 0.03),
        ("electra", 0.01),
        ("span_corruption", 1e-6),
        ("denoising", 1e-6),
    ],
)
def test_operations_are_those_that_torch_counts(documents, objective: str, close: float) -> None:
    """Forward and backward of one batch, for each token of the documents that it reads."""
    found, kind = task(objective), objectives.load(objective)
    module, reader = kind.create(found), kind.order(found, documents["masked"], 3, True)
    batch = kind.examples(found, reader.read(np.arange(4)))
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        parts = kind.loss(module, tensors(batch.arrays))
        torch.stack(list(parts.values())).sum().backward()
    assert kind.flops(module, found) == pytest.approx(counter.get_total_flops() / (4 * reader.length), rel=close)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_parameter_has_one_optimiser_and_tables_and_heads_have_adamw(teacher: str, objective: str) -> None:
    found = task(objective, teacher)
    module = objectives.load(objective).create(found)
    made = optimisers.make(module, OptimiserConfig(algorithm="muon"))
    listed = [parameter for one in made for group in one.param_groups for parameter in group["params"]]
    assert len(listed) == len(set(listed))
    assert set(listed) == {parameter for parameter in module.parameters() if parameter.requires_grad}
    owners = optimisers.of_parameters(made)
    for name, parameter in module.named_parameters():
        if not parameter.requires_grad:
            continue
        muon = isinstance(owners[parameter], torch.optim.Muon)
        vocabulary = found.vocabulary.padded in parameter.shape
        assert muon <= (parameter.dim() == 2 and not vocabulary and min(parameter.shape) > 2), name
        if any(part in name for part in ("attn", "attention", "mlp", "ffn", "intermediate", "DenseReluDense", ".fc")):
            table = "relative_attention_bias" in name
            assert muon == (parameter.dim() == 2 and not table), name


@pytest.mark.parametrize("objective", [name for name in OBJECTIVES if name != "mlm_sop"])  # refused for ALBERT
def test_states_that_are_computed_again_give_the_same_gradients(documents, teacher: str, objective: str) -> None:
    """With dropout, whose draws are made again alike."""
    model = TINY[TRAINED[objective]]
    drops = dict.fromkeys(dropout_fields(model["type"]), 0.2)
    found = task(objective, teacher, model={**model, **drops})
    kind = objectives.load(objective)
    arrays = tensors(read(found, documents[found.config.tokenizer], np.arange(2)).arrays)
    gradients, kept = [], []
    for again in (False, True):
        module = kind.create(found)
        if again:
            architectures.recompute(module)
        torch.manual_seed(7)
        saved: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, saved=saved: saved.append(t.numel()) or t, lambda t: t):
            loss = torch.stack(list(kind.loss(module, arrays).values())).sum()
        loss.backward()
        gradients.append([parameter.grad for parameter in module.parameters() if parameter.grad is not None])
        kept.append(sum(saved))
    assert kept[1] < 0.8 * kept[0]
    for one, other in zip(*gradients, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("objective", ["span_corruption", "denoising"])
def test_a_document_alone_has_the_logits_that_it_has_in_a_pack(documents, objective: str) -> None:
    """Also where the model counts positions: each document's begin at 0. Alone, the model is called as by users."""
    found = task(objective, length=128)
    model = cast(PreTrainedModel, objectives.load(objective).create(found).eval().double())
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.mul_(4)  # so that attention is far from uniform and positions count
    batch = read(found, documents["masked"], np.arange(6)).arrays
    head = architectures.output_head(model)
    with torch.no_grad():
        packed = head(seq2seq.hidden_states(model, tensors(batch)))
    compared = 0
    for row in range(6):
        owners = np.intersect1d(batch["segments"][row], batch["decoder_segments"][row])
        for segment in owners[owners != NOTHING]:
            source, target = (batch[name][row] == segment for name in ("segments", "decoder_segments"))
            inputs = {
                "input_ids": batch["tokens"][row, source],
                "decoder_input_ids": batch["decoder_tokens"][row, target],
            }
            with torch.no_grad():
                alone = model(**{name: torch.from_numpy(array)[None] for name, array in inputs.items()}).logits
            torch.testing.assert_close(packed[row, torch.from_numpy(target)], alone[0], atol=1e-5, rtol=1e-5)
            compared += int(segment > 0)
    assert compared >= 3  # documents that do not open their window
