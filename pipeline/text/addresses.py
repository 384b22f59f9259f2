"""IP addresses in UTF-8 text: what one is, found from the byte that gives it away; and the classes of ASCII bytes.

An IPv4 address has four numbers up to 255 without leading zeros; a public one whose numbers are all below 32 is taken
for a version, which is wrong for one address in 4,096. IPv6 is read as in RFC 4291 section 2.2; one without any digit
is taken for code (``dead::beef``). Not public are the blocks of the IANA special-purpose address registries, and
multicast.
"""

from __future__ import annotations

import numpy as np

from pipeline.text.jit import njit

#: What an ASCII byte is, as bits; bytes from 0x80 are none of it.
DIGIT, UPPER, LOWER, HEX, LOCAL, WORD, WIDE = 1, 2, 4, 8, 16, 32, 64
_VERSION_BITS = 0xE0E0E0E0  # no bit of it is set where four numbers are below 32


def _classes() -> np.ndarray:
    table = np.zeros(256, np.uint8)
    letters = "abcdefghijklmnopqrstuvwxyz"
    for bit, members in (
        (DIGIT, "0123456789"),
        (UPPER, letters.upper()),
        (LOWER, letters),
        (HEX, "0123456789abcdefABCDEF"),
        (LOCAL, "0123456789_%+'-" + letters + letters.upper()),
        (WORD, "0123456789_" + letters + letters.upper()),
        (WIDE, "&=!#$^~"),
    ):
        table[[ord(char) for char in members]] |= bit
    return table


CLASSES = _classes()


def words(*words: str) -> tuple[np.ndarray, np.ndarray]:
    """The words' bytes one after another, and where each starts [n + 1]."""
    encoded = [word.encode() for word in words]
    ends = np.cumsum([0] + [len(word) for word in encoded])
    return np.frombuffer(b"".join(encoded), np.uint8), ends.astype(np.int64)


#: A dotted number after one of these is that of a version or section.
_VERSIONS, _VERSION_ENDS = words(
    *("version", "versions", "ver", "v", "release", "build", "rev", "revision", "firmware"),
    *("section", "sections", "sec", "chapter", "clause", "article"),
)


@njit(cache=True, nogil=True, inline="always")
def is_a(data, at, start, end, bits):
    """Whether ``data[at]`` lies in ``start..end`` and has one of the class ``bits``."""
    return start <= at < end and CLASSES[data[at]] & bits > 0


@njit(cache=True, nogil=True)
def follows_word(data: np.ndarray, at: int, start: int, words: np.ndarray, ends: np.ndarray) -> bool:
    """Whether before ``data[at]``, at most four of `` .:#(`` between, stands one of ``words`` in any case."""
    stop = at
    while stop > start and at - stop < 4 and data[stop - 1] in (ord(" "), ord("."), ord(":"), ord("#"), ord("(")):
        stop -= 1
    begin = stop
    while begin > start and stop - begin < 16 and CLASSES[data[begin - 1]] & (UPPER | LOWER):
        begin -= 1
    if begin > start and (CLASSES[data[begin - 1]] & WORD or data[begin - 1] >= 0x80):
        return False
    for word in range(len(ends) - 1):
        size = ends[word + 1] - ends[word]
        if size != stop - begin:
            continue
        same = True
        for k in range(size):
            same &= data[begin + k] | 32 == words[ends[word] + k]
        if same:
            return True
    return False


@njit(cache=True, nogil=True)
def ipv4(data: np.ndarray, at: int, start: int, end: int, reserved: bool) -> int:
    """End of the IPv4 address that starts at ``data[at]``, a digit after no digit; -1 if there is none.

    Not preceded by a letter, ``_`` or ``.`` (or ``-`` after a letter: ``name-1.2.3.4``) nor by a word for versions, not
    followed by more of a name or number. ``reserved``: also those that are not public.
    """
    if is_a(data, at - 1, start, end, WORD) or (at > start and data[at - 1] == ord(".")):
        return -1
    if at - 1 > start and data[at - 1] == ord("-") and CLASSES[data[at - 2]] & (UPPER | LOWER):
        return -1
    address, stop = read_ipv4(data, at, end)
    if stop < 0 or is_a(data, stop, at, end, WORD):
        return -1
    if stop < end and data[stop] == ord(".") and is_a(data, stop + 1, at, end, WORD):
        return -1
    if is_public_v4(address):
        return stop if address & _VERSION_BITS and not follows_word(data, at, start, _VERSIONS, _VERSION_ENDS) else -1
    return stop if reserved else -1


