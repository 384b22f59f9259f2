"""Bad input through a whole build: nothing crashes, nothing is lost, everything is counted."""

from __future__ import annotations

import gzip
import io
import json
import resource
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from warcio.warcwriter import WARCWriter

from pipeline.build.build import Build
from pipeline.curation import recipe as recipes
from pipeline.sources import quarantine
from pipeline.store import files, shards
from tests.helpers import building
from tests.helpers.asking import TOPICS

GOOD = [text for _, text in sorted(TOPICS.items())[:6]]

#: Every stage that looks at text; thresholds that let texts reach the next stage.
STAGES: dict[str, Any] = {
    "normalise": {},
    "urls": {"banned_words": ["spam"]},
    "language": {"keep": {"*": 0.0}},
    "heuristics": {
        "gopher_quality": {
            **dict.fromkeys(("min_words", "min_mean_word_length", "min_words_with_letter", "min_stop_words"), 0),
            **dict.fromkeys(
                ("max_words", "max_mean_word_length", "max_hashes_per_word", "max_ellipses_per_word"), 1e12
            ),
        },
        "gopher_repetition": {
            **dict.fromkeys(("max_duplicate_paragraphs", "max_duplicate_paragraph_characters"), 1),
            **dict.fromkeys(("max_duplicate_lines", "max_duplicate_line_characters"), 1),
            "max_top_ngram_characters": {2: 1},
            "max_duplicate_ngram_characters": {5: 1},
        },
        "c4": {"min_sentences": 0, "min_words_per_line": 0, "end_punctuation": False},
        "fineweb": {"min_lines_with_end_punctuation": 0, "max_short_lines": 1, "max_newlines_per_word": 1e12},
    },
    "pii": {},
    "exact": {},
    "minhash": {},
    "passages": {"unit": "line"},
    "substring": {},
    "index": True,
    "balance": {},
}


def recipe_over(*sources: dict[str, Any], **changes: Any) -> recipes.Recipe:
    listed = [{"name": f"s{number}", **source} for number, source in enumerate(sources)]
    values = {"name": "bad", "error_budget": 1, "shard_bytes": "64KiB", "sources": listed, **STAGES, **changes}
    return recipes.Recipe.model_validate(values)


def built(root: Path, *sources: dict[str, Any], records: int, **changes: Any) -> Build:
    """The finished build, after checking that its account adds up to ``records``."""
    build, _ = building.make(recipe_over(*sources, **changes), root / "build")
    account = files.read_json(build.path("funnel.json"))
    kept = len(building.curated(build))
    dropped = sum(rule["documents"] for stage in account["stages"] for rule in stage["dropped"].values())
    assert kept + dropped + sum(account["quarantined"].values()) == records
    assert account["stages"][-1]["documents"] == kept
    return build


def fates(build: Build) -> dict[str, str | None]:
    """The rule that dropped each document, by the record's own id or number; None where it is kept."""
    found: dict[str, str | None] = {}
    for shard in build.shards():
        ids = build.documents(shard)["id"].to_pylist()
        for stage in build.stages:
            for name, rule in zip(ids, build.ledger(stage, shard)["dropped_by"].to_pylist(), strict=True):
                found[name.rpartition("#")[2]] = found.get(name.rpartition("#")[2]) or rule
    return found


def quarantined(build: Build) -> dict[str, int]:
    """Reasons and how often."""
    sources = files.read_json(build.path("documents", "manifest.json"))["sources"]
    return {reason: entry["count"] for source in sources.values() for reason, entry in source["reasons"].items()}


def json_lines(records: Sequence[dict[str, Any] | str]) -> bytes:
    return b"".join((line if isinstance(line, str) else json.dumps(line)).encode() + b"\n" for line in records)


def source_of(path: Path, data: bytes, kind: str = "jsonl", **fields: Any) -> dict[str, Any]:
    path.write_bytes(data)
    return {"kind": kind, "path": str(path), **fields}


def good(**more: str) -> list[dict[str, Any] | str]:
    return [
        *({"id": f"good{i}", "text": text} for i, text in enumerate(GOOD)),
        *({"id": k, "text": v} for k, v in more.items()),
    ]


