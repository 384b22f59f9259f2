"""A language model from text files, for the perplexity stage of builds or for KenLM."""

from __future__ import annotations
