"""The environment source: what becomes a document, in which domain, and that nothing is ever run."""

from __future__ import annotations

import gettext
import io
import json
import struct
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.sources import environment
from pipeline.sources.base import Document, NoFiles, Record, Rejected
from pipeline.sources.environment import Environment

LONG = "A sentence that is long enough to stand for real documentation. " * 3 + "The end."

MODULE = f'''
"""Module docstring."""
import sys
sys.exit("this module must not be imported")
def short():
    """Too short alone."""
def long(x):
    """{LONG}

        indented
    """
class Klass:
    """About the class."""
    def method(self):
        r"""{LONG}"""
        def inner():
            """not documentation of the interface"""
    class Nested:
        """About the nested class."""
    async def waits(self):
        """Waits."""
try:
    def long(x):
        """Another definition. {LONG}"""
except ImportError:
    pass
add_newdoc("pkg.core", "added", """{LONG}""")
add_docstr(pkg.also_added, "{LONG}".format(x=1))
'''


def catalogue(messages: dict[str, str], order: str = "<") -> bytes:
    """A .mo file, written after the gettext manual."""
    keys, values = [key.encode() for key in sorted(messages)], [messages[key].encode() for key in sorted(messages)]
    table = 28
    start = table + 16 * len(keys)
    places, data = [], b""
    for text in keys + values:
        places += [len(text), start + len(data)]
        data += text + b"\0"
    header = struct.pack(order + "7I", 0x950412DE, 0, len(keys), table, table + 8 * len(keys), 0, 0)
    return header + struct.pack(f"{order}{len(places)}I", *places) + data


MESSAGES = {"": "Content-Type: text/plain; charset=UTF-8\n", "day\0days": "Tag\0Tage", "hello": "Grüß Gott"}


@pytest.fixture
def installed(tmp_path, monkeypatch) -> Path:
    """A small environment: its folder ``site`` for packages and ``lib`` for the standard library."""
    contents = {
        "lib/argparse.py": f'"""{LONG}"""',
        "lib/pydoc_data/topics.py": "topics = {'with': 'The with statement\\n', 'in': 'Membership'}",
        "lib/site-packages/hidden.py": f'"""{LONG}"""',
        "lib/LICENSE.txt": "PSF",
        "site/numpy/core.py": MODULE,
        "site/numpy/__init__.py": f'"""{LONG}"""',
        "site/numpy/empty.py": "x = 1",
        "site/numpy/LICENSE": "BSD",
        "site/numpy/data/table.txt": "1 2 3",
        "site/numpy/docs/guide.txt": "A guide",
        "site/numpy/README.md": "# numpy",
        "site/numpy/locale/de/LC_MESSAGES/numpy.mo": catalogue(MESSAGES),
        "site/torch/nn.py": f'"""{LONG}"""',
        "site/six.py": f'"""{LONG}"""',
        "site/broken/bad.py": "def f(:",
        "site/broken/latin.py": b'"""caf\xe9"""',
        "site/broken/deep.py": "(" * 5000,
        "site/broken/x.mo": b"nothing",
        "site/numpy-2.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: numpy\n\n# What it is\n\nArrays ☂\n",
        "site/old-1.0.dist-info/METADATA": "Name: old\nDescription: Old style.\n        Second line.\nVersion: 1\n",
        "site/none-1.0.dist-info/METADATA": "Name: none\nVersion: 1\n",
        "site/numpy-2.0.dist-info/licenses/vendored/LICENSE.md": "MIT",
        "site/numpy-2.0.dist-info/RECORD": "numpy/__init__.py,,",
    }
    for name, content in contents.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    (tmp_path / "site/numpy/dangling.py").symlink_to("nowhere.py")
    roots = {"stdlib": tmp_path / "lib", "site-packages": tmp_path / "site"}
    monkeypatch.setattr(environment, "roots", lambda: roots)
    return tmp_path


def read(**fields) -> list[Record]:
    config = Environment.model_validate({"name": "env", **fields})
    return [row for file in environment.list_files(config) for row in environment.read(config, file)]


def documents(**fields) -> dict[str, Document]:
    found = {row.id.removeprefix("env/"): row for row in read(**fields) if isinstance(row, Document)}
    assert len(found) == sum(isinstance(row, Document) for row in read(**fields))
    return found


@pytest.mark.usefixtures("installed")
def test_each_kind_of_text_becomes_documents_of_its_domain():
    assert {name: row.domain for name, row in documents().items()} == {
        "stdlib/LICENSE.txt": "licences",
        "stdlib/argparse.py#(module)": "stdlib",
        "stdlib/pydoc_data/topics.py#with": "stdlib",
        "stdlib/pydoc_data/topics.py#in": "stdlib",
        "site-packages/numpy/core.py#long": "scientific",
        "site-packages/numpy/core.py#Klass": "scientific",
        "site-packages/numpy/core.py#long~3": "scientific",
        "site-packages/numpy/core.py#pkg.core.added": "scientific",
        "site-packages/numpy/core.py#pkg.also_added": "scientific",
        "site-packages/numpy/__init__.py#(module)": "scientific",
        "site-packages/numpy/LICENSE": "licences",
        "site-packages/numpy/docs/guide.txt": "scientific",
        "site-packages/numpy/README.md": "readme",
        "site-packages/numpy/locale/de/LC_MESSAGES/numpy.mo": "translations",
        "site-packages/torch/nn.py#(module)": "machine-learning",
        "site-packages/six.py#(module)": "tools",
        "site-packages/numpy-2.0.dist-info/METADATA": "readme",
        "site-packages/old-1.0.dist-info/METADATA": "readme",
        "site-packages/numpy-2.0.dist-info/licenses/vendored/LICENSE.md": "licences",
    }


