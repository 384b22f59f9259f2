"""`mill finetune FILE`: from a file of labelled rows and the folder of a model to a model, without a recipe."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
from safetensors.numpy import save_file
from tokenizers import Tokenizer, normalizers, pre_tokenizers, processors
from tokenizers.models import WordLevel
from transformers import AutoModelForSequenceClassification, BertConfig, BertModel, PreTrainedTokenizerFast
from typer.testing import CliRunner, Result

from flows import cli

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "wet", "hard", "water", "stone", "is", "and", *map(str, range(200))]


def mill(*arguments: object) -> Result:
    """The command where any call to a Prefect server fails."""
    environment = {"PREFECT_API_URL": "http://127.0.0.1:1/api", "COLUMNS": "400"}
    run = CliRunner().invoke(cli.app, [str(argument) for argument in arguments], env=environment)
    assert run.exception is None or isinstance(run.exception, SystemExit), run.exception
    return run


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that transformers alone made."""
    folder = tmp_path_factory.mktemp("base")
    tokenizer = Tokenizer(WordLevel({word: at for at, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    ).save_pretrained(folder)
    shape: dict[str, Any] = {
        "hidden_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 64,
    }
    BertModel(BertConfig(vocab_size=len(WORDS), max_position_embeddings=64, **shape)).save_pretrained(folder)
    return folder


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "Things by Kind.csv"
    with path.open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(["sentence", "topic"])
        writer.writerows([f"{('Water', 'Stone')[n % 2]}, {n}", ("wet", "hard")[n % 2]] for n in range(160))
    return path


def test_a_file_and_a_model_make_a_classifier(base: Path, data: Path, tmp_path: Path) -> None:
    options = ("--text", "sentence", "--label", "topic", "--base", base, "--epochs", 4, "--learning-rate", 0.01)
    test = tmp_path / "test.jsonl"  # its last row is one of the training rows
    rows = [{"sentence": f"{('Water', 'Stone')[n % 2]} and {n}", "topic": ("wet", "hard")[n % 2]} for n in range(30)]
    test.write_text("\n".join(map(json.dumps, [*rows, {"sentence": "Stone, 1", "topic": "hard"}])))
    others = ("--sequence-length", 8, "--set", "batch_size=8", "--set", "precision=fp32", "--out", tmp_path / "made")
    others = (*others, "--test", test, "--dev", test)
    run = mill("finetune", data, *options, *others)
    assert run.exit_code == 0, run.output
    shown = " ".join(run.output.split())
    summary = json.loads((tmp_path / "made" / "summary.json").read_text())
    sizes = summary["documents"]
    assert sizes == {"train": 160, "dev": 31, "test": 31}
    assert f"Set Rows Truncated training {sizes['train']} 0.0 % development {sizes['dev']}" in shown
    assert f"Scores on {sizes['test']} test rows, with 95 % intervals" in shown
    assert f"model: {tmp_path}/made" in shown
    assert summary["scores"]["model"]["accuracy"]["value"] > 0.9
    assert summary["audit"]["near_copies"]["rows"] == 1
    assert summary["without_near_copies"]["rows"] == 30
    assert summary["without_near_copies"]["scores"]["accuracy"]["value"] > 0.9
    assert "without near copies (30 test rows): accuracy" in shown
    assert "near copies: 1 test row (3.2 %) has one among the training rows" in shown
    assert summary["config"]["optimiser"]["learning_rate"] == 0.01
    assert (summary["audit"]["truncated"]["test"], summary["made_from"]["data"]) == (0.0, str(data))
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "made")
    assert model.config.id2label == {0: "hard", 1: "wet"}
    again = mill("finetune", data, *options, *others)
    assert again.exit_code == 0
    assert "reused" in again.output
    step, last = map(json.loads, mill("finetune", data, *options, *others, "--json").stdout.splitlines())
    assert (step["event"], step["name"], step["reused"]) == ("step", "finetune", True)
    assert (last["event"], last["state"], last["scores"]) == ("summary", "completed", summary["scores"])
    assert mill("finetune", data, *options, *others, "--quiet").stdout == f"model: {tmp_path}/made\n"
    (tmp_path / "bare.csv").write_text("".join(data.read_text().splitlines(True)[1:]))
    given = (*options, *others, "--out", tmp_path / "bare", "--columns")
    run = mill("finetune", tmp_path / "bare.csv", *given, "sentence,topic")
    assert run.exit_code == 0, run.output
    bare = json.loads((tmp_path / "bare" / "summary.json").read_text())
    assert (bare["documents"], bare["scores"]["majority"]) == (sizes, summary["scores"]["majority"])
    assert "a name is empty" in mill("finetune", tmp_path / "bare.csv", *given, "sentence,").output
    looked = mill("finetune", data, *options, *others, "--understand", "attention, pooling")
    assert looked.exit_code == 0, looked.output
    assert "What attention heads of the base look at, on 31 test texts" in " ".join(looked.output.split())
    assert list(json.loads((tmp_path / "made" / "summary.json").read_text())["understanding"]) == [
        "attention",
        "pooling",
    ]


@pytest.mark.usefixtures("store_cache")
def test_strategies_are_compared_in_one_table_and_plot_of_what_lies_in_a_store(
    base: Path, data: Path, tmp_path: Path
) -> None:
    memory = fsspec.filesystem("memory")
    memory.put(str(base), "/bucket/base", recursive=True)
    memory.put(str(data), "/bucket/rows.csv")
    rows, start = "memory://bucket/rows.csv", "memory://bucket/base"
    options = ("--text", "sentence", "--label", "topic", "--base", start, "--epochs", 1, "--set", "precision=fp32")
    others = ("--long-text", "head_tail", "--sequence-length", 8, "--compare", "full, bitfit", "-o", tmp_path / "made")
    run = mill("finetune", rows, *options, *others)
    assert run.exit_code == 0, run.output
    shown = " ".join(run.output.split())
    assert "Strategy parameters Share memory Seconds Accuracy Pretraining loss" in shown
    assert "not measured: no held-out text is given" in shown
    summary = json.loads((tmp_path / "made" / "summary.json").read_text())
    assert [row["strategy"] for row in summary["strategies"]] == ["full", "bitfit"]
    assert (summary["base"], summary["made_from"]["data"]) == (start, rows)
    plot = (tmp_path / "made" / "strategies.svg").read_text()
    assert plot.startswith("<svg ")
    assert "bitfit" in plot
    assert "![Score by strategy](strategies.svg)" in (tmp_path / "made" / "README.md").read_text()
    assert json.loads((tmp_path / "made" / "long_text.json").read_text())["long_text"]["kind"] == "head_tail"


@pytest.mark.usefixtures("store_cache")
def test_the_cost_ladder_compares_models_on_what_lies_in_a_store(base: Path, data: Path, tmp_path: Path) -> None:
    vectors = tmp_path / "words"
    vectors.mkdir()
    save_file({"vectors": np.eye(4, dtype=np.float32)}, vectors / "vectors.safetensors")
    (vectors / "words.txt").write_text("water\nstone\n1\n2\n")
    (vectors / "summary.json").write_text(json.dumps({"method": "cbow", "lowercase": True}))
    memory = fsspec.filesystem("memory")
    for folder in (base, vectors):
        memory.put(str(folder), f"/bucket/{folder.name}", recursive=True)
    memory.put(str(data), "/bucket/rows.csv")
    options = ("memory://bucket/rows.csv", "--text", "sentence", "--label", "topic", "--minutes", 0.1, "--epochs", 1)
    given = ("--base", f"memory://bucket/{base.name}", "--vectors", "memory://bucket/words", "--sequence-length", 8)
    run = mill("finetune", *options, *given, "-o", tmp_path / "made")
    assert run.exit_code == 0, run.output
    said = json.loads((tmp_path / "made" / "ladder.json").read_text())
    compared = {*(rung["title"] for rung in said["rungs"]), *said["left_out"]}  # for lack of time
    assert {"word vectors words + head", "frozen encoder + head"} <= compared
    for option, name in (("--base", "the folder of a model"), ("--vectors", "the folder of `embeddings`")):
        run = mill("finetune", *options, option, "memory://bucket/no")
        assert run.exit_code == 1
        assert f"'memory://bucket/no' is not {name}" in " ".join(run.output.split())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--label", "topic", "--long-text", "middle"), "long_text"),
        (("--label", "topic", "--compare", "full,nothing"), "compare"),
        (("--label", "topic", "--grid", "--minutes", 1), "--minutes compares models, --compare and --grid ways"),
        (("--label", "topic", "--understand", "bound", "--minutes", 1), "--understand looks into one model"),
        (("--label", "topic", "--understand", "bound,magic"), "'magic' is not known; known here: attention, bound"),
        (("--label", "topic", "--long-text", "tail", "--minutes", 1), "leave out --long-text"),
        (("--text", "sentence", "--label", "topic", "--set", "held_out=no.txt"), "held_out: no file 'no.txt'"),
        (("--text", "sentence"), "--label is missing: give the column to predict"),
        (("--text", "text", "--label", "topic"), "no column 'text', which `text` names; there is sentence, topic"),
        (("--label", "topic", "--epochs", "0"), "epochs: must be greater than or equal to 1"),
        (("--label", "topic", "--set", "epoch=1"), "epoch: unknown field; did you mean `epochs`?"),
        (("--text", "sentence", "--label", "topic", "--set", "per_class=900"), "per_class 900 wants 810 rows of each"),
        (("--label", "topic", "--set", "baselines=[cbow]"), "`baselines` are word vectors of a recipe"),
        (("--label", "topic", "--base", "nowhere"), "'nowhere' is not the folder of a model"),
        (("--label", "topic", "--base", "memory://b/no"), "'memory://b/no' is not the folder of a model"),
        (("--text", "sentence", "--label", "topic", "--test", "no.csv"), "data.test: no file 'no.csv'"),
    ],
)
def test_what_is_wrong_is_said_before_training(base: Path, data: Path, options: tuple, message: str) -> None:
    run = mill("finetune", data, "--base", base, *options)
    assert run.exit_code == 1
    assert message in " ".join(run.output.split())
    assert not Path("models").exists()


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("config.json", '{"model_type": "evil", "auto_map": {"AutoConfig": "evil.Evil"}}', "custom code"),
        ("config.json", '{"model_type": "bert", "hidden_size": "many"}', "hidden_size"),
        ("config.json", '{"model_type": "bert", "hidden_size": 48}', "mismatched"),
        ("tokenizer.json", "{", "EOF while parsing"),
    ],
)
def test_a_base_that_libraries_cannot_open_is_named(
    base: Path, data: Path, tmp_path: Path, name: str, content: str, why: str
) -> None:
    folder = tmp_path / "base"
    shutil.copytree(base, folder)
    (folder / name).write_text(content)
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'run')!r}, 'w')")
    run = mill("finetune", data, "--base", folder, "--text", "sentence", "--label", "topic", "--out", tmp_path / "made")
    assert run.exit_code == 1
    said = " ".join(run.output.split())
    assert f"{folder}: it cannot be opened as a model (" in said
    assert why in said
    assert not (tmp_path / "run").exists()


