"""The documentation inside the Python environment that runs this: real text that is on every user's disk.

Docstrings are found by parsing; nothing is ever imported. What becomes of a file:

- a module: one document for each top-level class or function whose docstrings (its methods' included) come to
  MIN_CHARACTERS, and one with the module's own docstring and the shorter ones; texts passed to ``add_newdoc`` and
  ``add_docstr`` (numpy, scipy, torch) count as docstrings of what they name;
- ``pydoc_data/topics.py``: one document a topic;
- ``METADATA`` of a distribution: its description; licence files; documentation in .rst, .md and .txt;
- a gettext catalogue (.mo): its translated messages.

The domain follows from the kind of text, for docstrings and documentation from the package (PACKAGES, else ``tools``).
"""

from __future__ import annotations

import ast
import contextlib
import email
import gc
import inspect
import os
import re
import struct
import sysconfig
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from pydantic import Field

from pipeline.sources.base import (
    Document,
    File,
    Ids,
    NoFiles,
    Rejected,
    SourceConfig,
    dump_json,
    excerpt,
    file_name,
    printable,
)
from pipeline.sources.reading import bounded
from pipeline.sources.reading import identity as identity

VERSION = 1
#: A docstring shorter than this goes to its module's document; a module's document shorter than this is left out.
MIN_CHARACTERS = 200

PACKAGES = {
    "scientific": """
        astropy cvxpy dask distributed mpl_toolkits matplotlib mpmath networkx numba numexpr numpy pandas patsy polars
        pyarrow scipy seaborn skimage statsmodels sympy xarray duckdb contourpy llvmlite
    """,
    "machine-learning": """
        accelerate datasets fasttext functorch huggingface_hub jax keras kenlm lightgbm nltk peft safetensors
        sentencepiece sklearn spacy tensorflow tokenizers torch torchgen torchvision transformers xgboost
    """,
    "web": """
        aiobotocore aiohttp alembic anyio apprise asyncpg botocore docker fastapi flask grpc h11 h2 hpack httpcore
        httpx jinja2 oauthlib prefect prefect_dask prefect_ray redis requests requests_oauthlib s3fs sqlalchemy
        starlette tornado trafilatura urllib3 uvicorn warcio websockets werkzeug yarl
    """,
}
_DOMAIN_OF = {package: domain for domain, names in PACKAGES.items() for package in names.split()}
_DOMAIN_OF["stdlib"] = "stdlib"

_LICENCE = re.compile(r"(licen[cs]es?|copying|notice|copyright)([-_.].*)?", re.IGNORECASE)
_README = re.compile(r"readme([-_.].*)?", re.IGNORECASE)
_PROSE = re.compile(r"authors|change|contributing|history|install|news|notes|readme|release|todo", re.IGNORECASE)
_TEXT_ENDINGS = ("", ".txt", ".md", ".rst", ".html")
_DOMAIN_BY_KIND = {"readme": "readme", "licence": "licences", "translation": "translations"}


class Environment(SourceConfig):
    """The environment's own documentation; with ``packages`` only theirs (``stdlib`` for the standard library)."""

    kind: Annotated[
        Literal["environment"],
        Field(description="the documentation inside the running Python environment"),
    ] = "environment"
    name: Annotated[str, Field(description="name of the source; begins the id of each of its documents")] = (
        "environment"
    )
    packages: Annotated[
        list[str] | None,
        Field(
            description="packages whose documentation is read, `stdlib` for the standard library; default: all"
            " that are installed"
        ),
    ] = None


class _Found(NamedTuple):
    """A text in a file; ``own`` is its id there, None if the file is one document."""

    own: str | None
    text: str
    metadata: dict[str, str | int]


class _Unreadable(ValueError):
    """The file is not what its name says; the message is a short reason."""


def roots() -> dict[str, Path]:
    """The folders that are read, by the name that begins their files' names."""
    paths = sysconfig.get_paths()
    folders = {"stdlib": Path(paths["stdlib"]), "site-packages": Path(paths["purelib"])}
    if paths["platlib"] != paths["purelib"]:
        folders["site-packages-platform"] = Path(paths["platlib"])
    return folders


