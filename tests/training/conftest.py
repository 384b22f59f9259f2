"""A small build for the training tests: packed bytes of made-up sentences, with a tokenizer to match."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE

from pipeline.build.build import Build
from pipeline.store import files, packed_tokens
from training.batches.vocabulary import Vocabulary
from training.pretraining.pretrain import pretrain
from training.recipe.sections import BuildRecipe

NAMES = ("cat", "dog", "bird", "fish")
VERBS = ("sees", "likes", "hears", "follows")
SPECIAL = {"cls": 256, "sep": 257, "mask": 258, "pad": 259}
END = {"eos": 256}


@pytest.fixture(autouse=True)
def _one_thread():
    """The same sums whatever machine the tests run on, and no fight over its cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def sentences(count: int, seed: int = 0) -> list[str]:
    """``count`` documents of a few sentences each, from a small grammar."""
    draw = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        lines = [
            f"the {NAMES[draw.integers(4)]} {VERBS[draw.integers(4)]} the {NAMES[draw.integers(4)]}."
            for _ in range(draw.integers(1, 6))
        ]
        made.append(" ".join(lines))
    return made


def pack(
    folder: str,
    texts: list[str],
    special: dict[str, int],
    vocab_size: int = 260,
    repeats: int = 1,
    tokenizer: str = "test",
) -> packed_tokens.PackedTokens:
    """Packed bytes of ``texts`` in two shards, closed by the eos token where there is one.

    ``tokenizer`` is the digest of the one that they are said to be packed with.
    """
    half = len(texts) // 2
    for index, part in enumerate((texts[:half], texts[half:])):
        end = [special["eos"]] if "eos" in special else []
        ids = [[*text.encode(), *end] for text in part]
        lengths = np.array([len(row) for row in ids])
        table = pa.table(
            {
                "start": np.cumsum(lengths) - lengths,
                "length": lengths.astype(np.int32),
                "id": [f"{Path(folder).name}:{index}:{row}" for row in range(len(part))],
                "domain": ["tales"] * len(part),
                "bytes": np.array([len(text.encode()) for text in part]),
                "repeats": np.full(len(part), repeats, np.int32),
                "sentences": [[0, *(match.end() for match in re.finditer(rb"\. ", text.encode()))] for text in part],
            },
            schema=packed_tokens.DOCUMENTS_SCHEMA,
        )
        tokens = np.array([token for row in ids for token in row], packed_tokens.token_dtype(vocab_size))
        packed_tokens.write_shard(folder, index, tokens, table, f"shard-{index}")
    packed_tokens.write_manifest(folder, [0, 1], vocab_size, special, tokenizer)
    return packed_tokens.PackedTokens(folder)


