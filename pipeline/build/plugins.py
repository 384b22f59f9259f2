"""Plug-ins: what a recipe adds to the program. Files of Python that it names, and parts of installed packages.

A plug-in makes its parts (a Stage, for one) at module level. Loading it runs its code, so that is done for what a
recipe names and for nothing else. What a part makes has the digest of its file, or the name and version of its package,
in its fingerprint. A file travels to worker processes by its content, so that an edit while a build runs does no harm.
"""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import metadata
from importlib.abc import InspectLoader
from importlib.util import decode_source, module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from pipeline import MillError
from pipeline.store import files

_DIGEST = "#sha256="
_ENTRY = re.compile(r"(?P<package>[\w.-]+)==(?P<version>\S+)#corpusmill\.(?P<kind>\w+):(?P<name>\S+)")


@dataclass(frozen=True)
class File:
    """A file of Python, as it was when the recipe was read."""

    path: str
    sha256: str
    content: bytes = field(repr=False, compare=False)

    @property
    def made_by(self) -> str:
        """What is part of the fingerprint of all that its parts make."""
        return self.sha256

    def __str__(self) -> str:
        return self.path

    def stored(self) -> str:
        """The plug-in as a build's recipe keeps it, and ``find`` takes it."""
        return f"{self.path}{_DIGEST}{self.sha256}"

    def values(self) -> Iterator[Any]:
        """What the file makes at module level."""
        yield from vars(_module(self)).values()


@dataclass(frozen=True)
class Installed:
    """A part of an installed package: its entry point ``name`` in the group ``corpusmill.<kind>``."""

    package: str
    version: str
    kind: str
    name: str

    @property
    def made_by(self) -> str:
        return f"{self.package}=={self.version}"

    def __str__(self) -> str:
        return f"{self.made_by} (entry point corpusmill.{self.kind}: {self.name})"

    def stored(self) -> str:
        return f"{self.made_by}#corpusmill.{self.kind}:{self.name}"

    def require(self) -> None:
        """Raises MillError unless it is installed, in this version."""
        current = installed(self.kind, self.name)
        if current != self:
            now = f"{current.made_by} is" if current else "it is not"
            raise MillError(
                f"{self}: the build ran with this plug-in, and {now} installed; install {self.made_by}, or run"
                " `mill build` on the recipe again"
            )

    def values(self) -> Iterator[Any]:
        """The object that the entry point names. Raises MillError where it cannot be loaded, or is another by now."""
        self.require()
        if _imported_version(self.package) != self.version:
            raise MillError(f"{self}: another version of it is loaded already; run the command again")
        entry = next(iter(metadata.entry_points(group=f"corpusmill.{self.kind}", name=self.name)))
        try:
            part = entry.load()
        except (ImportError, AttributeError) as error:
            raise MillError(f"{self}: cannot be loaded ({error}); install the package again") from error
        if not isinstance(part, Part) or part.name != self.name:
            raise MillError(f"{self}: {entry.value} must be a part that is called {self.name!r}; correct the package")
        yield part


Plugin = File | Installed


@dataclass(frozen=True)
class Part:
    """What a plug-in may add. ``plugin`` is set when it is loaded; None for the program's own."""

    name: str
    plugin: Plugin | None = field(default=None, kw_only=True)

    def __reduce__(self) -> str | tuple[Any, ...]:
        """A plug-in's part travels as the plug-in and the part's name."""
        return super().__reduce__() if self.plugin is None else (_part, (self.plugin, type(self), self.name))


P = TypeVar("P", bound=Part)


@cache
def parts(plugin: Plugin, kind: type[P]) -> tuple[P, ...]:
    """The parts of one kind that ``plugin`` has. Raises MillError if it cannot be loaded."""
    values = {id(value): value for value in plugin.values() if isinstance(value, kind)}
    return tuple(replace(value, plugin=plugin) for value in values.values())


