"""Faults in how text becomes tokens and tokens become batches: each is found before a model takes its first step."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from pipeline.build.build import Build
from pipeline.store import files, packed_tokens
from pipeline.store.packed_tokens import PackedTokens
from pipeline.tokenization import pack, token_canaries
from pipeline.tokenization import steps as tokenization
from pipeline.tokenization.encoding.encode import Encoded, Encoder
from pipeline.tokenization.steps import accounting, packing
from pipeline.tokenization.token_account import TokensLost
from tests.pipeline.tokenization.conftest import documents
from tests.pipeline.tokenization.conftest import make_build as make_corpus
from tests.training.conftest import pretrain_section, recipe
from training import objectives
from training.batches import best_fit, windows
from training.batches.windows import IGNORE, NOTHING
from training.models import attention
from training.objectives import masking
from training.pretraining import pretrain as pretraining

BYTES = {"eos": "<|endoftext|>", "bos": "<|begin|>"}
TOKENIZERS = [
    {"name": "bytes", "algorithm": "bpe", "vocab_size": 300, "special_tokens": BYTES},
    {"name": "other", "algorithm": "bpe", "vocab_size": 300, "special_tokens": BYTES, "pre_tokenizer": "gpt4"},
    {"name": "masked", "algorithm": "wordpiece", "vocab_size": 200},
]
RUNS = ("causal", "mlm", "span_corruption", "denoising")
Patch = pytest.MonkeyPatch


def run(build: Build, chosen: Callable[[str], bool] = lambda _name: True) -> None:
    for step in tokenization.steps():
        for item in step.items(build) if chosen(step.name) else []:
            step.work(build, item)


def opened(root: str) -> Build:
    sections = [pretrain_section(name, steps=1) for name in RUNS]
    for section in sections:
        section["tokenizer"] = "bytes" if section["objective"] == "causal" else "masked"
        if section["objective"] == "span_corruption":
            section["packing"] = "best_fit"
    sections.append({**sections[0], "name": "packed", "packing": "best_fit"})
    return Build(root, recipe(tokenizers=TOKENIZERS, pack={"heldout": 0.1}, pretrain=sections))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A build of 60 documents, packed by three tokenizers."""
    root = tmp_path_factory.mktemp("made")
    build = opened(str(make_corpus(root, None, shard_count=2, rows=documents(60)).root))  # type: ignore[arg-type]
    run(build)
    return str(root)


@pytest.fixture
def build(made: str, tmp_path: Path) -> Build:
    shutil.copytree(made, tmp_path / "build")
    return opened(str(tmp_path / "build"))


def packed_again(build: Build) -> None:
    for folder in ("tokens", "work/tokens.shards"):
        shutil.rmtree(Path(build.root, folder))
    run(build, lambda name: name.startswith(("pack", "tokens")))


def start(build: Build, name: str) -> None:
    """Train, as far as the first step."""

    def stop(step: int, _steps: int, _metrics: Any) -> None:
        raise AssertionError(f"step {step} was taken")

    pretraining.pretrain(build, name, stop)


@pytest.mark.parametrize("name", [*RUNS, "packed"])
def test_without_a_fault_every_run_starts(build: Build, name: str) -> None:
    with pytest.raises(AssertionError, match="step 1 was taken"):
        start(build, name)


# Faults of encoding and packing


def encoded(change: Callable[[list[list[int]]], list[list[int]]]) -> Callable[[Patch], None]:
    """The encoder gives the documents of each block as ``change`` leaves them."""

    def patch(monkeypatch: Patch) -> None:
        right = Encoder.encode

        def wrong(self: Encoder, *arguments: Any) -> Any:
            for block in right(self, *arguments):
                ends = np.cumsum(block.lengths)
                parts = change([part.tolist() for part in np.split(block.tokens, ends[:-1])])
                lengths = np.array([len(part) for part in parts])
                tokens = np.array([token for part in parts for token in part], self.dtype)
                yield Encoded(tokens, lengths, block.sentences, block.counts)

        monkeypatch.setattr(Encoder, "encode", wrong)

    return patch


def corpus(change: Callable[[pa.Table], pa.Table]) -> Callable[[Patch], None]:
    """What is packed is the corpus as ``change`` leaves it."""

    def patch(monkeypatch: Patch) -> None:
        right = pack.pack_shard
        monkeypatch.setattr(
            pack, "pack_shard", lambda folder, at, table, *more: right(folder, at, change(table), *more)
        )

    return patch


def column(name: str, change: Callable[[pa.Array], Any]) -> Callable[[Patch], None]:
    return corpus(
        lambda t: t.set_column(t.column_names.index(name), name, pa.chunked_array([change(t[name].combine_chunks())]))
    )


