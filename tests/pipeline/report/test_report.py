"""The report: what it counts is right, it needs nothing but itself, and no document can break out of it."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pyarrow as pa
import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st

from pipeline import MillError, report
from pipeline.build.build import Build
from pipeline.report import charts, histograms, lineage, models, samples
from pipeline.stages import language, titles
from pipeline.store import files, ledger, shards
from pipeline.text import formats
from pipeline.tokenization.config import TokenizerConfig
from tests.helpers import small_build
from tests.helpers.small_build import document

HOSTILE = "</text><script>alert(1)</script><img src=x onerror=alert(2)>\"'><style>*{}</style>{{7*7}}&lt;"
KEEP = {"en": 0.65, "de": 0.5}


def make(root: Path, shard_size: int = 100, count: int = 40, hostile: str = "") -> Build:
    """``count`` documents; a third each is dropped by language, as a near-duplicate, or kept; one record is bad."""
    build = small_build.open_small(root, language=language.Config(keep=KEEP), minhash={})
    documents = [
        document(
            number,
            f"text number {number} {hostile} " + "word " * 200,
            domain=f"news{hostile}",
            id=f"web/p#{number}{hostile}",
        )
        for number in range(count)
    ]
    bad = {"source": "web", "file": f"dump{hostile}", "record": 3, "offset": None, "reason": f"not JSON{hostile}"}
    small_build.write_documents(build, documents, shard_size, [{**bad, "excerpt": hostile}])
    scores = np.linspace(0.3, 1.0, count)
    signals = {
        "language": pa.array([("de", "en")[number % 2] for number in range(count)]),
        "language_score": pa.array(scores),
        "perplexity": pa.array(10.0 ** (1 + 3 * scores)),
        "words": pa.array(np.arange(count, dtype=np.int64)),
    }
    small_build.write_ledger(build, "language", signals, language.rules(build.recipe.language))  # type: ignore[arg-type]
    duplicates = {number: ("near_duplicate", 0.8 + number / 1000, 0.8) for number in range(30, count)}
    survivor = [f"web/p#{number - 5}{hostile}" if number in duplicates else None for number in range(count)]
    names = {
        "duplicate_of": pa.array(survivor, pa.string()),
        "cluster": pa.array(np.arange(count), pa.uint64()),
        "cluster_size": pa.array([2 if number in duplicates else 1 for number in range(count)], pa.int32()),
    }
    small_build.write_ledger(build, "minhash", names, dropped=duplicates)
    small_build.close(build)
    return build


def render(build: Build, budget: dict | None = None) -> str:
    for step in report.steps():
        for item in step.items(build):
            step.work(build, item)
    return Path(report.render(build, budget)).read_text(encoding="utf-8")


class Page(HTMLParser):
    """The elements, attributes and texts of a page, as a browser reads them."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_states_the_numbers_of_the_account(tmp_path: Path):
    build = make(tmp_path)
    text = " ".join(Page(render(build)).text.split())
    stages = files.read_json(build.path("funnel.json"))["stages"]
    assert [stage["documents"] for stage in stages] == [40, 24, 14, 14]
    for stage in stages:
        assert formats.size(stage["bytes"]) in text
    assert "Of 40 documents" in text
    assert "14 with" in text


def test_a_build_of_before_the_account_told_more_has_its_report(tmp_path: Path):
    build = make(tmp_path)
    account = files.read_json(build.path("funnel.json"))
    files.write_json(build.path("funnel.json"), {name: account[name] for name in ("stages", "quarantined")})
    assert "Of 40 documents" in " ".join(Page(render(build)).text.split())


def test_the_page_does_not_depend_on_how_the_corpus_is_cut_into_shards(tmp_path: Path):
    pages = [render(make(tmp_path / str(size), size)) for size in (100, 7, 1)]
    # fingerprints alone name the shards
    pages = [re.sub(r'<section id="lineage">.*?</section>', "", page, flags=re.DOTALL) for page in pages]
    assert pages[0] == pages[1] == pages[2]


