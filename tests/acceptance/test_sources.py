"""The readers on real files: every record of the shared prose and near-duplicates, whole and cut off."""

from __future__ import annotations

import gzip
import json
import zlib
from pathlib import Path

import pytest
from pydantic import ByteSize
from warcio.archiveiterator import ArchiveIterator

from pipeline.sources import quarantine
from pipeline.sources.jsonl import Jsonl
from pipeline.sources.text import Text
from pipeline.sources.warc import Warc
from pipeline.store import files
from tests.pipeline.curation.test_ingest import build_of, carry_out, documents, quarantined


def expected(shared: Path, pattern: str, field: str = "text") -> list[str]:
    """The texts as the standard library reads them, files in order of their names."""
    found = []
    for path in sorted(shared.glob(pattern)):
        with gzip.open(path) as handle:
            found += [json.loads(line)[field] for line in handle.read().split(b"\n") if line]
    return found


def test_every_record_of_the_shared_prose_becomes_one_document(shared, tmp_path):
    sources = (
        Jsonl(name="prose", path=[f"{shared}/prose/**/*.jsonl.gz"], domain_field="domain"),
        Text(name="books", path=[f"{shared}/prose/books/*.txt.gz"]),
    )
    build = build_of(tmp_path, sources, shard_bytes=16 << 20, error_budget=0)
    carry_out(build)
    rows = documents(build)
    texts = expected(shared, "prose/**/*.jsonl.gz")
    assert len(texts) > 40_000
    assert [row["text"] for row in rows if row["source"] == "prose"] == texts
    assert [row["text"] for row in rows if row["source"] == "books"] == [
        gzip.decompress((shared / f"prose/books/{name}.txt.gz").read_bytes()).decode("utf-8-sig")
        for name in ("botchan", "tinyshakespeare")
    ]
    assert {row["domain"] for row in rows} >= {"encyclopedia", "science", "techdocs", "dialogue", "news", "legal"}
    assert len({row["id"] for row in rows}) == len(rows)


def test_every_record_of_the_near_duplicates_keeps_its_own_id(shared, tmp_path):
    path = [f"{shared}/neardup/articles_minhash.jsonl.gz", f"{shared}/neardup/*_docs.jsonl.gz"]
    build = build_of(tmp_path, (Jsonl(name="near", path=path),), shard_bytes=1 << 20, error_budget=0)
    carry_out(build)
    rows = documents(build)
    names = ("articles_minhash", "britannica_1810_vs_1815_docs", "pep_revisions_docs")
    own = [f"near/{name}.jsonl.gz#{i}" for name in names for i in expected(shared, f"neardup/{name}.jsonl.gz", "id")]
    assert [row["id"] for row in rows] == own
    assert [row["text"] for row in rows] == [
        text for name in names for text in expected(shared, f"neardup/{name}.jsonl.gz")
    ]


@pytest.mark.parametrize("part", [0.1, 0.5, 0.999])
def test_of_a_real_file_cut_off_every_record_before_the_cut_is_kept(shared, tmp_path, part):
    name = "us_presidents.jsonl.gz"
    raw = (shared / "prose/speech" / name).read_bytes()
    (tmp_path / name).write_bytes(raw[: int(len(raw) * part)])
    source = Jsonl(name="speech", path=[f"{tmp_path}/{name}"])
    build = build_of(tmp_path / "build", (source,), shard_bytes=1 << 20, error_budget=1)
    carry_out(build)
    texts = expected(shared, f"prose/speech/{name}")
    kept = [row["text"] for row in documents(build)]
    assert kept == texts[: len(kept)]
    (lost,) = files.read_json(build.path("documents", "manifest.json"))["sources"]["speech"]["unread"]["stretches"]
    assert lost["after_record"] == len(kept)
    assert lost["reason"] == "the compressed file ends in mid stream"
    stored = (tmp_path / name).read_bytes()
    assert len(kept) == zlib.decompressobj(wbits=31).decompress(stored).count(b"\n")
    with pytest.raises(quarantine.ErrorBudgetExceeded, match="ends in mid stream"):
        carry_out(build_of(tmp_path / "strict", (source,), error_budget=1e-6))