def shifted(parts: list[list[int]]) -> list[list[int]]:
    """The bound between the first two documents lies one token further on."""
    return [[*parts[0], parts[1][0]], parts[1][1:], *parts[2:]] if len(parts) > 1 else parts


def by_another(monkeypatch: Patch) -> None:
    for step in (packing, accounting):
        right = step.trained_encoder
        monkeypatch.setattr(
            step,
            "trained_encoder",
            lambda build, name, right=right: right(build, "other" if name == "bytes" else name),
        )


def sentences_moved(monkeypatch: Patch) -> None:
    """Every sentence but a document's first starts one token late."""
    right = Encoder.encode

    def wrong(self: Encoder, *arguments: Any) -> Any:
        for block in right(self, *arguments):
            yield block._replace(sentences=block.sentences + (block.sentences > 0).astype(np.uint32))

    monkeypatch.setattr(Encoder, "encode", wrong)


PACKING: dict[str, Callable[[Patch], None]] = {
    "no EOS": encoded(lambda parts: [part[:-1] for part in parts]),
    "double EOS": encoded(lambda parts: [[*part, part[-1]] for part in parts]),
    "EOS in the middle": encoded(
        lambda parts: [[*part[: len(part) // 2], part[-1], *part[len(part) // 2 :]] for part in parts]
    ),
    "wrong special id": encoded(lambda parts: [[*part[:-1], 7] for part in parts]),
    "last token of the text lost": encoded(lambda parts: [[*part[:-2], part[-1]] for part in parts]),
    "two tokens of one document swapped": encoded(
        lambda parts: [
            *parts[:-2],
            *([*part[:3], part[4], part[3], *part[5:]] if at == 0 else part for at, part in enumerate(parts[-2:])),
        ]
    ),
    "a token changed": encoded(lambda parts: [[part[0] + (1 < part[0] < 200), *part[1:]] for part in parts]),
    "document bound off by one": encoded(shifted),
    "lost last document": corpus(lambda table: table.slice(0, len(table) - 1)),
    "duplicated document": corpus(lambda table: pa.concat_tables([table, table.slice(0, 1)])),
    "swapped documents": corpus(lambda table: table.take(pa.array(range(len(table)))[::-1])),
    "swapped domains": column("domain", lambda names: names[::-1]),
    "repeats ignored in packing": column("repeats", lambda numbers: pc.multiply(pc.divide(numbers, numbers), 1)),
    "wrong tokenizer": by_another,
    "sentences one token off": sentences_moved,
}


@pytest.mark.parametrize("fault", PACKING)
def test_a_fault_of_packing_fails_the_build(build: Build, monkeypatch: Patch, fault: str) -> None:
    PACKING[fault](monkeypatch)
    with pytest.raises((TokensLost, packed_tokens.DamagedTokens), match="run the build again"):
        packed_again(build)


# Faults on disk, and of what is read from it


def truncated(root: str) -> None:
    path = next(path for path in Path(root, "tokens/bytes/train").glob("tokens-*.bin") if path.stat().st_size)
    path.write_bytes(path.read_bytes()[:-2])


def another_tokenizer(root: str) -> None:
    shutil.rmtree(f"{root}/tokenizers/bytes")
    shutil.copytree(f"{root}/tokenizers/other", f"{root}/tokenizers/bytes")


def restated(change: Callable[[dict[str, Any]], None]) -> Callable[[str], None]:
    """A manifest that states something else, and is consistent in itself."""

    def damage(root: str) -> None:
        path = f"{root}/tokens/bytes/train/manifest.json"
        manifest = {name: value for name, value in files.read_json(path).items() if name != "fingerprint"}
        change(manifest)
        files.write_json(path, {**manifest, "fingerprint": files.fingerprint(manifest)})

    return damage


def without_a_shard(manifest: dict[str, Any]) -> None:
    del manifest["shards"][-1]


ON_DISK: dict[str, Callable[[str], None]] = {
    "truncated shard": truncated,
    "another tokenizer is published": another_tokenizer,
    "special ids of the manifest": restated(lambda manifest: manifest["special_ids"].update(eos=5)),
    "a shard left out": restated(without_a_shard),
}


@pytest.mark.parametrize("fault", ON_DISK)
def test_a_fault_on_disk_is_found_before_the_first_step(build: Build, fault: str) -> None:
    ON_DISK[fault](build.root)
    with pytest.raises((TokensLost, packed_tokens.DamagedTokens), match="run the build again"):
        start(build, "causal")


# Faults of the batches and of the model


def examples(change: Callable[[Any, Any, Any, dict[str, np.ndarray]], None]) -> Callable[[Patch], None]:
    """The objective's arrays as ``change(task, windows, batch, arrays)`` leaves them."""

    def patch(monkeypatch: Patch) -> None:
        right = objectives.of

        def wrong(config: Any) -> Any:
            objective = right(config)

            def made(task: Any, read: Any) -> Any:
                batch = objective.examples(task, read)
                arrays = {name: array.copy() for name, array in batch.arrays.items()}
                change(task, read, batch, arrays)
                return replace(batch, arrays=arrays)

            return replace(objective, examples=made)

        monkeypatch.setattr(objectives, "of", wrong)

    return patch


def put(name: str, value: Callable[[Any, Any, dict[str, np.ndarray]], np.ndarray]) -> Callable[[Patch], None]:
    def change(task: Any, read: Any, _batch: Any, arrays: dict[str, np.ndarray]) -> None:
        arrays[name] = value(task, read, arrays)

    return examples(change)


def dropped_window(monkeypatch: Patch) -> None:
    right = windows.Order.__init__

    def wrong(self: Any, *arguments: Any) -> None:
        right(self, *arguments)
        self.windows_per_epoch -= 1

    monkeypatch.setattr(windows.Order, "__init__", wrong)


def read_once(monkeypatch: Patch) -> None:
    right = best_fit.arrange
    from training.objectives import causal

    monkeypatch.setattr(
        causal, "arrange", lambda packed, layout, config, seed, _repeat: right(packed, layout, config, seed, False)
    )


def unframed(monkeypatch: Patch) -> None:
    right = masking.layout
    monkeypatch.setattr(masking, "layout", lambda *asked: replace(right(*asked), before=None))


def leaking(monkeypatch: Patch) -> None:
    def seen(segments: torch.Tensor, causal: bool, blocks: bool) -> torch.Tensor:
        assert not blocks
        every = torch.ones_like(segments[:, None, :, None] == segments[:, None, None, :])
        return every.tril() if causal else every

    monkeypatch.setattr(attention, "mask", seen)


def backwards(_task: Any, _read: Any, arrays: dict[str, np.ndarray]) -> np.ndarray:
    """Each document of the encoder's input in its frame, from its end to its beginning."""
    tokens = arrays["tokens"].copy()
    for row, marks in enumerate(arrays["segments"]):
        for segment in set(marks.tolist()) - {NOTHING}:
            places = np.flatnonzero(marks == segment)[1:-1]
            tokens[row, places] = tokens[row, places[::-1]]
    return tokens


def as_text(_task: Any, read: Any, arrays: dict[str, np.ndarray]) -> np.ndarray:
    return np.where(arrays["labels"] == IGNORE, read.tokens[:, 1:], arrays["labels"])


IN_BATCHES: dict[str, tuple[str, Callable[[Patch], None]]] = {
    "no BOS": ("causal", put("tokens", lambda _t, read, _a: read.tokens[:, :-1])),
    "labels not shifted": ("causal", put("labels", lambda _t, _r, arrays: arrays["tokens"])),
    "labels shifted twice": ("causal", put("labels", lambda _t, _r, arrays: np.roll(arrays["labels"], -1, axis=1))),
    "pad inside loss": ("packed", put("labels", as_text)),
    "documents share a segment": ("causal", put("segments", lambda _t, _r, arrays: np.minimum(arrays["segments"], 0))),
    "places go on": (
        "causal",
        put("positions", lambda _t, _r, arrays: np.arange(arrays["tokens"].shape[1]) + 0 * arrays["tokens"]),
    ),
    "mask leak between documents": ("causal", leaking),
    "mask leak of an encoder": ("mlm", leaking),
    "mask leak of an encoder and decoder": ("denoising", leaking),
    "last window dropped": ("causal", dropped_window),
    "repeats ignored in reading": ("causal", read_once),
    "no CLS": ("mlm", unframed),
    "picked one place off": (
        "mlm",
        put(
            "picked",
            lambda _t, _r, arrays: (
                np.where(arrays["labels"] == IGNORE, 0, arrays["picked"] + 1) % arrays["tokens"].shape[1]
            ),
        ),
    ),
    "inputs of spans one place off": (
        "span_corruption",
        put("tokens", lambda _t, _r, arrays: np.roll(arrays["tokens"], 1, axis=1)),
    ),
    "encoder reads its rows backwards": (
        "denoising",
        put("tokens", lambda _t, _r, arrays: arrays["tokens"][:, ::-1].copy()),
    ),
    "encoder reads its documents backwards": ("denoising", put("tokens", backwards)),
    "encoder reads another window": (
        "denoising",
        put("tokens", lambda _t, _r, rows: np.roll(rows["tokens"], 1, 0)),
    ),
    "decoder reads its labels": ("denoising", put("decoder_tokens", lambda _t, read, _a: read.tokens)),
}


@pytest.mark.parametrize("fault", IN_BATCHES)
def test_a_fault_of_the_batches_is_found_before_the_first_step(build: Build, monkeypatch: Patch, fault: str) -> None:
    name, patch = IN_BATCHES[fault]
    patch(monkeypatch)
    with pytest.raises(TokensLost):
        start(build, name)


# Faults of a plug-in's objective, which makes examples of its own


def of_plugin(change: Callable[[Any, dict[str, np.ndarray]], Any], monkeypatch: Patch) -> None:
    """Every objective is a plug-in's, whose batches are what ``change(batch, arrays)`` gives."""
    right = objectives.of

    def examples(objective: Any, task: Any, read: Any) -> Any:
        batch = objective.examples(task, read)
        return change(batch, {name: array.copy() for name, array in batch.arrays.items()})

    def wrong(config: Any) -> Any:
        objective = right(config)
        plugin: Any = SimpleNamespace(made_by="a file")
        own = partial(examples, objective)
        return replace(objective, examples=own, plugin=plugin, like=objective.name, name="own")

    monkeypatch.setattr(objectives, "of", wrong)


def changed(name: str, value: Callable[[np.ndarray], np.ndarray]) -> Callable[[Any, dict[str, np.ndarray]], Any]:
    return lambda batch, arrays: replace(batch, arrays={**arrays, name: value(arrays[name])})


OF_PLUGINS: dict[str, tuple[str, Callable[[Any, dict[str, np.ndarray]], Any]]] = {
    "tokens of other examples": ("causal", changed("tokens", lambda tokens: np.roll(tokens, 1, axis=0))),
    "pad inside loss": ("packed", changed("labels", lambda labels: np.where(labels == IGNORE, 0, labels))),
    "labels beyond the vocabulary": ("mlm", changed("labels", lambda labels: np.where(labels < 0, labels, 10**5))),
    "tokens that are not there are stated": ("mlm", lambda batch, _arrays: replace(batch, tokens=batch.tokens + 1)),
    "targets are not stated": ("causal", lambda batch, _arrays: replace(batch, counts={})),
}


@pytest.mark.parametrize("fault", OF_PLUGINS)
def test_a_fault_of_a_plug_ins_batches_is_found(build: Build, monkeypatch: Patch, fault: str) -> None:
    name, change = OF_PLUGINS[fault]
    of_plugin(change, monkeypatch)
    with pytest.raises(TokensLost):
        start(build, name)


@pytest.mark.parametrize("name", RUNS)
def test_without_a_fault_a_plug_ins_run_starts(build: Build, monkeypatch: Patch, name: str) -> None:
    of_plugin(lambda batch, _arrays: batch, monkeypatch)
    with pytest.raises(AssertionError, match="step 1 was taken"):
        start(build, name)


# Faults that a small vocabulary cannot have


def wide(folder: Path, size: int) -> str:
    """A tokenizer of ``size`` words."""
    vocabulary = {word: index for index, word in enumerate(["[UNK]", *(f"w{number}" for number in range(size - 1))])}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()  # type: ignore[assignment]
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()  # type: ignore[assignment]
    path = str(folder / f"{size}.json")
    tokenizer.save(path)
    return path


def canaries_of(folder: Path, path: str) -> None:
    token_canaries.write(str(folder), Encoder(pack.load(path)), {}, files.file_digest(path))
    token_canaries.check(PackedTokens(str(folder)), pack.load(path))


def test_ids_above_65535_that_are_stored_in_16_bits_are_found(tmp_path: Path, monkeypatch: Patch) -> None:
    path = wide(tmp_path, 70_000)
    canaries_of(tmp_path / "right", path)
    right = Encoder.__init__

    def narrow(self: Any, tokenizer: Tokenizer) -> None:
        right(self, tokenizer)
        self.dtype = np.dtype("<u2")

    monkeypatch.setattr(Encoder, "__init__", narrow)
    monkeypatch.setattr(packed_tokens, "token_dtype", lambda _size: np.dtype("<u2"))
    with pytest.raises(TokensLost, match="token canary"):
        canaries_of(tmp_path / "wrong", path)


def test_ids_that_are_read_as_signed_are_found(tmp_path: Path, monkeypatch: Patch) -> None:
    path = wide(tmp_path, 40_000)
    canaries_of(tmp_path / "right", path)
    right = PackedTokens._open_tokens
    monkeypatch.setattr(PackedTokens, "_open_tokens", lambda self, entry: right(self, entry).view("<i2"))
    with pytest.raises(TokensLost, match="token canary"):
        canaries_of(tmp_path / "wrong", path)


def test_the_faults_are_more_than_twenty() -> None:
    assert len(PACKING) + len(ON_DISK) + len(IN_BATCHES) + 2 >= 20
