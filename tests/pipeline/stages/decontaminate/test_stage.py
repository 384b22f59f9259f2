"""What decontamination finds, drops, cuts and reports, in small builds."""

import json
import random
from dataclasses import dataclass

import pytest
from pydantic import ValidationError

from pipeline.build.build import Build
from pipeline.report import sections
from pipeline.stages.decontaminate.evaluation_sets import WrongEvaluationSet
from pipeline.stages.decontaminate.stage import Config, steps
from pipeline.store import files
from tests.helpers.dedup_corpus import decisions, run, write_documents
from tests.helpers.sections import Sections

ITEM = "Why do rivers freeze from the top down, while stones in them stay warm until the very end of winter?"
ANSWER = "Because ice is lighter than water, and so it floats and keeps what lies below from cooling any further."
SHORT = "The moon has no weather of its own"


@dataclass(frozen=True)
class Recipe(Sections):
    decontaminate: Config
    name: str = "test"


def filler(number: int, count: int = 60) -> str:
    draw = random.Random(number)
    return " ".join("".join(draw.choices("abcdefghij", k=6)) for _ in range(count))


def build_of(root, documents, items=({"q": ITEM, "a": ANSWER},), shard_size=3, parts="both", **config) -> Build:
    path = root / "set.jsonl"
    path.write_text("".join(json.dumps(item) + "\n" for item in items))
    chosen = {"name": "rivers", "path": str(path), "question_fields": ["q"], "answer_fields": ["a"], "parts": parts}
    build = Build(str(root / "build"), Recipe(Config(sets=[chosen], **config)))  # type: ignore[arg-type]
    write_documents(build, documents, shard_size)
    return build


def held(build: Build) -> dict[str, list]:
    run(build, steps())
    return files.read_json(build.path("decontamination.json"))["rivers"]["held"]


def warnings(build: Build) -> list[str]:
    (found,) = sections.contamination(build) or []
    return found["warnings"]


def dropped(build: Build) -> list[str]:
    return [name for name, entry in decisions(build, "decontaminate").items() if entry["dropped_by"]]


@pytest.mark.parametrize(
    "change",
    [str, str.upper, lambda text: text.replace(" ", "\n\t "), lambda text: text.replace(",", " --").replace("?", "!")],
    ids=["verbatim", "case", "lines", "punctuation"],
)
def test_an_item_inside_a_long_document_is_found_where_it_stands(tmp_path, change):
    before, item = "é" + filler(1, 5000), change(f"{ITEM}\n{ANSWER}")
    text = f"{before} {item} {filler(2)}"
    build = build_of(tmp_path, [filler(3), text, "", filler(4)])
    (found,) = held(build)["rivers/set.jsonl#1"]
    assert found["document"] == "doc-00001"
    assert found["overlap"] == 1
    ((start, end),) = found["bytes"]
    assert text.encode()[start:end].decode() == item.rstrip("?!. ")
    entry = decisions(build, "decontaminate")["doc-00001"]
    assert (entry["dropped_by"], entry["value"], entry["threshold"]) == ("decontaminate.overlap", 1, 0.5)
    assert (entry["contaminated_items"], entry["contamination_item"]) == (1, "rivers/set.jsonl#1")
    assert dropped(build) == ["doc-00001"]


def test_a_corpus_without_items_keeps_every_document(tmp_path):
    build = build_of(tmp_path, [filler(n) for n in range(10)] + ["", " \n", ITEM[:50]])
    assert held(build) == {}
    assert dropped(build) == []


@pytest.mark.parametrize(("parts", "expected"), [("question", [0]), ("answer", [1]), ("both", [2])])
def test_the_switches_choose_which_part_counts(tmp_path, parts, expected):
    documents = [f"{filler(1)} {ITEM}", f"{ANSWER} {filler(2)}", f"{ITEM} {ANSWER}"]
    build = build_of(tmp_path, documents, parts=parts, min_overlap=0.8)
    held(build)
    assert dropped(build) == sorted({f"doc-{n:05d}" for n in [*expected, 2]})


def test_what_many_documents_hold_is_common_and_does_not_count(tmp_path):
    documents = [f"{filler(n)} {ITEM}" for n in range(5)] + [f"{ITEM}\n{ANSWER}"]
    build = build_of(tmp_path, documents, frequency_floor=5, shard_size=2)
    assert [entry["document"] for entry in held(build)["rivers/set.jsonl#1"]] == ["doc-00005"]
    assert dropped(build) == ["doc-00005"]
    rare = build_of(tmp_path, [f"{n} {ITEM} {ANSWER}" for n in range(6)], frequency_floor=6)
    assert len(held(rare)["rivers/set.jsonl#1"]) == 6


