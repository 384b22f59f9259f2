"""Stages of one's own, from a file that the recipe names or from an installed package."""

from __future__ import annotations

import json
import pickle
import sys
from pathlib import Path

import pytest

from pipeline import MillError
from pipeline.build import plugins as loading
from pipeline.build.build import Build
from pipeline.curation import plugins as extending
from pipeline.curation import preflight
from pipeline.curation import recipe as recipes
from pipeline.curation.settings import with_settings
from pipeline.questions import whatif
from pipeline.report import canaries
from pipeline.stages import titles
from pipeline.store import files
from tests.helpers import building, plugins
from training.recipe.sections import BuildRecipe, finished_build

TEXTS = ["One quiet line of text.", "Buy! Now! And again!", "One quiet line of text.", "Well! Twice! Yes."]
QUIET = ["One quiet line of text."]
RECIPE = """name: mine
plugins: [my_stage.py]
sources: [{name: a, kind: jsonl, path: FOLDER/in.jsonl}]
canaries: false
urls: {}
shouting: {}
exact: {}
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "my_stage.py").write_text(plugins.STAGE)
    (tmp_path / "in.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    (tmp_path / "recipe.yaml").write_text(RECIPE.replace("FOLDER", str(tmp_path)))
    return tmp_path


def load(home: Path, **changes: str) -> BuildRecipe:
    """The recipe in ``home``, with texts of it replaced."""
    text = (home / "recipe.yaml").read_text()
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    return recipes.parse(text, BuildRecipe, "mine.yaml", home)


def refused(home: Path, text: str | None = None, **changes: str) -> str:
    """What is said of the recipe in ``home``, its plug-in changed to ``text``."""
    if text is not None:
        (home / "my_stage.py").write_text(text)
    with pytest.raises(recipes.WrongRecipe) as raised:
        load(home, **changes)
    return str(raised.value).replace(f"{home}/", "")


def texts(build: Build) -> list[str]:
    return sorted(text for text, *_ in building.curated(build).values())


def made(outcomes: dict) -> set[str]:
    return {step for step, items in outcomes.items() if not all(item.reused for item in items)}


def store(build: Build) -> None:
    files.write_json(build.path("recipe.json"), build.recipe.model_dump(mode="json"))


def test_a_stage_of_a_file_runs_in_its_place_with_its_title_and_its_rules(home):
    build, _ = building.make(recipes.load(home / "recipe.yaml", BuildRecipe), home / "build")
    assert texts(build) == QUIET
    funnel = files.read_json(build.path("funnel.json"))["stages"]
    assert [stage["stage"] for stage in funnel] == ["ingest", "urls", "shouting", "exact", "corpus"]
    assert funnel[2]["dropped"]["shouting.most"]["documents"] == 2
    assert titles.title("shouting") == "Shouted texts"
    assert titles.rule("shouting.most") == "most"
    assert BuildRecipe.model_fields.keys().isdisjoint({"shouting"})  # a recipe without the plug-in does not know it


def test_a_stage_follows_the_one_that_it_says_and_its_signals_are_there_for_rules(home):
    early = plugins.STAGE.replace("measure=measure", 'measure=measure, after="urls"')
    late = plugins.STAGE.replace("shout", "call").replace("Shout", "Call")
    (home / "my_stage.py").write_text(early)
    (home / "late.py").write_text(late.replace("measure=measure", 'measure=measure, after="shouting"'))
    recipe = load(home, **{"[my_stage.py]": "[my_stage.py, late.py]", "shouting: {}": "calling: {}\nshouting: {}"})
    names = [stage.name for stage in recipe.registered]
    assert names[:3] == ["urls", "shouting", "calling"]
    assert recipe.stages_before(None) == ("urls", "shouting", "calling", "exact")
    (home / "my_stage.py").write_text(plugins.STAGE)
    ruled = load(home, **{"shouting: {}": "shouting: {most: 9}\nrules: {loud: shouts > 2}"})
    assert ruled.stages_before(None) == ("urls", "shouting", "rules", "exact")
    assert texts(building.make(ruled, home / "build")[0]) == ["One quiet line of text.", "Well! Twice! Yes."]


CANARIES = """
from pipeline.build.canaries import Canaries, Canary

def plant(build, choices):
    return (lambda _host, draw=draw: Canary("Buy" + "!" * draw.randint(1, 3), "a shout") for draw in choices)

def caught(room, canaries):
    dropped = room.ledger("shouting")["dropped_by"].is_valid().to_pylist()
    return {name for name, row in room.rows(list(canaries)).items() if dropped[row]}