def test_a_file_of_python_gives_a_task_of_its_own(base: Path, data: Path, tmp_path: Path) -> None:
    code = """
from training.finetuning.tasks.base import FinetuningTask
from training.finetuning.tasks.classify import Classify
class Halved(Classify):
    weights = {"loss": 0.5, "accuracy": 0.0}
task = FinetuningTask("halved", like="classify", make=Halved)
"""
    (tmp_path / "halved.py").write_text(code)
    options = ("--text", "sentence", "--label", "topic", "--base", base, "--epochs", 1, "--sequence-length", 8)
    options = (*options, "--plugin", tmp_path / "halved.py", "--out", tmp_path / "made")
    run = mill("finetune", data, *options, "--task", "halved")
    assert run.exit_code == 0, run.output
    assert json.loads((tmp_path / "made" / "summary.json").read_text())["task"] == "halved"
    assert "predicts `topic` of a text" in (tmp_path / "made" / "README.md").read_text()
    assert "'halve' is not known" in mill("finetune", data, *options, "--task", "halve").output


def test_options_for_files_are_refused_for_a_recipe(tmp_path: Path) -> None:
    run = mill("finetune", tmp_path / "x.yaml", "--label", "topic")
    assert run.exit_code == 1
    assert "--label is for files; of a recipe change the section `finetune`" in " ".join(run.output.split())