def test_no_text_turns_the_order_of_the_page_or_hides_a_part_of_it(tmp_path: Path):
    page = render(make(tmp_path, hostile="\x1b[31m \u202e \u2066"))
    assert not re.search("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", page)
    assert r"news\u001b[31m \u202e \u2066" in page


def test_hostile_text_stays_text_wherever_it_comes_from(tmp_path: Path):
    page = Page(render(make(tmp_path, hostile=HOSTILE)))
    names = {name for name, _ in page.elements}
    assert names.isdisjoint({"img", "iframe", "object", "link", "base", "form", "input"})
    assert [sum(name == only for name, _ in page.elements) for only in ("style", "script")] == [1, 1]
    for _, attributes in page.elements:
        assert not any(name.startswith("on") or name in ("style", "src") for name in attributes)
    for place in (r"text number \d+ ", r"web/p#\d+", "not JSON", "news", "dump"):
        assert re.search(place + re.escape(HOSTILE), page.text), place


def test_the_page_asks_the_network_for_nothing(tmp_path: Path):
    html = render(make(tmp_path))
    for name, attributes in Page(html).elements:
        for key in ("href", "src", "srcset", "action", "data", "xlink:href"):
            assert (attributes.get(key) or "#").startswith("#"), (name, attributes)
    style = html.split("<style>")[1].split("</style>")[0]
    assert "url(" not in style
    assert "@import" not in style


def test_the_content_policy_allows_this_style_and_this_script_and_nothing_else(tmp_path: Path):
    html = render(make(tmp_path))
    policy = next(a["content"] for _, a in Page(html).elements if a.get("http-equiv") == "Content-Security-Policy")
    style, script = (html.split(f"<{name}>")[1].split(f"</{name}>")[0] for name in ("style", "script"))
    of_style, of_script = (
        base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (style, script)
    )
    rules = dict(rule.strip().split(" ", 1) for rule in (policy or "").split(";"))
    assert rules == {
        "default-src": "'none'",
        "style-src": f"'sha256-{of_style}'",
        "script-src": f"'sha256-{of_script}'",
        "base-uri": "'none'",
        "form-action": "'none'",
    }


def test_each_language_has_its_own_threshold_line(tmp_path: Path):
    html = render(make(tmp_path))
    drawn = html.split("<title>Histogram of language score</title>")[1].split("</svg>")[0]
    assert re.findall(r'class="marklabel \w+"[^>]*>([^<]*)<', drawn) == ["◂ de 0.5", "◂ en 0.65"]


def test_a_duplicate_stands_beside_its_survivor(tmp_path: Path):
    page = render(make(tmp_path))
    card = page.split('<article class="sample duplicate">')[1].split("</article>")[0]
    dropped, kept = (
        re.findall(r'<div class="text"[^>]*>text number (?:<del>\d+</del><mark>)?(\d+)', card)[at] for at in (0, 1)
    )
    assert int(dropped) - int(kept) == 5
    assert f"<code>web/p#{kept}</code>" in card


def test_a_rule_shows_its_closest_calls_first(tmp_path: Path):
    build = make(tmp_path)
    render(build)
    found = samples.merge(table["samples"][0].as_py() for table in report.collect.collected(build))
    rule = next(entry for entry in found if entry.rule == "near_duplicate")
    assert [row["id"] for row in rule.closest] == ["web/p#30", "web/p#31"]
    assert rule.documents == 10
    low = next(entry for entry in found if entry.rule == "language.low_score")
    distance = {row["id"]: abs(row["value"] - row["threshold"]) / row["threshold"] for row in low.closest}
    assert all(value < 0.05 for value in distance.values())


def test_the_report_of_a_shard_is_made_once_and_again_when_a_ledger_changes(tmp_path: Path):
    build = make(tmp_path)
    step = report.steps()[0]
    shard = build.shards()[0]
    assert [step.work(build, shard).reused for _ in range(2)] == [False, True]
    small_build.write_ledger(build, "minhash", {"other": pa.array(range(40))}, dropped={})
    assert not step.work(build, shard).reused