"""


def test_a_stage_says_what_it_must_catch_and_it_is_counted_by_its_file(home):
    code = CANARIES + plugins.STAGE.replace(
        "    measure=measure,\n",
        '    measure=measure,\n    canaries=Canaries("shouts", plant, caught, hosted=False),\n',
    )
    (home / "my_stage.py").write_text(code)
    recipe = load(home, **{"canaries: false": "canaries: {documents: 12}"})
    build, _ = building.make(recipe, home / "build")
    entry = files.read_json(build.path("canaries.json"))["stages"]["shouting"]
    assert entry["planted"] == entry["reached"] == 12
    assert 0 < entry["caught"] < 12  # one exclamation mark may stay
    shown = canaries.canaries(build)
    assert shown is not None
    assert [row["planted"] for row in shown["rows"]] == ["12 shouts", "nothing to plant"]
    (home / "my_stage.py").write_text(code.replace("= 1\n", "= 0\n"))
    build, outcomes = building.make(load(home, **{"canaries: false": "canaries: {documents: 12}"}), home / "build")
    assert "canaries" in made(outcomes)
    assert files.read_json(build.path("canaries.json"))["stages"]["shouting"]["caught"] == 12


@pytest.mark.slow
def test_worker_processes_know_the_stage_though_its_file_is_gone_by_then(home):
    recipe = load(home)
    (home / "my_stage.py").unlink()
    one, _ = building.make(recipe, home / "one")
    two, _ = building.make(recipe, home / "two", workers=2)
    assert building.contents(home / "one") == building.contents(home / "two")
    assert texts(two) == texts(one) == QUIET
    assert pickle.loads(pickle.dumps(recipe)) == recipe  # noqa: S301
    (stage,) = (stage for stage in recipe.registered if stage.plugin)
    assert pickle.loads(pickle.dumps(stage)) is stage  # noqa: S301


def test_a_character_changed_in_the_file_runs_its_stage_and_what_follows_again(home):
    build, first = building.make(load(home), home / "build")
    _, again = building.make(load(home), home / "build")
    assert made(again) < {"ingest.manifest", "funnel"} | made(first)
    assert not made(again) & {"ingest", "urls", "shouting", "exact.hashes", "corpus"}
    (home / "my_stage.py").write_text(plugins.STAGE.replace('"!"', '"."'))
    _, after = building.make(load(home), home / "build")
    assert not made(after) & {"ingest", "urls"}
    assert made(after) >= {"shouting", "exact.hashes", "exact", "corpus"} & first.keys()
    assert texts(build) == ["Buy! Now! And again!", *QUIET, "Well! Twice! Yes."]
    (home / "my_stage.py").write_text(plugins.STAGE)  # and back: what was loaded in between is not served
    building.make(load(home), home / "build")
    assert texts(build) == QUIET


def test_a_plug_in_is_in_no_fingerprint_but_those_of_what_it_makes(home):
    with_it, _ = building.make(load(home), home / "with")
    without, _ = building.make(load(home, **{"plugins: [my_stage.py]\n": "", "shouting: {}\n": ""}), home / "without")
    assert isinstance(without.recipe, BuildRecipe)
    one, other = building.contents(home / "with"), building.contents(home / "without")
    for name in other:
        if name.startswith(("documents/", "ledgers/urls/", "quarantine/")):
            assert one[name] == other[name]
    assert with_it.stages != without.stages


def test_a_finished_build_is_read_with_its_plug_in_and_says_when_that_is_another(home):
    build, _ = building.make(load(home), home / "build")
    store(build)
    opened = finished_build(build.root)
    assert opened.recipe == build.recipe
    assert opened.stages == build.stages
    answer = whatif.ask(opened, with_settings(opened.recipe, {"shouting.most": 5}))
    assert answer.after["stages"][-1]["documents"] == 3  # exact still drops one
    assert answer.measured["Shouted texts"] == 0  # the threshold alone is another
    (home / "my_stage.py").write_text(plugins.STAGE + "\n")
    with pytest.raises(
        MillError, match=r"my_stage\.py: this plug-in has changed since the build ran; run `mill build`"
    ):
        finished_build(build.root)
    (home / "my_stage.py").unlink()
    with pytest.raises(MillError, match=r"my_stage\.py: no such file"):
        finished_build(build.root)


def test_a_section_of_a_plug_in_is_checked_as_others_are(home):
    section = {"shouting: {}": "shouting: {mots: 1}"}
    assert refused(home, **section) == "mine.yaml, line 6: shouting.mots: unknown field; did you mean `most`?"
    assert "mine.yaml, line 6: shouting.most: " in refused(home, **{"shouting: {}": "shouting: {most: -1}"})
    typo = refused(home, **{"shouting: {}": "shuoting: {}"})
    assert typo == "mine.yaml, line 6: shuoting: unknown field; did you mean `shouting`?"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = 1 +\n", "my_stage.py, line 1: invalid syntax; correct the plug-in"),
        ("x = 1\n", "my_stage.py: it makes no Stage, Reader, Objective or FinetuningTask at module level"),
        ("import not_there_at_all\n", "my_stage.py: No module named 'not_there_at_all'; install what it imports"),
        (plugins.STAGE.replace('"shouting",', '"exact",'), "the name 'exact' is taken by the program itself"),
        (plugins.STAGE.replace('"shouting",', '"pretrain",'), "the name 'pretrain' is taken; give the stage another"),
        (plugins.STAGE.replace('"shouting",', '"model_copy",'), "the name 'model_copy' is taken; give"),
        (plugins.STAGE.replace('"shouting",', '"Shou ting",'), "its name becomes a section of recipes"),
        (plugins.STAGE.replace('"shouts"', '"url_banned_words"'), "'urls' has a signal 'url_banned_words' already"),
        (plugins.STAGE.replace("measure,\n", 'measure, after="balance",\n'), "follows 'balance'; `after` must be"),
        (plugins.STAGE.replace("measure,\n", "measure, steps=list,\n"), "has steps of its own; a plug-in"),
        (plugins.STAGE.replace("measure,\n", "measure, compares=True,\n"), "compares documents; a plug-in's stage"),
    ],
)
def test_a_plug_in_that_does_not_fit_is_refused_with_file_and_remedy(home, text, said):
    told = refused(home, text)
    assert told.startswith("mine.yaml, line 2: plugins[0]: my_stage.py")
    assert said in told


def test_a_file_that_is_not_there_and_two_of_one_name_are_refused(home):
    told = refused(home, **{"my_stage.py": "other.py"})
    assert told.startswith("mine.yaml, line 2: plugins[0]: other.py: no such file; give the path")
    (home / "again.py").write_text(plugins.STAGE + "\n")
    told = refused(home, **{"[my_stage.py]": "[my_stage.py, again.py]"})
    assert "plugins[1]: again.py: the name 'shouting' is taken by my_stage.py; give the part another" in told.replace(
        f"{home}/", ""
    )
    assert load(home, **{"[my_stage.py]": "[my_stage.py, ./my_stage.py]"}) == load(home)


def test_a_stage_that_measures_something_else_than_it_says_is_named(home):
    (home / "my_stage.py").write_text(plugins.STAGE.replace(".cast(pa.int32())", ".cast(pa.int64())"))
    with pytest.raises(
        MillError, match=r"'shouting' must measure .* shouts, 4, int32, and it measured shouts, 4, int64"
    ):
        building.make(load(home), home / "build")


def forget() -> None:
    """Loaded packages, as a new process would."""
    sys.modules.pop("shouty_parts", None)
    for cached in (loading.parts, loading._imported_version, extending.with_plugins):
        cached.cache_clear()


@pytest.fixture
def installed(home, monkeypatch):
    packages = home / "packages"
    plugins.install(packages, "1.0", plugins.STAGE, "corpusmill.stages: shouting = shouty_parts:shouting")
    monkeypatch.syspath_prepend(str(packages))
    yield packages
    forget()


@pytest.mark.slow
def test_a_stage_of_an_installed_package_is_known_by_its_section_and_current_by_version(home, installed):
    without = {"plugins: [my_stage.py]\n": ""}
    recipe = load(home, **without)
    assert recipe.plugins == ["shouty==1.0#corpusmill.stages:shouting"]
    build, _ = building.make(recipe, home / "build", workers=2)
    store(build)
    assert texts(build) == QUIET
    assert finished_build(build.root).recipe == recipe
    _, again = building.make(load(home, **without), home / "build")
    assert "shouting" not in made(again)
    plugins.install(installed, "1.1", plugins.STAGE, "corpusmill.stages: shouting = shouty_parts:shouting")
    with pytest.raises(MillError, match=r"shouty==1.0 .*: the build ran with .* and shouty==1.1 is installed; install"):
        finished_build(build.root)
    with pytest.raises(MillError, match="another version of it is loaded already; run the command again"):
        load(home, **without)
    forget()
    _, after = building.make(load(home, **without), home / "build")
    assert "shouting" in made(after)
    assert not made(after) & {"ingest", "urls"}


def test_an_installed_package_is_not_run_unless_a_recipe_names_its_part(home, installed):
    (installed / "shouty_parts.py").write_text("raise SystemExit('run')")
    load(home)  # that section is the file's
    assert "shuoting: unknown field" in refused(home, **{"shouting: {}": "shuoting: {}"})


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("corpusmill.stages: shouting = shouty_parts:nothing", "cannot be loaded ("),
        ("corpusmill.stages: shouting = shouty_parts:measure", "must be a part that is called 'shouting'; correct"),
    ],
)
def test_an_entry_point_that_does_not_fit_is_refused(home, installed, entry, said):
    plugins.install(installed, "1.0", plugins.STAGE, entry)
    told = refused(home, **{"plugins: [my_stage.py]\n": ""})
    assert told.startswith("mine.yaml, line 5: shouting: shouty==1.0 (entry point corpusmill.stages: shouting): ")
    assert said in told


def test_two_packages_with_a_part_of_one_name_are_refused(home, installed):
    entry = "corpusmill.stages: shouting = loud_parts:shouting"
    plugins.install(installed, "2.0", plugins.STAGE, entry, name="loud")
    told = refused(home, **{"plugins: [my_stage.py]\n": ""})
    assert "loud==2.0 and shouty==1.0 both have a plug-in of this name; uninstall one" in told


READER = """
from typing import Literal