def list_files(config: Environment) -> list[File]:
    wanted = None if config.packages is None else {_normal(package) for package in config.packages}
    listed = []
    for root_name, root in roots().items():
        for folder, folders, names in os.walk(root):
            folders[:] = [name for name in folders if name not in ("__pycache__", "site-packages")]
            inside = Path(folder).relative_to(root)
            for name in names:
                path = inside / name
                package = _package(root_name, path)
                full = Path(folder, name)
                if _kind(path) and (wanted is None or _normal(package) in wanted) and full.is_file():
                    listed.append(File(str(full), file_name(f"{root_name}/{path}"), full.stat().st_size))
    if not listed:
        raise NoFiles(f"source {config.name!r}: none of the packages {config.packages} is installed here")
    return sorted(listed, key=lambda file: file.name)


@bounded
def read(config: Environment, file: File) -> Iterator[Document | Rejected]:
    root_name, _, inside = file.name.partition("/")
    path = Path(inside)
    kind = _kind(path) or "documentation"
    package = _package(root_name, path)
    domain = config.domain or _DOMAIN_BY_KIND.get(kind) or _DOMAIN_OF.get(_normal(package), "tools")
    raw = Path(file.path).read_bytes()
    if len(raw) > config.max_document_bytes:
        yield Rejected(file.path, 1, 0, "longer than max_document_bytes", excerpt(raw))
        return
    ids = Ids(config.name, file)
    try:
        for position, record in enumerate(_READERS[kind](raw, path), 1):
            identifier = (
                f"{config.name}/{file.name}" if record.own is None else ids.take(printable(record.own), position)[0]
            )
            metadata = dump_json({"kind": kind, "package": package, **record.metadata})
            yield Document(identifier, record.text, config.name, domain, None, metadata)
    except _Unreadable as error:
        yield Rejected(file.path, 1, 0, str(error), excerpt(raw))


def _kind(path: Path) -> str | None:
    """The kind of text in the file at ``path`` (relative to its root); None if it is not documentation."""
    name, ending = path.name, path.suffix.lower()
    if any(part.endswith((".dist-info", ".egg-info")) for part in path.parts[:-1]):
        if name in ("METADATA", "PKG-INFO"):
            return "readme"
        licence = _LICENCE.fullmatch(name) or "licenses" in path.parts
        return "licence" if licence and ending in _TEXT_ENDINGS else None
    if ending == ".py":
        return "topic" if path.parts[-2:] == ("pydoc_data", "topics.py") else "docstring"
    if ending == ".mo":
        return "translation"
    if _LICENCE.fullmatch(name) and ending in _TEXT_ENDINGS:
        return "licence"
    if _README.fullmatch(name) and ending in _TEXT_ENDINGS:
        return "readme"
    in_documentation = bool(_PROSE.match(name)) or not {"doc", "docs"}.isdisjoint(path.parts)
    return "documentation" if ending in (".rst", ".md") or (ending == ".txt" and in_documentation) else None


def _package(root_name: str, path: Path) -> str:
    """The import name of the package that ``path`` belongs to; a distribution's name for its metadata."""
    if root_name == "stdlib":
        return "stdlib"
    first = path.parts[0]
    if first.endswith((".dist-info", ".egg-info")):
        return first.split("-")[0]
    return first if len(path.parts) > 1 else path.stem


def _normal(package: str) -> str:
    return package.lower().replace("-", "_")


