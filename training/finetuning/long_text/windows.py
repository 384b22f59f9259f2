"""Which tokens of a text are read, and as which sequences.

Chunks hold R tokens each, as many as fit beside the special ones, and begin 2q tokens after one another, q = R // 4:
every token, but the first q and those up to q + R % 4 from the end, is in the middle half [q, 3q) of one chunk alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from tokenizers import Encoding

from pipeline import MillError
from training.finetuning.encoded import Encoded, Reader
from training.recipe.long_text import Chunks, Head, HeadTail, Hierarchical, LongText, Tail

#: Sun et al. 2019: how many of the tokens that are read come from the start.
_HEAD, _OF = 128, 510
_LEAST = 4  # tokens beside the special ones, for a chunk to have quarters
_CHARACTERS = 1 << 20  # of texts that the tokenizer reads at once: of each token it makes some hundred bytes


@dataclass(frozen=True)
class Read:
    """A text as a model reads it: token ids and token types, int64 [length], of each of its windows.

    ``text`` is the part of it that the windows cover; ``cut`` counts its tokens that no window holds.
    """

    tokens: list[np.ndarray]
    types: list[np.ndarray]
    text: str
    cut: int


def kept(tokens: int, room: int, config: LongText) -> list[np.ndarray]:
    """The places in a text of ``tokens`` tokens that each of its windows reads, where ``room`` tokens fit into one.

    Raises MillError where the room is too small.
    """
    if room < _LEAST:
        raise MillError(f"`sequence_length` leaves {room} tokens beside the special ones; raise it by {_LEAST - room}")
    places = np.arange(tokens)
    if tokens <= room:
        return [places]
    match config:
        case Head():
            return [places[:room]]
        case Tail():
            return [places[-room:]]
        case HeadTail():
            head = round(room * _HEAD / _OF) if config.head is None else config.head
            if head >= room:
                raise MillError(
                    f"`long_text.head` is {head}, and {room} tokens fit beside the special ones; lower it, or raise"
                    " `sequence_length`"
                )
            return [np.concatenate([places[:head], places[head - room :]])]
        case Chunks() | Hierarchical():
            stride = 2 * (room // 4)
            count = min(config.most, -(-(tokens - room) // stride) + 1)
            return [places[start : start + room] for start in range(0, count * stride, stride)]


def middle(window: int, room: int) -> range:
    """The places in its text of the middle half of the window of that number."""
    quarter = room // 4
    return range((2 * window + 1) * quarter, (2 * window + 3) * quarter)


def read(reader: Reader, texts: list[str], config: LongText) -> Iterator[Read]:
    """Each of ``texts`` as it is read in sequences of the reader's length."""
    reader.tokenizer.no_truncation()
    room = reader.length - reader.tokenizer.num_special_tokens_to_add(False)
    start = 0
    while start < len(texts):
        stop, size = start + 1, len(texts[start])
        while stop < len(texts) and (size := size + len(texts[stop])) <= _CHARACTERS:
            stop += 1
        for text, encoding in zip(texts[start:stop], reader.tokenizer.encode_batch(texts[start:stop]), strict=True):
            yield _read(text, encoding, room, config)
        start = stop


def _read(text: str, encoding: Encoding, room: int, config: LongText) -> Read:
    ids, types = np.array(encoding.ids, np.int64), np.array(encoding.type_ids, np.int64)
    own = np.array([part is not None for part in encoding.sequence_ids], bool)  # not added by the tokenizer
    places = np.flatnonzero(own)
    first, last = (places[0], places[-1] + 1) if len(places) else (len(ids), len(ids))
    before, after = np.arange(first), np.arange(last, len(ids))
    windows = kept(last - first, room, config)
    chosen = [np.concatenate([before, first + window, after]) for window in windows]
    seen = np.zeros(last - first, bool)
    for window in windows:
        seen[window] = True
    turns = np.diff(np.pad(seen.astype(np.int8), 1))
    runs = zip(np.flatnonzero(turns == 1), np.flatnonzero(turns == -1) - 1, strict=True)
    offsets = encoding.offsets
    shown = [text[offsets[first + one][0] if one else 0 : offsets[first + other][1]] for one, other in runs]
    return Read([ids[at] for at in chosen], [types[at] for at in chosen], "\n".join(shown), int((~seen).sum()))


def encode(reader: Reader, texts: list[str], config: LongText, targets: dict[str, list[np.ndarray]]) -> Encoded:
    """``texts`` as examples with their ``targets``.

    Of a text in chunks ``tokens`` are those of all its windows one after the other, and the target ``windows`` is how
    many each has: int64 [windows].
    """
    tokens, types, lengths = [], [], []
    cut = 0
    for text in read(reader, texts, config):
        tokens.append(np.concatenate(text.tokens))
        types.append(np.concatenate(text.types))
        lengths.append(np.array([len(window) for window in text.tokens], np.int64))
        cut += text.cut > 0
    made = Encoded(tokens, types, np.arange(len(tokens)), targets, reader.pad)
    if not isinstance(config, Chunks | Hierarchical):
        return made
    unread = {f"texts that go on after chunk {config.most}": cut} if cut else {}
    return replace(made, targets={**targets, "windows": lengths}, unread=unread)


def split(data: Encoded) -> Encoded:
    """Each window of ``data`` as an example of its own; without targets."""
    lengths = data.targets["windows"]
    row = np.repeat(data.row, [len(of) for of in lengths])

    def parts(whole: list[np.ndarray]) -> list[np.ndarray]:
        return [
            part for tokens, of in zip(whole, lengths, strict=True) for part in np.split(tokens, np.cumsum(of)[:-1])
        ]

    return replace(data, tokens=parts(data.tokens), types=parts(data.types), row=row, targets={})
