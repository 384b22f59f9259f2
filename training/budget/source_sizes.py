"""How much text a recipe's sources may hold, before anything of them is read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pipeline.curation.recipe import Recipe
from pipeline.sources.reading import COMPRESSED
from pipeline.text import formats

_COMPRESSED = (*COMPRESSED, ".parquet")
_MARKUP = (".warc", ".arc")


@dataclass(frozen=True)
class SourceSizes:
    """``bytes`` of ``files`` as they lie there, of which ``compressed`` and ``markup`` bytes are not plain text."""

    files: int
    bytes: int
    compressed: int
    markup: int

    @property
    def sentence(self) -> str:
        """What the sizes are worth, as a sentence."""
        parts = [f"{formats.size(self.bytes)} in {formats.several(self.files, 'file')} of the sources"]
        if self.compressed:
            parts.append(f"{formats.size(self.compressed)} of it compressed, so more once it is read")
        if self.markup:
            parts.append(f"{formats.size(self.markup)} of it web pages, whose text is a small part")
        return ", ".join(parts)


def measure(recipe: Recipe) -> SourceSizes:
    """The sizes of the files that the sources list. Raises NoFiles where one lists none."""
    inputs: list[Any] = [file for source in recipe.sources for file in recipe.readers[source.kind].list_files(source)]

    def size_of(marks: tuple[str, ...]) -> int:
        return sum(file.size for file in inputs if any(f"{mark}." in f"{file.path.lower()}." for mark in marks))

    return SourceSizes(len(inputs), sum(file.size for file in inputs), size_of(_COMPRESSED), size_of(_MARKUP))
