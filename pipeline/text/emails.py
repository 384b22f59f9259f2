"""E-mail addresses in UTF-8 text, found from the ``@`` that gives one away.

The local part is as people write it: letters of any script, digits, ``_ % + ' - & = ! # $ ^ ~``, single dots, or
anything in quotes; at most 64 bytes (RFC 5321, RFC 6531). The domain has at least two labels, of letters of any script,
digits and hyphens (RFC 5890); its last begins with two letters or more, or with ``xn--``. Scripts that are written
without spaces (Han, Kana, Hangul, Thai, ...) belong to an address only where its own characters at the ``@`` or in the
domain are of them: in ``联系abc@x.com的`` they are the sentence around it. No addresses are the names of files
(``icon@2x.png``) and the user of a repository (``git@host``).
"""

from __future__ import annotations

import numpy as np

from pipeline.text.addresses import CLASSES, DIGIT, LOCAL, LOWER, UPPER, WIDE, WORD, is_a, words
from pipeline.text.characters import CONTINUOUS, JOINING, LETTER, kind
from pipeline.text.jit import njit
from pipeline.text.utf8 import previous, width

LONGEST_LOCAL_PART = 64

#: Endings of file names that are no top-level domains.
_FILES, _FILE_ENDS = words(
    *("png", "jpg", "jpeg", "gif", "svg", "webp", "bmp", "ico", "icns", "tif", "tiff", "avif", "heic", "psd", "eps"),
    *("pdf", "doc", "docx", "xls", "xlsx", "ppt", "pptx", "odt", "rtf", "txt", "csv", "tsv", "log", "tex", "epub"),
    *("html", "htm", "xml", "json", "jsonl", "yaml", "yml", "toml", "css", "scss", "sass", "less", "map", "wasm"),
    *("js", "jsx", "mjs", "cjs", "tsx", "vue", "java", "class", "jar", "cpp", "hpp", "exe", "dll", "deb", "rpm", "whl"),
    *("tar", "gz", "tgz", "bz", "xz", "rar", "iso", "bak", "mp", "wav", "ogg", "flac", "avi", "webm", "mkv"),
    *("woff", "ttf", "otf", "eot", "conf", "ini", "lock", "patch", "diff", "service", "socket", "timer"),
)
_REPOSITORIES, _REPOSITORY_ENDS = words("git", "hg", "svn", "cvs")
#: Top-level domains in scripts without spaces: where one begins a label, the rest of it is the sentence.
_CHINESE = """中国 中國 公司 网络 网址 网站 网店 中文网 商城 商店 商标 集团 在线 移动 手机 政务 公益 机构 组织机构
    广东 佛山 信息 娱乐 游戏 新闻 时尚 企业 招聘 香港 台湾 台灣 澳门 澳門 新加坡 世界 购物"""
_OTHERS = "通販 家電 みんな コム クラウド ストア ファッション 한국 닷컴 닷넷 삼성 ไทย คอม ລາວ"
_TOP, _TOP_ENDS = words(*_CHINESE.split(), *_OTHERS.split())


@njit(cache=True, nogil=True)
def email(data: np.ndarray, at: int, start: int, end: int, kinds: np.ndarray) -> tuple[int, int]:
    """The address around the at sign ``data[at]``, within ``start..end``: its range, or (-1, -1).

    ``kinds`` is ``characters.table()``.
    """
    stop = _domain_end(data, at + 1, end, kinds)
    if stop < 0 or at == start:
        return -1, -1
    if data[at - 1] == ord('"'):
        begin = _quote_begin(data, at, start)
    else:
        unspaced = _is_unspaced(data, previous(data, at), kinds)
        k = at + 1
        while k < stop and not unspaced:
            unspaced = _is_unspaced(data, k, kinds)
            k += width(data[k])
        begin = _local_begin(data, at, start, LOCAL | WIDE, unspaced, kinds)
        if begin < 0:
            begin = _local_begin(data, at, start, LOCAL, unspaced, kinds)
    if begin < 0 or begin == at or _is_one_of(data, begin, at, _REPOSITORIES, _REPOSITORY_ENDS):
        return -1, -1
    return begin, stop


@njit(cache=True, nogil=True, forceinline=True)
def _is_unspaced(data, at, kinds):
    """Whether the character at ``at`` is of a script that is written without spaces, or as if it were (Hangul)."""
    return kind(data, at, kinds) & CONTINUOUS > 0


