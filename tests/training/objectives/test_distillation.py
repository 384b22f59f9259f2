from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import AutoModelForMaskedLM

from tests.training.conftest import SPECIAL, TINY, recipe, vocabulary
from tests.training.conftest import pretrain_section as section
from tests.training.objectives.conftest import losses, read, task, tensors
from training import objectives
from training.batches.windows import IGNORE, NOTHING
from training.models import architectures
from training.objectives import distillation


def options(**fields) -> dict:
    return {"distillation": {"teacher": "teacher", **fields}}


def test_losses_are_torchs_own(documents, teacher: str) -> None:
    """KLDivLoss (batchmean) x T^2, CrossEntropyLoss and CosineEmbeddingLoss over the attended tokens, as published."""
    found = task("distillation", teacher)
    module = distillation.create(found).eval()
    windows = objectives.load("distillation").order(found, documents["masked"], 3, False).head(500)[0]
    batch = distillation.examples(found, windows)
    arrays = tensors(batch.arrays)
    arrays["segments"] = torch.where(arrays["segments"] == NOTHING, NOTHING, 0)
    attended = arrays["segments"] != NOTHING
    assert not attended.all()
    inputs = {
        "input_ids": arrays["tokens"],
        "attention_mask": attended.long(),
        "position_ids": arrays["positions"],
        "output_hidden_states": True,
    }
    taught = AutoModelForMaskedLM.from_pretrained(teacher).eval()
    with torch.no_grad():
        student, known = module.student(**inputs), taught(**inputs)
    soft = torch.nn.KLDivLoss(
        reduction="batchmean"
    )(
        torch.log_softmax(student.logits[attended][:, :260] / 2, -1),  # what is beyond is padding
        torch.softmax(known.logits[attended][:, :260] / 2, -1),
    )
    ones = torch.ones(int(attended.sum()))
    cosine = torch.nn.CosineEmbeddingLoss()(
        student.hidden_states[-1][attended], known.hidden_states[-1][attended], ones
    )
    labels = torch.full(attended.shape, IGNORE)
    for row in range(len(labels)):
        there = arrays["labels"][row] != IGNORE
        labels[row, arrays["picked"][row, there]] = arrays["labels"][row, there]
    hard = torch.nn.functional.cross_entropy(student.logits.flatten(0, 1), labels.flatten())
    mine = losses(module, "distillation", {name: array.numpy() for name, array in arrays.items()})
    means = {name: mine[name] / batch.counts[name] for name in mine}
    assert means["soft"] == pytest.approx(float(soft) * 4, rel=1e-4)
    assert means["mlm"] == pytest.approx(float(hard), rel=1e-4)
    assert means["cosine"] == pytest.approx(float(cosine), rel=1e-4)
    assert distillation.weights(found) == {"soft": 5.0, "mlm": 2.0, "cosine": 1.0, "masked_accuracy": 0.0}


def test_the_divergence_may_be_taken_at_masked_tokens_only(documents, teacher: str) -> None:
    found = task("distillation", teacher, **options(only_masked=True))
    batch = read(found, documents["masked"], np.arange(4))
    assert batch.counts["soft"] == batch.counts["mlm"] < batch.counts["cosine"] == 256
    part = losses(distillation.create(found).eval(), "distillation", batch.arrays)["soft"]
    everywhere = task("distillation", teacher)
    full = losses(distillation.create(everywhere).eval(), "distillation", batch.arrays)["soft"]
    assert 0 < part < full


def test_layers_of_the_teacher_are_spread_as_published() -> None:
    assert distillation.kept_layers(12, 6) == [0, 2, 4, 7, 9, 11]
    assert distillation.kept_layers(12, 12) == list(range(12))
    assert distillation.kept_layers(3, 2) == [0, 2]


def test_a_student_with_every_layer_starts_as_its_teacher(documents, teacher: str) -> None:
    """But for the token types, which DistilBERT has not: with the teacher's at zero the two agree."""
    found = task("distillation", teacher, model={**TINY["distilbert"], "n_layers": 3})
    module = distillation.create(found).eval()
    taught = module.__dict__["teacher"]
    taught.bert.embeddings.token_type_embeddings.weight.zero_()
    found_losses = losses(module, "distillation", read(found, documents["masked"], np.arange(4)).arrays)
    assert found_losses["soft"] == pytest.approx(0, abs=1e-3)
    assert found_losses["cosine"] == pytest.approx(0, abs=1e-3)


