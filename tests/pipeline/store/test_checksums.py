from __future__ import annotations

import errno
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from pipeline import MillError
from pipeline.build import linked_copy
from pipeline.build.build import Build
from pipeline.build.lock import locked
from pipeline.curation import forget_list
from pipeline.questions.verify import verify
from pipeline.stages.perplexity import scoring, train_model
from pipeline.store import checksums, files, shards
from pipeline.store.files import DamagedFile, LostFile
from pipeline.store.packed_tokens import PackedTokens
from pipeline.tokenization import pack
from pipeline.tokenization import steps as tokenization
from pipeline.tokenization.config import PackConfig, TokenizerConfig
from tests.helpers import small_build


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
    paths = [path for path in Path(build.root).rglob("*") if path.is_file() and path.parent.name != ".checksums"]
    summed = [path for path in paths if path.name != "README.md"]  # which people edit
    assert (found.files, found.bytes, found.faults) == (len(summed), sum(p.stat().st_size for p in summed), [])
    assert found.unchecked == [Path(build.root, "tokenizers/bpe/README.md")]
    Path(build.root, "corpus/train/state.json").unlink()
    lost = f"{build.root}/corpus/train/state.json"
    assert verify(build.root).faults == [f"{lost}: not there. Run the command that made it again."]
    small_build.close(build)
    assert verify(build.root).faults == []


def test_files_of_earlier_versions_are_read_and_counted_as_not_checked(build: Build) -> None:
    for folder in list(Path(build.root).rglob(".checksums")):
        shutil.rmtree(folder)
    Path(build.root, "recipe.json").write_text("{}")
    for name, read in OUTPUTS:
        read(f"{build.root}/{name}")
    paths = {path for path in Path(build.root).rglob("*") if path.is_file()}
    found = verify(build.root)
    assert (found.files, found.faults, set(found.unchecked)) == (0, [], paths)
    with pytest.raises(MillError, match="no build here; give a recipe or the folder"):
        verify(f"{build.root}/tokens")


def test_a_lost_list_of_forgotten_documents_stops_the_build_until_it_is_back(build: Build, tmp_path: Path) -> None:
    assert forget_list.entries(build) == {}
    forget_list.write(build, {"web/page.jsonl#1": {"on": "2026-01-01", "duplicates": {}}})
    path = Path(build.root, "forgotten.json")
    path.rename(tmp_path / "copy")
    with locked(build.root), pytest.raises(LostFile, match=r"forgotten\.json: not there\. Put back a whole copy"):
        forget_list.entries(build)
    assert verify(build.root).faults == [f"{path}: not there. {forget_list.REMEDY}"]
    (tmp_path / "copy").rename(path)
    assert list(forget_list.entries(build)) == ["web/page.jsonl#1"]


def test_a_first_write_of_that_list_that_was_killed_has_lost_nothing(build: Build) -> None:
    path = Path(build.root, "forgotten.json")
    aside = path.with_name(".forgotten.json.0123abcd.partial")
    aside.write_text("{}")
    checksums.note(path, aside)
    with locked(build.root):
        assert forget_list.entries(build) == {}


def test_a_damaged_language_model_is_named_when_it_is_loaded(tmp_path: Path) -> None:
    path = str(tmp_path / "en.0.arpa")
    lines = pa.array(["the cat sees the dog", "the dog sees a bird"])
    train_model.train(lines, path, 2, [], "own")
    content = bytearray(Path(path).read_bytes())
    content[-20] ^= 1
    Path(path).write_bytes(content)
    with pytest.raises(DamagedFile, match=r"en\.0\.arpa: not as it was written.*Delete it"):
        scoring.perplexity(lines, path)


def test_an_emptied_checksum_is_no_proof(tmp_path: Path) -> None:
    files.write_json(str(tmp_path / "a.json"), 1)
    checksums.sidecar(tmp_path / "a.json").write_text("")
    with pytest.raises(DamagedFile):
        files.read_json(str(tmp_path / "a.json"))


def test_an_object_store_is_read_without_a_check() -> None:
    files.write_json("memory://checksums/a.json", 1)
    assert files.read_json("memory://checksums/a.json") == 1
    assert files.list_files("memory://checksums") == ["a.json"]
    with pytest.raises(LostFile, match=r"memory://checksums/b\.json: not there\. Run the build again"):
        files.read_json("memory://checksums/b.json")


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
    linked_copy.link_tree(Path(build.root, "corpus"), tmp_path / "links")
    linked = str(tmp_path / "links" / "manifest.json")
    files.read_json(linked)
    files.write_json(linked, {"of": "the copy"})
    assert files.read_json(linked) == {"of": "the copy"}
    assert verify(build.root).faults == []
    assert verify(str(tmp_path / "links")).faults == []
    damaged = Path(build.root, "corpus", "train", "dataset_info.json")
    damaged.write_bytes(damaged.read_bytes().replace(b"string", b"strinh", 1))
    with pytest.raises(DamagedFile):
        files.read_json(str(tmp_path / "links" / "train" / "dataset_info.json"))


def test_a_second_name_is_checked_against_what_was_written_under_the_first(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("first", "second", "third")]
    for path, content in zip(paths, (b"one", b"two", b"three"), strict=True):
        with files.replacing(str(path)) as handle:
            handle.write(content)
    assert not files.take_name(str(paths[0]), str(paths[1]), lambda _path: False)
    assert paths[1].read_bytes() == b"two"
    assert files.take_name(str(paths[0]), str(paths[1]), lambda path: Path(path).read_bytes() == b"one")
    files.check(str(paths[1]))
    assert paths[1].samefile(paths[0])
    paths[0].write_bytes(b"0ne")  # damaged, under both names
    assert files.take_name(str(paths[1]), str(paths[2]), lambda _path: True)
    with pytest.raises(DamagedFile, match="third"):
        files.check(str(paths[2]))
    assert not files.take_name(str(tmp_path / "none"), str(paths[2]), lambda _path: True)
    assert {path.name for path in tmp_path.iterdir()} == {"first", "second", "third", checksums.FOLDER}


def test_every_file_of_a_folder_has_a_checksum(tmp_path: Path) -> None:
    target = tmp_path / "model"
    with files.replacing_folder(str(target)) as aside:
        np.save(aside / "weights.npy", np.arange(10))
        (aside / "inner").mkdir()
        (aside / "inner" / "config.json").write_text("{}")
        (aside / "README.md").write_text("written")
    (target / "README.md").write_text("edited")
    files.check_folder(str(target))
    content = bytearray((target / "weights.npy").read_bytes())
    content[-1] ^= 4
    (target / "weights.npy").write_bytes(content)
    with pytest.raises(DamagedFile, match="Delete the model's folder"):
        files.check_folder(str(target))
    assert files.read_json(str(target / "inner" / "config.json")) == {}
    (target / "weights.npy").unlink()
    with pytest.raises(LostFile, match=r"weights\.npy: not there\. Delete the model's folder"):
        files.check_folder(str(target))


def test_a_disk_that_is_full_when_a_checksum_is_written_is_named_with_the_file(tmp_path, monkeypatch):
    def full(_handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=re.escape(str(tmp_path / "table.json"))):
        checksums.copy(tmp_path / "table.json", ["a line"])
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
