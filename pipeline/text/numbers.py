"""Bank account (IBAN) and credit card numbers in UTF-8 text.

A check digit decides on accounts (ISO 13616: mod 97, and the length of the country) and cards (ISO/IEC 7812: Luhn, and
a prefix and length that a network issues).
"""

from __future__ import annotations

import numpy as np

from pipeline.text.addresses import DIGIT, LOWER, UPPER, WORD, is_a
from pipeline.text.jit import njit

#: Characters of an IBAN by country: the registry of ISO 13616 (SWIFT, release 99).
_LENGTHS = {
    **{"AD": 24, "AE": 23, "AL": 28, "AT": 20, "AZ": 28, "BA": 20, "BE": 16, "BG": 22, "BH": 22, "BI": 27, "BR": 29},
    **{"BY": 28, "CH": 21, "CR": 22, "CY": 28, "CZ": 24, "DE": 22, "DJ": 27, "DK": 18, "DO": 28, "EE": 20, "EG": 29},
    **{"ES": 24, "FI": 18, "FK": 18, "FO": 18, "FR": 27, "GB": 22, "GE": 22, "GI": 23, "GL": 18, "GR": 27, "GT": 28},
    **{"HN": 28, "HR": 21, "HU": 28, "IE": 22, "IL": 23, "IQ": 23, "IS": 26, "IT": 27, "JO": 30, "KW": 30, "KZ": 20},
    **{"LB": 28, "LC": 32, "LI": 21, "LT": 20, "LU": 20, "LV": 21, "LY": 25, "MC": 27, "MD": 24, "ME": 22, "MK": 19},
    **{"MN": 20, "MR": 27, "MT": 31, "MU": 30, "NI": 28, "NL": 18, "NO": 15, "OM": 23, "PK": 24, "PL": 28, "PS": 29},
    **{"PT": 25, "QA": 29, "RO": 24, "RS": 22, "RU": 33, "SA": 24, "SC": 31, "SD": 18, "SE": 24, "SI": 19, "SK": 24},
    **{"SM": 27, "SO": 23, "ST": 25, "SV": 28, "TL": 23, "TN": 24, "TR": 26, "UA": 29, "VA": 22, "VG": 24, "XK": 20},
    **{"YE": 30},
}


def _length_table() -> np.ndarray:
    """uint8 [26 * 26]: the length by the two letters of the country, 0 for none."""
    table = np.zeros(26 * 26, np.uint8)
    for country, length in _LENGTHS.items():
        table[26 * (ord(country[0]) - ord("A")) + ord(country[1]) - ord("A")] = length
    return table


_LENGTH = _length_table()


@njit(cache=True, nogil=True)
def iban(data: np.ndarray, at: int, start: int, end: int) -> int:
    """End of the IBAN whose first letter is ``data[at]``, in one piece or in groups of four; -1 if there is none.

    Its letters are all of one case; the same blank or hyphen parts the groups.
    """
    if is_a(data, at - 1, start, end, WORD):
        return -1
    letters = UPPER if is_a(data, at, start, end, UPPER) else LOWER
    for k in range(4):
        if not is_a(data, at + k, start, end, letters if k < 2 else DIGIT):
            return -1
    first, second = (np.int64(data[at]) | 32) - ord("a"), (np.int64(data[at + 1]) | 32) - ord("a")
    length = np.int64(_LENGTH[26 * first + second])
    if length == 0:
        return -1
    stop = at + 4
    spaced = stop < end and (data[stop] == ord(" ") or data[stop] == ord("-"))
    separator = data[stop] if spaced else 0
    rest = 0
    for k in range(4, length):
        stop += spaced and k % 4 == 0
        if not is_a(data, stop, start, end, letters | DIGIT) or (spaced and k % 4 == 0 and data[stop - 1] != separator):
            return -1
        rest = _shift_in(rest, data[stop])
        stop += 1
    if is_a(data, stop, start, end, WORD):
        return -1
    for k in range(4):  # the check moves country and check digits to the end
        rest = _shift_in(rest, data[at + k])
    return stop if rest == 1 else -1


@njit(cache=True, nogil=True)
def _shift_in(rest, byte):
    """``rest`` of the number so far modulo 97, one character on; A is 10, Z is 35."""
    value = np.int64(byte)
    if value < ord("A"):
        return (10 * rest + value - ord("0")) % 97
    return (100 * rest + (value | 32) - ord("a") + 10) % 97


@njit(cache=True, nogil=True)
def card(data: np.ndarray, at: int, start: int, end: int) -> int:
    """End of the card number that starts at ``data[at]``, a digit after no digit; -1 if there is none.

    In one piece, or in groups of 3 to 6 digits with the same blank or hyphen between; of several ends the last counts.
    """
    if not begins_number(data, at, start, end):
        return -1
    end_of_card, digits, prefix, separator = -1, 0, 0, 0
    odd = even = 0  # sums of the digits with every second doubled, counted from the first and from the second digit
    stop = at
    while True:
        group = stop
        while digits < 20 and is_a(data, stop, start, end, DIGIT):
            digit = np.int64(data[stop]) - ord("0")
            doubled = 2 * digit - 9 * (digit > 4)
            odd, even = even + digit, odd + doubled
            prefix = 10 * prefix + digit if digits < 6 else prefix
            digits += 1
            stop += 1
        if digits == 20 or is_a(data, stop, start, end, WORD):
            return end_of_card
        if (separator or (stop < end and data[stop] in (ord(" "), ord("-")) and digits < 7)) and not (
            3 <= stop - group <= 6
        ):
            return end_of_card
        cut_short = stop < end and data[stop] in (ord("-"), ord(".")) and is_a(data, stop + 1, start, end, DIGIT)
        if odd % 10 == 0 and not cut_short and _is_issued(prefix, digits):
            end_of_card = stop
        if stop >= end or (separator and data[stop] != separator) or data[stop] not in (ord(" "), ord("-")):
            return end_of_card
        if digits >= 7 and not separator:
            return end_of_card  # a piece that long has no groups
        separator = data[stop]
        stop += 1
        if not is_a(data, stop, start, end, DIGIT):
            return end_of_card


@njit(cache=True, nogil=True)
def _is_issued(prefix, digits):
    """Whether a network issues cards with so many digits (14 to 19) whose first six are ``prefix``."""
    two, three, four = prefix // 10000, prefix // 1000, prefix // 100
    if digits == 14:
        return 300 <= three <= 305 or two == 36 or two == 38 or two == 39  # Diners Club
    if digits == 15:
        return two == 34 or two == 37  # American Express
    if digits < 16 or digits > 19:
        return False
    if two // 10 == 4:
        return digits == 16 or digits == 19  # Visa
    if 51 <= two <= 55 or 2221 <= four <= 2720:
        return digits == 16  # Mastercard
    # JCB, Discover, UnionPay
    return 3528 <= four <= 3589 or four == 6011 or 644 <= three <= 659 or two == 62


@njit(cache=True, nogil=True)
def begins_number(data: np.ndarray, at: int, start: int, end: int) -> bool:
    """Whether ``data[at]`` is not in the middle of a word or of a longer number."""
    if is_a(data, at - 1, start, end, WORD):
        return False
    joined = at > start and data[at - 1] in (ord("-"), ord("."), ord("+"), ord("/"), ord(","))
    return not (joined and is_a(data, at - 2, start, end, WORD))