@contextlib.contextmanager
def _without_collection() -> Iterator[None]:
    """A syntax tree is some 100,000 objects without cycles: looking for garbage in it takes a third of the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _parse(raw: bytes) -> ast.Module:
    try:
        with _without_collection(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in other people's code
            return ast.parse(raw)
    except (SyntaxError, ValueError) as error:
        raise _Unreadable("not valid Python for this interpreter") from error
    except (RecursionError, MemoryError) as error:
        raise _Unreadable("Python nested too deeply") from error


def _docstrings(raw: bytes, path: Path) -> Iterator[_Found]:
    tree = _parse(raw)
    parts = path.with_suffix("").parts
    module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
    rest = [ast.get_docstring(tree) or ""]
    texts = []
    for name, text, line in _objects(tree.body):
        if len(text) >= MIN_CHARACTERS:
            texts.append(_Found(name, text, {"module": module, "object": name, "line": line}))
        else:
            rest.append(f"{name}\n{text}")
    text = "\n\n".join(filter(None, rest))
    if len(text) >= MIN_CHARACTERS:
        yield _Found("(module)", text, {"module": module})
    yield from texts


def _objects(body: list[ast.stmt]) -> Iterator[tuple[str, str, int]]:
    """Name, joined docstrings and line of the documented objects in ``body``, those in branches included."""
    for node in body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            if text := "\n\n".join(_blocks(node, "")):
                yield node.name, text, node.lineno
        elif isinstance(node, ast.If | ast.Try | ast.With):
            yield from _objects(node.body + getattr(node, "orelse", []))
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and (added := _added(node.value)):
            yield *added, node.lineno


def _blocks(node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef, heading: str) -> Iterator[str]:
    if text := ast.get_docstring(node):
        yield heading + text
    if isinstance(node, ast.ClassDef):
        for child in node.body:
            if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                yield from _blocks(child, child.name + "\n")


def _added(call: ast.Call) -> tuple[str, str] | None:
    """Name and text of ``add_newdoc("numpy", "sin", "...")`` or ``add_docstr(torch.sin, "...")``."""
    function = call.func
    called = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    texts = [n.value for n in ast.walk(call) if isinstance(n, ast.Constant) and isinstance(n.value, str)]
    if called not in ("add_newdoc", "add_docstr") or not texts or not call.args:
        return None
    text = max(texts, key=len)
    first = call.args[0]
    names = [n for n in texts if n is not text] if isinstance(first, ast.Constant) else [ast.unparse(first)]
    return ".".join(names), inspect.cleandoc(text)


def _topics(raw: bytes, _path: Path) -> Iterator[_Found]:
    for node in ast.walk(_parse(raw)):
        if isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                if isinstance(key, ast.Constant) and isinstance(value, ast.Constant):
                    yield _Found(str(key.value), str(value.value), {"topic": str(key.value)})


def _text(raw: bytes) -> str:
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _Unreadable("invalid UTF-8") from error


def _plain(raw: bytes, _path: Path) -> Iterator[_Found]:
    yield _Found(None, _text(raw), {})


def _readme(raw: bytes, path: Path) -> Iterator[_Found]:
    """A README as it is; of METADATA the description, which follows the headers or (before 2018) is one of them."""
    text = _text(raw)
    if path.name in ("METADATA", "PKG-INFO"):
        message = email.message_from_string(text)
        text = str(message.get_payload()) or message["Description"]
    if text:
        yield _Found(None, text, {})


def _messages(raw: bytes, path: Path) -> Iterator[_Found]:
    """The translations in a GNU .mo file (gettext manual, "The Format of GNU MO Files"), one a line."""
    order = {b"\xde\x12\x04\x95": "<", b"\x95\x04\x12\xde": ">"}.get(raw[:4])
    if order is None:
        raise _Unreadable("not a gettext catalogue")
    try:
        count, _, table = struct.unpack_from(order + "3I", raw, 8)
        places = [struct.unpack_from(order + "2I", raw, table + 8 * index) for index in range(count)]
        if sum(length for length, _ in places) > len(raw):
            raise _Unreadable("a damaged gettext catalogue")
        messages = [raw[start : start + length] for length, start in places]
        charset = re.search(rb"charset=([\w-]+)", messages[0])
        text = b"\n".join(messages[1:]).replace(b"\0", b"\n").decode(charset[1].decode() if charset else "utf-8")
    except (struct.error, IndexError, LookupError, UnicodeDecodeError) as error:
        raise _Unreadable("a damaged gettext catalogue") from error
    language = path.parts[-3] if path.parent.name == "LC_MESSAGES" else ""
    yield _Found(None, text, {"language": language})


_READERS: dict[str, Callable[[bytes, Path], Iterator[_Found]]] = {
    "docstring": _docstrings,
    "documentation": _plain,
    "licence": _plain,
    "readme": _readme,
    "topic": _topics,
    "translation": _messages,
}
