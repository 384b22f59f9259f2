import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from pipeline.store import files, shards
from pipeline.store.packed_tokens import PackedTokens
from pipeline.tokenization import pack, report
from pipeline.tokenization.config import PackConfig, TokenizerConfig
from pipeline.tokenization.encoding.encode import Encoder
from pipeline.tokenization.formats import export
from pipeline.tokenization.steps.inputs import SPLITS
from pipeline.tokenization.steps.training import NothingToTrainOn
from pipeline.tokenization.training import counts, train
from tests.pipeline.tokenization.conftest import THREE, StandIn, documents, make_build, run


def ids_of(build, name, split):
    return PackedTokens(build.path("tokens", name, split)).documents["id"].to_pylist()


@pytest.mark.parametrize("config", THREE, ids=lambda c: c.name)
def test_every_document_is_packed_in_exactly_one_split(built, config):
    train, heldout = (ids_of(built, config.name, split) for split in SPLITS)
    assert sorted(train + heldout) == sorted(d["id"] for d in documents())
    assert len(heldout) == 12  # a tenth of sixty, in each of two domains


@pytest.mark.parametrize("config", THREE, ids=lambda c: c.name)
def test_packed_tokens_are_the_documents_encoded_and_closed(built, config):
    tokenizer = Tokenizer.from_file(built.path("tokenizers", config.name, "tokenizer.json"))
    packed = PackedTokens(built.path("tokens", config.name, "train"))
    texts = {d["id"]: d for d in documents()}
    eos = [packed.special_ids["eos"]] if "eos" in packed.special_ids else []
    for row, start, stop in zip(packed.documents.to_pylist(), packed.starts, packed.starts[1:], strict=False):
        document = texts[row["id"]]
        expected = tokenizer.encode(document["text"], add_special_tokens=False).ids + eos
        assert packed.tokens(start, stop).tolist() == expected
        assert row["bytes"] == len(document["text"].encode())
        assert (row["repeats"], row["domain"]) == (document["repeats"], document["domain"])
    assert packed.vocab_size == tokenizer.get_vocab_size()


def test_a_second_run_does_nothing(built):
    assert all(outcome.reused for outcomes in run(built).values() for outcome in outcomes)


def test_results_do_not_depend_on_shards_or_order(tmp_path, built):
    other = make_build(tmp_path, StandIn(), shard_count=7, rows=documents()[::-1])
    run(other)
    for config in THREE:
        one, two = (files.file_digest(b.path("tokenizers", config.name, "tokenizer.json")) for b in (built, other))
        assert one == two
        assert sorted(ids_of(built, config.name, "heldout")) == sorted(ids_of(other, config.name, "heldout"))
    rows = [files.read_json(b.path("tokenizers", "report.json"))["rows"] for b in (built, other)]
    assert rows[0] == rows[1]


def test_a_changed_tokenizer_is_made_again_and_only_it(tmp_path):
    build = make_build(tmp_path, StandIn())
    run(build)
    changed = [THREE[0].model_copy(update={"vocab_size": 350}), *THREE[1:]]
    again = run(replace(build, recipe=StandIn(tokenizers=changed)))
    assert [outcome.reused for outcome in again["tokenizer.train"]] == [False, True, True]
    assert all(outcome.reused for outcome in again["tokenizer.counts"])
    assert [outcome.reused for outcome in again["pack"]] == [False] * 3 + [True] * 6
    assert PackedTokens(build.path("tokens", "bytes", "train")).vocab_size == 350


def test_a_changed_document_is_counted_and_packed_again_in_its_shard_only(tmp_path):
    rows = documents()
    build = make_build(tmp_path, StandIn(tokenizers=THREE[:1]), rows=rows)
    run(build)
    limits = files.read_json(build.path("tokenizers", "split.json"))["thresholds"]
    rows[0] = {**rows[0], "text": "something else entirely"}
    make_build(tmp_path, StandIn(tokenizers=THREE[:1]), rows=rows)
    again = run(build)
    assert [outcome.reused for outcome in again["tokenizer.counts"]] == [False, True, True]
    assert files.read_json(build.path("tokenizers", "split.json"))["thresholds"] == limits