def test_a_build_without_models_leaves_their_sections_out(tmp_path: Path):
    ids = {attributes.get("id") for _, attributes in Page(render(make(tmp_path))).elements}
    assert {"funnel", "signals", "dropped", "quarantine"} <= ids
    assert ids.isdisjoint({"tokenizers", "pretraining", "finetuning", "budget"})


def test_a_build_that_has_made_nothing_yet_has_a_page(tmp_path: Path):
    page = Page(Path(report.render(small_build.open_small(tmp_path), None)).read_text())
    assert "has not written its corpus yet" in " ".join(page.text.split())


def test_a_page_with_many_rules_and_long_texts_stays_small(tmp_path: Path):
    build = small_build.open_small(tmp_path, exact={}, minhash={})
    documents = [document(number, "длинный текст " * 3000, id=f"web/p#{number}") for number in range(600)]
    small_build.write_documents(build, documents, 150)
    rng = np.random.default_rng(0)
    signals = {f"signal_{number}": pa.array(rng.random(600)) for number in range(60)}
    dropped = {number: (f"rule_{number % 100}", number / 600, 1.0) for number in range(500)}
    small_build.write_ledger(build, "exact", signals, dropped=dropped)
    names = {"duplicate_of": pa.array([f"web/p#{number}" for number in range(600)])}
    small_build.write_ledger(build, "minhash", names, dropped={550: ("near_duplicate", 0.9, 0.8)})
    small_build.close(build)
    assert len(render(build).encode()) < 2_000_000


VALUES = st.lists(
    st.one_of(st.none(), st.floats(-1, 3, width=32), st.floats(0, 1e12), st.sampled_from([0.0, 0.25, 0.5, 1.0])),
    min_size=1,
    max_size=40,
)


def ledger_of(values: list[float | None]) -> pa.Table:
    """A ledger with one signal under one rule, 0.5 at most."""
    signals = {"signal": pa.array(values, pa.float64())}
    verdicts = ledger.judge([ledger.Rule("r", "signal", maximum=0.5)], signals, len(values))
    return pa.table({**signals, **verdicts.columns()})


def histogram_of(*tables: pa.Table) -> histograms.Histogram | None:
    parts = []
    for table in tables:
        counts, thresholds = histograms.count("stage", table, [], pa.nulls(len(table), pa.string()))
        parts.append(
            (pa.array(counts, histograms.COUNTS.value_type), pa.array(thresholds, histograms.THRESHOLDS.value_type))
        )
    found = histograms.merge(parts)
    return found[0] if found else None


@given(VALUES, st.integers(0, 40))
def test_histograms_of_parts_add_up_to_that_of_the_whole(values: list[float | None], cut: int):
    whole = histogram_of(ledger_of(values))
    parts = histogram_of(*(ledger_of(part) for part in (values[:cut], values[cut:]) if part))
    if whole is None or parts is None:
        assert whole == parts
        return
    assert np.array_equal(whole.counts, parts.counts)
    assert whole.documents == sum(value is not None for value in values)
    failed = sum(value is not None and value > 0.5 for value in values)
    assert sum(whole.thresholds.get(("r", "above", 0.5), {}).values()) == failed


@given(VALUES)
def test_every_drawn_column_holds_the_values_between_its_edges(values: list[float | None]):
    found = histogram_of(ledger_of(values))
    if found is None or not found.varies:
        return
    edges, heights, log = histograms.columns_of(found)
    positive = np.array([value for value in values if value is not None and value > 0])
    assert sum(int(row.sum()) for row in heights) == len(positive)
    # a value on an edge belongs to the column below it on the linear scale, above it on the logarithmic one
    side = "right" if log else "left"
    inside = positive[(positive > 2.0**-19) & (positive < 2.0**43)]
    if len(inside) == len(positive):
        clear = all(abs(value - edge) > 1e-9 * max(value, edge) for value in positive for edge in edges)
        at = np.searchsorted(edges, positive, side) - 1
        expected = np.bincount(at, minlength=len(edges) - 1)
        assert not clear or expected.tolist() == np.sum(heights, axis=0).tolist()
    assert all(a < b for a, b in pairwise(edges))


