"""How numbers, sizes and texts are written for people: in the report, in artifacts and in the terminal."""

from __future__ import annotations

import math
from itertools import islice

import regex

_STEPS = ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k"))
_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_SIZES = ((1e15, "PB"), (1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"))
#: Characters that are shown of a text.
LENGTH = 600
_CLUSTER = regex.compile(r"\X")
_CONTROLS = {code: 0x2400 + code for code in range(32) if chr(code) not in "\n\t"} | {0x7F: 0x2421}


def words(name: str) -> str:
    """``duplicate_line_fraction`` as words."""
    return name.replace("_", " ")


def count(value: float) -> str:
    """A whole number in groups of three: 1,234,567."""
    return f"{round(value):,}"


def short(value: float) -> str:
    """Whole numbers below 10,000 in full, larger ones with three digits and k, M, B, T: 1.20M."""
    if abs(value) < 9_999.5:
        return count(value) if float(value).is_integer() or abs(value) >= 1000 else _significant(value, 3)
    step, letter = next((step, letter) for step, letter in _STEPS if abs(value) >= step * 0.9995)
    return f"{_significant(value / step, 3)}{letter}"


def tick(value: float) -> str:
    """A round value on an axis: 0.05, 20, 5k."""
    step, letter = next(((step, letter) for step, letter in _STEPS if abs(value) >= step), (1, ""))
    return f"{value / step:.6g}{letter}"


def several(number: int, noun: str) -> str:
    """1 record, 2 records."""
    return f"{count(number)} {noun}{'' if number == 1 else 's'}"


def power(value: float) -> str:
    """A large number by its power of ten: 2.18 × 10¹⁴."""
    digits, exponent = f"{value:.2e}".split("e")
    return f"{digits} × 10{str(int(exponent)).translate(_RAISED)}"


def size(value: float) -> str:
    """Bytes in decimal units with three digits: 1.20 GB."""
    for step, unit in _SIZES:
        if abs(value) >= step * 0.9995:
            return f"{_significant(value / step, 3)} {unit}"
    return f"{round(value)} B"


def share(part: float, whole: float) -> str:
    """``part`` of ``whole`` in percent; a dash where there is no whole, and never 0 % or 100 % for almost."""
    if not whole:
        return "–"
    percent = 100 * part / whole
    if 0 < percent < 0.1:
        return "<0.1 %"
    if 99.9 < percent < 100:
        return ">99.9 %"
    return f"{percent:.1f} %" if percent < 99.95 else f"{percent:.0f} %"


def number(value: float | None) -> str:
    """A measured value: whole numbers in full, others with four significant digits; a dash for none."""
    if value is None or math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if float(value).is_integer() and abs(value) < 1e15:
        return count(value)
    if abs(value) >= 1e15 or abs(value) < 1e-4:
        return f"{value:.2e}"
    return f"{value:,.0f}" if abs(value) >= 10_000 else _stripped(_significant(value, 4))


def apart(value: float, other: float) -> tuple[str, str]:
    """Two measured values, with as many digits as make them differ where they do."""
    texts = number(value), number(other)
    digits = 5
    while texts[0] == texts[1] and value != other and math.isfinite(value) and math.isfinite(other):
        texts = f"{value:,.{digits}g}", f"{other:,.{digits}g}"
        digits += 1
    return texts


def duration(hours: float | None) -> str:
    """Hours in the unit that suits them: 0.0256 s, 3.5 min, 20.1 h, 50.2 days, 8.6 years; a dash for none."""
    if hours is None:
        return "–"
    if hours < 1 / 60:
        return f"{_significant(hours * 3600, 3)} s"
    if hours < 1000:
        return f"{_stripped(_significant(hours * 60, 3))} min" if hours < 1 else f"{number(hours)} h"
    days = hours / 24
    return f"{number(days)} days" if days < 730 else f"{number(days / 365.25)} years"


def excerpt(text: str) -> str:
    """The beginning of ``text``; an ellipsis says that there is more."""
    shown = "".join(match.group() for match in islice(_CLUSTER.finditer(text[: 4 * LENGTH]), LENGTH))
    if len(shown) < len(text):
        shown = shown.rstrip() + " …"
    return shown.translate(_CONTROLS)


def _significant(value: float, digits: int) -> str:
    """``value`` with so many significant digits and no exponent."""
    if value == 0:
        return "0"
    exponent = int(f"{value:.{digits - 1}e}".partition("e")[2])  # after rounding
    return f"{value:.{max(0, digits - 1 - exponent)}f}"


def _stripped(text: str) -> str:
    return text.rstrip("0").rstrip(".") if "." in text else text
