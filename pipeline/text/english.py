"""English words that the general splitting rules would get wrong, after the behaviour of spaCy 3.8's English tokenizer.

datatrove counts what that tokenizer gives: "don't" is do + n't, "cannot" can + not, "Mr." keeps its stop, ":-)" is one
word, "5km" is 5 + km. Which words these are is restated here as a grammar; ``lookup()`` is the table for the kernels.
"""

from __future__ import annotations

from functools import cache
from itertools import product

import numpy as np
from numpy import uint64

from pipeline.text.hashing import word_key
from pipeline.text.jit import njit

#: Flags of a table entry; below them the bytes of its first and second part (0: no such part), 8 bits each.
EXCEPTION, UNIT = 1 << 16, 1 << 17
_SHAPES, _BITS, _SLOTS = 1 << 8, 1 << 10, 1 << 13
_PAIRS = _SHAPES + _BITS

_ABBREVIATIONS = """
    Mr. Mrs. Ms. Messrs. Dr. Prof. Rev. Gov. Gen. Adm. Sen. Rep. St. Mt. Jr. Bros. Co. co. Corp. Inc. Ltd. vs. v.s.
    Ph.D. D.C. a.m. p.m. e.g. E.g. E.G. i.e. I.e. I.E.
    Jan. Feb. Mar. Apr. Jun. Jul. Aug. Sep. Sept. Oct. Nov. Dec.
    Ak. Ala. Ariz. Ark. Calif. Colo. Conn. Del. Fla. Ga. Ia. Id. Ill. Ind. Kan. Kans. Ky. La. Mass. Md. Mich. Minn.
    Miss. Mo. Mont. N.C. N.D. N.H. N.J. N.M. N.Y. Neb. Nebr. Nev. Okla. Ore. Pa. S.C. Tenn. Va. Wash. Wis.
    a. b. c. d. e. f. g. h. i. j. k. l. m. n. o. p. q. r. s. t. u. v. w. x. y. z. ä. ö. ü.
"""
_WHOLE = """
    ' '' 'S 's ‘S ‘s 'd 're 'em em 'll ll 'nuff nuff 'cause 'Cause 'cos 'Cos 'coz 'Coz 'cuz 'Cuz 'bout and/or w/o C++
    ma'am Ma'am o'clock O'clock lovin' Lovin' havin' Havin' doin' Doin' goin' Goin' nothin' Nothin' nuthin' Nuthin'
    ol' Ol' somethin' Somethin' <space> \\t \\n \\") —
"""
_IN_PARTS = """
    y'|all y|all how|'d|'y How|'d|'y not|'ve Not|'ve not|ve Not|ve can|not Can|not gon|na Gon|na got|ta Got|ta
    let|'s Let|'s c'm|on C'm|on
"""
_UNITS = """
    km km² km³ m m² m³ dm dm² dm³ cm cm² cm³ mm mm² mm³ ha µm nm yd in ft kg g mg µg t lb oz m/s km/h kmh mph
    hPa Pa mbar mb MB kb KB gb GB tb TB T G M K %
    км км² км³ м м² м³ дм дм² дм³ см см² см³ мм мм² мм³ нм кг г мг м/с км/ч кПа Па мбар
    Кб КБ кб Мб МБ мб Гб ГБ гб Тб ТБ тб
"""
_FACES = """
    (: (-: (= (; (-; [: [-: [= ): )-: ]= (o: :o) :1 :() >:( >:o :') :'-) :'( :'-( (-8 8) 8-) 8D 8-D xD XD xDD XDD
    ^_^ ^__^ ^___^ -_- -__- ._. ;_; >.< >.> <.< v.v V.V v_v V_V o_o o_O O_o O_O 0_o o_0 0_0 o.o o.O O.o O.O 0.0 o.0
    0.o @_@ <3 <33 <333 </3 (^_^) (-_-) (._.) (>_<) (*_*) (¬_¬) ಠ_ಠ ಠ︵ಠ (ಠ_ಠ) ¯\\(ツ)/¯ (╯°□°）╯︵┻━┻ ><(((*>
"""
_SMILES = (  # eyes, noses, mouths
    (":", ("", "-"), (*")(]}/|PpOo03*>XxD", "))", ")))", "((", "(((")),
    (";", ("", "-"), ")D"),
    ("=", ("",), ")(/|][D3"),
)
_PERSONS = ("i", "you", "he", "she", "it", "we", "they")
_ASKING = ("who", "what", "when", "where", "why", "how", "there", "these", "those")
_POINTING = ("that", "this")
_MODALS = "ca could do does did had may might must need ought sha should wo would"
_OTHER_VERBS = "ai are is was were have has dare"
#: Contractions without their apostrophe that are words of their own, and so are left whole.
_OWN_WORDS = "ill its hell shell shed were well whore Ill Its Hell Shell Shed Were Well Whore"