def test_a_threshold_that_no_document_met_is_drawn_from_the_rules():
    rules = [ledger.Rule("r", "score", minimum=0.2, maximum=0.9), ledger.Rule("other", "else", maximum=1.0)]
    assert histograms.static_marks(rules, "score") == [("r", "below", 0.2), ("r", "above", 0.9)]


def test_a_line_through_whole_numbers_stands_between_those_it_parts():
    values = pa.array([1, 1, 2, 3, 8], pa.int64())
    verdicts = ledger.judge([ledger.Rule("r", "copies", maximum=1)], {"copies": values}, len(values))
    found = histogram_of(pa.table({"copies": values, **verdicts.columns()}))
    assert found is not None
    edges, _, _ = histograms.columns_of(found)
    assert histograms.marks(found, edges[0], edges[-1]) == ([charts.Mark(1.5, "1", "above")], 0)


CLUSTERS = st.text(st.sampled_from("aé\u0301\u0308👩\u200d🚒🇩🇪한\r\n "), max_size=900)


@given(CLUSTERS)
def test_an_excerpt_never_cuts_a_character_in_two(text: str):
    whole = regex.findall(r"\X", text)
    shown = formats.excerpt(text).removesuffix(" …")
    plain = shown.replace("\u240d", "\r")
    assert text.startswith(plain)
    assert len(regex.findall(r"\X", plain)) <= formats.LENGTH
    if len(whole) <= formats.LENGTH and len(text) <= 4 * formats.LENGTH:
        assert plain == text
    else:
        assert plain.rstrip() == "".join(whole[: formats.LENGTH]).rstrip()


def test_an_excerpt_of_a_long_document_is_bounded_and_shows_controls():
    shown = samples.excerpts(pa.array(["a\u0301" * 5_000_000, "nul \x00 tab\t", ""]))
    assert len(shown[0]) <= 4 * formats.LENGTH + 2
    assert shown[1:] == ["nul ␀ tab\t", ""]


def test_a_loss_curve_ends_at_the_last_losses():
    rows = [{"step": step, "loss": 10 / step} for step in range(1, 1001)]
    rows.append({"step": 1000, "evaluation": {"loss": 1.5}})
    curve = models.loss_curve("m", [json.dumps(row) for row in rows])
    assert curve is not None
    assert "held out ends at 1.500" in curve
    assert curve.count("L") < 400
    assert models.loss_curve("m", []) is None


def test_models_and_tokenizers_are_shown_as_their_summaries_say(tmp_path: Path):
    build = make(tmp_path)
    recipe = build.recipe.model_copy(update={name: [small_build.Named(name=name)] for name in ("pretrain", "finetune")})
    recipe = recipe.model_copy(update={"tokenizers": [TokenizerConfig(name="bpe", algorithm="bpe", vocab_size=300)]})
    build = Build(build.root, recipe)
    summary = {
        "name": "pretrain", "objective": "causal", "model_type": "gpt2", "steps": 10, "trained_tokens": 1000,
        "epochs": 0.5, "parameters": {"total": 7_400_000, "non_embedding": 3_200_000, "matrices_and_head": 1},
        "evaluation": {"loss": 4.25, "bits_per_byte": 1.375}, "tokens_per_second": 1500.0, "device": "a CPU",
    }  # fmt: skip
    files.write_json(build.path("models", "pretrain", "summary.json"), summary)
    Path(build.path("models", "pretrain", "metrics.jsonl")).write_text('{"step": 1, "loss": 9.5}\n')
    score = {"value": 0.8125, "low": 0.75, "high": 0.875}
    scores = {name: {"accuracy": score, "macro_f1": score} for name in ("majority", "bag_of_words", "model")}
    tuned = {"name": "finetune", "base": "pretrain", "label": "domain", "labels": ["a", "b"], "scores": scores}
    files.write_json(
        build.path("models", "finetune", "summary.json"), {**tuned, "documents": {"train": 90, "test": 10}}
    )
    row = {"tokenizer": "bpe", "domain": "*", "language": "*", "vocab_size": 300, "rare_entries": 77,
           "bytes_per_token": 4.321, "fertility": 1.5, "unknown_rate": 0.0,
           "single_character_share": 0.1, "vocabulary_used": 0.9, "renyi_efficiency": 0.5}  # fmt: skip
    files.write_json(build.path("tokenizers", "report.json"), {"rows": [row]})
    page = render(build)
    text = " ".join(Page(page).text.split())
    for shown in ("1.375", "4.250", "7.40M", "81.2 %", "75.0 % to 87.5 %", "4.32", "90 rows"):
        assert shown in text
    linked = re.findall(r'<li><a href="#(\w+)"', page)
    assert linked == re.findall(r'<section id="(\w+)"', page)  # the navigation goes by the page
    assert {"funnel", "tokenizers", "pretraining", "finetuning"} <= set(linked)