def test_a_paragraph_source_of_real_text_loses_no_line(shared, tmp_path):
    source = Text(name="wiki", path=[f"{shared}/prose/encyclopedia/wikitext2_valid.txt.gz"], block_bytes=ByteSize(2000))
    build = build_of(tmp_path, (source,), shard_bytes=100_000, error_budget=0)
    carry_out(build)
    raw = gzip.decompress((shared / "prose/encyclopedia/wikitext2_valid.txt.gz").read_bytes()).decode()
    rows = documents(build)
    lines = [line for row in rows for line in row["text"].split("\n") if line.strip()]
    assert lines == [line for line in raw.split("\n") if line.strip()]
    assert len(rows) > 200
    assert files.read_json(build.path("documents", "manifest.json"))["sources"]["wiki"]["documents"] == len(rows)


def test_one_crawl_stored_as_warc_and_as_arc_gives_the_same_documents(shared, tmp_path):
    found = []
    for name in ("example.warc.gz", "example.arc.gz"):
        source = Warc(name="crawl", path=[f"{shared}/web/warc_aut/{name}"])
        build = build_of(tmp_path / name, (source,), shard_bytes=1 << 20, error_budget=0)
        carry_out(build)
        found.append([(row["url"], row["text"]) for row in documents(build)])
    assert found[0] == found[1]
    with (shared / "web/warc_aut/example.warc.gz").open("rb") as handle:
        records = [
            record.rec_headers.get_header("WARC-Target-URI")
            for record in ArchiveIterator(handle)
            if record.rec_type == "response"
            and record.http_headers
            and record.http_headers.get_statuscode() == "200"
            and (record.http_headers.get_header("Content-Type") or "").startswith(("text/html", "text/plain"))
        ]
    assert [url for url, _ in found[0]] == records


def test_a_page_is_the_same_document_in_a_plain_and_in_a_compressed_archive(shared, tmp_path):
    source = Warc(name="cc", path=[f"{shared}/web/warc_commoncrawl/whirlwind.warc*"])
    build = build_of(tmp_path, (source,), shard_bytes=1 << 20, error_budget=0)
    carry_out(build)
    rows = {row["id"].split("/")[1].split("#")[0]: row for row in documents(build)}
    assert rows.keys() == {"whirlwind.warc", "whirlwind.warc.gz", "whirlwind.warc.wet", "whirlwind.warc.wet.gz"}
    assert rows["whirlwind.warc"]["text"] == rows["whirlwind.warc.gz"]["text"]
    assert rows["whirlwind.warc.wet"]["text"] == rows["whirlwind.warc.wet.gz"]["text"]
    assert {row["url"] for row in rows.values()} == {"https://an.wikipedia.org/wiki/Escopete"}


def test_the_deliberately_broken_archives_are_read_as_far_as_they_go(shared, tmp_path):
    source = Warc(name="odd", path=[f"{shared}/web/warc_warcio/*arc*", f"{shared}/web/warc_aut/bad*"])
    build = build_of(tmp_path, (source,), shard_bytes=1 << 20, error_budget=1)
    carry_out(build)
    pages = {row["id"].split("#")[0].rpartition("/")[2]: row for row in documents(build)}
    for name in ("example.warc", "example.arc", "example-bad-non-chunked.warc.gz", "example-wrong-chunks.warc.gz"):
        assert pages[name]["url"] == "http://example.com/"
        assert "established to be used for" in pages[name]["text"]
    bad = {(Path(row["file"]).name, row["reason"]) for row in quarantined(build)}
    assert bad == {
        ("bad.arc", "not a WARC or ARC record"),  # lengths of -1 and abc
        ("bad.arc", "not an HTTP response"),
        ("badexample.arc.gz", "not a WARC or ARC record"),
        ("example-trunc.warc", "not a WARC or ARC record"),
    }
