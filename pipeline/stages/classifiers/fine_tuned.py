"""A fine-tuned classifier as a stage: it scores every document, or teaches a fastText model that does.

What opens it is not here: the pipeline knows no torch, so the build brings a ``Scorer``. What it says is kept,

    work/<stage>.teacher/<shard>            rows of the shard, and the score of each
    models/classifiers/<stage>.bin          the fastText model that learned the scores of a sample
    models/classifiers/<stage>.json         what made it
    models/classifiers/<stage>.agreement.json   how far the two keep and drop alike, on documents held out

so that a changed threshold asks neither model again.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline import MillError
from pipeline.build.build import Build, Made, Outcome, Step, ledger_fingerprint, make, measure_step
from pipeline.build.reuse import Reuse
from pipeline.build.stage import Scorer, Stage
from pipeline.stages.classifiers import scoring, train_model
from pipeline.stages.classifiers.config import Classifier, Distillation
from pipeline.stages.classifiers.features import Shape
from pipeline.stages.classifiers.train_model import LABELS, POSITIVE
from pipeline.store import files, ledger, model_files, model_folder, shards
from pipeline.text.hashing import document_hash, unit_interval

VERSION = 1
#: Which documents are scored for the fastText model, and which of these are held out, is chosen by hashes of their own.
_SALT = 0x74656163686572
_HEAD = "ForSequenceClassification"
#: Texts that the fine-tuned classifier is timed on.
_TIMED = 64
_SHAPE = Shape(word_ngrams=2, shortest=0, longest=0, buckets=1 << 18)
_LEARNING_RATE, _MIN_COUNT = 0.5, 2


class CannotScore(MillError):
    """Documents cannot be scored by a fine-tuned classifier; the message says why, and what to do."""


class TooDifferent(MillError):
    """The fastText model decides otherwise than the classifier that it learned from more often than is allowed."""


def require(folder: str, labels: Sequence[str]) -> None:
    """Raise CannotScore unless ``folder`` holds a classifier, NoSuchLabel unless it knows ``labels``."""
    if problem := model_folder.problem(folder):
        raise CannotScore(problem)
    config = files.read_json(files.join(folder, "config.json"), "Save the model again.")
    kinds = config.get("architectures") or ["no head at all"]
    if not any(kind.endswith(_HEAD) for kind in kinds):
        raise CannotScore(
            f"{folder}: not a classifier of texts but {', '.join(kinds)}; fine-tune one with task classify"
        )
    known = list((config.get("id2label") or {}).values())
    if config.get("problem_type") == "regression" or len(known) < 2:
        raise CannotScore(
            f"{folder}: it gives a number (regression), and a stage needs the probability of a label; fine-tune one"
            " with task classify"
        )
    path = files.join(folder, "summary.json")
    if files.exists(path) and files.read_json(path).get("config", {}).get("pair") is not None:
        raise CannotScore(
            f"{folder}: it reads pairs of texts, and a document is one; take a classifier of single texts"
        )
    scoring.require_known(folder, labels, known)


def probability(texts: pa.StringArray, folder: str, labels: Sequence[str], scorer: Scorer | None) -> pa.Array:
    """float32 for each text: how likely one of ``labels`` is; null for one without a visible character.

    Raises CannotScore where there is no ``scorer``.
    """
    if scorer is None:
        raise CannotScore(
            f"{folder}: a fine-tuned classifier needs the command line, which brings torch; run `mill build`, or"
            " `mill whatif`"
        )
    blank = scoring.blank(texts)
    scores = np.zeros(len(texts), np.float32)
    if not blank.all():
        scores[~blank] = scorer(texts.filter(pa.array(~blank)).to_pylist(), folder, labels)
    return pa.array(scores, mask=blank)


def steps(stage: Stage, title: str) -> list[Step]:
    """The steps of ``stage`` whose model was fine-tuned, and the last one of all: documents are judged."""
    name = stage.name
    once = partial(partial, _once, name)

    return [
        Step(f"{name}.sample", f"{title} sample", once("sample.json"), partial(_sample, name)),
        Step(f"{name}.teacher", f"{title} scores", partial(_scored, name), partial(_teach, name)),
        Step(f"{name}.distil", f"{title} distilled", once(f"{name}.bin"), partial(_distil, name)),
        Step(
            f"{name}.agreement",
            f"{title} agreement",
            once(f"{name}.agreement.json"),
            partial(_agree, stage),
        ),
        Step(name, stage.title, Build.shards, partial(_judge, stage)),
    ]


def reuse(name: str, old: Classifier, new: Classifier) -> Reuse | None:
    """What a what-if keeps: the fine-tuned classifier's scores, and the model that learned them."""
    if new.fine_tuned is None or any(getattr(old, key) != getattr(new, key) for key in _OF_SCORES):
        return None
    kept = [f"{name}.{step}" for step in ("sample", "teacher", "distil", "agreement")]
    if new.direct:
        return Reuse(kept=kept)
    return Reuse(
        kept=kept,
        note=f"{name.capitalize()} is judged by the fastText model as this build distilled it; a run distils again on"
        " the documents that then reach this stage.",
    )


