"""Training the tokenizers of a build from what was counted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import tokenizers

from pipeline import MillError
from pipeline.build.build import Build, Outcome
from pipeline.store import files, shards
from pipeline.tokenization import parallel_lines
from pipeline.tokenization.formats import export
from pipeline.tokenization.formats.export import Vocabulary
from pipeline.tokenization.formats.folder import save
from pipeline.tokenization.steps.counting import merged_paths
from pipeline.tokenization.steps.group_counts import by_group
from pipeline.tokenization.steps.inputs import manifest_of, tokenizer_config
from pipeline.tokenization.steps.superword_counts import count_paths
from pipeline.tokenization.training import counts, parity, superwords, train

if TYPE_CHECKING:
    from pipeline.tokenization.config import TokenizerConfig


class NothingToTrainOn(MillError):
    """The train split of the corpus is empty."""


def train_tokenizer(build: Build, name: str) -> Outcome:
    config = tokenizer_config(build, name)
    folder = build.path("tokenizers", name)
    paths = merged_paths(build, config)
    content = [shards.read_fingerprint(path) for path in paths]
    sequences = [] if config.superwords is None else count_paths(build, name, "sequences")
    more = [[superwords.VERSION, *map(shards.read_fingerprint, sequences)]] if sequences else []
    if config.parity is not None:
        inputs = [*map(shards.read_fingerprint, count_paths(build, name, "groups"))]
        judged = config.parity.parallel and files.file_digest(config.parity.parallel)
        more = [[parity.VERSION, inputs, judged]]
    made_by = files.fingerprint("train", train.VERSION, export.VERSION, tokenizers.__version__, config, content, *more)
    before = manifest_of(build, name) if files.exists(files.join(folder, "manifest.json")) else {}
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
    files.remove(files.join(folder, "README.md"))  # it describes the tokenizer that was here; the report writes it
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


def _alike(build: Build, config: TokenizerConfig) -> tuple[Vocabulary, dict[str, int]]:
    """The parity-aware vocabulary, and how many merges each group chose."""
    table = pa.concat_tables([shards.read_table(path) for path in count_paths(build, config.name, "groups")])
    groups = dict(by_group(table))
    assert config.parity is not None  # who calls has looked
    if config.parity.parallel is None:
        return train.train_alike(groups, config)
    lines = parallel_lines.read(config.parity.parallel, list(groups))
    counted = {
        name: (counts.count(pa.array(lines[name], pa.large_string()), config), len(lines[name])) for name in groups
    }
    return train.train_alike(groups, config, counted)