@pytest.mark.usefixtures("installed")
def test_the_texts_are_the_documentation_and_nothing_else():
    found = documents()
    core = "site-packages/numpy/core.py#"
    assert found[core + "long"].text == f"{LONG}\n\nindented"
    assert found[core + "Klass"].text == (
        f"About the class.\n\nmethod\n{LONG}\n\nNested\nAbout the nested class.\n\nwaits\nWaits."
    )
    assert found[core + "pkg.core.added"].text == found[core + "pkg.also_added"].text == LONG
    assert found["stdlib/pydoc_data/topics.py#with"].text == "The with statement\n"
    assert found["site-packages/numpy-2.0.dist-info/METADATA"].text == "# What it is\n\nArrays ☂\n"
    assert found["site-packages/old-1.0.dist-info/METADATA"].text == "Old style.\n        Second line."
    assert found["site-packages/numpy/locale/de/LC_MESSAGES/numpy.mo"].text == "Tag\nTage\nGrüß Gott"


@pytest.mark.usefixtures("installed")
def test_the_metadata_say_where_a_text_is_from():
    found = {name: json.loads(row.metadata or "") for name, row in documents().items()}
    klass = found["site-packages/numpy/core.py#Klass"]
    assert klass.pop("line") == MODULE.split("\n").index("class Klass:") + 1
    assert klass == {"kind": "docstring", "package": "numpy", "module": "numpy.core", "object": "Klass"}
    assert found["site-packages/numpy/__init__.py#(module)"]["module"] == "numpy"
    assert found["site-packages/six.py#(module)"]["package"] == "six"
    assert found["site-packages/numpy-2.0.dist-info/METADATA"] == {"kind": "readme", "package": "numpy"}
    assert found["site-packages/numpy/locale/de/LC_MESSAGES/numpy.mo"]["language"] == "de"
    assert found["stdlib/argparse.py#(module)"]["package"] == "stdlib"


def test_short_docstrings_are_gathered_in_their_modules_document(installed):
    (installed / "site/numpy/many.py").write_text(
        '"""Top."""\n' + "".join(f'def f{i}():\n    """Short text number {i}."""\n' for i in range(9))
    )
    text = documents()["site-packages/numpy/many.py#(module)"].text
    assert text == "Top.\n\n" + "\n\n".join(f"f{i}\nShort text number {i}." for i in range(9))


@pytest.mark.usefixtures("installed")
def test_files_that_are_not_what_they_claim_are_rejected():
    found = {Path(row.file).name: row.reason for row in read() if isinstance(row, Rejected)}
    assert found == {
        "bad.py": "not valid Python for this interpreter",
        "latin.py": "not valid Python for this interpreter",
        "deep.py": found["deep.py"],  # which of the two depends on the interpreter's version
        "x.mo": "not a gettext catalogue",
    }
    assert found["deep.py"] in ("not valid Python for this interpreter", "Python nested too deeply")


@pytest.mark.usefixtures("installed")
def test_packages_can_be_chosen():
    assert {row.domain for row in documents(packages=["stdlib"]).values()} == {"stdlib", "licences"}
    assert all("numpy" in name for name in documents(packages=["NumPy"]))
    with pytest.raises(NoFiles, match="none of the packages"):
        read(packages=["absent"])


@pytest.mark.usefixtures("installed")
def test_files_come_sorted_and_do_not_depend_on_the_order_of_listing(monkeypatch):
    expected = environment.list_files(Environment())
    assert expected == sorted(expected, key=lambda file: file.name)
    walk = environment.os.walk
    monkeypatch.setattr(environment.os, "walk", lambda root: ((a, b, c[::-1]) for a, b, c in walk(root)))
    assert environment.list_files(Environment()) == expected


@given(st.dictionaries(st.text(min_size=1), st.text(min_size=1)), st.sampled_from("<>"))
def test_catalogues_read_as_gettext_reads_them(messages, order):
    messages = {key.replace("\0", ""): value.replace("\0", "") for key, value in messages.items()}
    messages.pop("", None)
    raw = catalogue({"": MESSAGES[""], **messages}, order)
    (found,) = environment._messages(raw, Path("x.mo"))
    reference = gettext.GNUTranslations(io.BytesIO(raw))
    assert found.text == "\n".join(reference.gettext(key) for key in sorted(messages))


@given(st.binary(max_size=80), st.integers(0, 150))
def test_damaged_catalogues_are_refused_or_read_but_never_expand(noise, cut):
    raw = (catalogue(MESSAGES)[:cut] + noise)[:200]
    try:
        (found,) = environment._messages(raw, Path("x.mo"))
    except environment._Unreadable:
        return
    assert len(found.text) <= len(raw) * 2


def test_this_environment_holds_the_domains_and_little_that_cannot_be_read():
    found = read(packages=["pyarrow", "tokenizers", "starlette", "humanize", "six"])
    domains = Counter(row.domain for row in found if isinstance(row, Document))
    rejected = [row for row in found if isinstance(row, Rejected)]
    assert set(domains) == {"scientific", "machine-learning", "web", "tools", "readme", "licences", "translations"}
    assert len(rejected) < 0.01 * len(found), rejected
    ids = [row.id for row in found if isinstance(row, Document)]
    assert len(set(ids)) == len(ids)


@pytest.mark.slow
def test_this_environment_holds_at_least_20_mb_of_text():
    config = Environment()
    size = 0
    # Python last: parsing takes most of the time
    for file in sorted(environment.list_files(config), key=lambda file: file.name.endswith(".py")):
        size += sum(len(row.text) for row in environment.read(config, file) if isinstance(row, Document))
        if size >= 20_000_000:
            return
    pytest.fail(f"only {size} characters")