def _part(plugin: Plugin, kind: type[P], name: str) -> P:
    return next(part for part in parts(plugin, kind) if part.name == name)


def added(plugins: Iterable[Plugin], kind: type[P], own: Iterable[P]) -> list[P]:
    """The parts of one kind that ``plugins`` add to the program's ``own``. Raises MillError where two have one name."""
    taken = {part.name: part for part in own}
    new: list[P] = []
    for part in (part for plugin in plugins for part in parts(plugin, kind)):
        other = taken.setdefault(part.name, part)
        if other is part:
            new.append(part)
        elif replace(part, plugin=None) != other:  # else it is our own, imported to be changed
            whose = f"by {other.plugin}" if other.plugin else "by the program itself"
            raise MillError(f"{part.plugin}: the name {part.name!r} is taken {whose}; give the part another name")
    return new


def find(text: str, folder: str | Path) -> Plugin:
    """The plug-in that a recipe in ``folder`` calls ``text``: a path, or what ``stored`` made of a plug-in.

    Raises MillError where it is not there or, for one that was stored, not as it was.
    """
    if entry := _ENTRY.fullmatch(text):
        plugin = Installed(**entry.groupdict())
        plugin.require()
        return plugin
    name, _, digest = text.partition(_DIGEST)
    path = Path(folder, name).resolve()
    if not path.is_file():
        raise MillError(f"{path}: no such file; give the path of a Python file, from the recipe's folder")
    content = path.read_bytes()
    plugin_file = File(str(path), hashlib.sha256(content).hexdigest(), content)
    if digest and digest != plugin_file.sha256:
        raise MillError(
            f"{path}: this plug-in has changed since the build ran; run `mill build` on the recipe again, or put back"
            f" the file with SHA-256 {digest}"
        )
    return plugin_file


def installed(kind: str, name: str) -> Installed | None:
    """The plug-in that an installed package announces by the entry point ``name`` of ``corpusmill.<kind>``, if any.

    Raises MillError where several packages do. Nothing of the package is run.
    """
    entries = {
        Installed(entry.dist.name, entry.dist.version, kind, name)
        for entry in metadata.entry_points(group=f"corpusmill.{kind}", name=name)
        if entry.dist is not None
    }
    if len(entries) > 1:
        several = " and ".join(sorted(entry.made_by for entry in entries))
        raise MillError(f"{name}: {several} both have a plug-in of this name; uninstall one of them")
    return next(iter(entries), None)


@cache
def _imported_version(package: str) -> str:
    """The version that was installed when this process first needed it: Python imports nothing twice."""
    return metadata.version(package)


class _Content(InspectLoader):
    """Runs the bytes that were digested: a file read again could be another, and so could a compiled one beside it."""

    def __init__(self, plugin: File):
        self.plugin = plugin

    def get_source(self, fullname: str) -> str:  # noqa: ARG002
        return decode_source(self.plugin.content)

    def get_code(self, fullname: str) -> Any:  # noqa: ARG002
        return self.source_to_code(self.plugin.content, self.plugin.path)  # pyright: ignore[reportArgumentType]


@cache
def _module(plugin: File) -> ModuleType:
    stem = re.sub(r"\W", "_", Path(plugin.path).stem)
    spec = spec_from_loader(f"corpusmill_plugin_{stem}_{files.fingerprint(plugin.stored())[:16]}", _Content(plugin))
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    module.__file__ = plugin.path
    sys.modules[spec.name] = module  # models and dataclasses look their module up while it is run
    try:
        spec.loader.exec_module(module)
    except SyntaxError as error:
        del sys.modules[spec.name]
        raise MillError(f"{error.filename or plugin}, line {error.lineno}: {error.msg}; correct the plug-in") from error
    except ImportError as error:
        del sys.modules[spec.name]
        raise MillError(f"{plugin}: {error}; install what it imports, or correct the plug-in") from error
    return module