def test_lineage_names_what_a_part_was_made_from_and_what_is_not_here_any_more(tmp_path: Path):
    build = make(tmp_path)
    recipe = build.recipe.model_copy(update={"pretrain": [small_build.Named(name=name) for name in ("new", "old")]})
    recipe = recipe.model_copy(update={"tokenizers": [TokenizerConfig(name="bpe", algorithm="bpe", vocab_size=300)]})
    build = Build(build.root, recipe)
    corpus = files.read_json(build.path("corpus", "manifest.json"))["fingerprint"]
    files.write_json(build.path("tokenizers", "bpe", "manifest.json"), {"sha256": "t" * 64, "vocab_size": 300})
    packed = {"fingerprint": "p" * 32, "tokenizer": "t" * 64, "tokens": 4000}
    files.write_json(build.path("tokens", "bpe", "train", "manifest.json"), packed)
    for name, tokens in (("new", "p" * 32), ("old", "q" * 32)):
        made_from = {"corpus": corpus, "tokenizer": "t" * 64, "tokens": tokens}
        summary = {"fingerprint": name * 8, "steps": 1, "made_from": made_from}
        files.write_json(build.path("models", name, "summary.json"), summary)
    parts = lineage.lineage(build)
    assert parts is not None
    origins = {part.name: part.origin for part in parts}
    assert [part.kind for part in parts] == [
        "source",
        "stage",
        "stage",
        "corpus",
        "tokenizer",
        "tokens",
        "model",
        "model",
    ]
    assert origins["bpe, train"] == "corpus, bpe"
    assert origins["new"] == "corpus, bpe, tokens bpe, train"
    assert origins["old"] == "corpus, bpe, qqqqqqqqqqqq (not here any more)"


def test_the_cost_ladder_of_a_fine_tuning_is_shown(tmp_path: Path):
    build = make(tmp_path)
    build = Build(build.root, build.recipe.model_copy(update={"finetune": [small_build.Named(name="topic")]}))
    score = {"value": 0.8125, "low": 0.75, "high": 0.875}
    tuned = {"name": "topic", "base": "bert", "label": "domain", "labels": ["a", "b"]}
    scores = {"model": {"accuracy": score, "macro_f1": score}}
    rows = {"train": 90, "dev": 20, "test": 1234}
    files.write_json(build.path("models", "topic", "summary.json"), {**tuned, "scores": scores, "documents": rows})
    rung = {"accuracy": score, "macro_f1": score, "seconds": 1.5, "documents_per_second": 4321.0, "bytes": 9_000_000}
    said = {
        "documents": rows,
        "rungs": [{**rung, "name": "frozen", "title": "frozen encoder + head"}],
        "left_out": {"<LoRA>": "needs about 61 s"},
        "recommended": {"name": "frozen", "why": "it is the cheapest"},
        "learning_curve": {"rung": "frozen", "points": [{"labels": 77, "a_class": 38.5, "accuracy": score}]},
    }
    files.write_json(build.path("cost_ladders", "topic.json"), said)
    page = render(build)
    text = " ".join(Page(page).text.split())
    shown = ("* frozen encoder + head", "75.0 % to 87.5 %", "4,321", "9.00 MB", "it is the cheapest", "77", "1,234")
    for expected in (*shown, "Left out: <LoRA>: needs about 61 s."):
        assert expected in text, expected
    said["learning_curve"] = {"rung": None, "why": "no rung is quick enough"}
    said["recommended"] = {"name": None, "why": "10 rows are too few"}
    files.write_json(build.path("cost_ladders", "topic.json"), said)
    text = " ".join(Page(render(build)).text.split())
    assert "not measured: no rung is quick enough." in text
    assert "Nothing is recommended: 10 rows are too few." in text
    assert "* frozen" not in text


