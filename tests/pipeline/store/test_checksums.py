from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from pipeline import whatif
from pipeline.build import Build
from pipeline.locking import locked
from pipeline.store import checksums, files, shards
from pipeline.store.files import DamagedFile
from pipeline.tokenization import pack
from pipeline.tokenization import steps as tokenization
from pipeline.tokenization.config import PackConfig, TokenizerConfig
from pipeline.tokenization.packed import PackedTokens
from pipeline.verify import verify
from tests.pipeline import small_build


class PackedRecipe(small_build.SmallRecipe):
    tokenizers: list[TokenizerConfig] = [TokenizerConfig(name="bpe", algorithm="bpe", vocab_size=300)]
    pack: PackConfig = PackConfig()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Build:
    build: Build = Build(str(tmp_path_factory.mktemp("made")), PackedRecipe())  # type: ignore[arg-type]
    texts = [f"The cat number {n} sees the dog number {n * 7} and runs away." for n in range(200)]
    documents = [small_build.document(n, text) for n, text in enumerate(texts)]
    bad = {"file": "page.jsonl", "record": 7, "reason": "not JSON"}
    small_build.write_documents(build, documents, 100, [bad])
    small_build.close(build)
    for step in tokenization.steps():
        for item in step.items(build):
            step.work(build, item)
    return build


@pytest.fixture
def build(made: Build, tmp_path: Path) -> Build:
    shutil.copytree(made.root, tmp_path / "build")
    return Build(str(tmp_path / "build"), made.recipe)


def read_tokens(path: str) -> None:
    tokens = PackedTokens(str(Path(path).parent))
    tokens.tokens(0, len(tokens))


OUTPUTS = [
    ("documents/web-00000-000.arrow", shards.read_table),
    ("quarantine/web-00000.arrow", shards.read_table),
    ("corpus/data-00001-of-00002.arrow", shards.read_table),
    ("corpus/manifest.json", files.read_json),
    ("funnel.json", files.read_json),
    ("tokenizers/bpe/tokenizer.json", pack.load),
    ("tokens/bpe/train/tokens-00000.bin", read_tokens),
    ("tokens/bpe/train/documents-00001.arrow", shards.read_table),
]


@pytest.mark.parametrize(("name", "read"), OUTPUTS)
def test_one_changed_bit_is_named_by_verify_and_refused_by_the_next_read(build: Build, name: str, read) -> None:
    path = Path(build.root, name)
    read(str(path))
    content = bytearray(path.read_bytes())
    content[len(content) * 2 // 3] ^= 1
    path.write_bytes(content)
    assert [fault.split(": ")[0] for fault in verify(build.root).faults] == [str(path)]
    with pytest.raises(DamagedFile, match=rf"{path.name}: not as it was written.*run the (same command|build) again"):
        read(str(path))


def test_a_whole_build_verifies_and_a_lost_file_is_named(build: Build) -> None:
    found = verify(build.root)
    visible = [path for path in Path(build.root).rglob("*") if path.is_file() and path.parent.name != ".checksums"]
    assert (found.files, found.bytes, found.faults) == (len(visible), sum(p.stat().st_size for p in visible), [])
    Path(build.root, "corpus/state.json").unlink()
    assert verify(build.root).faults == [f"{build.root}/corpus/state.json: not there. Run the same command again."]
    small_build.close(build)
    assert verify(build.root).faults == []


def test_a_file_of_another_program_is_not_checked(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("1")
    assert files.read_json(str(path)) == 1
    path.write_text("2")
    assert files.read_json(str(path)) == 2


def test_however_often_a_write_is_killed_before_its_rename_the_old_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    files.write_json(str(path), "first")
    for text in ("second", "third"):
        (tmp_path / "aside").write_text(text)
        checksums.note(path, tmp_path / "aside")
        assert files.read_json(str(path)) == "first"
    files.write_json(str(path), "last")
    assert files.read_json(str(path)) == "last"


def test_a_removed_file_and_a_write_killed_at_first_leave_nothing_to_miss(tmp_path: Path) -> None:
    files.write_json(str(tmp_path / "a.json"), 1)
    files.write_json(str(tmp_path / "b.json"), 1)
    files.remove(str(tmp_path / "a.json"))
    checksums.note(tmp_path / "c.json", tmp_path / "b.json")
    with locked(str(tmp_path)):
        assert list(checksums.noted(tmp_path)) == [tmp_path / "b.json"]


def test_a_copy_by_links_is_checked_where_the_links_lead(build: Build, tmp_path: Path) -> None:
    whatif.link_tree(Path(build.root, "corpus"), tmp_path / "links")
    linked = str(tmp_path / "links" / "manifest.json")
    files.read_json(linked)
    files.write_json(linked, {"of": "the copy"})
    assert files.read_json(linked) == {"of": "the copy"}
    assert verify(build.root).faults == []
    assert verify(str(tmp_path / "links")).faults == []
    damaged = Path(build.root, "corpus", "dataset_info.json")
    damaged.write_bytes(damaged.read_bytes().replace(b"string", b"strinh", 1))
    with pytest.raises(DamagedFile):
        files.read_json(str(tmp_path / "links" / "dataset_info.json"))


def test_every_file_of_a_folder_has_a_checksum(tmp_path: Path) -> None:
    target = tmp_path / "model"
    with files.replacing_folder(str(target)) as aside:
        np.save(aside / "weights.npy", np.arange(10))
        (aside / "inner").mkdir()
        (aside / "inner" / "config.json").write_text("{}")
    files.check_folder(str(target))
    content = bytearray((target / "weights.npy").read_bytes())
    content[-1] ^= 4
    (target / "weights.npy").write_bytes(content)
    with pytest.raises(DamagedFile, match="Delete the model's folder"):
        files.check_folder(str(target))
    assert files.read_json(str(target / "inner" / "config.json")) == {}
