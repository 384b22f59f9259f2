"""The ablation: equal models on raw text, curated text, and with each stage left out."""

from __future__ import annotations