def test_navigation_and_sections_of_the_template_are_in_one_order():
    template = (Path(report.__file__).parent / "page.html").read_text()
    sections = [a or b for a, b in re.findall(r'<section id="(\w+)"|include "(\w+)\.html"', template)]
    assert re.findall(r'<li><a href="#(\w+)"', template) == sections


def test_the_report_of_a_build_without_documents_names_the_command_that_is_missing(tmp_path: Path):
    (step,) = report.steps()
    with pytest.raises(MillError, match="no documents here yet; run `mill curate` first"):
        step.items(small_build.open_small(tmp_path))


@pytest.mark.parametrize(
    ("write", "value", "text"),
    [
        (formats.size, 999, "999 B"),
        (formats.size, 999_999, "1.00 MB"),
        (formats.size, 12_340_000_000, "12.3 GB"),
        (formats.short, 9_999, "9,999"),
        (formats.short, 124_000_000, "124M"),
        (formats.short, 0.0625, "0.0625"),
        (formats.power, 2.18e14, "2.18 × 10¹⁴"),
        (formats.number, float("nan"), "–"),
        (formats.number, float("inf"), "∞"),
        (formats.number, 0.64999, "0.65"),
        (titles.rule, "language.low_score", "language low score"),
        (titles.rule, "gopher.word_count", "gopher: word count"),
    ],
)
def test_numbers_are_written_for_people(write, value, text):
    assert write(value) == text


def test_a_share_is_never_rounded_to_all_or_nothing():
    assert formats.share(1, 1_000_000) == "<0.1 %"
    assert formats.share(999_999, 1_000_000) == ">99.9 %"
    assert [formats.share(part, 8) for part in (0, 1, 8)] == ["0.0 %", "12.5 %", "100 %"]


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6), st.integers(2, 8))
def test_ticks_are_few_round_and_inside(low: float, span: float, wanted: int):
    ticks = charts.nice_ticks(low, low + span, wanted)
    assert 1 <= len(ticks) <= wanted + 1
    slack = 1e-6 * max(abs(low), span)
    assert all(low - slack <= value <= low + span + slack for value in ticks)


def test_quarantine_counts_come_from_the_manifest_and_examples_from_the_tables(tmp_path: Path):
    build = small_build.open_small(tmp_path, language=None)
    row = {"source": "web", "offset": 7, "reason": "not JSON", "excerpt": "{"}
    rows = [{**row, "file": "a", "record": number} for number in range(1, 9)]
    small_build.write_documents(build, [document(0, "text")], 10, rows)
    found = report.sections.quarantine(build)
    assert found is not None
    assert (found["records"], found["rows"][0]["records"]) == (8, 8)
    assert [example["record"] for example in found["rows"][0]["examples"]] == [1, 2, 3]
    assert shards.read_table(build.path("quarantine", "web-00000.arrow")).num_rows == 8


