"""What can be known before work is known before work, and all of it is said at once."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import MillError
from pipeline.build.build import Build
from pipeline.curation import preflight
from pipeline.curation import recipe as recipes
from pipeline.store import messages
from training.labelled import preflight as training_preflight
from training.recipe.sections import BuildRecipe


def build_of(folder: Path, root: Path | None = None, **sections: Any) -> Build[BuildRecipe]:
    (folder / "good.jsonl").write_text(json.dumps({"text": "Some text of a few words.", "id": "a"}) + "\n")
    source = {"name": "web", "kind": "jsonl", "path": str(folder / "good.jsonl")}
    values = {"name": "checked", "sources": [source], **sections}
    return Build(str(root or folder / "builds" / "checked"), recipes.checked(values, BuildRecipe))


def problems(folder: Path, **sections: Any) -> str:
    return "\n".join(preflight.problems(build_of(folder, **sections)))


def test_a_build_that_can_start_has_no_problem_and_is_not_begun(tmp_path):
    (tmp_path / "words.txt").write_text("bad\n")
    sections = {"language": {"keep": {"en": 0.5, "*": 0.9}}, "bad_words": {"lists": {"en": f"{tmp_path}/words.txt"}}}
    assert preflight.problems(build_of(tmp_path, **sections, exact={}, minhash={}, perplexity={})) == []
    assert not (tmp_path / "builds").exists()


def test_every_problem_is_found_at_once_with_its_field_and_in_a_moment(tmp_path):
    (tmp_path / "fields.jsonl").write_text("".join(json.dumps({"body": f"text {i}"}) + "\n" for i in range(50)))
    (tmp_path / "not-a-model.bin").write_bytes(b"no model")
    (tmp_path / "eval.jsonl").write_text(json.dumps({"query": "What is it?"}) + "\n")
    here = str(tmp_path)
    build = build_of(
        tmp_path,
        sources=[
            {"name": "gone", "kind": "jsonl", "path": f"{here}/gone/*.jsonl"},
            {"name": "body", "kind": "jsonl", "path": f"{here}/fields.jsonl"},
        ],
        language={"keep": {"en": 0.5, "xx": 0.5}},
        urls={"blocklist": f"{here}/hosts"},
        bad_words={"lists": {"english": f"{here}/words.txt"}},
        perplexity={
            "models": {"en": f"{here}/en.arpa", "de": {"kenlm": f"{here}/de.bin", "sentencepiece": "de.model"}}
        },
        toxicity={"model": f"{here}/not-a-model.bin", "label": "toxic"},
        quality={"train": {side: [{"name": side, "kind": "text", "path": f"{here}/{side}.txt"}] for side in SIDES}},
        exact={},
        against=[f"{here}/earlier/index"],
        decontaminate={
            "sets": [
                {"name": "absent", "path": f"{here}/absent.jsonl", "question_fields": ["question"]},
                {"name": "wrong", "path": f"{here}/eval.jsonl", "question_fields": ["question"]},
            ]
        },
        balance={"tokenizer": f"{here}/tokenizer.json"},
        references=[{"name": "published", "path": f"{here}/vocabulary"}],
    )
    preflight.problems(build)  # once for what is loaded once a process
    began = time.process_time()
    found = preflight.problems(build)
    assert time.process_time() - began < 1
    expected = [
        "sources[0] (gone): source 'gone': no file matches",
        "sources[1] (body): ",
        "language.keep: the model lid.176 knows no language 'xx'",
        "bad_words.lists: the model lid.176 knows no language 'english'",
        f"urls.blocklist: {here}/hosts: no such model",
        f"bad_words.english: {here}/words.txt: no such",
        f"perplexity.models.en: {here}/en.arpa: no such",
        f"perplexity.models.de: {here}/de.bin: no such",
        "perplexity.models.de: de.model: no such",
        "toxicity.label: ",
        "quality.train.positive[0] (positive): source 'positive': no file matches",
        "quality.train.negative[0] (negative): source 'negative': no file matches",
        f"against: {here}/earlier/index is not a finished index",
        "decontaminate.sets[0]: source 'absent': no file matches",
        "decontaminate.sets[1]: evaluation set 'wrong'",
        f"balance.tokenizer: {here}/tokenizer.json is not there",
        f"references[0]: {here}/vocabulary: no such file or folder",
    ]
    told = "\n".join(found)
    missing = [start for start in expected if not any(line.startswith(start) for line in told.splitlines())]
    assert missing == [], told
    assert "not a fastText model" in told
    assert "set `text_field`" in told
    assert '"body"' in told


SIDES = ("positive", "negative")


def test_a_model_that_is_not_there_is_named_with_its_remedy(tmp_path, monkeypatch):
    monkeypatch.setenv("CORPUSMILL_MODELS", str(tmp_path / "models"))
    assert "fetch it with `mill models pull lid.176`" in problems(tmp_path, language={})


def test_a_place_that_holds_no_build_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    root = tmp_path / "file" / "builds"
    assert preflight.problems(build_of(tmp_path, root)) == [
        f"--builds: {tmp_path / 'file'} is a file; choose another folder for builds"
    ]


def test_the_first_records_may_be_bad_if_others_are_good(tmp_path):
    lines = [json.dumps({"other": 1})] * 5 + [json.dumps({"text": "good"})] * 5
    (tmp_path / "mixed.jsonl").write_text("\n".join(lines))
    source = {"name": "mixed", "kind": "jsonl", "path": str(tmp_path / "mixed.jsonl")}
    assert problems(tmp_path, sources=[source]) == ""


def test_a_teacher_that_is_not_there_is_named(tmp_path):
    shape = {"preset": "bert-base", "num_hidden_layers": 2}
    run = {
        "name": "student",
        "objective": "distillation",
        "tokenizer": "words",
        "model": shape,
        "steps": 2,
        "distillation": {"teacher": str(tmp_path / "teacher")},
    }
    tokenizer = {"name": "words", "algorithm": "wordpiece", "vocab_size": 500}
    with pytest.raises(recipes.MillError, match=r"pretrain\[0\]\.distillation\.teacher: .*/teacher' is no run"):
        training_preflight.check(build_of(tmp_path, tokenizers=[tokenizer], pretrain=[run]))


def tokenizer(**changes: Any) -> dict[str, Any]:
    return {"name": "words", "algorithm": "wordpiece", "vocab_size": 500, **changes}


@pytest.mark.parametrize(
    ("weights", "problem"),
    [
        ({"a": 1, "b": 1}, ""),
        ({"a": 1, "*": 1}, ""),
        ({"a": 1}, """balance.weights names no share of 'b'; add one for each, or `"*"` for all others together"""),
        ({"a": 1, "b": 1, "c": 1}, "balance.weights: no document is left of domain 'c'; found: a, b"),
    ],
)
def test_weights_go_with_the_domains_of_the_sources(tmp_path, weights, problem):
    path = str(tmp_path / "good.jsonl")
    sources = [{"name": "a", "kind": "jsonl", "path": path}, {"name": "x", "kind": "text", "path": path, "domain": "b"}]
    said = problems(tmp_path, sources=sources, balance={"strategy": "weights", "weights": weights})
    assert said.startswith(problem)
    assert bool(said) == bool(problem)


def test_where_documents_bring_their_domain_weights_may_name_any_but_not_leave_out_a_known_one(tmp_path):
    path = str(tmp_path / "good.jsonl")
    sources = [
        {"name": "a", "kind": "jsonl", "path": path, "domain_field": "topic"},
        {"name": "b", "kind": "jsonl", "path": path},
    ]
    balance = {"strategy": "weights", "weights": {"b": 1, "sports": 2}}
    assert problems(tmp_path, sources=sources, balance=balance) == ""
    balance = {"strategy": "weights", "weights": {"sports": 2}}
    assert problems(tmp_path, sources=sources, balance=balance).startswith("balance.weights names no share of 'b'")


def table(folder: Path, kind: str, columns: dict[str, list[Any]]) -> str:
    path = folder / f"table.{kind}"
    if kind == "csv":
        rows = [",".join(columns), *(",".join(map(str, row)) for row in zip(*columns.values(), strict=True))]
        path.write_text("\n".join(rows) + "\n")
    elif kind == "parquet":
        pq.write_table(pa.table(columns), path)
    else:
        with pa.ipc.new_file(path, pa.table(columns).schema) as writer:
            writer.write_table(pa.table(columns))
    return str(path)


@pytest.mark.parametrize("kind", ["csv", "parquet", "arrow"])
def test_columns_that_a_recipe_names_are_there(tmp_path, kind):
    path = table(tmp_path, kind, {"text": ["Some text."], "adress": ["x.org"], "topic": ["a"]})
    source = {"name": "rows", "kind": "csv" if kind == "csv" else "parquet", "path": path}
    assert problems(tmp_path, sources=[source]) == ""
    assert problems(tmp_path, sources=[{**source, "url_field": "adress", "metadata_fields": ["topic"]}]) == ""
    for field, value in (("url_field", "address"), ("id_field", "key"), ("domain_field", "x.y")):
        said = problems(tmp_path, sources=[{**source, field: value}])
        assert said.startswith(f"sources[0] (rows): no column {value!r}, which `{field}` names, in {path}; ")
    said = problems(tmp_path, sources=[{**source, "metadata_fields": ["topic", "adres"]}])
    assert said.endswith(f"no column 'adres', which `metadata_fields` names, in {path}; did you mean `adress`?")


def test_a_table_without_a_readable_header_is_left_to_the_reader(tmp_path):
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 nothing of it PAR1")
    source = {"name": "rows", "kind": "parquet", "path": str(tmp_path / "broken.parquet"), "url_field": "address"}
    assert problems(tmp_path, sources=[source]) == ""


def finetuning(folder: Path, source: dict[str, Any], **fields: Any) -> Build[BuildRecipe]:
    shape = {"preset": "bert-base", "num_hidden_layers": 2}
    run = {"name": "bert", "objective": "mlm", "tokenizer": "words", "model": shape, "steps": 2}
    task = {"name": "task", "base": "bert", "label": "domain", **fields}
    return build_of(folder, sources=[source], tokenizers=[tokenizer()], pretrain=[run], finetune=[task])


def test_fields_that_fine_tuning_goes_by_are_there(tmp_path):
    path = table(tmp_path, "csv", {"text": ["Some text."], "topic": ["a"], "kind": ["b"]})
    source = {"name": "rows", "kind": "csv", "path": path}
    training_preflight.check(finetuning(tmp_path, source, label="topic", only={"kind": "b"}, group="source"))
    for field, value in (("label", "topics"), ("group", "module"), ("only", {"sort": "b"}), ("hide", ["package"])):
        name = value if isinstance(value, str) else next(iter(value))
        expected = rf"finetune\[0\]\.{field}: no source has the field '{name}'; there is .*topic"
        with pytest.raises(MillError, match=expected):
            training_preflight.check(finetuning(tmp_path, source, **{field: value}))
    kept = {**source, "metadata_fields": ["kind"]}
    with pytest.raises(MillError, match="no source has the field 'topic'"):
        training_preflight.check(finetuning(tmp_path, kept, label="topic"))
    lines = {"name": "lines", "kind": "jsonl", "path": str(tmp_path / "good.jsonl")}
    training_preflight.check(finetuning(tmp_path, lines, label="topic"))  # a later record may have it


def test_neutral_text_of_an_ablation_is_there_and_fills_a_sequence(tmp_path):
    (tmp_path / "short.txt").write_text("Too short.")
    (tmp_path / "long.txt").write_text("Long enough for all of one sequence. " * 10)
    plain = tokenizer(algorithm="bpe", vocab_size=1000)

    def check(path: str) -> None:
        neutral = [{"name": "neutral", "kind": "text", "path": str(tmp_path / path)}]
        config = {"tokenizer": "words", "tokens": 1000, "neutral": neutral, "sequence_length": 64}
        training_preflight.check(build_of(tmp_path, tokenizers=[plain], ablation=config))

    check("long.txt")
    with pytest.raises(MillError, match=r"ablation\.neutral\[0\] \(neutral\): source 'neutral': no file matches"):
        check("gone.txt")
    with pytest.raises(MillError, match=r"ablation\.neutral: this text gives at most 12 tokens"):
        check("short.txt")


def test_special_tokens_that_an_objective_needs_are_missed_when_the_recipe_is_read(tmp_path):
    shape = {"preset": "bert-base", "num_hidden_layers": 2}
    run = {"name": "bert", "objective": "mlm", "tokenizer": "words", "model": shape, "steps": 2}
    special = {"cls": "[CLS]", "sep": "[SEP]", "unk": "[UNK]"}
    with pytest.raises(MillError, match=r"pretrain\.0\.tokenizer: objective 'mlm' .* needs a tokenizer with a mask"):
        build_of(tmp_path, tokenizers=[tokenizer(special_tokens=special)], pretrain=[run])


def test_a_base_that_is_a_folder_holds_a_model_that_can_start(tmp_path):
    path = table(tmp_path, "csv", {"text": ["Some text."], "topic": ["a"]})
    source = {"name": "rows", "kind": "csv", "path": path}
    folder = tmp_path / "model"
    folder.mkdir()

    def refused(**fields: Any) -> str:
        with pytest.raises(MillError) as caught:
            training_preflight.check(finetuning(tmp_path, source, base=str(folder), label="topic", **fields))
        return str(caught.value)

    assert refused().startswith(f"finetune[0].base: '{folder}' is not the folder of a model (no config.json)")
    config = {"model_type": "roberta", "max_position_embeddings": 130, "pad_token_id": 1}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "pytorch_model.bin").write_bytes(b"")
    assert "no weights in safetensors, only pytorch_model.bin, which can run code" in refused()
    (folder / "model.safetensors").write_bytes(b"\2" + bytes(7) + b"{}")
    assert "has no tokenizer.json" in refused()
    (folder / "tokenizer.json").write_text("{}")
    assert "has 128 positions, and sequence_length is 129" in refused(sequence_length=129)
    training_preflight.check(finetuning(tmp_path, source, base=str(folder), label="topic", sequence_length=128))
    with pytest.raises(MillError, match=r"'model' is not in this recipe; .* has a slash: '\./model'"):
        finetuning(tmp_path, source, base="model", label="topic")


def test_labelled_files_are_there_and_have_the_columns(tmp_path):
    path = table(tmp_path, "csv", {"text": ["Some text."], "topic": ["a"]})
    source = {"name": "rows", "kind": "csv", "path": path}

    def check(data: dict[str, str], **fields: Any) -> None:
        training_preflight.check(finetuning(tmp_path, source, data=data, **fields))

    check({"train": path}, label="topic")
    with pytest.raises(MillError, match=r"^finetune\[0\] \(task\): data.test: no file '.*/absent.csv'"):
        check({"train": path, "test": f"{tmp_path}/absent.csv"}, label="topic")
    for kind in ("csv", "parquet", "arrow"):
        labelled = table(tmp_path, kind, {"text": ["Some text."], "topic": ["a"]})
        with pytest.raises(MillError) as caught:
            check({"train": labelled}, label="topics", group="shop")
        assert f"finetune[0] (task): {labelled}: no column 'topics', which `label` names" in str(caught.value)
        assert f"finetune[0] (task): {labelled}: no column 'shop', which `group` names" in str(caught.value)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "lines.tsv"),
        (b"en\tone\nde eins\n", "line 2: no tab; a line is a group, a tab and a text"),
        (b"en\tone\nde\t\xff\n", "line 2: not UTF-8; convert the file"),
        (b"en\tone\n", "no line of de, which the text of the tokenizer holds"),
        (b"en\tone\nde\teins\nde\tzwei\n", "unequal numbers of lines: de 2, en 1"),
        (b"en\tone\r\n\nde\teins\nfr\tun\n", None),
    ],
    ids=["absent", "no tab", "no text", "no group", "unequal", "right"],
)
def test_parallel_lines_are_there_and_parallel(tmp_path, content, problem):
    (tmp_path / "a.jsonl").write_text('{"text": "a text"}\n')
    if content is not None:
        (tmp_path / "lines.tsv").write_bytes(content)
    parity = {"parallel": str(tmp_path / "lines.tsv")}
    build = build_of(
        tmp_path,
        sources=[{"name": "a", "kind": "jsonl", "path": str(tmp_path / "a.jsonl")}],
        language={"keep": {"en": 0.5, "de": 0.5}},
        tokenizers=[{"name": "alike", "algorithm": "bpe", "vocab_size": 1000, "parity": parity}],
    )
    faults = [line for line in preflight.problems(build) if "model" not in line.partition(":")[0]]
    if problem is None:
        assert faults == []
    else:
        (fault,) = faults
        assert fault.startswith("tokenizers[0].parity.parallel: ")
        assert problem in fault


def test_parity_by_language_needs_languages(tmp_path):
    tokenizer = {"name": "alike", "algorithm": "bpe", "vocab_size": 1000}
    fault = "tokenizers[0].parity.by: `language` needs the `language` stage"
    assert fault in problems(tmp_path, tokenizers=[{**tokenizer, "parity": {}}])
    assert problems(tmp_path, tokenizers=[{**tokenizer, "parity": {"by": "domain"}}]) == ""


def test_a_limit_of_addresses_that_no_build_can_live_with_is_named(tmp_path):
    code = (
        "import resource; from pathlib import Path; from tests.pipeline.curation import test_preflight as here;"
        "resource.setrlimit(resource.RLIMIT_AS, (2_500_000_000,) * 2);"
        f"print(here.problems(Path({str(tmp_path)!r})))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.startswith("ulimit -v: this process may have 2.50 GB of addresses, and a build needs 3.00 GB")
    assert messages.message(pa.ArrowMemoryError("malloc of size 64 failed")) == (
        "there is not enough memory (malloc of size 64 failed); use fewer `--workers`, or a smaller `shard_bytes`, or"
        " raise the limit (`ulimit -v`)"
    )