def test_tokenizers_never_see_held_out_documents(tmp_path):
    rows = [{**d, "domain": "one"} for d in documents(20)]
    build = make_build(tmp_path / "a", StandIn(tokenizers=THREE[:1]), rows=rows)
    run(build)
    held = set(ids_of(build, "bytes", "heldout"))
    assert held
    for row in rows:
        if row["id"] in held:
            row["text"] = "zzzz " * 1000
    other = make_build(tmp_path / "b", StandIn(tokenizers=THREE[:1]), rows=rows)
    run(other)
    assert files.file_digest(build.path("tokenizers", "bytes", "tokenizer.json")) == files.file_digest(
        other.path("tokenizers", "bytes", "tokenizer.json")
    )


LITERAL = [
    *THREE,
    TokenizerConfig(name="words", algorithm="bpe", vocab_size=300, pre_tokenizer="whitespace"),
    TokenizerConfig(name="llama", algorithm="bpe", vocab_size=600, pre_tokenizer="metaspace", byte_fallback=True),
    TokenizerConfig(name="few", algorithm="unigram", vocab_size=200, limit_alphabet=12),
    TokenizerConfig(name="fallback", algorithm="unigram", vocab_size=600, byte_fallback=True, limit_alphabet=12),
]
MARKS = ["<s>", "</s>", "<pad>", "<unk>", "<|endoftext|>", "[SEP]", "[PAD]", "[CLS]", "[MASK]", "<0x41>", "</w>"]


@pytest.fixture(scope="module")
def literal(tmp_path_factory):
    """A build of documents that hold special tokens as text: inside words, alone, and often enough to be learned."""
    rows = documents()
    for index, row in enumerate(rows):
        marks = " ".join(f"del{mark}x {mark} {mark}{mark}" for mark in MARKS[index % 3 :])
        row["text"] = f"{marks} {row['text']} {marks}"
    build = make_build(tmp_path_factory.mktemp("literal"), StandIn(tokenizers=LITERAL), rows=rows)
    run(build)
    return build, {row["id"]: row["text"] for row in rows}


@pytest.mark.parametrize("config", LITERAL, ids=lambda config: config.name)
def test_special_tokens_in_the_text_are_text(literal, config):
    build, texts = literal
    folder = build.path("tokenizers", config.name)
    engine, auto = Tokenizer.from_file(f"{folder}/tokenizer.json"), AutoTokenizer.from_pretrained(folder)
    engine.encode_special_tokens = True
    vocabulary = engine.get_vocab(with_added_tokens=True)
    assert sorted(vocabulary.values()) == list(range(len(vocabulary)))
    assert len(files.read_json(f"{folder}/tokenizer.json")["model"]["vocab"]) == len(vocabulary)
    roles = export.special_ids(config)
    assert {role: vocabulary[token] for role, token in config.special.items()} == roles
    never = {index for role, index in roles.items() if role != "unk"}
    for split in SPLITS:
        packed = PackedTokens(build.path("tokens", config.name, split))
        assert packed.special_ids == roles
        for name, start, stop in zip(
            packed.documents["id"].to_pylist(), packed.starts, packed.starts[1:], strict=False
        ):
            found = packed.tokens(start, stop).tolist()
            if "eos" in roles:
                assert found.pop() == roles["eos"]
            assert not never & set(found)
            assert found == engine.encode(texts[name], add_special_tokens=False).ids
            assert found == auto(texts[name], add_special_tokens=False, split_special_tokens=True)["input_ids"]


@pytest.mark.parametrize("config", LITERAL, ids=lambda config: config.name)
def test_a_program_that_reads_special_tokens_from_text_gets_them(literal, config):
    """What the guide warns of: the default of both libraries for text that is not trusted."""
    build, _ = literal
    auto = AutoTokenizer.from_pretrained(build.path("tokenizers", config.name))
    token = next(iter(config.special.values()))
    assert auto(f"new {token} low")["input_ids"].count(auto.convert_tokens_to_ids(token)) == 1