from corpusmill import Document, FileConfig, Reader, Rejected, open_file


class Diary(FileConfig):
    kind: Literal["diary"] = "diary"
    mark: str = "* "


def read(config: Diary, file):
    with open_file(file, config.max_compression_ratio) as stream:
        for number, entry in enumerate(stream.read().decode().split(config.mark), 1):
            if entry:
                yield Document(f"{config.name}/{file.name}#{number}", entry, config.name, "days")
            else:
                yield Rejected(file.path, number, None, "an empty entry")


reader = Reader("diary", Diary, read)
"""


@pytest.fixture
def diary(home: Path) -> Path:
    (home / "my_stage.py").write_text(READER)
    (home / "may.diary").write_text("* one* two")
    (home / "june.diary").write_bytes(b"three* \xff")
    own = "\n  - {name: d, kind: diary, path: FOLDER/*.diary}\n  - {name: a, kind: jsonl, path: FOLDER/in.jsonl}"
    text = RECIPE.replace(" [{name: a, kind: jsonl, path: FOLDER/in.jsonl}]", own)
    text = text.replace("shouting: {}\n", "").replace("FOLDER", str(home))
    (home / "recipe.yaml").write_text(f"{text}error_budget: 0.9\n")
    return home


@pytest.mark.slow
def test_a_source_of_a_plug_in_is_read_and_what_it_rejects_is_accounted_for(diary):
    recipe = load(diary)
    assert preflight.problems(Build(str(diary / "two"), recipe)) == []
    one, _ = building.make(recipe, diary / "one")
    building.make(recipe, diary / "two", workers=2)
    assert building.contents(diary / "one") == building.contents(diary / "two")
    assert building.curated(one)["d/may.diary#2"][:2] == ("one", "days")
    told = files.read_json(one.path("documents", "manifest.json"))["sources"]["d"]
    assert told["kind"] == "diary"
    assert told["documents"] == 2
    assert told["reasons"]["an empty entry"]["count"] == 1
    assert "UnicodeDecodeError" in json.dumps(told)  # a fault of the file's content ends the file, and is counted
    store(one)
    assert finished_build(one.root).recipe == recipe


def test_a_character_changed_in_a_source_reads_it_again_and_no_other(diary):
    building.make(load(diary), diary / "build")
    before = building.outputs(diary / "build")
    (diary / "my_stage.py").write_text(READER.replace("days", "weeks"))
    building.make(load(diary), diary / "build")
    after = building.outputs(diary / "build")
    documents = [name for name in before if name.startswith("documents/") and name.endswith(".arrow")]
    same = {name.split("/")[1][0] for name in documents if before[name] == after.get(name)}
    other = {name.split("/")[1][0] for name in documents if before[name] != after.get(name)}
    assert (same, other) == ({"a"}, {"d"})


def test_an_entry_of_a_plug_in_is_checked_as_others_are(diary):
    told = refused(diary, **{"kind: diary,": "kind: diary, marks: x,"})
    assert told == "mine.yaml, line 4: sources[0].marks: unknown field; did you mean `mark`?"
    told = refused(diary, **{"kind: diary": "kind: dairy"})
    assert told == "mine.yaml, line 4: sources[0].kind: 'dairy' is not known; did you mean `diary`?"
    assert "the name 'text' is taken" in refused(diary, READER.replace('"diary"', '"text"'))
    unnamed = READER.replace('kind: Literal["diary"] = "diary"', "kind: str")
    assert 'Diary needs the field `kind: Literal["diary"] = "diary"`; add it' in refused(diary, unnamed)


def test_a_source_of_an_installed_package_is_known_by_its_kind(diary, installed):
    plugins.install(installed, "3.0", READER, "corpusmill.sources: diary = shouty_parts:reader")
    recipe = load(diary, **{"plugins: [my_stage.py]\n": ""})
    assert recipe.plugins == ["shouty==3.0#corpusmill.sources:diary"]
    assert "d/may.diary#2" in building.curated(building.make(recipe, diary / "build")[0])
