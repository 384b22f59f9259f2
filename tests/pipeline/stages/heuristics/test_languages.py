"""Heuristics by language: what changes for documents whose language a stage before has named, and what does not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from pipeline.build.build import Build
from pipeline.build.stage import Batch
from pipeline.curation.recipe import Recipe
from pipeline.questions import whatif, why
from pipeline.stages.heuristics import stage as heuristics
from pipeline.stages.heuristics.families import STOP_WORDS, Config, without_stop_words
from pipeline.stages.heuristics.stage import STAGE
from pipeline.stages.language import Config as Identification
from pipeline.store import ledger
from pipeline.text import languages, spans
from tests.helpers import small_build

FAMILIES = ("gopher_quality", "gopher_repetition", "c4", "fineweb", "gopher_quality@dolma", "refinedweb")
WORDS = {
    "en": "the people of this town have seen that and walked with us to be where rivers end",
    "de": "die Leute der Stadt haben das gesehen und gehen mit uns zu den Flüssen auf dem Land",
    "ru": "люди этого города видели что река течёт не на запад и не в море как мы думали вчера",
}


def config(**families: Any) -> Config:
    return Config.model_validate(families)


def measure(made: Config, texts: list[str], named: list[str] | None) -> dict[str, pa.Array]:
    signals = {} if named is None else {"language": pa.array(named, pa.string()).dictionary_encode()}
    found = heuristics.measure(made, Batch(pa.array(texts, pa.string()), signals=signals))
    cut = {} if found.spans is None else {"spans": found.spans}
    return {**signals, **found.signals, **cut}


def verdicts(made: Config, texts: list[str], named: list[str] | None) -> list[tuple[str | None, float | None]]:
    """The rule that drops each text, and its threshold."""
    found = ledger.judge(heuristics.rules(made), measure(made, texts, named), len(texts)).columns()
    return list(zip(*(found[name].to_pylist() for name in ("dropped_by", "threshold")), strict=True))


def text_in(language: str, sentences: int = 12) -> str:
    """Sentences that differ, of the words of one language."""
    words = WORDS[language].split()
    rng = np.random.default_rng(3)
    return "\n".join(" ".join(rng.permutation(words)).capitalize() + f" {k}." for k in range(sentences))


#: Article 1 of the Universal Declaration of Human Rights in languages of which there is no reference text.
ARTICLE = {
    "km": "មនុស្សទាំងអស់ កើតមកមានសេរីភាព និងសមភាព ក្នុងផ្នែកសេចក្ដីថ្លៃថ្នូរនិងសិទ្ធិ។ មនុស្ស មានវិចារណញ្ញាណនិងសតិសម្បជញ្ញៈជាប់ពីកំណើត ហើយគប្បីប្រព្រឹត្ដចំពោះគ្នាទៅវិញទៅមក ក្នុងស្មារតីភាតរភាពជាបងប្អូន។",  # noqa: E501
    "my": "လူတိုင်းသည် တူညီ လွတ်လပ်သော ဂုဏ်သိက္ခာဖြင့် လည်းကောင်း၊ တူညီလွတ်လပ်သော အခွင့်အရေးများဖြင့် လည်းကောင်း၊ မွေးဖွားလာသူများ ဖြစ်သည်။ ထိုသူတို့၌ ပိုင်းခြား ဝေဖန်တတ်သော ဉာဏ်နှင့် ကျင့်ဝတ် သိတတ်သော စိတ်တို့ရှိကြ၍ ထိုသူတို့သည် အချင်းချင်း မေတ္တာထား၍ ဆက်ဆံကျင့်သုံးသင့်၏။",  # noqa: E501
    "lo": "ມະນຸດທຸກຄົນເກີດມາມີກຽດສັກສີ, ສິດທິ, ເສລີພາບແລະຄວາມສະເໝີພາບເທົ່າທຽມກັນ. ທຸກໆຄົນມີເຫດຜົນແລະຄວາມຄິດຄວາມເຫັນສ່ວນຕົວຂອງໃຜຂອງມັນ, ແຕ່ວ່າມະນຸດທຸກໆຄົນຄວນປະພຶດຕໍ່ກັນຄືກັນກັບເປັນອ້າຍນ້ອງກັນ.",  # noqa: E501
    "bo": "འགྲོ་བ་མིའི་རིགས་རྒྱུད་ཡོངས་ལ་སྐྱེས་ཙམ་ཉིད་ནས་ཆེ་མཐོངས་དང༌། ཐོབ་ཐངགི་རང་དབང་འདྲ་མཉམ་དུ་ཡོད་ལ། ཁོང་ཚོར་རང་བྱུང་གི་བློ་རྩལ་དང་བསམ་ཚུལ་བཟང་པོ་འདོན་པའི་འོས་བབས་ཀྱང་ཡོད། དེ་བཞིན་ཕན་ཚུན་གཅིག་གིས་གཅིག་ལ་བུ་སྤུན་གྱི་འདུ་ཤེས་འཛིན་པའི་བྱ་སྤྱོད་ཀྱང་ལག་ལེན་བསྟར་དགོས་པ་ཡིན༎",  # noqa: E501
}


@pytest.mark.parametrize(
    "families", [{}, {"refinedweb": {}}, {"gopher_quality@dolma": {}, "gopher_repetition@dolma": {}}]
)
def test_prose_in_scripts_without_word_spaces_is_kept_though_there_is_no_list_for_them(families: dict[str, Any]):
    made = config(**families)
    assert verdicts(made, list(ARTICLE.values()), list(ARTICLE)) == [(None, None)] * len(ARTICLE)
    for language, text in ARTICLE.items():
        cut = measure(made, [text], [language]).get("spans")
        assert cut is None or spans.cut(pa.array([text]), cut).to_pylist() == [text]


def test_a_page_of_one_repeated_line_is_still_dropped_in_those_scripts():
    pages = ["\n".join([text] * 6) for text in ARTICLE.values()]
    assert all(rule is not None for rule, _ in verdicts(config(), pages, list(ARTICLE)))


def test_good_text_of_each_language_is_kept_where_its_language_is_known():
    texts = [text_in(name) for name in WORDS]
    made = config()
    assert verdicts(made, texts, list(WORDS)) == [(None, None)] * 3
    as_english = [rule for rule, _ in verdicts(made, texts, None)]
    assert as_english == [None, "gopher_quality.min_stop_words", "gopher_quality.min_stop_words"]


def test_without_a_named_language_and_in_english_nothing_changes():
    texts = [text_in("en"), text_in("de"), "short", "", "no mark at the end of a line\n" * 9]
    made = config(**{name: {} for name in FAMILIES})
    off = config(**{name: {"by_language": None} for name in FAMILIES})
    plain = {name: values.to_pylist() for name, values in measure(made, texts, None).items()}
    assert {name: values.to_pylist() for name, values in measure(off, texts, ["de"] * 5).items()} == {
        "language": ["de"] * 5, **plain,
    }  # fmt: skip
    for label in ("en", "eng", "eng_Latn"):
        found = measure(made, texts, [label] * 5)
        assert {name: found[name].to_pylist() for name in plain} == plain
        assert verdicts(made, texts, [label] * 5) == verdicts(off, texts, [label] * 5) == verdicts(made, texts, None)


def test_a_text_is_measured_alike_in_any_company():
    names = [*WORDS, "xx", "und", "de", "en"]
    texts = [text_in(name if name in WORDS else "ru", 3 + k) for k, name in enumerate(names)]
    made = config(**{name: {} for name in FAMILIES})
    together = {name: values.to_pylist() for name, values in measure(made, texts, names).items()}
    for at, (text, name) in enumerate(zip(texts, names, strict=True)):
        alone = measure(made, [text], [name])
        assert {key: values.to_pylist()[0] for key, values in alone.items()} == {
            key: values[at] for key, values in together.items()
        }


@pytest.mark.parametrize(
    ("language", "end"),
    [("zh", "。"), ("zh", "！"), ("ja", "？"), ("zh", "”"), ("ja", "」"), ("hi", "।"), ("ur", "۔"), ("ar", "؟"),
     ("hy", "։"), ("am", "።"), ("my", "။"), ("el", ";"), ("fr", "»"), ("de", "“"), ("de", ".")],
)  # fmt: skip
def test_a_line_may_end_in_the_marks_of_its_language(language: str, end: str):
    made = config(c4={"min_sentences": None})
    text = f"one line of five words{end}"
    for name, left in ((language, text), ("en", text if end == "." else "")):
        cut = measure(made, [text], [name])["spans"]
        assert spans.cut(pa.array([text]), cut).to_pylist() == [left]


@pytest.mark.parametrize("end", ["", ",", ";", "...", "…", ")", "：", "、"])
def test_a_line_without_an_end_is_cut_in_every_language(end: str):
    made = config(c4={"min_sentences": None})
    text = f"one line of five words{end}"
    assert spans.cut(pa.array([text]), measure(made, [text], ["zh"])["spans"]).to_pylist() == [""]


def test_where_nothing_marks_the_end_of_a_sentence_nothing_is_asked_of_it():
    made = config(c4={}, fineweb={"max_short_lines": None})
    text = "\n".join(f"สวัสดีครับ ผมชื่อสมชาย บรรทัดที่ {k}" for k in range(9))
    assert verdicts(made, [text], ["th"]) == [(None, None)]
    assert spans.cut(pa.array([text]), measure(made, [text], ["th"])["spans"]).to_pylist() == [text]
    assert verdicts(made, [text], ["en"])[0][0] is not None


def test_a_language_without_a_list_is_not_judged_by_stop_words():
    made = config(gopher_quality={}, **{"gopher_quality@dolma": {}})
    found = measure(made, [text_in("de")] * 2, ["xx", "de"])
    assert found["stop_word_count"].to_pylist() == [None, 8]  # die der das und mit zu den auf
    assert found["stop_word_count_dolma"][0].as_py() is None
    assert verdicts(made, [text_in("de")], ["xx"]) == [(None, None)]
    assert without_stop_words(made, ["de", "xx", "und", "en"]) == ["xx"]


def test_bounds_are_the_published_ones_or_wider_and_the_ledger_has_the_one_that_was_applied():
    made = config()
    rules = {rule.name: rule for rule in heuristics.rules(made)}
    for name, english in (("min_mean_word_length", 3.0), ("min_words_with_letter", 0.8)):
        bounds = rules[f"gopher_quality.{name}"].minimum
        assert isinstance(bounds, dict)
        assert bounds["*"] == english
        assert max(bounds.values()) == english
    longest = rules["gopher_quality.max_mean_word_length"].maximum
    assert isinstance(longest, dict)
    assert longest["fi"] == longest["fin_Latn"] > longest["de"] > longest["*"] == min(longest.values()) == 10
    long_words = " ".join(["donaudampfschiff", "die", "der", "und"] * 20)
    assert verdicts(config(gopher_quality={"max_mean_word_length": 5}), [long_words], ["de"])[0][1] == 5.0
    longer = " ".join(["donaudampfschifffahrtsgesellschaftskapitän", "die", "der"] * 20)
    assert verdicts(made, [longer], ["de"]) == [("gopher_quality.max_mean_word_length", longest["de"])]


@pytest.mark.parametrize(("language", "size"), [("ja", 11), ("zh", 7), ("th", 15), ("en", 5), ("xx", 5), (None, 5)])
def test_an_ngram_without_spaces_is_of_as_many_characters_as_say_what_its_words_do(language: str | None, size: int):
    made = config(gopher_repetition={"max_duplicate_ngram_characters": {5: 0.1}, "max_top_ngram_characters": {5: 0.1}})
    characters = [chr(0x4E00 + k) for k in range(100)]
    for again, met in ((size - 1, 0), (size, size), (size + 1, size)):
        text = "".join([*characters, *characters[:again]])
        found = measure(made, [text], None if language is None else [language])
        top = 2 * size if met else size
        joined = 0 if language in ("ja", "zh", "th") else (size - 1) * (2 if met else 1)
        assert found["duplicate_5gram_character_fraction"].to_pylist() == [met / len(text)]
        assert found["top_5gram_character_fraction"].to_pylist() == [(top + joined) / len(text)]


def test_every_field_can_be_set_for_one_language():
    texts, names = [text_in("de"), text_in("ru"), text_in("en")], ["de", "ru", "en"]
    set_for = {
        "gopher_quality": {"de": {"stop_words": ["Flüsse"]}, "ru": {"min_words": 1000}, "en": {"max_words": None}},
        "c4": {"ru": {"min_words_per_line": 100}, "de": {"drop_curly_bracket": False}},
        "fineweb": {"en": {"short_line_characters": 1000}},
        "gopher_repetition": {"de": {"max_top_ngram_characters": {7: 0.0001}}},
        "refinedweb": {"de": {"max_uppercase": 0.0}},
    }
    made = config(**{family: {"by_language": values} for family, values in set_for.items()})
    plain = config(**{family: {} for family in set_for})
    found, usual = measure(made, texts, names), measure(plain, texts, names)
    assert found["stop_word_count"].to_pylist()[0] == 0
    assert found["stop_word_count"].to_pylist()[1:] == usual["stop_word_count"].to_pylist()[1:]
    assert spans.cut(pa.array(texts), found["spans"]).to_pylist() == ["", "", texts[2]]
    assert found["short_line_fraction"].to_pylist() == [*usual["short_line_fraction"].to_pylist()[:2], 1.0]
    limits = {rule.name: rule.minimum or rule.maximum or 0 for rule in heuristics.rules(made)}
    assert ledger.limits(limits["gopher_quality.min_words"], pa.array(names), 3).tolist() == [50, 1000, 50]
    for rule, where in (("gopher_quality.max_words", 2), ("c4.curly_bracket", 0)):
        applied = ledger.limits(limits[rule], pa.array(names), 3)
        assert np.isnan(applied).tolist() == [at == where for at in range(3)]
    applied = ledger.limits(limits["gopher_repetition.max_top_7gram_characters"], pa.array(names), 3)
    assert applied[0] == 0.0001
    assert np.isnan(applied[1:]).all()
    assert {rule.signal for rule in heuristics.rules(made)} <= set(found) <= {*STAGE.signals, "language", "spans"}


def test_a_field_that_the_recipe_sets_for_all_holds_for_all_but_those_named():
    made = config(gopher_quality={"stop_words": ["x"], "by_language": {"ru": {"stop_words": ["не"]}}})
    found = measure(made, ["x не и", "x не и", "x не и"], ["de", "ru", "en"])
    assert found["stop_word_count"].to_pylist() == [1, 1, 1]
    assert made.gopher_quality is not None
    assert [made.gopher_quality.of(name)["stop_words"] for name in ("de", "ru", "en", None)] == [
        ("x",), ("не",), ("x",), ("x",),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"de": {"min_word": 3}}, "did you mean `min_words`"),
        ({"de": {"nonsense": 3}}, "known here: min_words"),
        ({"de": {"min_words": -3}}, "de: `min_words"),
        ({"de": {"min_words": {"en": 3}}}, "takes one value"),
        ({"de": {"by_language": {}}}, "unknown field `by_language`"),
    ],
)
def test_a_wrong_field_for_a_language_is_refused_with_the_remedy(values: dict[str, Any], told: str):
    with pytest.raises(ValidationError, match=told):
        config(gopher_quality={"by_language": values})


@pytest.mark.parametrize("given", [{"by_language": {"de": {"min_words": 9}}}, {"min_words": {"de": 9, "*": 50}}])
def test_values_by_language_need_a_language_section(given: dict[str, Any]):
    values = {"name": "x", "sources": [{"name": "s", "kind": "text", "path": "*.txt"}]}
    field = next(iter(given))
    with pytest.raises(ValidationError, match=f"`heuristics.gopher_quality.{field}` is given by language"):
        Recipe.model_validate({**values, "heuristics": {"gopher_quality": given}})
    Recipe.model_validate({**values, "heuristics": {"gopher_quality": given}, "language": {}})


def test_what_a_build_writes_of_its_settings_reads_as_the_same():
    made = config(gopher_quality={"by_language": {"de": {"stop_words": ["der", "die"], "min_words": 20}}}, c4={})
    again = Config.model_validate(json.loads(json.dumps(made.model_dump(mode="json"))))
    assert again == made
    assert heuristics.rules(again) == heuristics.rules(made)


@pytest.mark.parametrize(
    ("before", "after", "judged"),
    [
        ({}, {"de": {"min_words": 20}}, True),
        ({"de": {"min_words": 20}}, {}, True),
        ({"de": {"min_words": 20}}, {"de": {"min_words": 30}, "fr": {"max_words": 9}}, True),
        ({}, {"de": {"min_words": 20, "stop_words": ["der"]}}, False),
        ({"de": {"min_words": 20, "stop_words": ["der"]}}, {}, False),
        ({"de": {"min_words": 20}}, {"de": {"min_words": 30, "stop_words": ["der"]}}, False),
        ({}, None, False),
        (None, {"de": {"min_words": 20}}, False),
    ],
)
def test_only_a_changed_threshold_is_judged_without_measuring_again(before: Any, after: Any, judged: bool):
    old, new = (config(gopher_quality={"by_language": values}) for values in (before, after))
    found = whatif.changes(old, new)
    assert found
    assert all(whatif.only_judges(STAGE, old, change) for change in found) == judged
    remade = old
    for change in found:
        remade = whatif.replaced(remade, *change)
    assert heuristics.rules(remade) == heuristics.rules(new)


def test_the_lists_hold_what_the_kernels_take_and_no_label_stands_for_two_languages():
    known = languages.known()
    entries = list(dict.fromkeys(known.values()))
    assert len(entries) > 70
    labels = [label for language in entries for label in language.labels]
    assert len(labels) == len(set(labels)) == len(known)
    assert known["en"].stop_words == STOP_WORDS
    for language in entries:
        assert len(language.stop_words) <= 64
        assert len(set(language.stop_words)) == len(language.stop_words)
        assert len(language.stop_words) >= 8 or language.code in ("lo", "km", "my", "bo", "dz")
    assert known["deu_Latn"] is known["deu"] is known["de"]
    assert known["no"].code == "nb"


class TwoStages(small_build.SmallRecipe):
    heuristics: Config | None = None


def test_why_shows_the_threshold_of_the_language_of_the_document(tmp_path: Path):
    names = ["ru", "de", "en"]
    texts = [text_in("ru", 3), text_in("de", 3), text_in("en", 3)]
    made = config(gopher_quality={"by_language": {"ru": {"min_words": 20}, "de": {"max_words": None}}})
    build = Build(str(tmp_path), TwoStages(language=Identification(keep=dict.fromkeys(names, 0.5)), heuristics=made))  # type: ignore[arg-type]
    documents = [small_build.document(number, text) for number, text in enumerate(texts)]
    small_build.write_documents(build, documents, 2)
    named = {"language": pa.array(names), "language_score": pa.array([0.9] * 3)}
    small_build.write_ledger(build, "language", named)
    signals = {name: values for name, values in measure(made, texts, names).items() if name != "language"}
    small_build.write_ledger(build, "heuristics", signals)
    shown = {}
    for number, name in enumerate(names):
        passage = why.why(build, f"web/page.jsonl#{number}").passages[-1]
        shown[name] = {check.rule.split(".")[1]: (check.threshold, check.group) for check in passage.checks}
    assert {name: checks["min_words"] for name, checks in shown.items()} == {
        "ru": (20, "ru"), "de": (50, "de"), "en": (50, "en"),
    }  # fmt: skip
    assert [shown[name]["max_words"][0] for name in names] == [100_000, None, 100_000]
    longest = [shown[name]["max_mean_word_length"][0] for name in names]
    assert longest == [*(round(10 * languages.known()[name].word_length, 2) for name in ("ru", "de")), 10]