@njit(cache=True, nogil=True)
def _local_begin(data, at, start, bits, unspaced, kinds):
    """Where the local part of ASCII characters of class ``bits``, and others, begins; ``at`` for none, -1: too long."""
    begin = at
    while begin > start and at - begin <= LONGEST_LOCAL_PART:
        byte = data[begin - 1]
        if byte >= 0x80:
            place = previous(data, begin)
            if not kind(data, place, kinds) & (LETTER | JOINING) or (not unspaced and _is_unspaced(data, place, kinds)):
                break
            begin = place
            continue
        if byte == ord("."):
            if begin == at or data[begin] == ord("."):
                break
        elif not CLASSES[byte] & bits:
            break
        begin -= 1
    while at - begin > LONGEST_LOCAL_PART and unspaced:  # the sentence before
        begin += width(data[begin])
    while begin < at and not CLASSES[data[begin]] & WORD and not kind(data, begin, kinds) & LETTER:
        begin += width(data[begin])  # what may not come first: . % + ' -
    return begin if at - begin <= LONGEST_LOCAL_PART else -1


@njit(cache=True, nogil=True)
def _quote_begin(data, at, start):
    """Where a local part in quotes begins, whose second quote stands before ``at``; -1 for none."""
    begin = at - 2
    while begin > start and at - begin < LONGEST_LOCAL_PART and data[begin] >= 0x20 and data[begin] != ord('"'):
        begin -= 1
    return begin if start <= begin < at - 2 and data[begin] == ord('"') else -1


@njit(cache=True, nogil=True)
def _domain_end(data, at, end, kinds):
    """End of the longest domain that starts at ``at``; -1 if there is none."""
    longest, label, top = -1, at, at
    while True:
        if label >= end or not (CLASSES[data[label]] & (DIGIT | UPPER | LOWER) or kind(data, label, kinds) & LETTER):
            break
        stop, letters = _letters_end(data, label, end, kinds)
        unspaced = _is_unspaced(data, label, kinds)
        if label > at and letters >= 2 and not is_a(data, stop, label, end, WORD & ~UPPER & ~LOWER | DIGIT):
            longest, top = stop, label
            known = _starts_with(data, label, stop, _TOP, _TOP_ENDS) if unspaced else -1
            if 0 < known < stop:
                longest = known
                break
            if stop < end and (unspaced or data[stop] >= 0x80) and _continues(data, stop, kinds):
                break  # the sentence goes on in another script
        stop = _label_end(data, stop, end, kinds)
        if label > at and stop - label > 4 and _is_encoded(data, label):
            longest, top = stop, label
            while data[longest - 1] == ord("-"):
                longest -= 1
        if stop == end or data[stop] != ord(".") or data[stop - 1] == ord("-"):
            break
        label = stop + 1
    if longest > 0 and _is_one_of(data, top, longest, _FILES, _FILE_ENDS):
        return -1
    return longest


@njit(cache=True, nogil=True)
def _continues(data, at, kinds):
    """Whether the character at ``at`` may stand inside a label."""
    if data[at] < 0x80:
        return CLASSES[data[at]] & (DIGIT | UPPER | LOWER) > 0 or data[at] == ord("-")
    return kind(data, at, kinds) & (LETTER | JOINING) > 0


@njit(cache=True, nogil=True)
def _letters_end(data, at, end, kinds):
    """End of the letters from ``at`` on of scripts with spaces, or without, as the first is; and how many there are."""
    unspaced, letters = _is_unspaced(data, at, kinds), 0
    while at < end:
        if data[at] < 0x80:
            if unspaced or not CLASSES[data[at]] & (UPPER | LOWER):
                break
        elif not kind(data, at, kinds) & (LETTER | JOINING) or _is_unspaced(data, at, kinds) != unspaced:
            break
        letters += 1
        at += width(data[at])
    return at, letters


@njit(cache=True, nogil=True)
def _label_end(data, at, end, kinds):
    while at < end and _continues(data, at, kinds):
        at += width(data[at])
    return at


@njit(cache=True, nogil=True)
def _is_encoded(data, at):
    """Whether a label begins with the prefix of an international one in ASCII: ``xn--``."""
    return (
        data[at] | 32 == ord("x")
        and data[at + 1] | 32 == ord("n")
        and data[at + 2] == ord("-")
        and data[at + 3] == ord("-")
    )


@njit(cache=True, nogil=True)
def _is_one_of(data, at, stop, words, ends):
    """Whether ``data[at:stop]`` is one of the ASCII ``words``, in any case."""
    for word in range(len(ends) - 1):
        size = ends[word + 1] - ends[word]
        same = size == stop - at
        for k in range(size if same else 0):
            same &= data[at + k] | 32 == words[ends[word] + k]
        if same:
            return True
    return False


@njit(cache=True, nogil=True)
def _starts_with(data, at, stop, words, ends):
    """End of the longest of ``words`` that ``data[at:stop]`` begins with; -1 if there is none."""
    longest = -1
    for word in range(len(ends) - 1):
        size = ends[word + 1] - ends[word]
        same = size <= stop - at
        for k in range(size if same else 0):
            same &= data[at + k] == words[ends[word] + k]
        if same:
            longest = max(longest, at + size)
    return longest
