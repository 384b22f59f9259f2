"""The section ``finetune`` of a recipe: labelled rows, what to learn of them, and from which model. Torch-free."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, create_model, model_validator

from pipeline import MillError
from pipeline.build.plugins import Plugin, find, installed, parts
from pipeline.store.recipe_file import Config
from training.recipe import strategies, tasks
from training.recipe.long_text import Chunks, Head, HeadTail, Hierarchical, LongText
from training.recipe.run import AdaptOptimiser, FinetuneOptimiser, Name, RunConfig, Share

Format = Literal["csv", "tsv", "jsonl", "parquet", "arrow", "conll", "squad", "rte", "parallel", "datasets"]


class LabelledFiles(Config):
    """Labelled rows in files of your own. What is not given of development and test is split off by hash."""

    train: Annotated[
        str,
        Field(
            description="file, pattern of files, folder that `datasets` saved, or what the names of line-parallel files"
            " begin with"
        ),
    ]
    dev: Annotated[str | None, Field(description="rows that the run is tuned and chosen by; default: a share")] = None
    test: Annotated[str | None, Field(description="rows that only the final score reads; default: a share")] = None
    format: Annotated[Format | None, Field(description="format of the files; default: by their names")] = None
    columns: Annotated[
        list[str] | None,
        Field(description="names of the columns of csv, tsv and conll files; default: their first row, of conll none"),
    ] = None
    separator: Annotated[
        str, Field(min_length=1, description="what stands between the labels of a row of task multi_label, in a text")
    ] = ","


class AnswersConfig(Config):
    """How the task `answers` reads contexts and finds spans in them."""

    overlap: Annotated[
        int | None,
        Field(ge=0, description="tokens that two windows of a context share; default: a quarter of `sequence_length`"),
    ] = None
    longest: Annotated[int, Field(ge=1, description="tokens in an answer, at most; BERT: 30")] = 30
    n_best: Annotated[int, Field(ge=1, description="spans that are kept of each context, best first; BERT: 20")] = 20


class Text2TextConfig(Config):
    """What the task `text2text` reads before each text, and how it writes."""

    prefix: Annotated[str, Field(description="text before each text, such as `translate English to German: `")] = ""
    target_length: Annotated[int, Field(ge=2, description="tokens in a target, at most; longer ones are cut")] = 128
    method: Annotated[
        Literal["greedy", "beam", "sample"], Field(description="how each token is chosen when a text is written")
    ] = "greedy"
    measure: Annotated[
        Literal["chrf", "bleu", "rouge_l"],
        Field(description="main measure: chrf suits any text, bleu translations, rouge_l summaries in English"),
    ] = "chrf"
    beams: Annotated[int, Field(ge=2, description="texts that `beam` follows; T5: 4")] = 4
    temperature: Annotated[float, Field(gt=0, description="what `sample` divides logits by")] = 1.0
    top_p: Annotated[float, Field(gt=0, le=1, description="share of the probability that `sample` draws from")] = 1.0


Pooling = Literal["mean", "cls", "max"]


class SimilarityConfig(Config):
    """How the task `similarity` makes a vector of a text, and by what contrast it learns."""

    pooling: Annotated[
        Pooling, Field(description="what of the last hidden states is the vector; Sentence-BERT found mean best")
    ] = "mean"
    contrast: Annotated[
        Literal["cosine", "negatives"],
        Field(
            description="cosine: towards the score; negatives: pairs scored 0.5 or more against the other texts of the"
            " batch"
        ),
    ] = "cosine"


class AdaptConfig(Config):
    """Domain adaptation: the base reads text of the domain, in words of its own, before it is fine-tuned.

    Gururangan et al. 2020, "Don't Stop Pretraining". Run with and without it, the better one is published.
    """

    corpus: Annotated[
        str | None, Field(description="corpus folder of a build, of which texts are read; default: this build's")
    ] = None
    domain: Annotated[str | None, Field(description="domain of the documents that are read; default: all")] = None
    documents: Annotated[int, Field(ge=20, description="documents that are read, at most; chosen by hash")] = 20_000
    tokens: Annotated[
        int, Field(ge=0, description="words of the domain that become tokens, at most; those that save most tokens")
    ] = 500
    epochs: Annotated[float, Field(gt=0, description="passes over the documents, of masked language modelling")] = 1.0
    batch_size: Annotated[int, Field(ge=1, description="sequences a step")] = 32
    optimiser: Annotated[AdaptOptimiser, Field(description="optimiser and learning-rate schedule")] = AdaptOptimiser()


#: What a report can say of a fine-tuning's base and of what became of it, and of which tasks.
Page = Literal["probes", "attention", "pooling", "bound"]
_PAGES: dict[Page, tuple[str, ...]] = {
    "probes": ("classify", "tokens"),
    "pooling": ("classify",),
    "bound": ("classify", "tokens"),
}


class FinetuneConfig(RunConfig):
    """A model fine-tuned on labelled rows, of files or of the corpus' own metadata."""

    added: ClassVar[Mapping[str, tasks.Declared]] = {}  # by name, the tasks of plug-ins
    loaded: ClassVar[tuple[Plugin, ...]] = ()

    name: Annotated[Name, Field(description="name of the model, and of its folder")]
    base: Annotated[str, Field(description="the `pretrain` run, or the folder of a model, to start from")]
    data: Annotated[
        LabelledFiles | None, Field(description="files of labelled rows; default: the documents of the corpus")
    ] = None
    task: Annotated[tasks.Task, Field(description="what is learned of a row")] = "classify"
    text: Annotated[str, Field(description="column of the text, or of the question; of `data` only")] = "text"
    pair: Annotated[
        str | None, Field(description="column of the second text of a pair, or of the context; of `data` only")
    ] = None
    label: Annotated[
        str,
        Field(
            description="what to predict: a column of `data`; without it `domain`, `source`, or a field of the"
            " document's metadata"
        ),
    ]
    group: Annotated[
        str | None,
        Field(description="field whose rows stay on one side of the split; each row by itself if absent"),
    ] = None
    only: Annotated[
        dict[str, str], Field(description="fields with the value that a row must have to take part; all do by default")
    ] = {}
    hide: Annotated[
        list[str], Field(description="metadata fields whose words are cut from every text: they give the label away")
    ] = []
    test_share: Annotated[float, Field(gt=0, lt=1, description="share of the rows kept for the test")] = 0.2
    dev_share: Annotated[
        float, Field(gt=0, lt=1, description="share of the other rows kept to choose epochs and settings by")
    ] = 0.1
    documents: Annotated[
        int | None, Field(ge=1, description="maximum number of rows, chosen by hash; default: all")
    ] = None
    smallest_class: Annotated[
        int | None,
        Field(
            ge=2, description="labels with fewer rows are left out; default: 50 of the corpus, all are kept of `data`"
        ),
    ] = None
    near_copies: Annotated[
        Share, Field(description="largest share of test rows that may be near copies of training rows; of `data` only")
    ] = 0.05
    allow_near_copies: Annotated[
        bool, Field(description="train where more test rows are near copies: scores are given without them, too")
    ] = False
    per_class: Annotated[
        int | None,
        Field(
            ge=2, description="rows of each label to learn of, `dev_share` of them to choose by; default: all there are"
        ),
    ] = None
    sequence_length: Annotated[int, Field(ge=8, description="tokens in a sequence; longer texts are cut")] = 128
    long_text: Annotated[
        LongText,
        Field(
            description="what is read of a text of more tokens; of classify, multi_label and regression without `pair`"
        ),
    ] = Head()
    epochs: Annotated[int, Field(ge=1, description="passes over the training rows")] = 2
    threshold: Annotated[
        float | None,
        Field(
            gt=0,
            lt=1,
            description="probability from which multi_label predicts a label; default: for each label what gives the"
            " highest F1 on the development rows",
        ),
    ] = None
    costs: Annotated[
        dict[str, dict[str, Annotated[float, Field(ge=0)]]],
        Field(
            description="what an error costs, by the row's label and then by the answer, such as {ham: {spam: 10}};"
            " default: 1 each"
        ),
    ] = {}
    answers: Annotated[AnswersConfig, Field(description="options of the task answers")] = AnswersConfig()
    text2text: Annotated[Text2TextConfig, Field(description="options of the task text2text")] = Text2TextConfig()
    similarity: Annotated[SimilarityConfig, Field(description="options of the task similarity")] = SimilarityConfig()
    dropout: Annotated[Share, Field(description="dropout probability in all layers of the model")] = 0.1
    strategy: Annotated[
        strategies.Strategy, Field(description="which weights are trained, and at which part of the rate")
    ] = strategies.Full()
    compare: Annotated[
        list[strategies.Strategy],
        Field(description="strategies to try one after the other; the best on the development rows is published"),
    ] = []
    grid: Annotated[
        strategies.Grid | None,
        Field(description="settings that each strategy is tried with; the development rows choose; default: none"),
    ] = None
    seeds: Annotated[
        int, Field(ge=1, description="runs with different seeds, for the mean and the deviation of the score")
    ] = 1
    cost_ladder_minutes: Annotated[
        float | None,
        Field(
            gt=0,
            description="about how long models are compared on the rows, from the cheapest up, for the report; default:"
            " they are not",
        ),
    ] = None
    baselines: Annotated[
        list[str], Field(description="`embeddings` to compare with: a linear model on the mean vector of the words")
    ] = []
    held_out: Annotated[
        str | None,
        Field(
            description="file of text on which the pretraining loss of the base is measured before and after; default:"
            " the held-out documents of the `pretrain` run"
        ),
    ] = None
    adapt: Annotated[
        AdaptConfig | None,
        Field(description="pretrain the base further on text of the domain first, and compare; default: no"),
    ] = None
    understand: Annotated[
        list[Page],
        Field(
            description="pages of the report: probes (which layer of the base knows the label), attention (what its"
            " heads look at), pooling ([CLS], mean or max), bound (PAC-Bayes, by how far the weights moved)"
        ),
    ] = []
    optimiser: Annotated[FinetuneOptimiser, Field(description="optimiser and learning-rate schedule")] = (
        FinetuneOptimiser()
    )

    @property
    def like(self) -> str:
        """The one of TASKS that the run's is, or is like."""
        return self.added[self.task].like if self.task in self.added else self.task

    @property
    def own_rows(self) -> object:
        """The kind of rows that a plug-in's task brings with it; None for those of ``like``."""
        return self.added[self.task].rows if self.task in self.added else None

    @property
    def plugin(self) -> Plugin | None:
        """Where the task comes from; None for the program's own."""
        return self.added[self.task].plugin if self.task in self.added else None

    @property
    def of_classes(self) -> bool:
        """Whether each row is a text and its one class, as documents of the corpus have them."""
        return self.like == "classify" and self.own_rows is None

    def of_result(self) -> dict[str, Any]:
        """The fields that decide what comes of the run, for its fingerprint, with the version of a plug-in's task."""
        added = self.added.get(self.task)
        return super().of_result() | ({} if added is None else {"made_by": added.made_by})

    def __reduce__(self) -> tuple[Any, ...]:
        """Travels as its plug-ins and its state, as a recipe does."""
        return _empty, (self.loaded,), self.__getstate__()

    @model_validator(mode="after")
    def _windows_move_on(self) -> FinetuneConfig:
        most = self.sequence_length // 4
        if self.like == "answers" and self.sequence_length < 32:
            raise MillError(
                f"finetune {self.name!r}: {self.sequence_length} tokens hold no question with a part of its context;"
                " raise `sequence_length` to 32 or more"
            )
        if self.like == "answers" and (self.answers.overlap or 0) > most:
            raise MillError(
                f"finetune {self.name!r}: windows of {self.sequence_length} tokens, half of which may be the question,"
                f" cannot share {self.answers.overlap}; lower `answers.overlap` to {most}, or raise `sequence_length`"
            )
        return self

    @model_validator(mode="after")
    def _long_texts_are_single(self) -> FinetuneConfig:
        asked = self.long_text
        if isinstance(asked, Head):
            return self
        if self.like not in ("classify", "multi_label", "regression") or self.pair is not None:
            of = f"the task {self.task}" if self.pair is None else "a `pair` of texts"
            raise MillError(
                f"finetune {self.name!r}: long_text {asked.kind} is for one text with a label or a number, not for"
                f" {of}; leave out `long_text`"
            )
        if isinstance(asked, HeadTail) and (asked.head or 0) >= self.sequence_length:
            raise MillError(
                f"finetune {self.name!r}: `long_text.head` ({asked.head}) leaves nothing for the tail of a sequence of"
                f" {self.sequence_length} tokens; lower it, or raise `sequence_length`"
            )
        if isinstance(asked, Chunks | Hierarchical) and self.compile:
            raise MillError(
                f"finetune {self.name!r}: long_text {asked.kind} reads another number of chunks in every step, which is"
                " not compiled; leave out `compile`"
            )
        return self

    @model_validator(mode="after")
    def _few_have_labels(self) -> FinetuneConfig:
        if self.per_class is not None and not self.of_classes:
            raise MillError(f"finetune {self.name!r}: `per_class` counts rows of labels, which {self.task} has not")
        return self

    @model_validator(mode="after")
    def _adapted_is_an_encoder(self) -> FinetuneConfig:
        if self.adapt is not None and self.task == "text2text":
            raise MillError(
                f"finetune {self.name!r}: `adapt` masks words for an encoder to find, and text2text needs an"
                " encoder-decoder; leave it out"
            )
        return self

    @model_validator(mode="after")
    def _costs_are_of_classes(self) -> FinetuneConfig:
        if self.costs and not self.of_classes:
            raise MillError(
                f"finetune {self.name!r}: `costs` are of errors between labels, which {self.task} has not; leave it out"
            )
        return self

    @model_validator(mode="after")
    def _pages_are_of_the_task(self) -> FinetuneConfig:
        for page in self.understand:
            if self.task not in (fitting := _PAGES.get(page, (self.task,))):
                raise MillError(
                    f"finetune {self.name!r}: `understand` names {page}, which is of the task"
                    f" {' or '.join(fitting)}, and `task` is {self.task}; leave it out"
                )
        return self

    @model_validator(mode="after")
    def _the_cost_ladder_is_of_classes(self) -> FinetuneConfig:
        if self.cost_ladder_minutes is not None and not self.of_classes:
            raise MillError(
                f"finetune {self.name!r}: `cost_ladder_minutes` compares classifiers of texts, and the task is"
                f" {self.task!r}; leave it out"
            )
        return self

    @model_validator(mode="after")
    def _options_are_of_the_task(self) -> FinetuneConfig:
        for task, options in (
            ("answers", self.answers),
            ("text2text", self.text2text),
            ("similarity", self.similarity),
        ):
            if task != self.like and options != type(options)():
                raise MillError(
                    f"finetune {self.name!r}: `{task}` sets options of the task {task}, and `task` is {self.task};"
                    " leave them out, or change `task`"
                )
        if self.similarity.contrast == "negatives" and self.micro_batch not in (None, self.batch_size):
            raise MillError(
                f"finetune {self.name!r}: the negatives of a pair are the other texts of its forward pass; leave out"
                " `micro_batch`"
            )
        return self

    @model_validator(mode="after")
    def _columns_are_of_files(self) -> FinetuneConfig:
        if self.data is None and (self.pair is not None or self.text != "text" or not self.of_classes):
            raise MillError(
                f"finetune {self.name!r}: `text`, `pair` and a `task` other than classify go by columns of files; name"
                " them in `data`"
            )
        return self


