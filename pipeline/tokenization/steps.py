"""The tokenizer wing as steps of a build: split, count, merge, train, report, pack.

    tokenizers/split.json  tokenizers/<name>/tokenizer.json  tokenizers/report.json
    tokens/<name>/{train,heldout,canaries}/  tokens/account.json  work/tokens.shards/<name>/<shard>.json
    work/tokenizer.counts/<key>/<shard>  work/tokenizer.merge/<key>/part-00.arrow

Tokenizers that cut texts alike share their counts; ``<key>`` names how. Held-out documents are counted nowhere.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import tokenizers

from pipeline import MillError
from pipeline.build.build import Build, Made, Outcome, Step, make
from pipeline.store import files, ledger, packed_tokens, shards
from pipeline.text.hashing import document_hash
from pipeline.tokenization import card, pack, parallel_lines, report, roundtrip, token_account, token_canaries
from pipeline.tokenization.encoding.encode import Encoder
from pipeline.tokenization.formats import export, references
from pipeline.tokenization.formats.export import Vocabulary
from pipeline.tokenization.formats.folder import save
from pipeline.tokenization.training import counts, curve, parity, superwords, train

if TYPE_CHECKING:
    from pipeline.tokenization.config import TokenizerConfig

SPLITS = ("train", "heldout")
_kept = threading.local()


class NothingToTrainOn(MillError):
    """The train split of the corpus is empty."""


def steps() -> list[Step]:
    return [
        Step("tokenizer.split", "Split off held-out documents", lambda _build: ["split"], _split),
        Step("tokenizer.counts", "Count pre-tokens", _count_items, _count),
        Step("tokenizer.merge", "Add up the counts", _merge_items, _merge),
        *_twice(
            "neighbours", "words side by side", _super_items, _count_neighbours, partial(_merge_super, "neighbours")
        ),
        Step("tokenizer.neighbours.frequent", "Choose words side by side", _super_names, _choose_neighbours),
        *_twice("sequences", "sequences of words", _super_items, _count_sequences, partial(_merge_super, "sequences")),
        *_twice("groups", "pre-tokens by group", _group_items, _count_groups, _merge_groups),
        Step("tokenizer.train", "Train tokenizers", _names, _train),
        Step(
            "tokenizer.report",
            "Compare tokenizers",
            lambda build: ["report"] if _names(build) else [],
            _report,
        ),
        Step("pack", "Pack tokens", _pack_items, _pack),
        Step("pack.manifest", "Write the token manifests", _manifest_items, _manifest),
        Step("tokens.shards", "Count every token", _pack_items, _count_tokens),
        Step("tokens.canaries", "Pack token canaries", _names, _pack_canaries),
        Step(
            "tokens.account",
            "Account for every token",
            lambda build: ["account.json"] if _names(build) else [],
            _account,
        ),
    ]


def _twice(name: str, title: str, items: Any, count: Any, merge: Any) -> list[Step]:
    """Counting by shard, and adding up by partition."""
    counted = Step(f"tokenizer.{name}", f"Count {title}", partial(items, False), count)
    return [counted, Step(f"tokenizer.{name}.merge", f"Add up {title}", partial(items, True), merge)]


def corpus_shards(build: Build) -> list[str]:
    return list(files.read_json(build.path("corpus", "manifest.json"))["shards"])


def _names(build: Build) -> list[str]:
    return [config.name for config in build.recipe.tokenizers]


def _config(build: Build, name: str) -> TokenizerConfig:
    return next(config for config in build.recipe.tokenizers if config.name == name)


def _shard_fingerprint(build: Build, shard: str) -> str:
    path = build.path("corpus", shard)
    made_by = shards.read_fingerprint(path)
    if made_by is None:
        raise MillError(f"{path}: not there, or not made by corpusmill; run the build again")
    return made_by


# The split


def _split(build: Build, _item: str) -> Outcome:
    names = corpus_shards(build)
    inputs = [_shard_fingerprint(build, shard) for shard in names]
    made_by = files.fingerprint("split", pack.VERSION, build.recipe.seed, build.recipe.pack.heldout, inputs)

    def thresholds() -> Made:
        hashes, domains = [np.zeros(0, np.uint64)], [pa.array([], pa.string())]
        for shard in names:
            table = shards.read_table(build.path("corpus", shard), ["id", "domain"]).combine_chunks()
            hashes.append(document_hash(table["id"].combine_chunks(), build.recipe.seed))
            domains.append(table["domain"].combine_chunks())
        encoded = pa.concat_arrays(domains).dictionary_encode()
        limits = pack.thresholds(np.concatenate(hashes), encoded, build.recipe.pack.heldout)
        return Outcome(len(encoded)), {"thresholds": limits}

    return make(build.path("tokenizers", "split.json"), made_by, thresholds)


def _limits(build: Build) -> dict[str, int]:
    return files.read_json(build.path("tokenizers", "split.json"))["thresholds"]


def _part(build: Build, table: pa.Table, split: str) -> pa.Table:
    ids, domains = table["id"].combine_chunks(), table["domain"].combine_chunks()
    heldout = pack.is_heldout(ids, domains, _limits(build), build.recipe.seed)
    return table.filter(pa.array(heldout if split == "heldout" else ~heldout))


def _key(config: TokenizerConfig) -> str:
    return f"{config.pre_tokenizer}-{files.fingerprint(counts.counting_part(config))[:8]}"


def _keys(build: Build) -> dict[str, TokenizerConfig]:
    return {_key(config): config for config in build.recipe.tokenizers}


def _count_items(build: Build) -> list[str]:
    return [f"{key}/{shard}" for key in _keys(build) for shard in corpus_shards(build)]


def _count(build: Build, item: str) -> Outcome:
    key, shard = item.split("/")
    made_by = files.fingerprint(
        "counts",
        counts.VERSION,
        key,
        tokenizers.__version__,
        _limits(build),
        build.recipe.seed,
        _shard_fingerprint(build, shard),
    )

    def pre_tokens() -> Made:
        table = _part(build, shards.read_table(build.path("corpus", shard), ["id", "text", "domain"]), "train")
        texts = table["text"].combine_chunks()
        return Outcome(len(table), _text_bytes(texts)), counts.count(texts, _keys(build)[key])

    return make(build.path("work", "tokenizer.counts", key, shard), made_by, pre_tokens)


def _merge_items(build: Build) -> list[str]:
    return [f"{key}/part-{index:02d}.arrow" for key in _keys(build) for index in range(counts.PARTITIONS)]


def _merge(build: Build, item: str) -> Outcome:
    key, name = item.split("/")
    inputs = [build.path("work", "tokenizer.counts", key, shard) for shard in corpus_shards(build)]
    made_by = files.fingerprint("merge", counts.VERSION, name, [shards.read_fingerprint(p) for p in inputs])

    def sums() -> Made:
        index = int(name.removeprefix("part-").removesuffix(".arrow"))
        table = counts.merge(counts.partition(shards.read_table(p), index) for p in inputs)
        return Outcome(bytes=table.nbytes), table

    return make(build.path("work", "tokenizer.merge", key, name), made_by, sums)


# Superwords, and groups that are to be written alike


def _super_items(in_partitions: bool, build: Build) -> list[str]:
    return _items(build, _super_names(build), in_partitions)


def _super_names(build: Build) -> list[str]:
    return [config.name for config in build.recipe.tokenizers if config.superwords is not None]


def _group_items(in_partitions: bool, build: Build) -> list[str]:
    return _items(build, [config.name for config in build.recipe.tokenizers if config.parity], in_partitions)


def _items(build: Build, names: list[str], in_partitions: bool) -> list[str]:
    parts = [f"part-{index:02d}.arrow" for index in range(counts.PARTITIONS)]
    return [f"{name}/{part}" for name in names for part in (parts if in_partitions else corpus_shards(build))]


def _super_paths(build: Build, name: str, kind: str, merged: bool = True) -> list[str]:
    folder = build.path("work", f"tokenizer.{kind}{'.merge' * merged}", name)
    parts = [f"part-{index:02d}.arrow" for index in range(counts.PARTITIONS)] if merged else corpus_shards(build)
    return [files.join(folder, part) for part in parts]


def _count_neighbours(build: Build, item: str) -> Outcome:
    return _count_super(build, item, "neighbours", superwords.count_neighbours, [])


def _choose_neighbours(build: Build, name: str) -> Outcome:
    config, paths = _config(build, name), _super_paths(build, name, "neighbours")
    asked = [config.vocab_size, config.min_frequency, config.superwords, *map(shards.read_fingerprint, paths)]

    def frequent() -> Made:
        table = superwords.frequent(map(shards.read_table, paths), config)
        return Outcome(bytes=table.nbytes), table

    return make(_frequent_path(build, name), files.fingerprint("frequent", superwords.VERSION, asked), frequent)


def _frequent_path(build: Build, name: str) -> str:
    return build.path("work", "tokenizer.neighbours.frequent", f"{name}.arrow")


def _count_sequences(build: Build, item: str) -> Outcome:
    frequent = _frequent_path(build, item.split("/")[0])

    def count(texts: pa.StringArray, config: TokenizerConfig) -> pa.Table:
        return superwords.count_sequences(texts, config, shards.read_table(frequent))

    return _count_super(build, item, "sequences", count, [shards.read_fingerprint(frequent)])


def _count_super(
    build: Build, item: str, kind: str, count: Callable[[Any, TokenizerConfig], pa.Table], more: list[Any]
) -> Outcome:
    name, shard = item.split("/")
    config = _config(build, name)
    part, seed = counts.counting_part(config), build.recipe.seed
    source = _shard_fingerprint(build, shard)
    made_by = files.fingerprint(
        kind, superwords.VERSION, counts.VERSION, part, tokenizers.__version__, _limits(build), seed, source, more
    )

    def made() -> Made:
        table = _part(build, shards.read_table(build.path("corpus", shard), ["id", "text", "domain"]), "train")
        texts = table["text"].combine_chunks()
        return Outcome(len(table), _text_bytes(texts)), count(texts, config)

    return make(build.path("work", f"tokenizer.{kind}", name, shard), made_by, made)


def _merge_super(kind: str, build: Build, item: str) -> Outcome:
    name, part = item.split("/")
    inputs = _super_paths(build, name, kind, merged=False)
    made_by = files.fingerprint(kind, "merge", counts.VERSION, part, [shards.read_fingerprint(p) for p in inputs])

    def sums() -> Made:
        index = int(part.removeprefix("part-").removesuffix(".arrow"))
        table = counts.merge(counts.partition(shards.read_table(p), index) for p in inputs)
        return Outcome(bytes=table.nbytes), table

    return make(build.path("work", f"tokenizer.{kind}.merge", name, part), made_by, sums)


def _count_groups(build: Build, item: str) -> Outcome:
    name, shard = item.split("/")
    config = _config(build, name)
    assert config.parity is not None  # who has none has no such item
    by, index = config.parity.by, corpus_shards(build).index(shard)
    inputs = [_shard_fingerprint(build, shard)]
    if by == "language":
        if "language" not in build.stages:
            raise MillError(
                f"tokenizer {name!r}: `parity` by language needs the `language` stage; add it, or `by: domain`"
            )
        inputs.append(build.view_fingerprint(build.shards()[index]))
    part, seed = counts.counting_part(config), build.recipe.seed
    made_by = files.fingerprint(
        "groups", parity.VERSION, counts.VERSION, by, part, tokenizers.__version__, _limits(build), seed, inputs
    )

    def made() -> Made:
        table = shards.read_table(build.path("corpus", shard), ["id", "text", "domain"])
        table = _part(build, table.append_column("language", _languages(build, index, len(table))), "train")
        groups = pc.fill_null(table[by], "unknown")
        actual = [counts.COUNTS_SCHEMA.empty_table().append_column("group", pa.array([], pa.string()))]
        for group in sorted(set(groups.to_pylist())):
            counted = counts.count(table.filter(pc.equal(groups, group))["text"].combine_chunks(), config)
            actual.append(counted.append_column("group", pa.array([group] * len(counted), pa.string())))
        texts = table["text"].combine_chunks()
        return Outcome(len(table), _text_bytes(texts)), pa.concat_tables(actual)

    return make(build.path("work", "tokenizer.groups", name, shard), made_by, made)


def _merge_groups(build: Build, item: str) -> Outcome:
    name, part = item.split("/")
    inputs = _super_paths(build, name, "groups", merged=False)
    made_by = files.fingerprint("groups", "merge", counts.VERSION, part, [shards.read_fingerprint(p) for p in inputs])

    def sums() -> Made:
        index = int(part.removeprefix("part-").removesuffix(".arrow"))
        read = pa.concat_tables([shards.read_table(path) for path in inputs])
        read = read.filter(pc.equal(read["partition"], index))
        actual = [read.slice(0, 0)]
        for group in sorted(set(read["group"].to_pylist())):
            table = counts.merge([read.filter(pc.equal(read["group"], group)).combine_chunks()])
            actual.append(table.append_column("group", pa.array([group] * len(table), pa.string())))
        table = pa.concat_tables(actual)
        return Outcome(bytes=table.nbytes), table

    return make(build.path("work", "tokenizer.groups.merge", name, part), made_by, sums)


def _alike(build: Build, config: TokenizerConfig) -> tuple[Vocabulary, dict[str, int]]:
    """The parity-aware vocabulary, and how many merges each group chose."""
    table = pa.concat_tables([shards.read_table(path) for path in _super_paths(build, config.name, "groups")])
    names = sorted(set(table["group"].to_pylist()))
    groups = {name: table.filter(pc.equal(table["group"], name)).combine_chunks() for name in names}
    assert config.parity is not None  # who calls has looked
    if config.parity.parallel is None:
        return train.train_alike(groups, config)
    lines = parallel_lines.read(config.parity.parallel, names)
    counted = {
        name: (counts.count(pa.array(lines[name], pa.large_string()), config), len(lines[name])) for name in names
    }
    return train.train_alike(groups, config, counted)


# Training and its report


def _merged_paths(build: Build, config: TokenizerConfig) -> list[str]:
    folder = build.path("work", "tokenizer.merge", _key(config))
    return [files.join(folder, f"part-{index:02d}.arrow") for index in range(counts.PARTITIONS)]


def _train(build: Build, name: str) -> Outcome:
    config = _config(build, name)
    folder = build.path("tokenizers", name)
    paths = _merged_paths(build, config)
    content = [shards.read_fingerprint(path) for path in paths]
    sequences = [] if config.superwords is None else _super_paths(build, name, "sequences")
    more = [[superwords.VERSION, *map(shards.read_fingerprint, sequences)]] if sequences else []
    if config.parity is not None:
        inputs = [*map(shards.read_fingerprint, _super_paths(build, name, "groups"))]
        judged = config.parity.parallel and files.file_digest(config.parity.parallel)
        more = [[parity.VERSION, inputs, judged]]
    made_by = files.fingerprint("train", train.VERSION, export.VERSION, tokenizers.__version__, config, content, *more)
    before = _manifest_of(build, name) if files.exists(files.join(folder, "manifest.json")) else {}
    if files.current(before.get("made_by") == made_by and files.are_there(folder, before.get("files", {}))):
        return Outcome(reused=True)
    table = pa.concat_tables([shards.read_table(path) for path in paths])
    if len(table) == 0:
        raise NothingToTrainOn(
            f"{build.path('corpus')}: no text to train tokenizer {name!r} on; loosen the recipe's rules"
        )
    counted, left_out = superwords.sequences(map(shards.read_table, sequences)) if sequences else (None, 0)
    chosen: dict[str, int] = {}
    if config.parity is None:
        vocabulary = train.train(table, config, counted)
    else:
        vocabulary, chosen = _alike(build, config)
    files.remove(files.join(folder, "README.md"))  # it tells of the tokenizer that was here; the report writes it
    digest = save(folder, vocabulary, config)
    manifest = {
        "made_by": made_by,
        "sha256": digest,
        "vocab_size": len(vocabulary.pieces),
        "special_ids": export.special_ids(config),
        "pre_tokens": pc.sum(table["count"]).as_py(),
        "distinct_pre_tokens": len(table),
        **({"chosen_by": chosen} if chosen else {}),
        **({"sequences_left_out": left_out} if left_out else {}),
        "files": files.sizes(folder, [file for file in files.list_files(folder) if file != "manifest.json"]),
    }
    files.write_json(files.join(folder, "manifest.json"), manifest)
    return Outcome(documents=1, bytes=table.nbytes)


def _manifest_of(build: Build, name: str) -> dict:
    return files.read_json(build.path("tokenizers", name, "manifest.json"))


def _report(build: Build, _item: str) -> Outcome:
    trained = {name: _manifest_of(build, name)["sha256"] for name in _names(build)}
    published = build.section("references") or []
    digests = {entry.name: [files.file_digest(f) for f in references.files_of(entry.path)] for entry in published}
    inputs = [_shard_fingerprint(build, shard) for shard in corpus_shards(build)]
    made_by = files.fingerprint(
        "report", report.VERSION, tokenizers.__version__, trained, digests, _limits(build), inputs
    )
    cards = {name: build.path("tokenizers", name, "README.md") for name in trained}

    def has_cards(_report: dict[str, Any]) -> bool:
        return all(map(files.exists, cards.values()))

    return make(
        build.path("tokenizers", "report.json"), made_by, partial(_measurements, build, trained, cards), has_cards
    )


def _measurements(build: Build, trained: dict[str, str], cards: dict[str, str]) -> Made:
    rows, curves, trips = [], [], []
    texts, corpus = roundtrip.sample(_heldout(build), build.recipe.seed), _corpus_size(build)
    for config in build.recipe.tokenizers:
        encoder = _encoder(build.path("tokenizers", config.name, "tokenizer.json"), trained[config.name])
        measured = report.measure(_heldout(build), encoder, config.name)
        rows += measured
        trips.append(roundtrip.measure(texts, encoder, config.name, report.unknown_id(encoder.tokenizer)))
        whole = report.as_rows(measured[:1])[0]
        seen = {key: size - whole[key] for key, size in corpus.items()}
        with files.replacing(cards[config.name]) as handle:
            handle.write(card.card(config, build.recipe.name, seen, whole, trips[-1]).encode())
        has_curve = config.algorithm == "bpe" and config.byte_level and config.superwords is None
        if has_curve and encoder.model is not None:
            table = counts.merge(counts.count(table["text"].combine_chunks(), config) for table in _heldout(build))
            curves.append(curve.summary(config.name, *curve.sizes(table, encoder.model, len(config.reserved))))
    for entry in build.section("references") or []:
        rows += report.measure(_heldout(build), Encoder(references.load(entry.path)), entry.name, reference=True)
    content = {
        "rows": report.as_rows(rows),
        "notes": _notes(build),
        "curves": curves,
        "round_trip": trips,
        "warnings": report.warnings(rows),
    }
    return Outcome(rows[0].documents, rows[0].bytes), content


def _notes(build: Build) -> list[str]:
    """What is to be said of tokenizers with superwords, and of those made for all groups alike."""
    said = []
    for config in build.recipe.tokenizers:
        if config.superwords is not None:
            actual = superwords.several(files.read_json(build.path("tokenizers", config.name, "tokenizer.json")))
            said.append(f"{config.name}: {len(actual):,} entries are superwords, such as {actual[:3]}")
        if left_out := _manifest_of(build, config.name).get("sequences_left_out"):
            said.append(
                f"{config.name}: superwords were learned without the rarest sequences of words, which stand"
                f" {left_out:,} times in the text, as all do not fit in memory"
            )
        if chosen := _manifest_of(build, config.name).get("chosen_by"):
            parts = ", ".join(
                f"{name} {count:,}" for name, count in sorted(chosen.items(), key=lambda e: (-e[1], e[0]))
            )
            said.append(f"{config.name}: merges chosen by {parts}")
    return said


def _corpus_size(build: Build) -> dict[str, int]:
    """Documents and bytes of the corpus, each document once."""
    sizes = [shards.read_size(build.path("corpus", shard)) for shard in corpus_shards(build)]
    return {"documents": sum(size[0] for size in sizes), "bytes": sum(size[1] for size in sizes)}


def _heldout(build: Build) -> Iterator[pa.Table]:
    """The held-out documents, shard by shard: id, text, domain, and language where the build has found it."""
    for index, shard in enumerate(corpus_shards(build)):
        table = shards.read_table(build.path("corpus", shard), ["id", "text", "domain"])
        yield _part(build, table.append_column("language", _languages(build, index, len(table))), "heldout")


def _languages(build: Build, index: int, rows: int) -> pa.Array | pa.ChunkedArray:
    """The language of each document of a shard of the corpus; null where the build has not looked."""
    if "language" not in build.stages:
        return pa.nulls(rows, pa.string())
    source = build.shards()[index]  # a shard of the corpus holds what is alive of one of the documents
    ledgers = [build.ledger(stage, source) for stage in build.stages]
    alive = ledger.alive(ledgers, len(ledgers[0]))
    return build.ledger("language", source)["language"].filter(pa.array(alive)).cast(pa.string())


# Packing


def _pack_items(build: Build) -> list[str]:
    return [f"{name}/{shard}" for name in _names(build) for shard in corpus_shards(build)]


def _packed_by(build: Build, name: str, shard: str) -> str:
    made_by = _manifest_of(build, name)["sha256"]
    source = _shard_fingerprint(build, shard)
    return files.fingerprint(
        "pack", pack.VERSION, packed_tokens.FORMAT, made_by, _limits(build), build.recipe.seed, source
    )


def _encoder(path: str, sha256: str) -> Encoder:
    """The tokenizer in ``path``; kept by a worker from shard to shard, with what it has encoded so far."""
    if getattr(_kept, "sha256", None) != sha256:
        _kept.encoder, _kept.sha256 = Encoder(pack.load(path)), sha256
    return _kept.encoder


def _pack(build: Build, item: str) -> Outcome:
    name, shard = item.split("/")
    index = corpus_shards(build).index(shard)
    made_by = _packed_by(build, name, shard)
    tokens_name, documents_name = packed_tokens.shard_names(index)
    folders = [build.path("tokens", name, split) for split in SPLITS]
    if all(
        shards.is_current(files.join(folder, documents_name), made_by)
        and files.current(files.exists(files.join(folder, tokens_name)))
        for folder in folders
    ):
        return Outcome(reused=True)
    encoder = _encoder(build.path("tokenizers", name, "tokenizer.json"), _manifest_of(build, name)["sha256"])
    eos = export.special_ids(_config(build, name)).get("eos")
    table = shards.read_table(build.path("corpus", shard), ["id", "text", "domain", "repeats"])
    for split, folder in zip(SPLITS, folders, strict=True):
        pack.pack_shard(folder, index, _part(build, table, split), encoder, eos, made_by)
    return Outcome(len(table), _text_bytes(table["text"].combine_chunks()))


def _manifest_items(build: Build) -> list[str]:
    return [f"{name}/{split}" for name in _names(build) for split in SPLITS]


def _manifest(build: Build, item: str) -> Outcome:
    name, split = item.split("/")
    folder = build.path("tokens", name, split)
    trained = _manifest_of(build, name)
    indices = list(range(len(corpus_shards(build))))
    path = files.join(folder, "manifest.json")
    before = files.read_json(path)["fingerprint"] if files.exists(path) else None
    manifest = packed_tokens.write_manifest(
        folder, indices, trained["vocab_size"], trained["special_ids"], trained["sha256"]
    )
    for stale in files.list_files(folder):
        if stale not in _wanted(indices):
            files.remove(files.join(folder, stale))
    return Outcome(manifest["documents"], manifest["bytes"], reused=manifest["fingerprint"] == before)


def _wanted(indices: list[int]) -> set[str]:
    return {name for index in indices for name in packed_tokens.shard_names(index)} | {"manifest.json"}


def _text_bytes(texts: pa.StringArray) -> int:
    return pc.sum(pc.binary_length(texts).cast(pa.int64())).as_py() or 0


# The account


def _account_path(build: Build, name: str, shard: str) -> str:
    return build.path("work", "tokens.shards", name, f"{shard.removesuffix('.arrow')}.json")


def _count_tokens(build: Build, item: str) -> Outcome:
    name, shard = item.split("/")
    index, made_by = (
        corpus_shards(build).index(shard),
        ["tokens", token_account.VERSION, _packed_by(build, name, shard)],
    )

    def counts() -> Made:
        encoder = _encoder(build.path("tokenizers", name, "tokenizer.json"), _manifest_of(build, name)["sha256"])
        about = _facts(encoder, _config(build, name))
        table = shards.read_table(build.path("corpus", shard), ["id", "text", "domain", "repeats"])
        _repeats_are_balanced(build, index, table)
        actual = {}
        for split in SPLITS:
            folder, part = build.path("tokens", name, split), _part(build, table, split)
            actual[split] = token_account.of_shard(folder, index, part, about, encoder.tokenizer)
        return Outcome(len(table), _text_bytes(table["text"].combine_chunks())), actual

    return make(_account_path(build, name, shard), files.fingerprint(*made_by), counts)


def _facts(encoder: Encoder, config: TokenizerConfig) -> token_account.Facts:
    """Of the tokenizer of ``encoder``; kept as it is."""
    if getattr(_kept, "facts_of", None) != (encoder.tokenizer, config):
        _kept.facts = token_account.facts(encoder.tokenizer, export.special_ids(config).get("eos"), config)
        _kept.facts_of = encoder.tokenizer, config
    return _kept.facts


def _repeats_are_balanced(build: Build, index: int, corpus: pa.Table) -> None:
    """Each document of a shard of the corpus is repeated as often as balancing said."""
    if "balance" not in build.stages:
        return
    source = build.shards()[index]  # a shard of the corpus holds what is alive of one of the documents
    ledgers = [build.ledger(stage, source) for stage in build.stages]
    alive = ledger.alive(ledgers, len(ledgers[0]))
    wanted = build.ledger("balance", source)["repeats"].filter(pa.array(alive)).to_pylist()
    actual = corpus["repeats"].to_pylist()
    if actual != wanted:
        at = next((i for i, (a, b) in enumerate(zip(actual, wanted, strict=False)) if a != b), 0)
        raise token_account.TokensLost(
            f"{build.path('corpus', corpus_shards(build)[index])}: document {corpus['id'][at].as_py()!r} is read"
            f" {actual[at]} times and balancing says {wanted[at]}; delete the build's corpus folder and run it again"
        )


def _pack_canaries(build: Build, name: str) -> Outcome:
    folder, trained = build.path("tokens", name, token_canaries.FOLDER), _manifest_of(build, name)
    digest = trained["sha256"]
    if files.current(token_canaries.are_current(folder, digest)):
        return Outcome(reused=True)
    path = build.path("tokenizers", name, "tokenizer.json")
    manifest = token_canaries.write(folder, _encoder(path, digest), trained["special_ids"], digest)
    token_canaries.check(packed_tokens.PackedTokens(folder), pack.load(path))
    return Outcome(manifest["documents"], manifest["bytes"])


def _account(build: Build, item: str) -> Outcome:
    corpus = files.read_json(build.path("corpus", "manifest.json"))
    actual = {}
    for name in _names(build):
        parts = [files.read_json(_account_path(build, name, shard)) for shard in corpus_shards(build)]
        counts = {split: [part[split] for part in parts] for split in SPLITS}
        manifests = {split: files.read_json(build.path("tokens", name, split, "manifest.json")) for split in SPLITS}
        canaries = files.read_json(build.path("tokens", name, token_canaries.FOLDER, "manifest.json"))
        actual[name] = {**token_account.close(counts, manifests, corpus), "canaries": canaries["documents"]}
    path = build.path("tokens", item)
    reused = files.exists(path) and files.read_json(path) == actual
    if not reused:
        files.write_json(path, actual)
    return Outcome(corpus["documents"], corpus["bytes"], reused=reused)