@njit(cache=True, nogil=True)
def read_ipv4(data: np.ndarray, at: int, end: int) -> tuple:
    """``(address, end)`` of the four dotted numbers at ``data[at]``; end is -1 if they are not there."""
    address = 0
    for part in range(4):
        if part:
            if at >= end or data[at] != ord("."):
                return 0, -1
            at += 1
        first, value = at, 0
        while at < end and at - first < 4 and CLASSES[data[at]] & DIGIT:
            value = 10 * value + np.int64(data[at]) - ord("0")
            at += 1
        if at == first or value > 255 or at - first > 3 or (at - first > 1 and data[first] == ord("0")):
            return 0, -1
        address = address << 8 | value
    return address, at


@njit(cache=True, nogil=True)
def is_public_v4(address: int) -> bool:
    """Whether the 32-bit address is in no block for a special purpose."""
    top = address >> 24
    if top == 0 or top == 10 or top == 127 or top >= 224:
        return False
    two, three = address >> 16, address >> 8
    if two == 0xA9FE or two == 0xC0A8 or two & 0xFFFE == 0xC612 or two & 0xFFF0 == 0xAC10 or two & 0xFFC0 == 0x6440:
        return False  # 169.254, 192.168, 198.18/15, 172.16/12, 100.64/10
    return not (three == 0xC00000 or three == 0xC00002 or three == 0xC63364 or three == 0xCB0071)


@njit(cache=True, nogil=True)
def ipv6(data: np.ndarray, at: int, start: int, end: int, reserved: bool, groups: np.ndarray) -> tuple[int, int]:
    """The IPv6 address whose first colon is ``data[at]``: its range, or (-1, -1). ``groups`` is scratch, int64 [8]."""
    if at + 1 >= end or not (data[at + 1] == ord(":") or CLASSES[data[at + 1]] & HEX):
        return -1, -1
    begin = at
    while begin > start and at - begin < 4 and CLASSES[data[begin - 1]] & HEX:
        begin -= 1
    if begin > start and (CLASSES[data[begin - 1]] & WORD or data[begin - 1] in (ord(":"), ord("."))):
        return -1, -1
    stop = _read_ipv6(data, begin, end, groups)
    if (
        stop - begin < 4
        or is_a(data, stop, begin, end, WORD)
        or (stop < end and data[stop] == ord(":") and is_a(data, stop + 1, begin, end, WORD))
    ):
        return -1, -1
    if stop < end and data[stop] == ord(".") and is_a(data, stop + 1, begin, end, DIGIT):
        return -1, -1
    digits = False
    for k in range(begin, stop):
        digits |= CLASSES[data[k]] & DIGIT > 0
    return (begin, stop) if digits and (reserved or is_public_v6(groups)) else (-1, -1)


@njit(cache=True, nogil=True)
def _read_ipv6(data, at, end, groups):
    """Fills ``groups``; the end of the address that starts at ``at``, or -1. A single colon after it is not its own."""
    count, gap = 0, -1
    if data[at] == ord(":"):
        if at + 1 >= end or data[at + 1] != ord(":"):
            return -1
        gap, at = 0, at + 2
    while count < 8 and is_a(data, at, at, end, HEX):
        first, value = at, 0
        while at < end and at - first < 5 and CLASSES[data[at]] & HEX:
            byte = np.int64(data[at])
            value = 16 * value + (byte - ord("0") if CLASSES[data[at]] & DIGIT else (byte | 32) - ord("a") + 10)
            at += 1
        if at < end and data[at] == ord(".") and count <= 6:
            address, stop = read_ipv4(data, first, end)
            if stop > 0:
                groups[count], groups[count + 1] = address >> 16, address & 0xFFFF
                count, at = count + 2, stop
                break
        if at - first > 4:
            return -1
        groups[count] = value
        count += 1
        if at + 1 < end and data[at] == ord(":") and data[at + 1] == ord(":") and gap < 0:
            gap, at = count, at + 2
        elif at + 1 < end and data[at] == ord(":") and CLASSES[data[at + 1]] & HEX and count < 8:
            at += 1
        else:
            break
    if gap < 0:
        return at if count == 8 else -1
    if count > 7:
        return -1
    for k in range(7, -1, -1):  # the groups after the gap go to the end, zeros between
        source = k - (8 - count)
        groups[k] = groups[k] if k < gap else groups[source] if source >= gap else 0
    return at


@njit(cache=True, nogil=True)
def is_public_v6(groups: np.ndarray) -> bool:
    """Whether the address of eight 16-bit ``groups`` is global unicast (2000::/3) and in no block for a special
    purpose; one that maps an IPv4 address (::ffff:0:0/96) is as that."""
    if groups[5] == 0xFFFF and not groups[:5].any():
        return is_public_v4(groups[6] << 16 | groups[7])
    if groups[0] >> 13 != 1:
        return False
    if groups[0] == 0x2001 and (groups[1] < 0x200 or groups[1] == 0xDB8):
        return False
    return not (groups[0] == 0x3FFF and groups[1] < 0x1000)