def test_packing_stops_at_nothing_and_says_so(tmp_path):
    build = make_build(tmp_path, StandIn(tokenizers=THREE[:1]), rows=[], shard_count=1)
    with pytest.raises(NothingToTrainOn, match="no text to train tokenizer 'bytes'"):
        run(build)


def test_a_recipe_without_tokenizers_has_nothing_to_do(tmp_path):
    build = make_build(tmp_path, StandIn(tokenizers=[]))
    assert sum(map(len, run(build).values())) == 1  # the split


def test_each_domain_gives_its_share_of_held_out_documents():
    ids = pa.array([f"d{i}" for i in range(1000)])
    domains = pa.array(["big"] * 900 + ["small"] * 99 + ["single"])
    hashes = pack.document_hash(ids, 3)
    limits = pack.thresholds(hashes, domains.dictionary_encode(), 0.01)
    held = pack.is_heldout(ids, domains, limits, 3)
    assert held[:900].sum() == 9
    assert held[900:999].sum() == 1
    assert not held[999]
    order = np.random.default_rng(0).permutation(1000)
    assert pack.thresholds(hashes[order], domains.take(pa.array(order)).dictionary_encode(), 0.01) == limits


def test_the_report_states_each_domain_and_their_sum(built):
    rows = [report.Row(**row) for row in files.read_json(built.path("tokenizers", "report.json"))["rows"]]
    assert {row.language for row in rows} == {"*"}
    assert [(row.tokenizer, row.domain) for row in rows] == [
        (config.name, domain) for config in THREE for domain in ("*", "even", "odd")
    ]
    for config in THREE:
        total, *parts = [row for row in rows if row.tokenizer == config.name]
        assert total.tokens == sum(part.tokens for part in parts)
        assert total.bytes == sum(part.bytes for part in parts)
        packed = PackedTokens(built.path("tokens", config.name, "heldout"))
        closing = len(packed.documents) if "eos" in packed.special_ids else 0
        assert total.tokens == len(packed) - closing
        assert total.bytes_per_token == pytest.approx(total.bytes / total.tokens)


def test_the_curve_ends_at_the_tokenizer_that_was_trained(built):
    (found,) = files.read_json(built.path("tokenizers", "report.json"))["curves"]
    size, ratio = found["points"][-1]
    rows = [report.Row(**row) for row in files.read_json(built.path("tokenizers", "report.json"))["rows"]]
    whole = next(row for row in rows if row.tokenizer == found["tokenizer"])
    assert (size, ratio) == (whole.vocab_size, pytest.approx(whole.bytes_per_token))
    assert found["points"][0][1] == 1.0  # no merge: a token a byte
    assert [ratio for _, ratio in found["points"]] == sorted(ratio for _, ratio in found["points"])


def test_languages_of_the_build_have_rows_and_premiums():
    texts = ["low lower " * 5, "計算機 " * 5, "low new " * 5]
    table = pa.table({"text": texts, "domain": ["a", "a", "b"], "language": ["en", "zh", None]})
    tokenizer = export.to_tokenizer(train.train(counts.count(pa.array(texts[::2]), THREE[0]), THREE[0]), THREE[0])
    rows = report.measure([table], Encoder(tokenizer), "bytes")
    assert [(row.domain, row.language) for row in rows] == [
        ("*", "*"),
        ("a", "*"),
        ("b", "*"),
        ("*", "en"),
        ("*", "zh"),
    ]
    english, chinese = rows[-2:]
    assert english.premium == 1.0
    assert chinese.premium == pytest.approx(chinese.tokens / chinese.characters / (english.tokens / english.characters))
    assert chinese.premium is not None
    assert chinese.premium > 2


@pytest.mark.slow
def test_four_worker_processes_make_the_same_tokenizers(tmp_path, built):
    other = make_build(tmp_path, StandIn(), shard_count=5)
    with ProcessPoolExecutor(4, multiprocessing.get_context("spawn")) as pool:
        run(other, pool)
    for config in THREE:
        one, two = (files.file_digest(b.path("tokenizers", config.name, "tokenizer.json")) for b in (built, other))
        assert one == two