#: Fields that scores come of.
_OF_SCORES = ("model", "label", "max_bytes", "distilled")


def agreement(build: Build, stage: str) -> dict[str, Any] | None:
    """What was found of the fastText model that ``stage`` distilled; None if there is none."""
    path = _path(build, f"{stage}.agreement.json")
    return files.read_json(path) if files.exists(path) and _folder(build, stage) else None


def _folder(build: Build, stage: str) -> str | None:
    return build.section(stage).fine_tuned


def _scored(stage: str, build: Build) -> list[str]:
    return build.shards() if _folder(build, stage) else []


def _once(stage: str, item: str, build: Build) -> list[str]:
    return [item] if _folder(build, stage) and not build.section(stage).direct else []


def _path(build: Build, name: str) -> str:
    return build.path("models", "classifiers", name)


def _sample_path(build: Build, stage: str) -> str:
    return build.path("work", f"{stage}.sample", "sample.json")


def _teacher_path(build: Build, stage: str, shard: str) -> str:
    return build.path("work", f"{stage}.teacher", shard)


def _sample(stage: str, build: Build, _item: str) -> Outcome:
    """The share of the documents which reach the stage that are scored for the fastText model."""
    wanted = build.section(stage).distilled.texts
    views = [build.view_fingerprint(shard, stage) for shard in build.shards()]
    made_by = files.fingerprint("classifier.sample", VERSION, wanted, views)

    def share() -> Made:
        alive = 0
        for shard in build.shards():
            ledgers = [build.ledger(name, shard) for name in build.stages_before(stage)]
            alive += int(ledger.alive(ledgers, shards.read_size(build.path("documents", shard))[0]).sum())
        return Outcome(alive), {"documents": alive, "share": min(1.0, wanted / max(1, alive))}

    return make(_sample_path(build, stage), made_by, share)


def _teach(stage: str, build: Build, shard: str) -> Outcome:
    """Scores of the fine-tuned classifier: of all documents that reach the stage, or of the sample."""
    config: Classifier = build.section(stage)
    folder = str(config.fine_tuned)
    share = None if config.direct else files.read_json(_sample_path(build, stage))["share"]
    made_by = files.fingerprint(
        "classifier.teacher",
        VERSION,
        [model_folder.digest(folder), config.labels, config.max_bytes, share, build.recipe.seed],
        build.view_fingerprint(shard, stage),
    )

    def scores() -> Made:
        view = build.view(shard, before=stage)
        chosen = np.ones(len(view.texts), bool)
        if share is not None:
            chosen = unit_interval(document_hash(view.texts, build.recipe.seed ^ _SALT)) < share
        mask = pa.array(chosen)
        texts = view.texts.filter(mask)
        columns = {
            "row": pa.array(view.rows[chosen]),
            "score": probability(scoring.shortened(texts, config.max_bytes), folder, config.labels, build.scorer),
        }
        if "language" in view.signals:
            columns["language"] = view.signals["language"].filter(mask)
        return Outcome(len(texts), texts.nbytes), pa.table(columns)

    return make(_teacher_path(build, stage, shard), made_by, scores)