CHINESE = [
    "今天的天气很好，我们一起去公园散步，看见湖边有许多孩子在放风筝，老人们在树下下棋聊天。",
    "数据去重是训练语言模型之前的重要步骤，重复的网页会让模型记住不该记住的内容并浪费计算。",
    "他在北京出生，后来搬到上海读书，毕业以后在一家小公司做了十年的软件工程师才回到家乡。",
    "这本书讲的是一个渔民和大海的故事，语言简单而有力量，读完以后让人久久不能平静下来。",
]


def test_texts_without_words_and_texts_in_chinese_are_counted_and_not_taken_for_one_another(tmp_path):
    odd = {
        "empty": "",
        "spaces": " \t\n \u3000\n",
        "emoji": "😀🎉👩‍👩‍👧‍👦🏳️‍🌈" * 40,
        "other emoji": "🚀✨🔥" * 50,
        "marks": "…!?—" * 30,
        "nul": "a\x00b\x00" * 20,
        **{f"zh{i}": text for i, text in enumerate(CHINESE)},
        "zh0 again": CHINESE[0],
    }
    build = built(tmp_path, source_of(tmp_path / "a.jsonl", json_lines(good(**odd))), records=len(GOOD) + len(odd))
    found = fates(build)
    assert found.keys() == {*odd, *(f"good{i}" for i in range(len(GOOD)))}
    assert quarantined(build) == {}
    duplicates = {name for name, rule in found.items() if rule in ("exact_duplicate", "near_duplicate")}
    assert len(duplicates & {"zh0", "zh0 again"}) == 1
    assert not duplicates & {"empty", "emoji", "other emoji", "marks", "nul", "zh1", "zh2", "zh3"}


def test_texts_without_words_pass_deduplication_by_exact_copies_alone(tmp_path):
    """Without filters: what has no shingles is similar to nothing, and equal texts are still one."""
    odd = {
        "empty": "",
        "spaces": "  \n",
        "emoji": "😀" * 9,
        "copy": "😀" * 9,
        "more": "😀" * 10,
        **{f"z{i}": t for i, t in enumerate(CHINESE)},
    }
    alone = {"heuristics": None, "passages": None, "substring": None, "normalise": None}
    source = source_of(tmp_path / "a.jsonl", json_lines([{"id": k, "text": v} for k, v in odd.items()]))
    found = fates(built(tmp_path, source, records=len(odd), **alone))
    dropped = {name: rule for name, rule in found.items() if rule}
    assert set(dropped.values()) == {"exact_duplicate"}
    assert len(dropped) == 2  # one of empty and spaces, which normalised are equal; one of the equal emoji
    assert len(dropped.keys() & {"empty", "spaces"}) == len(dropped.keys() & {"emoji", "copy"}) == 1


def test_nul_bytes_invalid_utf8_lone_surrogates_and_deep_nesting_are_quarantined_or_kept_each_by_itself(tmp_path):
    deep = '{"id": "deep", "text": "x", "more": ' + "[" * 100_000 + "]" * 100_000 + "}"
    deep_metadata = {"id": "level", "text": GOOD[0]}
    for _ in range(400):
        deep_metadata = {"id": "level", "text": GOOD[0], "more": deep_metadata}
    lines = json_lines([*good(), deep, deep_metadata, '{"id": "half", "text": "a \\ud800 b"}'])
    lines += b'{"id": "latin", "text": "caf\xe9"}\n\x00\x00\x00\n{"id": "nul", "text": "a\x00b"}\n'
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "nul.txt").write_bytes(b"zero \x00 bytes")
    (tree / "latin.txt").write_bytes(b"caf\xe9")
    table = b"text,n\ncaf\xe9,1\nfine,2\na\x00b,3\n"
    sources = (
        source_of(tmp_path / "a.jsonl", lines),
        {"kind": "text", "path": f"{tree}/*.txt"},
        source_of(tmp_path / "a.csv", table, "csv"),
    )
    build = built(tmp_path, *sources, records=len(GOOD) + 6 + 2 + 3)
    reasons = quarantined(build)
    assert reasons["invalid UTF-8"] == 1  # the last source's count stands for the reason: one row of CSV
    folder = build.path("quarantine")
    rows = [row for name in files.list_files(folder) for row in shards.read_table(files.join(folder, name)).to_pylist()]
    assert {(row["source"], row["record"]) for row in rows} == {
        *(("s0", len(GOOD) + number) for number in range(1, 7)),
        ("s1", 1),
        ("s2", 1),
    }


