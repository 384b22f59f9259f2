"""Whether our heuristic families decide as datatrove's filters do: on real English documents of ten domains, how often
the verdicts agree, and every document where they do not, with the cause.

    python -m benchmarks.decisions [--documents 5000]
"""

from __future__ import annotations

import argparse
from itertools import zip_longest
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from benchmarks import peer
from benchmarks.curation import claim
from benchmarks.documents import named_prose
from pipeline.build.stage import Batch
from pipeline.stages.heuristics.families import Config
from pipeline.stages.heuristics.stage import measure, rules
from pipeline.store.ledger import judge
from pipeline.text.buffers import text_buffers
from pipeline.text.words import word_spans

ALL = 1000  # megabytes: more than there are
AGREEMENT = 0.99


class Judged(NamedTuple):
    """What one side makes of a document: why it drops it, None where it keeps it; ours with value and threshold."""

    reason: str | None
    detail: str = ""


class Difference(NamedTuple):
    id: str
    ours: Judged
    theirs: Judged
    cause: str


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=5000)
    documents = sample(parser.parse_args().documents)
    if not peer.installed():
        print(peer.MISSING)
        return
    texts = [text for _, text in documents]
    print(f"{len(texts):,} documents, {sum(map(len, texts)) / 1e6:.1f} M characters\n")
    print(f"{'family':20} {'dropped by us':>14} {'by datatrove':>14} {'same verdict':>14}")
    theirs, differences = judged_by_datatrove(texts), {}
    for family in peer.FILTERS:
        ours = judged_by_us(family, texts)
        differences[family] = compare(documents, ours, theirs[family])
        dropped = [sum(each.reason is not None for each in side) for side in (ours, theirs[family])]
        print(f"{family:20} {dropped[0]:14,} {dropped[1]:14,} {agreement(differences[family], documents):14.2%}")
    print()
    for family, disagreements in differences.items():
        share = agreement(disagreements, documents)
        claim(f"{family}: {share:.2%} of the verdicts are datatrove's", 100 * share, 100 * AGREEMENT, "%")
        for difference in disagreements:
            print(f"  {difference.id}: {difference.cause}")
            print(f"    ours: {difference.ours.reason or 'keep'} {difference.ours.detail}")
            print(f"    datatrove: {difference.theirs.reason or 'keep'}")


def sample(size: int) -> list[tuple[str, str]]:
    """``size`` documents (id, text) spread evenly over all that there are."""
    documents = list(named_prose(ALL))
    return [documents[at] for at in np.linspace(0, len(documents) - 1, min(size, len(documents))).astype(int)]


def judged_by_us(family: str, texts: list[str]) -> list[Judged]:
    config = Config.model_validate({f"{family}@datatrove": {}})
    verdicts = judge(rules(config), measure(config, Batch(pa.array(texts))).signals, len(texts))
    return [
        Judged(verdicts.names[rule], f"({value:.4g}, threshold {threshold:.4g})") if rule >= 0 else Judged(None)
        for rule, value, threshold in zip(verdicts.rule, verdicts.value, verdicts.threshold, strict=True)
    ]


def judged_by_datatrove(texts: list[str]) -> dict[str, list[Judged]]:
    per_text = peer.run(peer.FILTERS, texts).results
    return {family: [Judged(reasons[family]) for reasons in per_text] for family in peer.FILTERS}


def compare(documents: list[tuple[str, str]], ours: list[Judged], theirs: list[Judged]) -> list[Difference]:
    """The documents that one side drops and the other keeps."""
    unlike = [k for k in range(len(ours)) if (ours[k].reason is None) != (theirs[k].reason is None)]
    causes = explain([documents[k][1] for k in unlike]) if unlike else []
    return [Difference(documents[k][0], ours[k], theirs[k], cause) for k, cause in zip(unlike, causes, strict=True)]


def agreement(differences: list[Difference], documents: list[tuple[str, str]]) -> float:
    return 1 - len(differences) / len(documents)


def explain(texts: list[str]) -> list[str]:
    """For each text where our words first differ from datatrove's (spaCy's), since nearly every rule counts words."""
    data, offsets = text_buffers(pa.array(texts))
    word_offsets, starts, ends = word_spans(data, offsets)
    causes = []
    for k, theirs in enumerate(peer.run(["words"], texts).results):
        part = slice(word_offsets[k], word_offsets[k + 1])
        ours = [bytes(data[start:end]).decode() for start, end in zip(starts[part], ends[part], strict=True)]
        pairs = enumerate(zip_longest(ours, theirs["words"], fillvalue=""))
        at = next((at for at, (a, b) in pairs if a != b), None)
        if at is None:
            causes.append("both see the same words: the rule itself counts otherwise")
        else:
            causes.append(f"words: we read {ours[at : at + 4]} where datatrove reads {theirs['words'][at : at + 4]}")
    return causes


if __name__ == "__main__":
    main()
