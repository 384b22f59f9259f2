"""Phone numbers in UTF-8 text. They have no check digit, so only these forms are taken for one:

- international: ``+`` and 8 to 15 digits (ITU-T E.164) in groups, or ``00``, a country code and groups;
- North American: (212) 555-0142, 212-555-0142, 212.555.0142, 1-212-555-0142; no part begins with 0 or 1;
- national, by the sizes of the groups (``_TRUNK`` and below), as the numbering plans of China, Japan, Korea, Russia,
  the United Kingdom, France, Germany, Italy, Spain, Brazil, Australia and their neighbours write them;
- mobile numbers of eleven digits in one piece (China, Russia, Korea, Japan, United Kingdom), of ten (France);
- any 7 to 15 digits after a word for it (tel, phone, fax, call, тел, 电话, ...), a few small words between, unless it
  reads as a date or a span of years.

Groups are parted by blanks, dots, hyphens or slashes, no-break spaces and typographic hyphens among them.
"""

from __future__ import annotations

import numpy as np

from pipeline.text.addresses import CLASSES, DIGIT, WORD, is_a, words
from pipeline.text.jit import njit
from pipeline.text.numbers import begins_number

FEWEST_DIGITS, FEWEST_NAMED_DIGITS, MOST_DIGITS, MOST_NORTH_AMERICAN_DIGITS = 8, 7, 15, 11


def _in_any_case(text: str) -> list[str]:
    """The words of ``text``; those that are not ASCII also with a capital and in capitals."""
    forms = {
        form
        for word in text.split()
        for form in ((word,) if word.isascii() else (word, word.capitalize(), word.upper()))
    }
    return sorted(forms)


_NAMES, _NAME_ENDS = words(
    *_in_any_case(
        "tel telephone phone phones mobile cell fax call dial ring whatsapp sms hotline fon telefon mobil handy telefax"
        " telefono telefone celular movil portable telefoon gsm tél téléphone telefonnummer handynummer rufnummer"
        " mobilnummer teléfono teléfonos móvil llame llama llamar llámame llámanos llámenos tlf appelez appeler"
        " appelle ligue ligar telemóvel cellulare chiamare chiama anrufen bel тел телефон телефону телефоны моб"
        " мобильный факс звоните звони звонить позвоните звонок телефону τηλ τηλέφωνο هاتف तेल फोन"
        " 电话 電話 手机 手機 致电 拨打 热线 座机 传真 傳真 联系方式 携帯 ファックス 전화 휴대폰 핸드폰 연락처 팩스"
    )
)
_BETWEEN, _BETWEEN_ENDS = words(
    *_in_any_case(
        "number numbers no nr num me us at on is my our the direct office home work or number's número numero numéro"
        " nummer nº al el au le sur unter der номер номера номеру по мой можно 号码 號碼 番号 番號 号 號 是 为 為 请 は"
        " 번호 는 은 로 로는"
    )
)

#: Sizes of the groups of a number that begins with a trunk 0 and 1 to 9, each a hexadecimal digit: 0x344 is
#: 020 7946 0958. In the order of their digits, with a country that writes so.
_TRUNK = np.array(
    [
        *(0x27, 0x36, 0x234, 0x2322),  # Israel, Germany, Korea, Belgium
        *(0x28, 0x37, 0x46, 0x55),  # Italy, Netherlands, Germany, India
        *(0x244, 0x334, 0x433, 0x22222, 0x3322, 0x4222, 0x2332, 0x424),  # Japan, Korea, Italy, France, Ukraine, ...
        *(0x38, 0x47, 0x56, 0x344, 0x434, 0x533, 0x4322),  # China, Germany, UK, UK, UK, UK, Turkey
        *(0x48, 0x354, 0x444),  # China, Brazil, Indonesia
    ]
)


@njit(cache=True, nogil=True)
def phone(data: np.ndarray, at: int, start: int, last: int, end: int) -> int:
    """End of the phone number that starts at ``data[at]``, one of ``+ (`` or a digit after no digit; -1 if none.

    ``last``: where what was found before it ends, at least ``start``.
    """
    if not begins_number(data, at, start, end):
        return -1
    if data[at] == ord("+"):
        if not is_a(data, at + 1, start, end, DIGIT) or data[at + 1] == ord("0"):
            return -1
        most = MOST_NORTH_AMERICAN_DIGITS if data[at + 1] == ord("1") else MOST_DIGITS
        return _groups_end(data, at + 1, end, FEWEST_DIGITS, most)
    end_of_phone = _north_american(data, at, end)
    if end_of_phone < 0:
        end_of_phone = _national(data, at, start, last, end)
    if end_of_phone < 0 and not _is_dated(data, at, end):
        end_of_phone = _groups_end(data, at, end, FEWEST_NAMED_DIGITS, MOST_DIGITS)
        if end_of_phone > 0 and not _is_named(data, at, start):
            end_of_phone = -1
    return end_of_phone