@cache
def finetune_config(loaded: tuple[Plugin, ...]) -> type[FinetuneConfig]:
    """FinetuneConfig with the tasks that plug-ins add. Raises MillError for one that does not fit."""
    added = tasks.declared(loaded)
    if not added:
        return FinetuneConfig
    field = FinetuneConfig.model_fields["task"]
    names = Literal[(*tasks.TASKS, *added)]  # type: ignore[valid-type]
    fields: Any = {"task": (names, Field(default=field.default, description=field.description))}
    made = create_model("FinetuneConfig", __base__=FinetuneConfig, __module__=__name__, **fields)
    made.added, made.loaded = added, loaded
    return made


def with_task(name: object, files: Iterable[str]) -> type[FinetuneConfig]:
    """FinetuneConfig with the tasks of the plug-ins in ``files``, or the installed one of this name.

    Raises MillError for a plug-in that does not fit.
    """
    loaded = [find(path, ".") for path in dict.fromkeys(files)]
    known = finetune_config(tuple(loaded))
    for plugin in loaded:
        if not parts(plugin, tasks.Declared):
            raise MillError(f"{plugin}: it makes no FinetuningTask at module level (docs/plugins.md)")
    if isinstance(name, str) and name not in {*tasks.TASKS, *known.added} and (entry := installed("tasks", name)):
        return finetune_config((*loaded, entry))
    return known


def _empty(loaded: tuple[Plugin, ...]) -> FinetuneConfig:
    known = finetune_config(loaded)
    return known.__new__(known)
