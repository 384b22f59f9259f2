"""The tables of the report: titles and cells of each, laid out once and drawn in three places.

The terminal draws them by ``flows/views/layout.py``, the Prefect UI by ``flows/views/artifacts.py``, the page by
``table.html``. A kind of number is written one way, and a dash where there is nothing. Titles are short enough for a
terminal of 80 columns, and no two of a table are alike where the UI keeps its rows by them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from pipeline.report import models
from pipeline.report.lineage import Part
from pipeline.stages import titles
from pipeline.text import formats

NOTHING = "–"


class Column(NamedTuple):
    """``kind``: numbers are aligned to the right and never folded, notes are in a fainter colour."""

    title: str
    kind: Literal["text", "number", "note"] = "text"


@dataclass(frozen=True)
class Bars:
    """A bar beside each row, which only the page draws: parts by their kind (``kept``, ``dropped``) of ``whole``."""

    title: str
    parts: Sequence[Sequence[tuple[str, float]]]
    whole: float


@dataclass(frozen=True)
class Table:
    """Each row has a cell a column; the last ``totals`` rows are set off."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    totals: int = 0
    bars: Bars | None = None


Write = Callable[[Any], str]
#: What lays out a column: its title and kind, and how its values are written.
Layout = tuple[Column, Write]


def _number(title: str, write: Write) -> Layout:
    return Column(title, "number"), write


def text(title: str) -> Layout:
    return Column(title), str


def note(title: str) -> Layout:
    return Column(title, "note"), str


def written(title: str) -> Layout:
    """Numbers that are written already."""
    return _number(title, str)


def count(title: str) -> Layout:
    """Whole numbers in full: documents, records, tokens of a corpus."""
    return _number(title, lambda value: formats.count(value) if value else NOTHING)


def size(title: str) -> Layout:
    """Bytes."""
    return _number(title, lambda value: formats.size(value) if value else NOTHING)


def short(title: str) -> Layout:
    """Large numbers by three digits: parameters, tokens of a plan."""
    return _number(title, lambda value: formats.short(value) if value else NOTHING)


def share(title: str) -> Layout:
    """Parts of 1, or None."""
    return _number(title, lambda value: NOTHING if value is None else formats.share(value, 1))


def decimals(title: str, digits: int) -> Layout:
    """Measured values that are read beside each other, or None."""
    return _number(title, lambda value: NOTHING if value is None else f"{value:.{digits}f}")


def measured(title: str) -> Layout:
    """Other measured values, or None."""
    return _number(title, formats.number)


def lay_out(
    layouts: Sequence[Layout], rows: Iterable[Sequence[Any]], totals: int = 0, bars: Bars | None = None
) -> Table:
    """The table of the values ``rows``, one for each of ``layouts``."""
    cells = tuple(tuple(write(value) for (_, write), value in zip(layouts, row, strict=True)) for row in rows)
    return Table(tuple(column for column, _ in layouts), cells, totals, bars)


def _part(part: float, whole: float) -> float | None:
    return part / whole if whole else None


def funnel(account: Mapping[str, Any], bytes_per_token: float) -> Table:
    """A row a stage, the corpus last; ``account`` is sections.funnel's."""
    return lay_out(
        [
            text("Stage"), count("Documents kept"), count("Documents dropped"),
            size("Bytes kept"), size("Bytes dropped"), size("Bytes cut"), short("Tokens, about"),
        ],
        [
            (
                row["title"], row["documents"], row["losses"]["documents"],
                row["bytes"], row["losses"]["bytes"] - row["cut"]["bytes"], row["cut"]["bytes"],
                row["bytes"] / bytes_per_token,
            )
            for row in account["rows"]
        ],
        totals=sum(row["stage"] == "corpus" for row in account["rows"]),
    )  # fmt: skip


