"""What the account of a build should warn of: sources that gave nothing, and rules that take most of a group.

A group is a language, a source or a domain. Warnings are plain sentences, computed from the rows of the account
(``funnel``), so that nothing is measured again and memory does not grow with the corpus. Sentences that ingest wrote
beside a source in ``documents/manifest.json`` (``"warnings"``) come first, as they are.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from pipeline.build.build import Build
from pipeline.stages import language
from pipeline.stages.heuristics import families
from pipeline.stages.titles import title
from pipeline.text.formats import count, several, share

#: A group of fewer documents is too small to judge a rule by, unless it is a whole source.
FEWEST = 20
#: The share of a group that a stage may take without a word.
MOST = 0.5
NAMED = 6
GROUPS = ("language", "source", "domain")
KEPT, CUT = "kept", "cut"


class Loss(NamedTuple):
    """Of a group, the documents that reached a stage and those that it dropped, by rule, the largest first."""

    group: str
    reached: int
    lost: int
    rules: tuple[tuple[str, int], ...]


def warnings(build: Build, rows: Iterable[Mapping[str, Any]], sources: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Sentences about a finished account; ``sources`` are those of the manifest of the documents.

    ``rows`` hold ``stage``, ``rule``, ``documents_sum`` and either ``source`` and ``domain`` or ``language``.
    """
    account = Account(rows, build.stages)
    sentences = [sentence for entry in sources.values() for sentence in entry.get("warnings", [])]
    sentences += [_nothing_read(name, entry) for name, entry in sources.items() if not entry["documents"]]
    whole = [loss for loss in account.whole_sources() if loss.lost == loss.reached]
    sentences += [_whole(loss) for loss in whole]
    config = build.section("language")
    if config is not None:
        sentences += _languages(config, account)
    sentences += _without_stop_words(build, account)
    reports = {(loss.reached, loss.lost) for loss in whole}
    for stage in build.stages:
        if stage != "balance":  # it drops what the recipe's budget leaves no room for
            sentences += _stage(build, stage, account, reports)
    return sentences


class Account:
    """The rows of an account, by stage and group."""

    def __init__(self, rows: Iterable[Mapping[str, Any]], stages: tuple[str, ...]) -> None:
        self._before = dict(zip(stages, ("ingest", *stages), strict=False))
        self._kept: dict[tuple[str, str], dict[str, int]] = defaultdict(lambda: defaultdict(int))
        self._dropped: dict[tuple[str, str], dict[str, dict[str, int]]] = defaultdict(
            lambda: defaultdict(lambda: defaultdict(int))
        )
        for row in rows:
            for kind in GROUPS:
                group = row[kind]
                if group is None or row["rule"] == CUT:
                    continue
                if row["rule"] == KEPT:
                    self._kept[row["stage"], kind][group] += row["documents_sum"]
                else:
                    self._dropped[row["stage"], kind][group][row["rule"]] += row["documents_sum"]

    def documents(self, kind: str) -> Mapping[str, int]:
        """The documents of each group that were read."""
        return self._kept["ingest", kind]

    def reached(self, stage: str, kind: str) -> Mapping[str, int]:
        """The documents of each group that reached ``stage``."""
        return self._kept[self._before[stage], kind]

    def losses(self, stage: str, kind: str) -> Iterator[Loss]:
        """What ``stage`` took of each group, those that lost most first."""
        reached = self.reached(stage, kind)
        yield from _sorted(
            Loss(group, reached.get(group, 0), sum(rules.values()), _largest(rules))
            for group, rules in self._dropped[stage, kind].items()
        )

    def whole_sources(self) -> Iterator[Loss]:
        """What all stages together took of each source."""
        taken: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
        for stage in self._before:
            for source, rules in self._dropped[stage, "source"].items():
                for rule, documents in rules.items():
                    taken[source][rule] += documents
        reached = self.documents("source")
        yield from _sorted(
            Loss(source, reached[source], sum(rules.values()), _largest(rules)) for source, rules in taken.items()
        )


def _sorted(losses: Iterable[Loss]) -> list[Loss]:
    return sorted(losses, key=lambda loss: (-loss.lost, loss.group))


def _largest(rules: Mapping[str, int]) -> tuple[tuple[str, int], ...]:
    return tuple(sorted(rules.items(), key=lambda entry: (-entry[1], entry[0])))


def _nothing_read(name: str, entry: Mapping[str, Any]) -> str:
    why = [f"{several(entry.get('files', 0), 'file')} read"]
    if entry["quarantined"]:
        why.append(f"{several(entry['quarantined'], 'record')} quarantined")
    if entry["forgotten"]["documents"]:
        why.append(f"{several(entry['forgotten']['documents'], 'document')} forgotten")
    return f"source {name!r} has no document ({', '.join(why)}): check its path and its fields"