def _distil(stage: str, build: Build, item: str) -> Outcome:
    """The fastText model of the sample's scores, and the scores of both models on what is held out."""
    config: Classifier = build.section(stage)
    taught: Distillation = config.distilled  # type: ignore[assignment]
    taught_by = [shards.read_fingerprint(_teacher_path(build, stage, shard)) for shard in build.shards()]
    settings = taught.model_dump(exclude={"minimum_agreement"})
    made_by = files.fingerprint("classifier.distil", VERSION, settings, config.max_bytes, build.recipe.seed, taught_by)
    path = _path(build, item)

    def has_model(note: dict[str, Any]) -> bool:
        return files.exists(path) and model_files.digest(path) == note["sha256"]

    paths = [_heldout_path(build, stage), _path(build, f"{stage}.json")]
    return make(paths, made_by, partial(_student, stage, build, config, taught, path), has_model)


def _heldout_path(build: Build, stage: str) -> str:
    return build.path("work", f"{stage}.distil", "heldout.arrow")


def _student(stage: str, build: Build, config: Classifier, taught: Distillation, path: str) -> Made:
    seed = build.recipe.seed
    sample = _gathered(stage, build, config)
    texts = sample["text"].combine_chunks()
    heldout = unit_interval(document_hash(texts, seed ^ _SALT ^ 1)) < taught.heldout
    learned = sample.filter(pa.array(~heldout))
    if not heldout.any() or not len(learned):
        raise CannotScore(
            f"{stage}.distilled: {len(texts)} texts reach this stage, too few to learn from and to compare on; set"
            " `distilled: false`"
        )
    positive = learned["score"].to_numpy().astype(np.float64)
    train_model.train(
        learned["text"].combine_chunks(), np.stack([1 - positive, positive], axis=1), LABELS, path,
        dimensions=taught.dimensions, epochs=taught.epochs, learning_rate=_LEARNING_RATE, seed=seed,
        min_count=_MIN_COUNT, shape=_SHAPE,
    )  # fmt: skip
    unseen = sample.filter(pa.array(heldout))
    student = scoring.probability(unseen["text"].combine_chunks(), path, [POSITIVE])
    note = {
        "sha256": model_files.digest(path),
        "texts": len(learned),
        "distilled_from": {"folder": config.fine_tuned, "labels": config.labels},
        "per_second": _rates(config, unseen["read"].combine_chunks(), path, build.scorer),
    }
    kept = unseen.drop_columns(["text", "read"]).append_column("student", student)
    return Outcome(len(texts), texts.nbytes), kept, note


def _gathered(stage: str, build: Build, config: Classifier) -> pa.Table:
    """The scored texts, each once, in the order of their hashes: ``read`` as the fine-tuned classifier reads them,
    ``text`` as the fastText model does, ``score``, and ``language`` where it is known.
    """
    parts = []
    for shard in build.shards():
        scored = shards.read_table(_teacher_path(build, stage, shard))
        view = build.view(shard, before=stage)
        places = np.searchsorted(view.rows, scored["row"].to_numpy())
        read = scoring.shortened(view.texts.take(pa.array(places, pa.int64())), config.max_bytes)
        columns = {"read": read, "text": scoring.folded(read)}
        columns |= {name: scored[name].combine_chunks() for name in scored.column_names if name != "row"}
        if "language" in columns:
            columns["language"] = columns["language"].cast(pa.string())
        parts.append(pa.table(columns).filter(pc.is_valid(scored["score"])))
    whole = pa.concat_tables(parts)
    _, first = np.unique(document_hash(whole["text"].combine_chunks(), build.recipe.seed), return_index=True)
    return whole.take(pa.array(first, pa.int64()))