def write_tokenizer(folder: str, special: dict[str, int]) -> None:
    """A byte tokenizer.json whose ids are the bytes' values, so that it fits ``pack``."""
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    symbols = bytes_to_unicode()
    names = {f"[{role.upper()}]": id_ for role, id_ in special.items()}
    tokenizer = Tokenizer(BPE({symbol: byte for byte, symbol in symbols.items()}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(sorted(names, key=lambda name: names[name]))
    Path(folder).mkdir(parents=True, exist_ok=True)
    tokenizer.save(f"{folder}/tokenizer.json")
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        **{f"{role}_token": f"[{role.upper()}]" for role in special},
    }
    files.write_json(f"{folder}/tokenizer_config.json", config)


@pytest.fixture(scope="session")
def packed_build(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A build's folder with tokens of two tokenizers: ``bytes`` (an end token), ``masked`` ([CLS], [SEP], [MASK])."""
    root = str(tmp_path_factory.mktemp("build"))
    for name, special in (("bytes", END), ("masked", SPECIAL)):
        size = 256 + len(special)
        write_tokenizer(f"{root}/tokenizers/{name}", special)
        digest = files.file_digest(f"{root}/tokenizers/{name}/tokenizer.json")
        pack(f"{root}/tokens/{name}/train", sentences(120), special, size, tokenizer=digest)
        pack(f"{root}/tokens/{name}/heldout", sentences(12, seed=1), special, size, tokenizer=digest)
    pretrain(make_build(root, TEACHER), "teacher")
    return root


def recipe(**sections) -> BuildRecipe:
    return BuildRecipe.model_validate(
        {
            "name": "test",
            "sources": [{"kind": "text", "name": "none", "path": "none/*.txt", "domain": "tales"}],
            "tokenizers": [
                {"name": "bytes", "algorithm": "bpe", "vocab_size": 260},
                {"name": "masked", "algorithm": "wordpiece", "vocab_size": 260},
            ],
            **sections,
        }
    )


TINY = {
    "gpt2": {"type": "gpt2", "n_layer": 2, "n_embd": 32, "n_head": 2},
    "llama": {
        "type": "llama",
        "num_hidden_layers": 2,
        "hidden_size": 32,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "intermediate_size": 64,
    },
    "bert": {
        "type": "bert",
        "num_hidden_layers": 2,
        "hidden_size": 32,
        "num_attention_heads": 2,
        "intermediate_size": 64,
    },
    "distilbert": {"type": "distilbert", "n_layers": 2, "dim": 32, "n_heads": 2, "hidden_dim": 64},
    "t5": {"type": "t5", "num_layers": 2, "d_model": 32, "num_heads": 2, "d_ff": 64, "d_kv": 16},
    "bart": {
        "type": "bart",
        "d_model": 32,
        "encoder_layers": 2,
        "decoder_layers": 2,
        "encoder_attention_heads": 2,
        "decoder_attention_heads": 2,
        "encoder_ffn_dim": 64,
        "decoder_ffn_dim": 64,
    },
}
TINY["qwen3"] = {**TINY["llama"], "type": "qwen3", "num_key_value_heads": 1, "head_dim": 16}
TINY["modernbert"] = {
    **TINY["bert"], "type": "modernbert", "num_hidden_layers": 3, "local_attention": 16, "global_attn_every_n_layers": 3
}  # fmt: skip
TINY["roberta"] = {**TINY["bert"], "type": "roberta"}
TINY["albert"] = {**TINY["bert"], "type": "albert", "embedding_size": 16, "num_hidden_groups": 1}
TINY["electra"] = {**TINY["bert"], "type": "electra", "embedding_size": 16}


#: The architecture that the tests train by each objective.
TRAINED = {
    "causal": "gpt2",
    "mlm": "bert",
    "mlm_nsp": "bert",
    "mlm_sop": "albert",
    "distillation": "distilbert",
    "electra": "electra",
    "span_corruption": "t5",
    "denoising": "bart",
}


def pretrain_section(objective: str = "causal", **fields) -> dict:
    """A short run; `distillation` learns from the run `teacher`, which `packed_build` has already trained."""
    own = {"distillation": {"distillation": {"teacher": "teacher"}}}.get(objective, {})
    return {
        "name": objective,
        "objective": objective,
        "tokenizer": "bytes" if objective == "causal" else "masked",
        "model": TINY[TRAINED[objective]],
        **own,
        "sequence_length": 32,
        "batch_size": 8,
        "steps": 12,
        "checkpoint_every": 4,
        "log_every": 2,
        "precision": "fp32",
        "optimiser": {"learning_rate": 3e-3},
        **fields,
    }


TEACHER = pretrain_section("mlm", name="teacher", steps=60, model={**TINY["bert"], "num_hidden_layers": 3})


def make_build(root: str, *sections: dict, **more) -> Build[BuildRecipe]:
    taught = any(section["objective"] == "distillation" for section in sections)
    return Build(root, recipe(pretrain=[*([TEACHER] if taught else []), *sections], **more))


def vocabulary(special: dict[str, int], size: int = 260) -> Vocabulary:
    return Vocabulary(size, **special)
