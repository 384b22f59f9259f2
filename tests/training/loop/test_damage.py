"""Damage to models and checkpoints is named, with the remedy, before anything is made from it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from pipeline.questions.verify import verify
from pipeline.store import files
from pipeline.store.files import DamagedFile, LostFile
from tests.training.conftest import make_build, pretrain_section
from training.embeddings import embed
from training.models import new_tokens, publish
from training.pretraining.pretrain import pretrain, weights_hash

MODEL, CHECKPOINT = "models/causal", "work/pretrain/causal/step-00000004"
SECTION = pretrain_section(steps=4, checkpoint_every=4)


@pytest.fixture(scope="module")
def trained(packed_build: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    root = shutil.copytree(packed_build, tmp_path_factory.mktemp("trained") / "build")
    pretrain(make_build(str(root), SECTION), "causal")
    vectors = Path(root, "models/vectors")
    with files.replacing_folder(str(vectors)) as aside:
        save_file({"vectors": np.eye(3, dtype=np.float32)}, aside / "vectors.safetensors")
        (aside / "words.txt").write_text("a\nb\nc\n")
    return str(root)


@pytest.fixture
def root(trained: str, tmp_path: Path) -> str:
    return str(shutil.copytree(trained, tmp_path / "build"))


def again(root: str) -> None:
    """Publish the model once more, from the last checkpoint."""
    shutil.rmtree(f"{root}/{MODEL}")
    pretrain(make_build(root, SECTION), "causal")


def from_scratch(root: str) -> None:
    shutil.rmtree(f"{root}/work")
    again(root)


def load_model(root: str) -> None:
    new_tokens.load(Path(root, MODEL))


OUTPUTS: list[tuple[str, Callable[[str], object]]] = [
    (f"{MODEL}/model.safetensors", load_model),
    (f"{MODEL}/model.safetensors", lambda root: weights_hash(f"{root}/{MODEL}")),
    (f"{MODEL}/config.json", load_model),
    (f"{MODEL}/tokenizer.json", lambda root: publish.fingerprint("", f"{root}/{MODEL}")),
    (f"{MODEL}/summary.json", lambda root: pretrain(make_build(root, SECTION), "causal")),
    (f"{CHECKPOINT}/model.safetensors", again),
    (f"{CHECKPOINT}/optimiser.safetensors", again),
    (f"{CHECKPOINT}/state.json", again),
    ("tokens/bytes/train/tokens-00000.bin", from_scratch),
    ("tokens/bytes/train/documents-00000.arrow", from_scratch),
    ("tokens/bytes/train/manifest.json", from_scratch),
    ("tokens/bytes/heldout/tokens-00000.bin", from_scratch),
    ("models/vectors/vectors.safetensors", lambda root: embed.load_vectors(f"{root}/models/vectors")),
    ("models/vectors/words.txt", lambda root: embed.load_words(f"{root}/models/vectors")),
]


def test_the_whole_build_verifies_and_each_use_passes(root: str) -> None:
    assert verify(root).faults == []
    for use in dict.fromkeys(use for _, use in OUTPUTS if use is not again):
        use(root)


@pytest.mark.parametrize(("name", "use"), OUTPUTS)
def test_one_changed_bit_is_named_at_first_use_and_by_verify(root: str, name: str, use: Callable) -> None:
    path = Path(root, name)
    content = bytearray(path.read_bytes())
    content[len(content) * 2 // 3] ^= 1
    path.write_bytes(content)
    assert [fault.split(": ")[0] for fault in verify(root).faults] == [str(path)]
    with pytest.raises(DamagedFile, match=rf"{path.name}: not as it was written.*Delete .* again"):
        use(root)


@pytest.mark.parametrize("name", ["state.json", "model.safetensors", "optimiser.safetensors"])
def test_a_checkpoint_that_lost_a_file_is_named_with_the_remedy(root: str, name: str) -> None:
    Path(root, CHECKPOINT, name).unlink()
    with pytest.raises(LostFile, match=rf"step-00000004/{name}: not there\. Delete the folder of this checkpoint"):
        again(root)
    shutil.rmtree(f"{root}/{CHECKPOINT}")
    pretrain(make_build(root, SECTION), "causal")
    assert verify(root).faults == []


def test_a_summary_names_no_checksums_among_the_files_of_its_model(root: str) -> None:
    assert not [name for name in files.read_json(f"{root}/{MODEL}/summary.json")["files"] if ".checksums" in name]