def test_warnings_forgotten_documents_changed_texts_and_evaluation_items_are_on_the_page(tmp_path: Path):
    build = small_build.open_small(tmp_path, language=language.Config(keep=KEEP), minhash={}, decontaminate={})
    small_build.write_documents(build, [document(0, "text")], 10)
    manifest = files.read_json(build.path("documents", "manifest.json"))
    manifest["sources"]["web"] |= {
        "forgotten": {"documents": 2, "bytes": 4321},
        "normalised": {"nfc": {"documents": 7, "bytes_before": 150, "bytes_after": 120}},
    }
    files.write_json(build.path("documents", "manifest.json"), manifest)
    for stage in build.stages:
        small_build.write_ledger(build, stage, {})
    small_build.close(build)
    clusters = {
        **dict.fromkeys(("clusters", "clustered_documents", "dropped", "dropped_by_chain", "largest_cluster"), 3),
        "sources": {HOSTILE: {"documents": 9, "dropped": 8}},
        "largest_above_cap": [{"survivor": f"id{HOSTILE}", "size": 2000, "kept": 5}],
        "warnings": [f"source {HOSTILE} lost 8 of 9: see `mill sample {HOSTILE}`", "one ` alone"],
    }
    files.write_json(build.path("work", "minhash.clusters", "report.json"), clusters)
    place = {"document": f"web/d{HOSTILE}", "overlap": 0.75, "bytes": [[0, 9]]}
    held = {"items": 40, "held": {"gsm#4": [place]}, "not_checkable": ["a", "b"]}
    held |= {"common": {"gsm#7": {"documents": 900, "example": "w/9"}}, "common_documents": 900, "common_above": 100}
    files.write_json(build.path("decontamination.json"), {"gsm": held})
    page = Path(report.render(build)).read_text("utf-8")
    assert "<script>alert" not in page
    for told in ("lost 8 of 9", "2 forgotten documents", "4.32 kB", "normal form C", "150 B", "2,000", "gsm#4", "75"):
        assert told in page, told
    assert "<code>mill sample " in page
    assert "one ` alone" in page


def test_a_chart_as_an_image_is_an_svg_with_a_style_of_its_own():
    series = [charts.Series("bpe", "heldout", [(1000, 3.0), (2000, 3.5)])]
    drawn = charts.image(charts.lines("Bytes & tokens", "a <chart>", series, "entries", "bytes per token"))
    kind, content = drawn.split(",", 1)
    assert kind == "data:image/svg+xml;base64"
    root = ElementTree.fromstring(base64.b64decode(content))
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert root.find("{http://www.w3.org/2000/svg}style") is not None
    assert "Bytes & tokens" in "".join(root.itertext())


@pytest.mark.parametrize(
    ("value", "threshold", "shown"),
    [
        (0.4999999, 0.5, ("0.4999999", "0.5")),
        (228.1234, 228.1, ("228.12", "228.1")),
        (0.3, 0.5, ("0.3", "0.5")),
        (0.5, 0.5, ("0.5", "0.5")),
        (12345.25, 12345, ("12,345.2", "12,345")),
    ],
)
def test_a_value_and_its_threshold_never_look_the_same(value, threshold, shown):
    assert formats.apart(value, threshold) == shown


def test_a_time_is_in_the_unit_that_suits_it():
    hours = (7.12e-06, 8.33 / 60, 2.5, 1200, 74_994, None)
    assert list(map(formats.duration, hours)) == ["0.0256 s", "8.33 min", "2.5 h", "50 days", "8.555 years", "–"]


def test_a_rule_is_named_with_its_subject():
    assert titles.rule("perplexity.too_high") == "perplexity too high"
    assert titles.rule("language.not_wanted") == "language not wanted"
    assert titles.rule("gopher.mean_word_length") == "gopher: mean word length"


@pytest.mark.parametrize(
    ("stage", "rule", "shown"),
    [
        ("perplexity", "perplexity.too_high", "Perplexity: too high"),
        ("language", "language.not_wanted", "Language ID: not wanted"),
        ("heuristics", "gopher_quality.min_words", "Heuristic filters: gopher quality: min words"),
        ("minhash", "near_duplicate", "Near-duplicates: near duplicate"),
    ],
)
def test_a_rule_beside_its_stage_says_nothing_twice(stage: str, rule: str, shown: str):
    assert titles.rule_of_stage(stage, rule) == shown
