"""What a run shows to other programs: one line of JSON on stdout for each step as it ends, and one for the whole."""

from __future__ import annotations

from flows.execution.progress import Reporter
from flows.execution.terminal import write_json


class JsonReporter(Reporter):
    """A line for each step: its name, title, items done and in all, seconds, bytes, MB/s, dropped documents, reused."""

    def stop(self, message: str) -> None:
        super().stop(message)
        write_json("summary", {"state": "stopped", "error": message})

    def _ended(self, name: str, title: str, done: int, note: str, seconds: float, finished: bool) -> None:
        size, dropped = self.facts.get("bytes"), self.facts.get("dropped")
        facts = {
            "name": name,
            "title": title,
            "done": done,
            "total": self._total,
            "seconds": round(seconds, 3),
            "bytes": size,
            "mb_per_second": round(size / 1e6 / seconds, 3) if size and seconds else None,
            "dropped": dropped() if dropped and finished else None,
            "reused": self.facts.get("reused", False),
            "finished": finished,
            "note": note or None,
        }
        write_json("step", facts)
