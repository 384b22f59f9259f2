"""The vocabulary that a model is trained with: its size, padded, and the ids of its special tokens."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.store.packed_tokens import PackedTokens

#: What a vocabulary is padded to, so that the head's matrix fits the hardware's tiles.
VOCABULARY_MULTIPLE = 64


def padded(size: int) -> int:
    """The vocabulary of a model whose tokenizer has ``size`` entries."""
    return -(-size // VOCABULARY_MULTIPLE) * VOCABULARY_MULTIPLE


@dataclass(frozen=True)
class Vocabulary:
    """What a model must know of its tokenizer: its size, and the ids of its special tokens by role (None: it has none).

    Where there is an ``eos``, it closes every packed document.
    """

    size: int
    bos: int | None = None
    eos: int | None = None
    cls: int | None = None
    sep: int | None = None
    pad: int | None = None
    mask: int | None = None
    unk: int | None = None

    @classmethod
    def of(cls, packed: PackedTokens) -> Vocabulary:
        return cls(packed.vocab_size, **packed.special_ids)

    @property
    def special(self) -> tuple[int, ...]:
        roles = (self.bos, self.eos, self.cls, self.sep, self.pad, self.mask, self.unk)
        return tuple(sorted({role for role in roles if role is not None}))

    @property
    def opening(self) -> int | None:
        """What stands before a document: the begin token, or else what closes the one before."""
        return next((role for role in (self.cls, self.bos, self.eos) if role is not None), None)

    @property
    def closing(self) -> int | None:
        return self.sep if self.eos is None else self.eos

    @property
    def padded(self) -> int:
        return padded(self.size)