@njit(cache=True, nogil=True)
def _separator(data, at, end):
    """Bytes of the separator at ``at``: a blank, dot, hyphen or slash, or one of their relatives; 0 for none."""
    if at >= end:
        return 0
    byte = data[at]
    if byte == ord(" ") or byte == ord(".") or byte == ord("-") or byte == ord("/"):
        return 1
    if byte < 0xC2:
        return 0
    if byte == 0xC2:
        return 2 if data[at + 1] == 0xA0 else 0
    if byte == 0xE2:
        second, third = data[at + 1], data[at + 2]
        is_one = second == 0x80 and (0x90 <= third <= 0x93 or third == 0xAF or third == 0x89)
        return 3 if is_one or (second == 0x88 and third == 0x92) else 0
    return 3 if byte == 0xEF and data[at + 1] == 0xBC and data[at + 2] == 0x8D else 0


@njit(cache=True, nogil=True)
def _groups_end(data, at, end, fewest, most):
    """End of the longest run of groups that starts at ``at`` and has ``fewest`` to ``most`` digits; -1 if none.

    Up to three separators part two groups; a parenthesis among them begins another number if there are enough digits.
    """
    end_of_groups, digits = -1, 0
    while at < end:
        for _ in range(3):
            size = _separator(data, at, end)
            if size == 0 and at < end and (data[at] == ord("(") or data[at] == ord(")")):
                if data[at] == ord("(") and digits >= fewest:
                    return end_of_groups
                size = 1
            at += size
        first = at
        while at < end and digits <= most and CLASSES[data[at]] & DIGIT:
            digits += 1
            at += 1
        if at == first or digits > most or (digits < fewest and is_a(data, at, first, end, WORD)):
            return end_of_groups
        if digits >= fewest:
            end_of_groups = at
    return end_of_groups


@njit(cache=True, nogil=True)
def _national(data, at, start, last, end):
    """End of the number that starts at ``at`` and has the form of a national one; -1 if there is none.

    ``last``: where what was found before it ends. A number that any other digits stand before is one of a row.
    """
    in_row = at - 2 >= max(start, last) and data[at - 1] == ord(" ") and CLASSES[data[at - 2]] & DIGIT > 0
    stop, sizes, groups, digits, area, separator, changes = at, 0, 0, 0, -1, 0, 0
    lead = second = span = before = 0
    counting = True  # 1 2 3 4
    while True:
        if data[stop] == ord("("):
            area = groups
            stop += 1
        first, value = stop, 0
        while stop < end and CLASSES[data[stop]] & DIGIT:
            if stop - first == 12:
                return -1
            digit = np.int64(data[stop]) - ord("0")
            value = 10 * value + digit
            lead = 10 * lead + digit if digits < 3 else lead
            digits += 1
            stop += 1
        if stop == first or digits > 12 or groups == 5:
            return -1
        counting &= groups == 0 or value == before + 1
        sizes = sizes << 4 | stop - first
        if groups == 1:
            second = np.int64(data[first]) - ord("0")
        span, before = value - before, value
        groups += 1
        closed = area == groups - 1
        if closed:
            if stop >= end or data[stop] != ord(")"):
                return -1
            stop += 1
        size = _separator(data, stop, end)
        sign = data[stop] if size > 0 else 0
        opens = groups == 1 and area < 0 and stop + size < end and data[stop + size] == ord("(")
        if not is_a(data, stop + size + opens, start, end, DIGIT) or (size == 0 and not opens and not closed):
            break
        ends = sign == ord(" ") and separator != sign and not closed and changes <= 1
        if ends and _is_national(
            data, at, stop, start, end, sizes, groups, digits, area, lead, second, span, separator
        ):
            break  # another number follows
        if sign == ord("/") and groups > 1:
            return -1
        changes += separator > 0 and size > 0 and sign != separator
        separator = sign if size > 0 else separator
        stop += size
    if is_a(data, stop, start, end, WORD) or changes > 1 or (counting and groups > 2):
        return -1
    if stop < end and (
        data[stop] == ord("%") or (data[stop] in (ord(","), ord(":")) and _is_digit(data, stop + 1, end))
    ):
        return -1
    if in_row and (area != 0 or sizes == 0x244):
        return -1
    good = _is_national(data, at, stop, start, end, sizes, groups, digits, area, lead, second, span, separator)
    return stop if good else -1


