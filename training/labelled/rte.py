"""XML files of the PASCAL challenges in recognising textual entailment: a text, a hypothesis, and whether it follows.

Dagan et al. 2006. The first challenge writes ``value="TRUE"``, later ones ``entailment="YES"``; the latter is given.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO, Any, NoReturn
from xml.parsers import expat

from training.labelled.findings import Findings
from training.labelled.rows import WrongRows

_STEP = 1 << 16
_SAME = {"TRUE": "YES", "FALSE": "NO"}


def read(stream: IO[bytes], name: str, findings: Findings) -> Iterator[tuple[int, dict[str, Any]]]:
    """Each pair with its line: its attributes (``id``, ``task``, ``entailment``), ``t`` the text, ``h`` the hypothesis.

    Raises WrongRows where the XML is broken, has no pair, or declares entities, which could expand without bound.
    """
    parser = expat.ParserCreate()
    parser.buffer_text, parser.buffer_size = True, _STEP  # not a call for each line
    pairs: list[tuple[int, dict[str, Any]]] = []
    inside: list[str] = []
    seen = renamed = 0

    def start(tag: str, attributes: dict[str, str]) -> None:
        inside.append(tag)
        if tag == "pair":
            pairs.append((parser.CurrentLineNumber, dict(attributes)))

    def text(part: str) -> None:
        if len(inside) > 1 and inside[-2] == "pair":
            values = pairs[-1][1]
            values[inside[-1]] = values.get(inside[-1], "") + part

    def end(_tag: str) -> None:
        inside.pop()

    def refuse(*_declared: Any) -> NoReturn:
        raise WrongRows(f"{name}:{parser.CurrentLineNumber}: declares an entity; write what it stands for in its place")

    parser.StartElementHandler, parser.CharacterDataHandler, parser.EndElementHandler = start, text, end
    parser.EntityDeclHandler = refuse
    while True:
        part = stream.read(_STEP)
        try:
            parser.Parse(part, not part)
        except expat.ExpatError as error:
            reason = expat.errors.messages[error.code]
            raise WrongRows(f"{name}:{error.lineno}: invalid XML ({reason}); take the whole file again") from error
        whole = len(pairs) - ("pair" in inside)
        for line, values in pairs[:whole]:
            seen += 1
            if (old := values.pop("value", None)) is not None:
                renamed += 1
                values["entailment"] = _SAME.get(old, old)
            yield line, {key: value.strip() for key, value in values.items()}
        del pairs[:whole]
        if not part:
            break
    if not seen:
        raise WrongRows(f"{name}: has no element <pair>, as the challenges of textual entailment have it")
    if renamed:
        findings.note(f"{name}: `value` TRUE and FALSE of its pairs are read as `entailment` YES and NO")
