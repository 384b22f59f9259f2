"""What a build knows of its shards."""

from pipeline.build.build import Build
from pipeline.store import files
from tests.helpers.small_build import SmallRecipe, open_small


def write_manifest(build: Build, names: list[str]) -> None:
    files.write_json(build.path("documents", "manifest.json"), {"shards": names, "sources": {}})


def test_a_list_of_shards_that_was_written_anew_is_read_anew(tmp_path):
    build = open_small(tmp_path)
    write_manifest(build, ["a.arrow", "b.arrow"])
    assert (build.shards(), build.place("b.arrow")) == (["a.arrow", "b.arrow"], 1)
    write_manifest(build, ["b.arrow", "c.arrow"])
    assert (build.shards(), build.place("b.arrow")) == (["b.arrow", "c.arrow"], 0)


def test_a_list_of_shards_belongs_to_its_build(tmp_path):
    one, two = open_small(tmp_path / "one"), open_small(tmp_path / "two")
    write_manifest(one, ["a.arrow"])
    write_manifest(two, ["b.arrow", "a.arrow"])
    assert [build.place("a.arrow") for build in (one, two)] == [0, 1]
    one.shards().append("more")
    assert one.shards() == ["a.arrow"], "what is handed out is a copy"


def test_a_list_of_shards_in_an_object_store_is_read_anew_when_it_changes():
    build = Build("memory://test-build", SmallRecipe())  # type: ignore[arg-type]
    write_manifest(build, ["a.arrow"])
    assert build.shards() == ["a.arrow"]
    write_manifest(build, ["a.arrow", "b.arrow"])
    assert build.shards() == ["a.arrow", "b.arrow"]