@njit(cache=True, nogil=True)
def _is_national(data, at, stop, start, end, sizes, groups, digits, area, lead, second, span, separator):
    """Whether ``groups`` of these ``sizes`` are a national number.

    ``area``: the group in parentheses, or -1; ``lead``: the first three digits as a number; ``second``: the first digit
    of the second group; ``span``: the last group less the one before it; ``separator``: the last one, or 0.
    """
    if digits < 9:
        return False
    if groups == 1:
        return area < 0 and _is_mobile(data, at, digits, lead)
    if area == 0:
        return _is_area(sizes, lead, digits, groups, second, span)
    if data[at] == ord("0"):
        return _is_trunk(sizes, lead, digits, groups, separator)
    return _is_bare(data, at, stop, start, end, sizes, lead, second, separator)


@njit(cache=True, nogil=True)
def _is_digit(data, at, end):
    return at < end and CLASSES[data[at]] & DIGIT > 0


@njit(cache=True, nogil=True)
def _is_area(sizes, lead, digits, groups, second, span):
    """Whether it is a number whose first group, in parentheses, is an area: ``lead`` are its first three digits."""
    if groups < 2:
        return False
    if lead < 100:
        return lead >= 10 and 9 <= digits <= 12 and groups <= 4
    if sizes == 0x4222:
        return not 190 <= lead < 210  # (1998) 12-34-56
    if sizes == 0x244:
        return 2 <= second <= 5 and not 0 < span < 300  # pages (11) 3123-3156
    return sizes == 0x3322 or sizes == 0x37 or ((sizes == 0x254 or sizes == 0x29) and second == 9)


@njit(cache=True, nogil=True)
def _is_trunk(sizes, lead, digits, groups, separator):
    """Whether it is a number that begins with a trunk 0, or with 00 and a country code."""
    if separator == ord(".") and (groups == 2 or digits == 9):
        return False  # decimals, dates
    if sizes == 0x27 and separator != ord(" "):
        return False  # employer identification numbers
    if sizes == 0x444 and separator != ord("-"):
        return False  # hours
    if lead < 10:
        return lead > 0 and digits >= 11 and groups > 2 and separator != ord(".") and 3 <= _first(sizes) <= 5
    if lead < 100:
        for form in _TRUNK:
            if sizes == form:
                return True
    return False


@njit(cache=True, nogil=True)
def _first(sizes):
    while sizes > 15:
        sizes >>= 4
    return sizes


@njit(cache=True, nogil=True)
def _is_bare(data, at, stop, start, end, sizes, lead, second, separator):
    """Whether it is a number that begins with neither 0 nor a parenthesis."""
    top = lead // 100
    if sizes == 0x344:
        return 130 <= lead < 200  # China
    if sizes == 0x13322 or sizes == 0x1334 or sizes == 0x137 or sizes == 0x14222:
        return (top == 8 or top == 7) and (second == 3 or second == 4 or second >= 8)  # Russia
    if sizes == 0x254:
        return second == 9  # Brazil
    if sizes == 0x3222:
        return top >= 6  # Spain
    if sizes == 0x2322:
        return separator != ord(".")  # Spain, Poland
    if sizes != 0x333 or top < 6 or separator == ord("."):
        return False
    if separator == ord("-"):
        return True
    # 912 345 678: a number of the same form is followed by what it counts, or has a currency before it
    if stop < end and not (data[stop] in (ord("\n"), ord("\r")) or _ends_clause(data, stop, end)):
        return False
    before = at - (at > start and data[at - 1] == ord(" "))
    if before == start or data[before - 1] < 0x80:
        return before == start or data[before - 1] != ord("$")
    return not (before - 2 >= start and data[before - 2] == 0xC2) and not (  # ¢ £ ¥, and the signs from U+20A0 on
        before - 3 >= start and data[before - 3] == 0xE2 and (data[before - 2] == 0x82 or data[before - 2] == 0x83)
    )


@njit(cache=True, nogil=True)
def _ends_clause(data, at, end):
    if data[at] >= 0xE3:  # ideographic and full-width punctuation
        return (data[at] == 0xE3 and data[at + 1] == 0x80) or (data[at] == 0xEF and data[at + 1] == 0xBC)
    return data[at] in (ord("."), ord(","), ord(";"), ord(")"), ord("!"), ord("?")) and not (
        at + 1 < end and CLASSES[data[at + 1]] & WORD
    )


@njit(cache=True, nogil=True)
def _is_mobile(data, at, digits, lead):
    """Whether digits in one piece are those of a mobile number."""
    if digits == 11:
        china, russia, britain = 130 <= lead < 200, 890 <= lead < 900, 71 <= lead < 80
        return china or russia or britain or lead == 10 or lead == 70 or lead == 80 or lead == 90
    if digits != 10 or not 60 <= lead < 80:
        return False
    total = 0
    for k in range(10):
        total += (10 - k) * (np.int64(data[at + k]) - ord("0"))
    return total % 11 != 0  # else it is an ISBN


