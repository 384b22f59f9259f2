"""Published parameter counts, from the published configurations, on the meta device."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import (
    AlbertModel,
    AutoModelForCausalLM,
    BartModel,
    BertForMaskedLM,
    BertForPreTraining,
    BertModel,
    DistilBertModel,
    ElectraModel,
    GPT2LMHeadModel,
    ModernBertForMaskedLM,
    PreTrainedModel,
    Qwen3ForCausalLM,
    RobertaModel,
    T5ForConditionalGeneration,
)
from transformers.activations import ACT2FN

from tests.training.conftest import SPECIAL, TINY, vocabulary
from training.batches.vocabulary import Vocabulary
from training.models import architectures, attention
from training.recipe.model_shapes import PRESETS, shape_of

PUBLISHED = [
    (GPT2LMHeadModel, "gpt2", 50257, 1024, 124_439_808),
    (BertModel, "bert-base", 30522, 512, 109_482_240),
    (BertForMaskedLM, "bert-base", 30522, 512, 109_514_298),
    (BertForPreTraining, "bert-base", 30522, 512, 110_106_428),
    (BertModel, "bert-large", 30522, 512, 335_141_888),
    (RobertaModel, "roberta-base", 50265, 514, 124_645_632),
    (AlbertModel, "albert-base", 30000, 512, 11_683_584),
    (DistilBertModel, "distilbert", 30522, 512, 66_362_880),
    (ElectraModel, "electra-small", 30522, 512, 13_483_008),
    (T5ForConditionalGeneration, "t5-small", 32128, 512, 60_506_624),
    (T5ForConditionalGeneration, "t5-base", 32128, 512, 222_903_552),
    (BartModel, "bart-base", 50265, 1024, 139_420_416),
    (Qwen3ForCausalLM, "qwen3-0.6b", 151936, 40960, 596_049_920),
    (ModernBertForMaskedLM, "modernbert-base", 50368, 8192, 149_655_232),
    (ModernBertForMaskedLM, "modernbert-large", 50368, 8192, 395_881_664),
]


@pytest.mark.parametrize(("kind", "preset", "size", "positions", "parameters"), PUBLISHED)
def test_published_parameter_counts(
    kind: type[PreTrainedModel], preset: str, size: int, positions: int, parameters: int
) -> None:
    known = Vocabulary(size, bos=0, eos=1, pad=1)
    fields = {"vocab_size": size, "max_position_embeddings": positions}
    if preset.startswith("roberta"):
        fields["type_vocab_size"] = 1
    config = architectures.configuration(PRESETS[preset], known, positions, **fields)
    with torch.device("meta"):
        assert architectures.count(kind(config)).total == parameters


def test_conventions_differ_by_the_tables_and_the_head() -> None:
    config = architectures.configuration(PRESETS["gpt2"], Vocabulary(50257), 1024, vocab_size=50257)
    with torch.device("meta"):
        found = architectures.count(AutoModelForCausalLM.from_config(config))
    tables = (50257 + 1024) * 768
    assert found.non_embedding == found.total - tables
    assert found.matrices_and_head == 12 * 12 * 768 * 768 + 50257 * 768


def test_an_untied_head_is_no_embedding() -> None:
    config = architectures.configuration(TINY["llama"], vocabulary({"eos": 256}), 64)
    model = architectures.create("causal", config, seed=0)
    found = architectures.count(model)
    assert found.total - found.non_embedding == 320 * 32
    assert found.matrices_and_head == sum(p.numel() for n, p in model.named_parameters() if p.dim() == 2) - 320 * 32


def test_the_vocabulary_is_padded_to_a_multiple_of_64() -> None:
    assert [Vocabulary(size).padded for size in (1, 64, 65, 50257)] == [64, 64, 128, 50304]


def test_the_same_seed_gives_the_same_weights_and_another_gives_others() -> None:
    config = architectures.configuration(TINY["bert"], vocabulary(SPECIAL), 32)
    first, again, other = (dict(architectures.create("masked", config, seed).named_parameters()) for seed in (1, 1, 2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_shared_layers_count_each_time_they_run() -> None:
    shape = {
        "type": "albert",
        "hidden_size": 32,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "embedding_size": 16,
    }
    known = vocabulary(SPECIAL)
    flops = [
        architectures.flops_per_token(
            architectures.create(
                "masked", architectures.configuration({**shape, "num_hidden_layers": n}, known, 32), 0
            ),
            32,
        )
        for n in (1, 2, 3)
    ]
    assert flops[1] - flops[0] == flops[2] - flops[1]
    assert flops[1] - flops[0] >= 6 * (4 * 32 * 32 + 2 * 32 * 64)


@pytest.mark.parametrize(("kind", "type_"), [("masked", "modernbert"), ("causal", "qwen3")])
def test_documents_of_a_pack_have_the_states_that_each_has_alone(kind: str, type_: str) -> None:
    """Alone, the model is called as by users, so its local layers see as far in both, and positions begin at 0."""
    config = architectures.configuration(TINY[type_], vocabulary(SPECIAL), 96)
    model = architectures.create(kind, config, 0).eval().double()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.mul_(4)  # so that attention is far from uniform
    tokens = torch.randint(0, 256, (1, 96), generator=torch.Generator().manual_seed(0))
    lengths = [5, 60, 31]
    segments = torch.repeat_interleave(torch.arange(3), torch.tensor(lengths))[None]
    places = torch.cat([torch.arange(length) for length in lengths])[None]
    with torch.no_grad():
        packed = architectures.hidden_states(model, tokens, segments, places, kind == "causal")
        one = architectures.hidden_states(model, tokens, torch.zeros_like(segments), places, kind == "causal")
        for part in range(3):
            inside = segments[0] == part
            model.set_attn_implementation("sdpa")
            alone = model.base_model(tokens[:, inside]).last_hidden_state
            model.set_attn_implementation(attention.NAME)
            torch.testing.assert_close(packed[:, inside], alone, rtol=0, atol=1e-6)
    assert (packed - one).abs().max() > 0.01


def test_a_local_layer_counts_the_tokens_that_it_sees() -> None:
    flops = {}
    for local in (8, 16, 10_000):
        config = architectures.configuration({**TINY["modernbert"], "local_attention": local}, vocabulary(SPECIAL), 96)
        flops[local] = architectures.flops_per_token(architectures.create("masked", config, 0), 96)
    layers = TINY["modernbert"]["num_hidden_layers"] - 1  # the first sees all
    assert flops[16] - flops[8] == layers * 12 * 32 * 8
    assert flops[10_000] - flops[8] == layers * 12 * 32 * (96 - 9)


@pytest.mark.parametrize(("kind", "type_", "causal"), [("masked", "modernbert", False), ("causal", "qwen3", True)])
def test_attention_within_pieces_counts_the_pairs_that_see_each_other(kind: str, type_: str, causal: bool) -> None:
    config = architectures.configuration(TINY[type_], vocabulary(SPECIAL), 96)
    model = architectures.create(kind, config, 0)
    lengths = np.array([1, 5, 17, 41, 32])
    segments = torch.repeat_interleave(torch.arange(5), torch.from_numpy(lengths))[None]
    pairs = 0.0
    for layer in config.layer_types:
        reach = 8 if layer == "sliding_attention" else None
        seen = attention.mask(segments, causal, False, reach)
        assert isinstance(seen, torch.Tensor)
        pairs += float(seen.sum())
    width = config.num_attention_heads * config.head_dim if causal else 32
    nothing = architectures.flops_per_token(model, 96, pieces=np.array([1]))  # a token that sees itself
    found = architectures.flops_per_token(model, 96, 1.0, lengths, causal)
    assert found - nothing == pytest.approx(12 * width * (pairs / 96 - len(config.layer_types)))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("gpt3", "unknown preset 'gpt3'; known: gpt2,"),
        ({"n_layer": 2}, "needs a `preset` or a `type` of"),
        ({"preset": "gpt2", "hidden_size": 3}, "gpt2 has no field 'hidden_size' to set here; known: attn_pdrop"),
        ({"preset": "gpt2", "vocab_size": 3}, "has no field 'vocab_size'"),
        ({"preset": "qwen3-demo", "head_dim": 63}, r"head_dim \(63\) must be even"),
    ],
)
def test_a_wrong_shape_is_refused_with_what_is_known(model: str | dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        shape_of(model)


@pytest.mark.parametrize(
    ("kind", "type_", "field"), [("causal", "gpt2", "activation_function"), ("masked", "albert", "hidden_act")]
)
def test_the_fused_activation_is_the_published_one(kind: str, type_: str, field: str) -> None:
    config = architectures.configuration(TINY[type_], vocabulary(SPECIAL), 32)
    assert getattr(config, field) != "gelu_new"
    fused = architectures.create(kind, config, 1).eval()
    published = architectures.create(kind, architectures.configuration(TINY[type_], vocabulary(SPECIAL), 32), 1).eval()
    replaced = [
        (parent, name)
        for parent in published.modules()
        for name, child in parent.named_children()
        if type(child).__name__ == "GELUTanh"
    ]
    assert replaced
    for parent, name in replaced:
        setattr(parent, name, ACT2FN["gelu_new"])
    tokens = torch.arange(5, 29)[None]
    with torch.no_grad():
        torch.testing.assert_close(fused(tokens).logits, published(tokens).logits, atol=1e-5, rtol=1e-5)