def test_an_item_in_many_documents_is_dropped_by_default_and_what_is_left_in_is_said(tmp_path):
    documents = [f"{filler(n)} {ITEM} {ANSWER}" for n in range(60)] + [filler(n) for n in range(100, 140)]
    build = build_of(tmp_path, documents)
    assert len(held(build)["rivers/set.jsonl#1"]) == len(dropped(build)) == 60
    assert warnings(build) == []
    # a share above the floor: 60 of 100 documents hold it
    for share, acted in ((0.6, 60), (0.5, 0)):
        build = build_of(tmp_path, documents, frequency_floor=0, max_document_frequency=share)
        assert sum(map(len, held(build).values())) == len(dropped(build)) == acted
    report = files.read_json(build.path("decontamination.json"))["rivers"]
    assert report["common"] == {"rivers/set.jsonl#1": {"documents": 60, "example": "doc-00000"}}
    (warning,) = warnings(build)
    assert "1 item of rivers found in 60 documents and left there" in warning
    assert "rivers/set.jsonl#1" in warning
    assert "doc-00000" in warning
    with pytest.raises(ValidationError, match="frequency_floor: 12"):
        Config(sets=[], max_document_frequency=12)  # type: ignore[call-arg]


PROMPTS = [
    "Question: Which of these animals sleeps with half of its {0} awake?\nChoices:\nA. a {0}\nB. a {1}\nAnswer: A",
    "Context: The {0} lived long ago near {1}, as all know.\nQ: In which year did the {0} leave for the north?\nA:",
    "The following question is about {1}.\n\nIn which old town did the last {0} of the line live? (A) {0} (B) {1}",
    "Please answer. Question: who gave the {0} its name, and when was that done? Answer: {1}",
]
BARE = [
    "Which of these animals sleeps with half of its {0} awake?",
    "In which year did the {0} leave for the north?",
    "In which old town did the last {0} of the line live?",
    "who gave the {0} its name, and when was that done?",
]


@pytest.mark.parametrize(("prompt", "bare"), list(zip(PROMPTS, BARE, strict=True)))
def test_a_question_is_found_without_the_labels_that_all_prompts_of_its_set_share(tmp_path, prompt, bare):
    names = [filler(n, 1) for n in range(40)]
    items = [{"q": prompt.format(names[n], names[n + 20]), "a": ""} for n in range(20)]
    documents = [f"{filler(n)}\n{bare.format(names[n])}\n{filler(n + 50)}" for n in range(20)]
    documents += [f"{filler(n)}\n{items[n]['q']}" for n in range(20)]
    documents += ["Question: Choices: A. B. Answer: A The following question is about. Please answer."]
    build = build_of(tmp_path, documents, items)
    found = held(build)
    assert {item: [place["document"] for place in places] for item, places in found.items()} == {
        f"rivers/set.jsonl#{n + 1}": [f"doc-{n:05d}", f"doc-{n + 20:05d}"] for n in range(20)
    }
    assert decisions(build, "decontaminate")["doc-00000"]["contaminated_items"] == 1
    assert files.read_json(build.path("decontamination.json"))["rivers"]["items"] == 20


def test_a_short_item_is_matched_whole_and_a_shorter_one_reported_as_not_checkable(tmp_path):
    items = [{"q": SHORT, "a": ""}, {"q": "The moon is", "a": "cold"}]
    build = build_of(tmp_path, [f"{filler(1)} {SHORT} {filler(2)}", "the moon is cold", SHORT[:-4]], items)
    assert list(held(build)) == ["rivers/set.jsonl#1"]
    assert dropped(build) == ["doc-00000"]
    assert files.read_json(build.path("decontamination.json"))["rivers"]["not_checkable"] == ["rivers/set.jsonl#2"]


def test_cutting_takes_out_the_item_and_drops_only_what_would_be_left_without_words(tmp_path):
    before, after = filler(1), filler(2)
    build = build_of(tmp_path, [f"{before} {ITEM} {ANSWER} {after}", f"{ITEM} {ANSWER}", before], action="cut_span")
    held(build)
    assert dropped(build) == ["doc-00001"]
    texts = [text for shard in build.shards() for text in build.view(shard).texts.to_pylist()]
    assert texts == [f"{before} . {after}", before]


def test_the_result_depends_on_neither_shards_nor_order(tmp_path):
    documents = [filler(n) + (f" {ITEM} {ANSWER}" if n % 3 == 0 else "") for n in range(10)]
    found = []
    for shard_size, seed in ((1, 0), (4, 1), (100, 2)):
        (tmp_path / str(seed)).mkdir()
        build = build_of(tmp_path / str(seed), documents, shard_size=shard_size)
        run(build, steps(), seed)
        found.append((files.read_json(build.path("decontamination.json")), decisions(build, "decontaminate")))
        assert run(build, steps())[0] == 1, "only the report, which is rewritten if it differs, is made again"
    assert found[0] == found[1] == found[2]
    assert len(dropped(build)) == 4


def test_a_wrong_set_is_refused_by_file_line_and_field(tmp_path):
    build = build_of(tmp_path, [filler(1)], [{"q": ITEM, "a": ANSWER}, {"q": ITEM}])
    with pytest.raises(WrongEvaluationSet, match=r"set\.jsonl, line 2, field 'a'.*it has q"):
        held(build)
    with pytest.raises(ValidationError, match="names no field"):
        Config(sets=[{"name": "x", "path": "x", "question_fields": ["q"], "parts": "answer"}])  # type: ignore[list-item]
