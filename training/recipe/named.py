"""Parts of a recipe that are told apart by their `kind`, whose name alone takes the defaults. Torch-free."""

from __future__ import annotations

from typing import Any

from pydantic import SerializerFunctionWrapHandler, model_serializer

from pipeline.store.recipe_file import Config


class OfAKind(Config):
    """One of several that a recipe chooses from by `kind`, which is written even where defaults are left out."""

    @model_serializer(mode="wrap")
    def _with_kind(self, fields: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {"kind": getattr(self, "kind"), **fields(self)}  # noqa: B009 (each of them has it)


def named(value: Any) -> Any:
    """``lora`` is short for ``{kind: lora}``."""
    return {"kind": value} if isinstance(value, str) else value
