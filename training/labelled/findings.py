"""What reading labelled rows finds: faults, which end it with one error, and what is passed over, which is counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from training.labelled.rows import WrongRows


@dataclass
class Findings:
    """Faults and rows passed over, both by kind, each with its first place; ``notes`` are sentences for the audit."""

    faults: dict[str, str] = field(default_factory=dict)
    rows: Counter[str] = field(default_factory=Counter)
    passed_over: dict[str, str] = field(default_factory=dict)
    passed: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)

    def fault(self, kind: str, place: str, message: str) -> None:
        """A fault of the row at ``place``; the ``message`` of a kind's first row is shown, with its remedy."""
        self.faults.setdefault(kind, f"{place}: {message}")
        self.rows[kind] += 1

    def pass_over(self, kind: str, place: str) -> None:
        """The row at ``place`` takes no part."""
        self.passed_over.setdefault(kind, place)
        self.passed[kind] += 1

    def note(self, sentence: str) -> None:
        if sentence not in self.notes:
            self.notes.append(sentence)

    def refuse(self) -> None:
        """Raise WrongRows with every kind of fault, if there is one."""
        if self.faults:
            raise WrongRows("\n".join(self._lines()))

    def _lines(self) -> Iterator[str]:
        for kind, message in self.faults.items():
            others = self.rows[kind] - 1
            more = "1 more row" if others == 1 else f"{others:,} more rows"
            yield message + (f" (and {more} with this fault)" if others else "")

    def counted(self) -> dict[str, dict]:
        """Rows passed over by kind: how many, and the place of the first."""
        return {kind: {"rows": count, "example": self.passed_over[kind]} for kind, count in self.passed.items()}

    def take(self, other: Findings) -> None:
        """What ``other`` found, added to this."""
        self.faults = {**other.faults, **self.faults}
        self.passed_over = {**other.passed_over, **self.passed_over}
        self.rows.update(other.rows)
        self.passed.update(other.passed)
        for sentence in other.notes:
            self.note(sentence)