def _rates(config: Classifier, texts: pa.StringArray, path: str, scorer: Scorer | None) -> dict[str, float]:
    """Documents a second of both models on the same core, on texts that are held out."""
    few, rates = texts.slice(0, _TIMED), {}
    probability(few.slice(0, 1), str(config.fine_tuned), config.labels, scorer)  # which loads it
    for name, chosen, score in (
        ("fine_tuned", few, lambda: probability(few, str(config.fine_tuned), config.labels, scorer)),
        ("distilled", texts, lambda: scoring.probability(scoring.folded(texts), path, [POSITIVE])),
    ):
        began = time.perf_counter()
        score()
        rates[name] = len(chosen) / (time.perf_counter() - began)
    return rates


def _agree(stage: Stage, build: Build, item: str) -> Outcome:
    """How often both models keep or drop alike under the recipe's threshold. Raises TooDifferent."""
    config: Classifier = build.section(stage.name)
    taught: Distillation = config.distilled  # type: ignore[assignment]
    rules, source = stage.rules(config), _heldout_path(build, stage.name)
    bounds = [[rule.name, rule.minimum, rule.maximum, rule.by] for rule in rules]
    made_by = files.fingerprint("classifier.agreement", VERSION, bounds, shards.read_fingerprint(source))

    def compared() -> Made:
        table = shards.read_table(source)
        (signal,) = stage.signals
        kept: list[np.ndarray] = []
        for column in ("score", "student"):
            signals = {name: table[name].combine_chunks() for name in table.column_names}
            judged = ledger.judge(rules, {**signals, signal: signals[column]}, len(table))
            kept.append(judged.rule < 0)
        note = files.read_json(_path(build, f"{stage.name}.json"))
        shares = _compare(kept[0], kept[1], table["score"].to_numpy(), table["student"].to_numpy())
        about = {key: note[key] for key in ("distilled_from", "texts", "per_second")}
        return Outcome(len(table)), {**about, "bounds": bounds, "heldout": shares}

    outcome = make(_path(build, item), made_by, compared)
    shares = files.read_json(_path(build, item))["heldout"]
    if shares["agreement"] < taught.minimum_agreement:
        raise TooDifferent(
            f"{stage.name}: the distilled fastText model and {config.model} decide alike on {shares['agreement']:.1%}"
            f" ({shares['low']:.1%} to {shares['high']:.1%}) of {shares['texts']:,} held-out documents, less than"
            f" `distilled.minimum_agreement` = {taught.minimum_agreement:.1%}; raise `distilled.texts`, let the"
            " classifier score every document with `distilled: false`, or allow less"
        )
    return outcome


def _compare(teacher: np.ndarray, student: np.ndarray, scores: np.ndarray, learned: np.ndarray) -> dict[str, Any]:
    """Of ``teacher`` and ``student`` (bool: kept) the share alike with Wilson's interval of 95 %; of the scores the
    rank correlation, None where one of them is constant.
    """
    from scipy import stats  # slow to import, and needed here alone

    alike = int((teacher == student).sum())
    interval = stats.binomtest(alike, len(teacher)).proportion_ci(method="wilson")
    constant = np.ptp(scores) == 0 or np.ptp(learned) == 0
    return {
        "texts": len(teacher),
        "kept": [int(teacher.sum()), int(student.sum())],
        "agreement": alike / len(teacher),
        "low": float(interval.low),
        "high": float(interval.high),
        "rank_correlation": None if constant else float(np.corrcoef(*map(stats.rankdata, (scores, learned)))[0, 1]),
    }


def _judge(stage: Stage, build: Build, shard: str) -> Outcome:
    """The ledger of a shard: of scores that are kept where the fine-tuned classifier scored all, else measured."""
    config: Classifier = build.section(stage.name)
    if not config.direct:
        return measure_step(stage).work(build, shard)

    def verdicts() -> Made:
        view = build.view(shard, before=stage.name)
        scores = shards.read_table(_teacher_path(build, stage.name, shard))["score"].combine_chunks()
        (signal,) = stage.signals
        judged = ledger.judge(stage.rules(config), {**view.signals, signal: scores}, len(scores))
        return Outcome(len(scores)), pa.table(ledger.spread(view.alive, {signal: scores, **judged.columns()}))

    return make(build.ledger_path(stage.name, shard), ledger_fingerprint(stage, build, shard), verdicts)