def test_a_roberta_student_starts_from_its_layers_too(documents, tmp_path) -> None:
    config = architectures.configuration({**TINY["roberta"], "num_hidden_layers": 3}, vocabulary(SPECIAL), 64)
    architectures.create("masked", config, seed=5).save_pretrained(tmp_path)
    found = task("distillation", str(tmp_path), model={**TINY["roberta"], "num_hidden_layers": 3})
    values = losses(
        distillation.create(found).eval(), "distillation", read(found, documents["masked"], np.arange(2)).arrays
    )
    assert values["soft"] == pytest.approx(0, abs=1e-3)


def test_the_teacher_is_neither_trained_nor_saved(teacher: str) -> None:
    module = distillation.create(task("distillation", teacher)).train()
    assert not any("teacher" in name for name in module.state_dict())
    taught = module.__dict__["teacher"]
    assert not taught.training
    assert not any(parameter.requires_grad for parameter in taught.parameters())
    assert next(module.double().__dict__["teacher"].parameters()).dtype == torch.float64  # it moves along


@pytest.mark.parametrize("frozen", [True, False])
def test_positions_are_kept_as_the_teachers_unless_freed(teacher: str, frozen: bool) -> None:
    module = distillation.create(task("distillation", teacher, **options(freeze_positions=frozen)))
    positions = module.student.get_parameter("distilbert.embeddings.position_embeddings.weight")
    assert positions.requires_grad is not frozen


def test_a_student_that_does_not_fit_is_refused(teacher: str) -> None:
    with pytest.raises(ValueError, match="the student has 4 layers, its teacher only 3"):
        distillation.create(task("distillation", teacher, model={**TINY["distilbert"], "n_layers": 4}))
    with pytest.raises(ValueError, match=r"of the student is \[260, 16\], its teacher has \[260, 32\]"):
        distillation.create(task("distillation", teacher, model={**TINY["distilbert"], "dim": 16}))
    with pytest.raises(ValueError, match="a roberta student has no bert teacher"):
        distillation.create(task("distillation", teacher, model=TINY["roberta"]))


@pytest.mark.parametrize(
    ("first", "message"),
    [
        ({"tokenizer": "bytes", "objective": "causal", "model": TINY["gpt2"]}, "must be the tokenizer of its teacher"),
        ({"objective": "electra", "model": TINY["electra"]}, "predicts no masked tokens; take a run of mlm"),
    ],
)
def test_a_teacher_that_cannot_teach_is_refused(first: dict, message: str) -> None:
    teacher = {**section("mlm", name="teacher"), **first}
    with pytest.raises(ValueError, match=message):
        recipe(pretrain=[teacher, section("distillation")])


def test_a_teacher_comes_before_its_student() -> None:
    with pytest.raises(ValueError, match="the teacher 'teacher' must be listed before its student"):
        recipe(pretrain=[section("distillation"), section("mlm", name="teacher")])


def test_rare_tokens_are_masked_more_often(documents, teacher: str) -> None:
    """By their count in the packed tokens to the power of -0.7, as XLM and DistilBERT; 0 leaves all alike."""
    found, packed = task("distillation", teacher), documents["masked"]
    counts = np.bincount(packed.tokens(0, len(packed)), minlength=packed.vocab_size)
    smoothed = distillation.informed(found, packed, "")
    assert smoothed.odds is not None
    np.testing.assert_allclose(smoothed.odds[counts > 0], counts[counts > 0] ** -0.7)
    windows = distillation.OBJECTIVE.order(found, packed, 3, True).read(np.arange(200))
    chosen = [distillation.examples(of, windows).arrays["labels"] for of in (smoothed, found)]
    rare, uniform = (1 / counts[labels[labels != IGNORE]] for labels in chosen)
    assert rare.mean() > 1.5 * uniform.mean()
    equal = task("distillation", teacher, **options(rare_word_power=0))
    assert distillation.informed(equal, packed, "").odds is None