@njit(cache=True, nogil=True)
def _is_named(data, at, start):
    """Whether a word for a phone number stands before ``data[at]``, at most four small words between."""
    for _ in range(5):
        for _ in range(4):
            if at > start and data[at - 1] in (ord(" "), ord("."), ord(":"), ord("#"), ord("("), ord("-"), ord("=")):
                at -= 1
            elif at - 2 >= start and data[at - 2] == 0xC2 and data[at - 1] == 0xA0:
                at -= 2
            elif at - 3 >= start and data[at - 3] == 0xEF and data[at - 2] == 0xBC and data[at - 1] in (0x9A, 0x88):
                at -= 3  # full-width colon and parenthesis
        if _word_before(data, at, start, _NAMES, _NAME_ENDS) >= 0:
            return True
        at = _word_before(data, at, start, _BETWEEN, _BETWEEN_ENDS)
        if at < 0:
            return False
    return False


@njit(cache=True, nogil=True)
def _word_before(data, at, start, words, ends):
    """Where the one of ``words`` that ends before ``data[at]`` begins; -1 if none does.

    It is a whole word; one of a script without spaces may end a longer run.
    """
    if at == start:
        return -1
    last = data[at - 1] | 32 if data[at - 1] < 0x80 else data[at - 1]
    for word in range(len(ends) - 1):
        begin = at - (ends[word + 1] - ends[word])
        if words[ends[word + 1] - 1] != last or begin < start:
            continue
        same = True
        for k in range(at - begin):
            byte = data[begin + k]
            same &= (byte | 32 if byte < 0x80 else byte) == words[ends[word] + k]
        if not same:
            continue
        if (
            begin == start
            or words[ends[word]] >= 0xE3
            or not (CLASSES[data[begin - 1]] & WORD or data[begin - 1] >= 0x80)
        ):
            return begin
        if data[begin - 1] >= 0x80 and (data[begin - 1] == 0xA0 or words[ends[word]] < 0x80):
            return begin  # after a no-break space, or Latin after another script
    return -1


@njit(cache=True, nogil=True)
def _digits(data, at, end):
    """How many digits stand at ``at``, up to 9."""
    count = 0
    while count < 9 and at + count < end and CLASSES[data[at + count]] & DIGIT:
        count += 1
    return count


@njit(cache=True, nogil=True)
def _is_dated(data, at, end):
    """Whether it reads like 2024-01-31, 31.01.2024, 1/31/24 or 2019-2020."""
    first = _digits(data, at, end)
    if first == 0 or at + first >= end or data[at + first] not in (ord("-"), ord("."), ord("/")):
        return False
    second = _digits(data, at + first + 1, end)
    middle = at + first + 1 + second
    joined = second > 0 and middle < end and data[middle] == data[at + first]
    third = _digits(data, middle + 1, end) if joined else 0
    last = middle + 1 + third
    if third > 0 and last < end and data[last] == data[middle] and is_a(data, last + 1, at, end, DIGIT):
        return False
    starts = first == 4 and (data[at] == ord("1") or data[at] == ord("2"))
    if third == 0:
        return starts and second == 4
    return (starts and second <= 2 and third <= 2) or (first <= 2 and second <= 2 and (third == 4 or third == 2))


@njit(cache=True, nogil=True)
def _north_american(data, at, end):
    if data[at] == ord("1") and at + 1 < end and data[at + 1] in (ord("-"), ord("."), ord(" ")):
        at += 2
    parenthesis = at < end and data[at] == ord("(")
    at += parenthesis
    if _digits(data, at, end) != 3 or data[at] < ord("2"):
        return -1
    at += 3
    if parenthesis:
        if at >= end or data[at] != ord(")"):
            return -1
        at += 1
        at += at < end and data[at] in (ord(" "), ord("-"))
    else:
        if at >= end or data[at] not in (ord("-"), ord(".")):
            return -1
        at += 1
    if _digits(data, at, end) != 3 or data[at] < ord("2"):
        return -1
    at += 3
    if at >= end or not (data[at] in (ord("-"), ord(".")) or (parenthesis and data[at] == ord(" "))):
        return -1
    at += 1
    if _digits(data, at, end) != 4 or is_a(data, at + 4, at, end, WORD):
        return -1
    at += 4
    return -1 if at < end and data[at] in (ord("-"), ord(".")) and is_a(data, at + 1, at, end, DIGIT) else at
