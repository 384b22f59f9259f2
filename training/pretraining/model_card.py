"""The model card: README.md of a published model, as the Hugging Face hub reads it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from pipeline.report import models
from pipeline.text import formats

#: What a transformers class name ends in, the hub's task (None: it has none for it), and the class that opens it.
_KINDS: tuple[tuple[tuple[str, ...], str | None, str], ...] = (
    (("ElectraForPreTraining",), None, "AutoModelForPreTraining"),
    (("ForSequenceClassification",), "text-classification", "AutoModelForSequenceClassification"),
    (("ForTokenClassification",), "token-classification", "AutoModelForTokenClassification"),
    (("ForQuestionAnswering",), "question-answering", "AutoModelForQuestionAnswering"),
    (("ForMaskedLM", "ForPreTraining"), "fill-mask", "AutoModelForMaskedLM"),
    (("ForCausalLM", "LMHeadModel"), "text-generation", "AutoModelForCausalLM"),
    (("ForConditionalGeneration",), "text2text-generation", "AutoModelForSeq2SeqLM"),
)


#: The chart of a comparison, beside the card.
STRATEGIES = "strategies.svg"
#: What a fine-tuned model does, by its task.
_DOES = {
    "classify": "predicts `{label}` of a text",
    "multi_label": "predicts any number of `{label}` of a text",
    "regression": "predicts the number `{label}` of a text",
    "tokens": "finds the entities of `{label}` in a text",
    "answers": "finds the answer to a question in a text",
    "text2text": "writes `{label}` of a text",
    "similarity": "turns a text into a vector, so that like texts have like directions",
}


def card(summary: Mapping[str, Any], budget: Mapping[str, Any] | None) -> str:
    """The card of a pretrained model: what made it, what it cost, and its losses by domain.

    ``summary`` is the model's; ``budget`` is training.budget.Budget as a dict, None where there is none.
    """
    objective, evaluation = summary["objective"], summary["evaluation"]
    measures = [(formats.words(name), value) for name, value in models.measures(summary)]
    if summary["unigram_loss"] is not None:
        measures.append(("loss of token frequencies alone, nats", summary["unigram_loss"]))
    tables: list[Table] = [
        ("What made it", ["", ""], _origin(summary)),
        ("Held-out text", ["measure", "value"], [("loss, nats", evaluation["loss"]), *measures]),
        ("Losses by domain", *_by_domain(evaluation.get("domains", {}))),
    ]
    if budget is not None:
        tables.append(("Token budget", ["", "", "where it comes from"], models.budget_rows(budget)))
    further = f" further from `{summary['base']}`" if "base" in summary else ""
    said = (
        f"A {summary['model_type']} model of {formats.short(summary['parameters']['total'])} parameters, pretrained"
        f"{further} by `{objective}` on {formats.short(summary['trained_tokens'])} tokens with corpusmill."
    )
    if objective == "electra":
        said += (
            " It is the discriminator: its logit for each token is high where the token was replaced. The generator,"
            " which fills masks, is in the folder `generator`, for `AutoModelForMaskedLM`."
        )
    return _page(summary, ["pretraining", objective], said, tables)


def finetuned(summary: Mapping[str, Any]) -> str:
    """The card of a fine-tuned model: its task, its labels, and its scores beside the baselines, with intervals."""
    rows, groups = summary["documents"], summary["groups"]
    scores = [
        (models.predictor(summary, name), *(_interval(score) for score in summary["scores"][name].values()))
        for name in models.predictors(summary)
    ]
    measures = [models.MEASURES.get(name, formats.words(name)) for name in summary["scores"]["model"]]
    lead = [
        ("lead over the bag of words", *(_interval(score) for score in leads.values()))
        for leads in [summary.get("lead_over_bag_of_words")]
        if leads
    ]
    config, made_from = summary["config"], summary["made_from"]
    read = "sequences of" if "long_text" in config else "texts cut to"
    data = [
        ("rows", f"{rows['train']} to train on, {rows['dev']} to choose by, {rows['test']} to test on"),
        ("groups", f"{groups['train']}, {groups['dev']} and {groups['test']}; none is in two sets"),
        ("grouped by", config.get("group", "row")),
        ("only rows with", ", ".join(f"{name}: {value}" for name, value in config.get("only", {}).items())),
        ("words cut from the texts", f"{summary['hidden_words']}, of {', '.join(config.get('hide', []))}"),
    ]
    origin = [
        ("recipe", f"{made_from['recipe']} `{made_from['recipe_fingerprint']}`" if "recipe" in made_from else None),
        ("corpus", f"`{made_from['corpus']}`" if "corpus" in made_from else None),
        ("rows", f"{made_from['data']} `{made_from['rows']}`" if "data" in made_from else None),
        ("base", f"{summary['base']} `{made_from['base']}`"),
        ("adapted to a domain", _adapted(summary)),
        ("this run", f"`{summary['fingerprint']}`, seed {summary['seed']}"),
        (
            "steps",
            f"{summary['steps']}, {summary['epochs']} epochs of {read} {summary['sequence_length']} tokens; the"
            f" weights after step {summary['best_step']} are published, the best on the development rows",
        ),
        ("trained on", summary["device"]),
    ]
    unread = [
        (kind, *(summary["unread"][side].get(kind, 0) for side in rows))
        for kind in sorted({kind for kinds in summary.get("unread", {}).values() for kind in kinds})
    ]
    main = formats.words(summary["main"])
    trained = [
        (
            formats.words(row["strategy"]), row["trained"], formats.share(row["share"], 1),
            formats.size(row["peak_bytes"]), f"{row['seconds']:.1f}", _interval(row["score"]),
            models.forgotten(row) or "",
        )
        for row in summary.get("strategies", [])
    ]  # fmt: skip
    parts = [(name, *map(_interval, measured.values())) for name, measured in summary.get("parts", {}).items()]
    of_parts = [models.MEASURES.get(name, name) for measured in summary.get("parts", {}).values() for name in measured]
    used = [
        ("the rows of a file", "`mill predict path/to/this/folder FILE --output OUT`, columns as in corpusmill.json"),
        ("by HTTP", "`mill serve-model path/to/this/folder`"),
    ]
    tables = [
        ("How to predict", ["", ""], used),
        ("Scores on test rows, with 95 % intervals over groups", ["", *measures], [*scores, *lead]),
        (
            "Strategies",
            ["", "trained parameters", "share of all", "peak memory", "seconds", main, "pretraining loss"],
            trained,
        ),
        ("Scores by part", ["", *dict.fromkeys(of_parts)], parts),
        ("What the model does not read", ["", *rows], unread),
        ("Data", ["", ""], [row for row in data if row[1] and not row[1].startswith("0, of")]),
        ("Labels", ["id", "label"], list(enumerate(summary["labels"]))),
        ("What made it", ["", ""], [row for row in origin if row[1]]),
    ]
    does = _DOES[summary.get("like", summary["task"])]  # a plug-in's task is like one of these
    said = (
        f"A {summary['model_type']} model of {formats.short(summary['parameters']['total'])} parameters that"
        f" {does.format(label=summary['label'])}, fine-tuned from `{summary['base']}` with corpusmill."
    )
    more = _long_texts(summary)
    if models.strategies_chart(summary) is not None:
        more += f"\n\n![Score by strategy]({STRATEGIES})"
    if not summary.get("adapter_only"):
        return _page(summary, ["fine-tuning"], said + more, tables)
    said += f" This folder holds what was trained alone (adapter.safetensors); it needs its base, `{summary['base']}`."
    opened = [
        "from training.finetuning.strategies import adapter_file",
        "from transformers import AutoTokenizer",
        "",
        'model = adapter_file.load("path/to/this/folder")  # base="..." where the base was moved',
    ]
    return _page(summary, ["fine-tuning"], said + more, tables, opened)


def _adapted(summary: Mapping[str, Any]) -> str | None:
    """What the base read of the domain before; None where the published model started from the base itself."""
    adaptation = summary.get("adaptation")
    if adaptation is None or "adapted" not in summary["made_from"]:
        return None
    return (
        f"the base read {formats.count(adaptation['documents'])} documents first, in a vocabulary with"
        f" {formats.count(adaptation['new_tokens'])} new tokens: `{summary['made_from']['adapted']}`"
    )


def _long_texts(summary: Mapping[str, Any]) -> str:
    """What is read of a long text, and what transformers alone reads of it; nothing of a model that reads the head."""
    asked, length = summary["config"].get("long_text", {}), summary["sequence_length"]
    kind = asked.get("kind", "head")
    reads = {
        "tail": f"the last {length} tokens, special ones counted",
        "head_tail": f"its first and its last tokens, {length} in all, special ones counted",
        "chunks": f"chunks of {length} tokens that overlap by half, pooled by {asked.get('pooling', 'mean')}",
        "hierarchical": f"chunks of {length} tokens that overlap by half, through a small Transformer over them",
    }
    if kind not in reads:
        return ""
    pools = kind == "hierarchical" or asked.get("pooling") == "attention"
    apart = " The parameters that pool are in long_text.safetensors, which transformers does not open." if pools else ""
    return (
        f"\n\nOf a longer text it reads {reads[kind]} (long_text.json).{apart} transformers alone, with"
        f" `truncation=True, max_length={length}`, reads the first {length} tokens and may predict otherwise;"
        " `mill predict` reads all as in training."
    )


Table = tuple[str, list[str], list[tuple[Any, ...]]]


def _page(
    summary: Mapping[str, Any], tags: list[str], said: str, tables: Sequence[Table], opened: Sequence[str] = ()
) -> str:
    """``opened`` are lines that open the model where transformers alone does not."""
    vectors = "sentence-similarity" if summary.get("task") == "similarity" else None
    task, kind = next((row[1:] for row in _KINDS if summary["architecture"].endswith(row[0])), (vectors, "AutoModel"))
    head: dict[str, Any] = {"library_name": "transformers", "tags": ["corpusmill", *tags]}
    if task is not None:
        head["pipeline_tag"] = task
    if summary["made_from"].get("languages"):
        head["language"] = summary["made_from"]["languages"]
    lines = [
        "---",
        yaml.safe_dump(head, sort_keys=False).rstrip(),
        "---",
        "",
        f"# {summary['name']}",
        "",
        said,
        "",
        "```python",
        *(
            opened
            or (
                f"from transformers import AutoTokenizer, {kind}",
                "",
                f'model = {kind}.from_pretrained("path/to/this/folder")',
            )
        ),
        'tokenizer = AutoTokenizer.from_pretrained("path/to/this/folder")',
        *([] if vectors is None else _vectors(summary["chosen"]["pooling"])),
        "```",
    ]
    for title, columns, rows in tables:
        if rows:
            lines += ["", f"## {title}", "", *_table(columns, rows)]
    return "\n".join(lines) + "\n"


def _vectors(pooling: str) -> list[str]:
    """Lines of code that make vectors of texts."""
    of = {
        "mean": "(hidden * mask).sum(1) / mask.sum(1)",
        "cls": "hidden[:, 0]",
        "max": 'hidden.masked_fill(mask == 0, float("-inf")).amax(1)',
    }
    return [
        'inputs = tokenizer(["a text", "another"], padding=True, truncation=True, return_tensors="pt")',
        'hidden, mask = model(**inputs).last_hidden_state, inputs["attention_mask"].unsqueeze(-1)',
        f"vectors = {of[pooling]}  # the cosine of two says how alike their texts are",
    ]


def _interval(score: Mapping[str, float]) -> str:
    return f"{score['value']:.3f} ({score['low']:.3f} to {score['high']:.3f})"


def _origin(summary: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    made_from = summary["made_from"]
    rows = [
        ("recipe", f"{made_from['recipe']} `{made_from['recipe_fingerprint']}`"),
        ("corpus", f"`{made_from['corpus']}`" if made_from["corpus"] else None),
        ("tokenizer", f"{summary['tokenizer']} `{made_from['tokenizer']}`"),
        ("packed tokens", f"`{made_from['tokens']}`"),
        ("base", f"{summary['base']} `{made_from['base']}`" if "base" in summary else None),
        ("this run", f"`{summary['fingerprint']}`, seed {summary['seed']}"),
        ("steps", f"{summary['steps']} of {summary['batch_size']} x {summary['sequence_length']} tokens"),
        ("trained on", _machine(summary)),
    ]
    return [row for row in rows if row[1] is not None]


def _machine(summary: Mapping[str, Any]) -> str:
    count = summary.get("processes", 1)
    return summary["device"] if count == 1 else f"{summary['device']}, {count} processes"


def _by_domain(domains: Mapping[str, Mapping[str, Any]]) -> tuple[list[str], list[tuple[Any, ...]]]:
    measured = {n for values in domains.values() for n in values if n.endswith(models.MEASURED)}
    names = ["loss", *sorted(measured)]
    rows = [
        (domain, *(values.get(name) for name in names), values["documents"], values["tokens"])
        for domain, values in sorted(domains.items())
    ]
    return ["domain", *map(formats.words, names), "documents", "tokens"], rows


def _table(columns: list[str], rows: list[tuple[Any, ...]]) -> list[str]:
    return [_row(columns), _row(["---"] * len(columns)), *map(_row, rows)]


def _row(cells: Any) -> str:
    shown = (formats.number(cell) if isinstance(cell, float) else str(cell) for cell in cells)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in shown) + " |"