def top_rules(rules: Iterable[tuple[str, int]], whole: int) -> str:
    """The rules that took most of ``whole`` documents, with their shares."""
    listed = list(rules)
    names = ", ".join(f"{rule} {share(documents, whole)}" for rule, documents in listed[:3])
    return names + (f" and {several(len(listed) - 3, 'other rule')}" if len(listed) > 3 else "")


def _whole(loss: Loss) -> str:
    return (
        f"source {loss.group!r}: none of its {several(loss.reached, 'document')} is in the corpus; dropped by"
        f" {top_rules(loss.rules, loss.reached)}. See some: {_sample(loss.rules[0][0])}"
    )


def _languages(config: language.Config, account: Account) -> Iterator[str]:
    """Languages that went because ``language.keep`` does not name them by default, and those it names in vain."""
    lost = [
        (loss.group, documents)
        for loss in account.losses("language", "language")
        for rule, documents in loss.rules
        if rule == language.NOT_WANTED
    ]
    total, read = sum(documents for _, documents in lost), sum(account.documents("language").values())
    if config.keep == language.DEFAULT_KEEP and total >= FEWEST:
        example = ", ".join(f"{name}: 0.5" for name, _ in lost[:2])
        yield (
            f"{title('language')} keeps only English by default: {count(total)} of"
            f" {several(read, 'document')} in {several(len(lost), 'other language')} dropped"
            f" ({_listed(f'{name} {count(documents)}' for name, documents in lost)}). To keep a language, name it with"
            f' its lowest score: `language: {{keep: {{en: 0.65, {example}}}}}`; "*" stands for all'
        )
    for name in config.keep:
        if name != language.OTHERS and not account.documents("language").get(name):
            yield f"no document is in {name!r}, which `language.keep` names"


def _without_stop_words(build: Build, account: Account) -> Iterator[str]:
    """Languages that the heuristic rules know too little of to judge by stop words."""
    config = build.section("heuristics")
    if config is None:
        return
    reached = account.reached("heuristics", "language")
    common = [name for name in reached if reached[name] >= FEWEST]
    common.sort(key=lambda name: (-reached[name], name))
    if names := families.without_stop_words(config, common):
        groups = _listed(f"{name} {count(reached[name])}" for name in names)
        example = f"heuristics: {{gopher_quality: {{by_language: {{{names[0]}: {{stop_words: [...]}}}}}}}}"
        yield (
            f"no stop words are known for {several(len(names), 'language')} ({groups} documents): the rule on them does"
            f" not apply there. To give some: `{example}`"
        )


def _stage(build: Build, stage: str, account: Account, reports: set[tuple[int, int]]) -> Iterator[str]:
    """One sentence for each sort of group of which ``stage`` took more than MOST; ``reports``: those named already."""
    for kind in GROUPS:
        if (stage, kind) == ("minhash", "source"):  # it has an alarm of its own
            continue
        losses = []
        for loss in account.losses(stage, kind):
            if stage == "language" and kind == "language":
                kept = [(rule, documents) for rule, documents in loss.rules if rule != language.NOT_WANTED]
                loss = loss._replace(rules=tuple(kept), lost=sum(documents for _, documents in kept))
            if loss.reached >= FEWEST and loss.lost > MOST * loss.reached and (loss.reached, loss.lost) not in reports:
                losses.append(loss)
        reports |= {(loss.reached, loss.lost) for loss in losses}
        if losses:
            yield _most(build, stage, kind, losses)


def _most(build: Build, stage: str, kind: str, losses: list[Loss]) -> str:
    groups = _listed(
        f"{loss.group} {count(loss.lost)} of {count(loss.reached)} ({top_rules(loss.rules, loss.reached)})"
        for loss in losses
    )
    return (
        f"{title(stage)} drops more than half of {several(len(losses), kind)}: {groups}."
        f" {_remedy(build, stage)} See some: {_sample(losses[0].rules[0][0])}"
    )


def _listed(parts: Iterable[str]) -> str:
    listed = list(parts)
    more = len(listed) - NAMED
    return ", ".join(listed[:NAMED]) + (f" and {count(more)} more" if more > 0 else "")


def _sample(rule: str) -> str:
    return f"`mill sample RECIPE --rule {rule}`"


def _remedy(build: Build, stage: str) -> str:
    if stage == "language":
        return "To keep more, name their languages in `language.keep` or lower the scores there."
    if stage == "heuristics" and build.section("language") is not None:
        return "If they are good, set bounds for that language alone, under `by_language` in the rule's section."
    if stage == "heuristics":
        return (
            "Without a `language` section these rules judge every text as English: add one if these texts are in other"
            " languages, or loosen the rules in `heuristics`."
        )
    return f"If they are good, loosen the rule in the recipe's `{stage}` section."
