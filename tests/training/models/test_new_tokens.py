from typing import Any

import pytest
import torch
from transformers import BertConfig, BertForMaskedLM, GPT2Config, GPT2LMHeadModel

from training.models.new_tokens import extend_embeddings, load

SMALL: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}


def gpt2(tied=True) -> Any:
    torch.manual_seed(0)
    return GPT2LMHeadModel(GPT2Config(vocab_size=64, n_embd=16, n_layer=2, n_head=2, tie_word_embeddings=tied))


def bert() -> Any:
    torch.manual_seed(0)
    model = BertForMaskedLM(BertConfig(vocab_size=64, **SMALL))
    torch.nn.init.normal_(model.cls.predictions.bias)
    return model


@pytest.mark.parametrize("make", [gpt2, lambda: gpt2(tied=False), bert], ids=["tied", "untied", "bias"])
@pytest.mark.parametrize("first", [60, 64])
def test_new_rows_are_the_means_of_the_pieces_and_old_ones_stay(make, first):
    old, pieces = make(), [[3, 5], [7, 8, 9]] * 40
    new: Any = extend_embeddings(make(), first, pieces)
    assert new.config.vocab_size == new.get_input_embeddings().weight.shape[0] == first + 80
    pairs = [(old.get_input_embeddings().weight, new.get_input_embeddings().weight)]
    pairs.append((old.get_output_embeddings().weight, new.get_output_embeddings().weight))
    if isinstance(old, BertForMaskedLM):
        pairs.append((old.get_output_embeddings().bias, new.get_output_embeddings().bias))
    for before, after in pairs:
        torch.testing.assert_close(after[:first], before[:first])
        for index, ids in enumerate(pieces):
            torch.testing.assert_close(after[first + index], before[ids].mean(0))
    is_tied = new.get_input_embeddings().weight is new.get_output_embeddings().weight
    assert is_tied == bool(new.config.tie_word_embeddings)


def test_a_model_starts_at_a_lower_loss_than_with_drawn_embeddings(tmp_path):
    """On text whose words, each always before the same other, the model has learned in pieces, and now reads whole."""
    model = gpt2()
    optimiser = torch.optim.AdamW(model.parameters(), 1e-2)
    pieces = [[10 + 2 * word, 11 + 2 * word] for word in range(20)]
    words = (torch.arange(64)[:, None] + torch.arange(12)) % 20
    old = torch.tensor(pieces)[words].flatten(1)
    for _ in range(100):
        loss = model(old, labels=old).loss
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
    model.save_pretrained(tmp_path)
    new = words + 64
    kept = extend_embeddings(GPT2LMHeadModel.from_pretrained(tmp_path), 64, pieces).eval()
    drawn = GPT2LMHeadModel.from_pretrained(tmp_path).eval()
    torch.manual_seed(0)
    drawn.resize_token_embeddings(128, mean_resizing=False)
    with torch.no_grad():
        assert kept(new, labels=new).loss < drawn(new, labels=new).loss


def test_a_model_of_another_tokenizer_is_refused():
    with pytest.raises(ValueError, match="they do not match"):
        extend_embeddings(gpt2(), 65, [[1, 2]])


def test_a_folder_without_a_model_is_refused_without_asking_the_network(tmp_path):
    with pytest.raises(ValueError, match="no model there; give a folder with config"):
        load(tmp_path / "gone")