def distilled(classifiers: Iterable[Mapping[str, Any]]) -> Table:
    """A row a stage; ``classifiers`` is sections.distilled's."""
    return lay_out(
        [
            text("Stage"), note("Learned from"), count("Learned on"), count("Held out"), share("Alike"),
            written("95 % interval"), decimals("Rank correlation", 3), written("Documents/s"),
            written("Documents/s before"),
        ],
        [
            (
                row["title"], row["distilled_from"]["folder"], row["texts"], row["heldout"]["texts"],
                row["heldout"]["agreement"], _interval(row["heldout"]), row["heldout"]["rank_correlation"],
                formats.short(row["per_second"]["distilled"]), formats.short(row["per_second"]["fine_tuned"]),
            )
            for row in classifiers
        ],
    )  # fmt: skip


def rules(account: Mapping[str, Any]) -> Table:
    """A row a rule, the one that dropped most first."""
    rows, documents = account["rules"], account["first"]["documents"]
    return lay_out(
        [text("Rule"), text("Stage"), count("Documents dropped"), size("Bytes dropped"), share("Of all documents")],
        [
            (titles.rule(row["rule"]), row["title"], row["documents"], row["bytes"], _part(row["documents"], documents))
            for row in rows
        ],
        bars=Bars("share", [[("dropped", row["documents"])] for row in rows], rows[0]["documents"] if rows else 0),
    )


def domains(account: Mapping[str, Any]) -> Table:
    """A row a domain, the largest first."""
    rows, first, last = account["domains"], account["first"]["bytes"], account["last"]["bytes"]
    drawn = [
        [("kept", row["after"]["bytes"]), ("dropped", row["before"]["bytes"] - row["after"]["bytes"])] for row in rows
    ]
    return lay_out(
        [
            text("Domain"), count("Documents in"), count("Documents kept"), size("Bytes in"), size("Bytes kept"),
            share("Share kept"), share("Of input"), share("Of corpus"),
        ],
        [
            (
                row["domain"], row["before"]["documents"], row["after"]["documents"], before, after,
                _part(after, before), _part(before, first), _part(after, last),
            )
            for row in rows
            for before, after in [(row["before"]["bytes"], row["after"]["bytes"])]
        ],
        bars=Bars("bytes kept", drawn, rows[0]["before"]["bytes"] if rows else 0),
    )  # fmt: skip


def not_documents(account: Mapping[str, Any], quarantine: Mapping[str, Any] | None) -> Table:
    """Records that are no documents, or are flagged, and stretches of files that were not read.

    ``account`` is sections.funnel's, ``quarantine`` sections.quarantine's.
    """
    rows: list[tuple[Any, ...]] = []
    for row in quarantine["rows"] if quarantine else ():
        example = row["examples"][0] if row["examples"] else None
        rows.append(("quarantined", row["reason"], row["records"], None, _place(example)))
    for what in ("passed_over", "flagged"):
        rows += [(formats.words(what), row["kind"], row["records"], row["bytes"], _place(row)) for row in account[what]]
    rows += [("not read", words, None, None, NOTHING) for words in account["unread"]]
    return lay_out([text("What"), text("Why"), count("Records"), size("Their bytes"), text("First")], rows)


def _place(record: Mapping[str, Any] | None) -> str:
    return NOTHING if record is None else f"{record['file']}, record {formats.count(record['record'])}"


def tokens_by_domain(section: Mapping[str, Any]) -> Table:
    """A row a domain, and their sum; ``section`` is tokens.by_domain's."""
    rows, total = section["rows"], section["total"]
    whole = {**total, "domain": titles.title("corpus"), "planned": None, "assumed": None}
    whole["bytes_per_token"] = total["bytes"] / max(1, total["tokens"])
    return lay_out(
        [
            text("Domain"), count("Documents"), count("Tokens"), share("Of all"), count("Read in a pass"),
            short("Planned"), decimals("Bytes per token", 2), decimals("Assumed", 2),
        ],
        [
            (
                row["domain"], row["documents"], row["tokens"], _part(row["tokens"], total["tokens"]), row["read"],
                row["planned"], row["bytes_per_token"], row["assumed"],
            )
            for row in [*rows, whole]
        ],
        totals=1,
        bars=Bars("tokens", [*([("kept", row["tokens"])] for row in rows), []], rows[0]["tokens"] if rows else 0),
    )  # fmt: skip