def exceptions() -> dict[str, tuple[str, ...]]:
    """Each exception with the words (one to three) that it stands for."""
    words: dict[str, tuple[str, ...]] = {}
    own_words = set(_OWN_WORDS.split())
    for stem, clitics in _contractions():
        for head in (stem, stem.title()):
            for parts in ((head, *clitics), (head, *(part.replace("'", "") for part in clitics))):
                if "".join(parts) not in own_words:
                    words["".join(parts)] = parts
    for hour, half in product(range(1, 13), ("am", "pm", "a.m.", "p.m.")):
        words[f"{hour}{half}"] = (str(hour), half)
    for text in _IN_PARTS.split():
        words[text.replace("|", "")] = tuple(text.split("|"))
    smiles = [eyes + nose + mouth for eyes, noses, mouths in _SMILES for nose, mouth in product(noses, mouths)]
    words |= {text: (text,) for text in f"{_ABBREVIATIONS} {_WHOLE} {_FACES}".split() + smiles}
    words |= {f"°{scale}.": ("°", scale, ".") for scale in "CFKcfk"}
    curly = {text.replace("'", "’"): tuple(part.replace("'", "’") for part in parts) for text, parts in words.items()}
    return words | curly


def _contractions() -> list[tuple[str, tuple[str, ...]]]:
    pairs: list[tuple[str, tuple[str, ...]]] = [("i", ("'m",)), ("i", ("'m", "a"))]
    for clitics in (("'ll",), ("'ll", "'ve"), ("'d",), ("'d", "'ve")):
        pairs += [(stem, clitics) for stem in (*_PERSONS, *_ASKING, *_POINTING)]
    pairs += [(stem, ("'ve",)) for stem in ("i", "you", "we", "they", *_ASKING)]
    pairs += [(stem, ("'re",)) for stem in ("you", "we", "they", *_ASKING)]
    pairs += [(stem, ("'s",)) for stem in ("he", "she", "it", *_ASKING[:-2], *_POINTING)]
    pairs += [(stem, ("n't",)) for stem in f"{_MODALS} {_OTHER_VERBS}".split()]
    pairs += [(stem, ("n't", "'ve")) for stem in _MODALS.split()]
    return pairs + [(stem, ("'ve",)) for stem in ("could", "might", "must", "should", "would")]


@cache
def lookup() -> np.ndarray:
    """uint64 [_PAIRS + 2 * _SLOTS]: the exceptions and units as ``find`` looks them up.

    Two sets of bits turn most words away: one for each ``_shape`` that occurs, one for a part of each ``word_key``.
    Then follow pairs of ``word_key`` and value by open addressing, where the hash of an empty slot is 0.
    """
    entries: dict[str, int] = dict.fromkeys(_UNITS.split(), UNIT)
    for text, parts in exceptions().items():
        sizes = [len(part.encode()) for part in parts[:-1]] + [0, 0]
        entries[text] = entries.get(text, 0) | EXCEPTION | sizes[0] | sizes[1] << 8
    shapes, bits = np.zeros(_SHAPES, np.uint64), np.zeros(_BITS, np.uint64)
    pairs = np.zeros((_SLOTS, 2), np.uint64)
    for text, value in entries.items():
        raw = np.frombuffer(text.encode(), np.uint8)
        key = int(word_key(raw, 0, len(raw)))
        shape = _shape(raw, 0, len(raw))
        shapes[shape >> 6] |= np.uint64(1 << (shape & 63))
        bits[key >> 6 & _BITS - 1] |= np.uint64(1 << (key & 63))
        slot = key >> 40 & _SLOTS - 1
        while pairs[slot, 0]:
            slot = slot + 1 & _SLOTS - 1
        pairs[slot] = key, value
    return np.concatenate([shapes, bits, pairs.reshape(-1)])


#: Bytes of the longest text in the table.
LONGEST = max(len(text.encode()) for text in [*exceptions(), *_UNITS.split()])


@njit(cache=True, nogil=True, forceinline=True)
def _shape(data, start, end):
    """A number below 64 * _SHAPES made of the first and last byte and the length of a text."""
    return (np.int64(data[start]) * 37 + np.int64(data[end - 1]) * 1031 + (end - start) * 5441) & (64 * _SHAPES - 1)


@njit(cache=True, nogil=True, forceinline=True)
def find(data: np.ndarray, start: int, end: int, slots: np.ndarray) -> np.int64 | int:
    """The value of the non-empty ``data[start:end]`` in ``slots`` (as ``lookup()`` gives them), 0 if it has none."""
    if end - start > LONGEST:
        return 0
    shape = _shape(data, start, end)
    if not slots[shape >> 6] >> uint64(shape & 63) & uint64(1):
        return 0
    return find_key(word_key(data, start, end), slots)


@njit(cache=True, nogil=True, forceinline=True)
def may_be_there(key: np.uint64, slots: np.ndarray) -> bool:
    """False for most keys that ``find_key`` does not find."""
    return slots[_SHAPES + (key >> uint64(6) & uint64(_BITS - 1))] >> (key & uint64(63)) & uint64(1) > 0


@njit(cache=True, nogil=True)
def find_key(key: np.uint64, slots: np.ndarray) -> np.int64 | int:
    """``find`` for a text whose ``word_key`` is ``key``."""
    if not may_be_there(key, slots):
        return 0
    slot = np.int64(key >> uint64(40)) & (_SLOTS - 1)
    while slots[_PAIRS + 2 * slot]:
        if slots[_PAIRS + 2 * slot] == key:
            return np.int64(slots[_PAIRS + 2 * slot + 1])
        slot = (slot + 1) & (_SLOTS - 1)
    return 0