def damaged(name: str, tmp_path: Path) -> dict[str, Any]:
    """A source of one file cut off in the middle."""
    if name == "warc":
        buffer = io.BytesIO()
        writer = WARCWriter(buffer, gzip=True)
        for number, text in enumerate(GOOD):
            page = f"<html><body><article><p>{text[:1500]}</p></article></body></html>".encode()
            headers = {"Content-Type": "text/html"}
            writer.write_record(
                writer.create_warc_record(
                    f"http://x/{number}",
                    "resource",
                    io.BytesIO(page),
                    warc_content_type="text/html",
                    warc_headers_dict=headers,
                )
            )
        data = buffer.getvalue()
        return source_of(tmp_path / "a.warc.gz", data[: len(data) * 3 // 4], "warc")
    data = json_lines([{"id": str(i), "text": text} for i, text in enumerate(GOOD * 5)])
    if name == "gz":
        packed = gzip.compress(data)
        return source_of(tmp_path / "a.jsonl.gz", packed[: len(packed) * 3 // 4])
    packed = b"".join(zstandard.compress(data[i : i + 20_000]) for i in range(0, len(data), 20_000))
    return source_of(tmp_path / "a.jsonl.zst", packed[: len(packed) * 3 // 4])


@pytest.mark.parametrize("name", ["gz", "zst", "warc"])
def test_of_a_truncated_archive_what_comes_before_the_cut_is_kept_and_what_is_missing_weighs_as_much(tmp_path, name):
    source = damaged(name, tmp_path)
    build, _ = building.make(recipe_over(source), tmp_path / "build")
    documents = sum(len(build.documents(shard)) for shard in build.shards())
    assert documents > 1
    total = files.read_json(build.path("documents", "manifest.json"))["sources"]["s0"]
    assert total["unread"]["count"] + total["quarantined"] == 1
    if name != "warc":
        with pytest.raises(
            quarantine.ErrorBudgetExceeded, match=rf"ends after record {documents}, how much is missing"
        ):
            building.make(recipe_over(source, error_budget=0.49), tmp_path / "stopped")


def bombs(tmp_path: Path) -> list[dict[str, Any]]:
    """600 MB or more in small files: one endless line, many lines, a column that repeats a long text."""
    zeros = b"0" * (1 << 20)
    with gzip.open(tmp_path / "a.jsonl.gz", "wb") as handle:
        for _ in range(600):
            handle.write(zeros)
    compressor = zstandard.ZstdCompressor().compressobj()
    line = json.dumps({"text": "bomb " * 1000}).encode() + b"\n"
    packed = b"".join(compressor.compress(line * 200) for _ in range(600)) + compressor.flush()
    (tmp_path / "a.jsonl.zst").write_bytes(packed)
    long = pa.DictionaryArray.from_arrays(pa.array([0] * 2000, pa.int32()), pa.array(["long text " * 30_000]))
    pq.write_table(pa.table({"text": long}), tmp_path / "a.parquet")
    pages = pa.table({"text": ["page " * 40_000_000]})
    pq.write_table(pages, tmp_path / "b.parquet", use_dictionary=False, compression="zstd")
    return [
        {"kind": "jsonl", "path": f"{tmp_path}/*.gz"},
        {"kind": "jsonl", "path": f"{tmp_path}/*.zst"},
        {"kind": "parquet", "path": f"{tmp_path}/a.parquet"},
        {"kind": "parquet", "path": f"{tmp_path}/b.parquet"},
    ]


@pytest.mark.slow
def test_decompression_bombs_are_stopped_in_bounded_memory(tmp_path):
    sources = bombs(tmp_path)
    assert all(path.stat().st_size < 1_000_000 for path in tmp_path.iterdir())
    last = {"kind": "jsonl", "path": f"{tmp_path}/good.jsonl"}
    recipe = recipe_over(*sources, last, shard_bytes="64MiB", normalise=None)
    (tmp_path / "good.jsonl").write_bytes(json_lines(good()))
    (tmp_path / "recipe.json").write_text(recipe.model_dump_json(exclude={"against"}))
    peak = in_child(tmp_path / "recipe.json", tmp_path / "build", limit=3 << 30)
    assert peak < 900, f"{peak} MB"
    build = Build(str(tmp_path / "build"), recipe)
    manifest = files.read_json(build.path("documents", "manifest.json"))["sources"]
    for source in ("s0", "s1", "s2", "s3"):
        found = {entry["reason"] for entry in manifest[source]["unread"]["stretches"]}
        assert found | manifest[source]["reasons"].keys() == {"expands beyond max_compression_ratio"}, source
    assert manifest["s4"]["documents"] == len(GOOD)


def in_child(recipe: Path, root: Path, limit: int) -> int:
    """Ingest ``recipe`` in a process of its own; its peak of resident memory in MB."""
    program = (
        "import sys; from pipeline.build.build import Build; from pipeline.curation import ingest, recipe;"
        "from pathlib import Path;"
        "build = Build(sys.argv[2], recipe.Recipe.model_validate_json(Path(sys.argv[1]).read_text()));"
        "[step.work(build, item) for step in ingest.steps() for item in step.items(build)];"
        # not getrusage: what it tells includes the parent's memory at the fork
        "print(Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0])"
    )
    run = subprocess.run(
        [sys.executable, "-c", program, str(recipe), str(root)],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
    )
    assert run.returncode == 0, run.stderr[-2000:]
    return int(run.stdout) // 1024


def test_records_that_share_an_id_are_all_there_under_names_of_their_own(tmp_path):
    lines = json_lines([{"id": "same", "text": text} for text in GOOD] + [{"id": "same", "text": GOOD[0]}])
    build = built(tmp_path, source_of(tmp_path / "a.jsonl", lines), records=len(GOOD) + 1, heuristics=None)
    found = fates(build)
    assert len(found) == len(GOOD) + 1
    assert list(found.values()).count("exact_duplicate") == 1


@pytest.mark.slow
def test_one_line_of_40_mb_goes_through_every_stage_or_is_quarantined_where_that_is_too_long(tmp_path):
    """Ten times what is read or decompressed at a time, and more than any stage takes as one block."""
    piece = "".join(f"word{i % 5000} " for i in range(20_000))
    path = tmp_path / "a.jsonl"
    path.write_bytes(json_lines(good(huge=piece * (40_000_000 // len(piece)))))
    build = built(tmp_path, {"kind": "jsonl", "path": str(path)}, records=len(GOOD) + 1)
    assert "huge" in fates(build)
    limited = {"kind": "jsonl", "path": str(path), "max_document_bytes": "20MB"}
    (tmp_path / "limited").mkdir()
    less = built(tmp_path / "limited", limited, records=len(GOOD) + 1)
    assert quarantined(less) == {"longer than max_document_bytes": 1}


@pytest.mark.slow
def test_hundreds_of_thousands_of_tiny_documents_are_all_accounted_for(tmp_path):
    path = tmp_path / "a.jsonl"
    with path.open("w") as handle:
        for number in range(250_000):
            handle.write(f'{{"text": "tiny {number % 225_000}"}}\n')
    only = dict.fromkeys(("language", "pii", "passages", "substring", "index"))
    only = {**only, "heuristics": None, "index": False, "shard_bytes": "1MiB"}
    build = built(tmp_path, {"kind": "jsonl", "path": str(path)}, records=250_000, **only)
    account = files.read_json(build.path("funnel.json"))
    exact = next(stage for stage in account["stages"] if stage["stage"] == "exact")
    assert exact["dropped"]["exact_duplicate"]["documents"] == 25_000
    assert account["stages"][-1]["documents"] == 225_000