def canaries(section: Mapping[str, Any]) -> Table:
    """A row a stage that has canaries; ``section`` is canaries.canaries's."""
    return lay_out(
        [
            text("Stage"), text("Planted"), count("Reached it"), count("Caught"), share("Recall"), share("Expected"),
        ],
        [
            (row["stage"], row["planted"], row["reached"], row["caught"], row["recall"], row["expected"])
            for row in section["rows"]
        ],
    )  # fmt: skip


def contamination(section: Sequence[Mapping[str, Any]]) -> Table:
    """A row an evaluation set; ``section`` is sections.contamination's."""
    return lay_out(
        [
            text("Set"), count("Items"), count("Found"), count("In documents"), count("Too short to check"),
            count("Common, left in place"), count("In documents, common"),
        ],
        [
            (
                row["set"], row["items"], row["held"], row["documents"], row["not_checkable"],
                row["common"], row["common_documents"],
            )
            for row in section
        ],
    )  # fmt: skip


def tokenizers(section: Mapping[str, Any]) -> Table:
    """A row a tokenizer; ``section`` is sections.tokenizers's."""
    return lay_out(
        [
            text("Tokenizer"), text("Algorithm"), count("Entries"), decimals("Bytes per token", 2),
            decimals("Tokens per word", 2), share("Unknown"), share("One character"), share("Entries used"),
            count("Seen <100 times"), decimals("Rényi efficiency", 2),
        ],
        [
            (
                row["tokenizer"], row["config"].algorithm if row["config"] else "published", row["vocab_size"],
                row["bytes_per_token"], row["fertility"], row["unknown_rate"] or None, row["single_character_share"],
                row["vocabulary_used"], row["rare_entries"], row["renyi_efficiency"],
            )
            for row in section["rows"]
        ],
        bars=Bars("bytes per token", [[("kept", row["bytes_per_token"])] for row in section["rows"]], section["best"]),
    )  # fmt: skip


def vocabulary_sizes(section: Mapping[str, Any]) -> Table:
    """A row a tokenizer and size of model; ``section`` is sections.tokenizers's."""
    return lay_out(
        [
            text("Model"), text("Tokenizer"), written("Recommended entries"), decimals("Bytes per token", 2),
            short("Embedding"),
        ],
        [
            (
                f"{row['layers']} layers of {row['width']}", row["tokenizer"],
                ("at least " if row["largest"] else "") + formats.count(row["size"]), row["bytes_per_token"],
                row["embedding"],
            )
            for row in section["recommended"]
        ],
    )  # fmt: skip


def pretraining(runs: Sequence[Mapping[str, Any]]) -> Table:
    """A row a pretrained model; ``runs`` are models.pretrained's."""
    return lay_out(
        [
            text("Model"), text("Shape"), short("Parameters"), short("Without embeddings"), count("Steps"),
            short("Tokens"), measured("Epochs"), decimals("Held-out loss", 3), decimals("Frequencies alone", 3),
            written("Bits per byte"), short("Tokens/s"),
        ],
        [
            (
                run["name"], _kind(run), run["parameters"]["total"],
                run["parameters"]["non_embedding"], run["steps"], run["trained_tokens"], run["epochs"],
                run["evaluation"]["loss"], run["unigram_loss"], _per_byte(run), run["tokens_per_second"],
            )
            for run in runs
        ],
    )  # fmt: skip


def _kind(run: Mapping[str, Any]) -> str:
    base = f", from {run['base']}" if "base" in run else ""
    return f"{run['model_type']}, {run['objective']}{base}"


def _per_byte(run: Mapping[str, Any]) -> str:
    """``1.375``, and of what if not of every token: ``1.375 masked``."""
    cost = models.bits_per_byte(run)
    return f"{cost[1]:.3f} {cost[0].removesuffix('bits per byte')}".strip() if cost else NOTHING