@pytest.mark.slow
def test_dask_workers_make_the_same_tokenizers(tmp_path, built):
    distributed = pytest.importorskip("distributed")
    other = make_build(tmp_path, StandIn(), shard_count=5)
    cluster = distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None)
    with cluster, distributed.Client(cluster) as client:
        run(other, client.get_executor())
    for config in THREE:
        one, two = (files.file_digest(b.path("tokenizers", config.name, "tokenizer.json")) for b in (built, other))
        assert one == two


def test_a_heldout_share_of_none_is_refused():
    with pytest.raises(ValueError):
        PackConfig(heldout=0)


def test_pack_files_that_lost_their_fingerprint_are_made_again(tmp_path):
    build = make_build(tmp_path, StandIn(tokenizers=THREE[:1]))
    run(build)
    path = build.path("tokens", "bytes", "train", "documents-00001.arrow")
    shards.write_table(path, shards.read_table(path), "of another run")
    again = run(build)
    assert [outcome.reused for outcome in again["pack"]] == [True, False, True]


def test_the_report_says_what_decoding_does_not_give_back(built):
    trips = {row["tokenizer"]: row for row in files.read_json(built.path("tokenizers", "report.json"))["round_trip"]}
    heldout = [d["text"] for d in documents() if d["id"] in ids_of(built, "bytes", "heldout")]
    for config in THREE:
        engine = Tokenizer.from_file(built.path("tokenizers", config.name, "tokenizer.json"))
        ids = [engine.encode(text, add_special_tokens=False).ids for text in heldout]
        back = engine.decode_batch(ids, skip_special_tokens=False)
        trip = trips[config.name]
        assert trip["documents"] == len(heldout)
        assert trip["changed"] == sum(one != two for one, two in zip(heldout, back, strict=True))
        assert all(entry["before"] != entry["after"] for entry in trip["lost"])
    assert trips["bytes"]["changed"] == 0
    assert {"line breaks", "tabs", "spaces"} <= {entry["kind"] for entry in trips["unigram"]["lost"]}


def test_every_tokenizer_has_a_card_that_is_remade_with_it(tmp_path):
    build = make_build(tmp_path, StandIn(tokenizers=THREE[:1]))
    run(build)
    path = build.path("tokenizers", "bytes", "README.md")
    with files.opened(path) as handle:
        told = handle.read().decode()
    size = files.read_json(build.path("tokenizers", "bytes", "manifest.json"))["vocab_size"]
    assert f"| entries | {size} |" in told
    assert "108 documents" in told
    assert "build `test`" in told
    files.remove(path)
    assert not run(build)["tokenizer.report"][0].reused
    assert files.exists(path)


def test_a_tokenizer_that_lost_a_file_is_made_again(tmp_path):
    build = make_build(tmp_path, StandIn(tokenizers=THREE[:1]))
    run(build)
    folder = build.path("tokenizers", "bytes")
    digests = {name: files.file_digest(files.join(folder, name)) for name in files.list_files(folder)}
    files.remove(files.join(folder, "tokenizer.json"))
    again = run(build)
    assert not again["tokenizer.train"][0].reused
    assert all(outcome.reused for outcome in again["pack"])
    assert {name: files.file_digest(files.join(folder, name)) for name in files.list_files(folder)} == digests


def test_unknown_tokens_above_the_stated_share_are_warned_of():
    texts = pa.array(["low new " * 100] * 10)
    config = THREE[2]
    encoder = Encoder(export.to_tokenizer(train.train(counts.count(texts, config), config), config))
    held = pa.table({"text": ["low new " * 300, "Ω " * 600], "domain": ["a", "b"], "language": ["en", "el"]})
    (warning,) = report.warnings(report.measure([held], encoder, "unigram"))
    assert "tokenizer unigram: " in warning
    assert "domain b" in warning
    assert report.warnings(report.measure([held.slice(0, 1)], encoder, "unigram")) == []
