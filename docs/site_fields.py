"""A hook of the docs site: the page fields.md, every field of a recipe, read off the models that check it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flows.views import recipe_fields

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files

HEAD = """# Fields

Every field of a recipe, with its type, its default, and the definition and source of a rule where it is one.
`mill fields` prints the same. A stage runs if its section is there; `{}` takes the defaults.
"""


def cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")


def table(place: str) -> str:
    """What a section, or one kind of its entries, says of itself, and its fields."""
    rows = []
    for field in recipe_fields.fields(place):
        default = f"`{field.default}`" if field.default else ""
        rows.append(f"| `{field.name}` | {cell(field.type)} | {default} | {cell(field.about)} |")
    about = recipe_fields.about(place).replace("<", "&lt;")
    return "\n".join(["", about, "", "| field | type | default | what it is |", "|---|---|---|---|", *rows, ""])


def page() -> str:
    parts = [HEAD]
    for section in recipe_fields.sections():
        parts.append(f"\n## {section.name}\n\n{section.about[:1].upper()}{section.about[1:]}.\n")
        kinds = recipe_fields.kinds(section.name)
        parts += [f"\n### {kind.name}\n{table(kind.name)}" for kind in kinds] or [table(section.name)]
    return "\n".join(parts)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """MkDocs calls this with the files of the site; adds the page."""
    from mkdocs.structure.files import File

    files.append(File.generated(config, "fields.md", content=page()))
    return files