def finetuning(run: Mapping[str, Any]) -> Table:
    """A row a predictor, the model first, then its baselines; ``run`` is one of models.finetuned's."""
    return lay_out(
        [text("Predictor"), *(written(title) for name in run["measures"] for title in (name, f"{name} 95 %"))],
        [
            (
                row["name"],
                *(
                    cell
                    for name, score in zip(run["measured"], row["scores"], strict=True)
                    for cell in (
                        models.score(name, score["value"]),
                        f"{models.score(name, score['low'])} to {models.score(name, score['high'])}",
                    )
                ),
            )
            for row in run["rows"]
        ],
    )


def strategies(run: Mapping[str, Any]) -> Table:
    """What each strategy of a fine-tuning trained, cost and came to; ``run`` is its summary."""
    main = models.main_measure(run)

    def came_to(row: Mapping[str, Any]) -> str:
        score = row["score"]
        low, high = (models.score(main, score[end]) for end in ("low", "high"))
        return f"{models.score(main, score['value'])} ({low} to {high})"

    def over_seeds(row: Mapping[str, Any]) -> str | None:
        spread = row.get("over_seeds")
        return spread and f"{models.score(main, spread['mean'])} +- {models.score(main, spread['deviation'])}"

    several = any("over_seeds" in row for row in run["strategies"])
    seeds = [written("Mean and deviation over seeds")] if several else []
    measured = any("forgetting" in row for row in run["strategies"])
    forgetting = [note("Pretraining loss")] if measured else []
    return lay_out(
        [
            text("Strategy"), count("Trained parameters"), share("Share"), size("Peak memory"), decimals("Seconds", 1),
            written(models.MEASURES.get(main, main)), *seeds, *forgetting,
        ],
        [
            (
                formats.words(row["strategy"]), row["trained"], row["share"], row["peak_bytes"], row["seconds"],
                came_to(row), *([over_seeds(row)] if several else []),
                *([models.forgotten(row)] if measured else []),
            )
            for row in run["strategies"]
        ],
    )  # fmt: skip


def adaptation(run: Mapping[str, Any]) -> Table:
    """A fine-tuning from its base and from the one that was adapted to the domain; ``run`` is its summary."""
    main, comparison = models.main_measure(run), run["adaptation"]
    titles = {"base": "its base", "adapted": "adapted to the domain"}

    def came_to(score: Mapping[str, float]) -> str:
        low, high = (models.score(main, score[end]) for end in ("low", "high"))
        return f"{models.score(main, score['value'])} ({low} to {high})"

    return lay_out(
        [
            text("Started from"), written(models.MEASURES.get(main, main)), decimals("Error on development rows", 4),
            decimals("Tokens a test row", 1), decimals("Seconds", 1), text("Published"),
        ],
        [
            (
                titles[row["start"]], came_to(row["score"]), row["error"], row["tokens"],
                row["seconds"] + (comparison["seconds"] if row["start"] == "adapted" else 0),
                "yes" if row["start"] == comparison["published"] else "",
            )
            for row in comparison["rows"]
        ],
    )  # fmt: skip


def grid(run: Mapping[str, Any]) -> Table:
    """The settings that were tried, and their error on the development rows; ``run`` is a fine-tuning's summary."""
    return lay_out(
        [
            text("Strategy"), written("Learning rate"), count("Batch size"), count("Epochs"),
            decimals("Error on development rows", 4),
        ],
        [
            (
                formats.words(row["strategy"]), f"{row['learning_rate']:g}", row["batch_size"], row["epochs"],
                row["error"],
            )
            for row in run["grid"]
        ],
    )  # fmt: skip


