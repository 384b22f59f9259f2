"""Numbers as a command line takes them."""

from __future__ import annotations

from pipeline.curation.settings import WrongSetting

_UNITS = {"k": 10**3, "m": 10**6, "b": 10**9, "t": 10**12}


def amount(option: str, value: str) -> int:
    """A whole number that may end in k, M, B or T: ``1.3B`` is 1,300,000,000. Raises WrongSetting."""
    number, unit = (value[:-1], _UNITS[value[-1].lower()]) if value[-1:].lower() in _UNITS else (value, 1)
    try:
        rounded = round(float(number) * unit)
    except (ValueError, OverflowError):
        rounded = 0
    if rounded < 1:
        raise WrongSetting(f"{option} {value}: give a number such as 350M or 1.3B")
    return rounded
