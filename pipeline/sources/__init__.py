"""Where documents come from; one module a format, each as ``pipeline.sources.base`` says."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from pipeline.sources import csv, environment, hub, jsonl, parquet, text, warc
from pipeline.sources.csv import Csv
from pipeline.sources.environment import Environment
from pipeline.sources.hub import Hub
from pipeline.sources.jsonl import Jsonl
from pipeline.sources.parquet import Parquet
from pipeline.sources.text import Text
from pipeline.sources.warc import Warc

Source = Annotated[Csv | Environment | Hub | Jsonl | Parquet | Text | Warc, Field(discriminator="kind")]

#: The module that reads each kind of source.
READERS: dict[str, Any] = {
    "csv": csv,
    "environment": environment,
    "hub": hub,
    "jsonl": jsonl,
    "parquet": parquet,
    "text": text,
    "warc": warc,
}