def cost_ladder(said: Mapping[str, Any]) -> Table:
    """A row a rung, in growing cost; the scores are of the test rows. ``said`` is cost_ladders/<name>.json."""
    return lay_out(
        [
            text("Model"), share("Accuracy"), written("95 %"), share("Macro F1"), decimals("Matthews", 2),
            decimals("Training, s", 1), short("Documents per second"), size("On disk"),
        ],
        [
            (
                ("* " if each["name"] == said["recommended"]["name"] else "") + each["title"],
                each["accuracy"]["value"], _interval(each["accuracy"]), each["macro_f1"]["value"],
                each.get("matthews", {}).get("value"), each["seconds"], each["documents_per_second"], each["bytes"],
            )
            for each in said["rungs"]
        ],
    )  # fmt: skip


def learning_curve(curve: Mapping[str, Any]) -> Table:
    """A row a number of labels; ``curve`` is the learning curve of a cost ladder."""
    return lay_out(
        [count("Labels"), short("A class"), share("Accuracy"), written("95 %")],
        [
            (point["labels"], point["a_class"], point["accuracy"]["value"], _interval(point["accuracy"]))
            for point in curve["points"]
        ],
    )


def _interval(score: Mapping[str, float]) -> str:
    return f"{formats.share(score['low'], 1)} to {formats.share(score['high'], 1)}"


def needs(section: Mapping[str, Any]) -> Table:
    """What a model asks of a corpus; ``section`` is needs.laid_out's."""
    return lay_out([text(""), written("Tokens"), note("What it is")], section["rows"])


def needs_by_domain(section: Mapping[str, Any]) -> Table:
    """What each domain can give to it; ``section`` is needs.laid_out's."""
    return lay_out(
        [
            text("Domain"), short("Unique"), short("Can give"), share("Wanted"), share("Weight"), short("Gives"),
            decimals("Epochs", 2), short("Missing"), size("As text"),
        ],
        [
            (
                name, entry["unique"], entry["most"], entry["share"], entry["weight"], entry["given"],
                entry["epochs"], entry["missing"], entry["missing_bytes"] if entry["missing"] else None,
            )
            for name, entry in section["domains"]
        ],
    )  # fmt: skip


def budgets(section: Mapping[str, Any]) -> list[tuple[str, Table]]:
    """Title and table of each part of the budgets, a column a run; ``section`` is models.budgets's."""
    layouts = [text(""), *map(written, section["runs"]), note("Where it comes from")]
    return [
        (title, lay_out(layouts, [(name, *values, origin) for name, values, origin in rows]))
        for title, rows in section["tables"]
    ]


def ladder_runs(section: Mapping[str, Any]) -> Table:
    """A row a run of the scaling ladder; ``section`` is studies.ladder's."""
    return lay_out(
        [
            text("Run"), short("N"), short("D"), measured("Epochs"), decimals("Held-out loss", 3),
            decimals("Bits per byte", 3),
        ],
        [
            (row["name"], row["parameters"], row["tokens"], row["epochs"], row["loss"], row["bits_per_byte"])
            for row in section["rows"]
        ],
    )  # fmt: skip


def ladder_laws(section: Mapping[str, Any]) -> Table:
    """A row a constant of the law that fits the runs."""
    return lay_out(
        [text("L(N, D) = E + A / N^α + B / D^β"), written("Fitted"), written("95 % interval")], section["laws"]
    )


def ladder_predictions(section: Mapping[str, Any]) -> Table:
    """A row a larger compute."""
    names = ["Best N", "95 %", "Best D", "95 %", "Loss", "95 %"]
    return lay_out([text("Compute"), *map(written, names)], section["predictions"])


def ablation(section: Mapping[str, Any]) -> Table:
    """A row a variant and kind of held-out text; ``section`` is studies.ablation's."""
    layouts = [text("Trained on"), text("Read by"), text("Held-out text")]
    return lay_out([*layouts, written("Bits per byte"), written("Worse by"), written("95 %")], section["table"])


def lineage(parts: Sequence[Part]) -> Table:
    """A row a part of the build; ``parts`` are lineage.lineage's."""
    layouts = [text("Part"), text("Name"), text("Made from"), text("Holds"), text("Fingerprint")]
    return lay_out(layouts, [(*part[:4], part.fingerprint[:12] if part.fingerprint else NOTHING) for part in parts])
