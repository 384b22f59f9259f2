"""The tokenizer card: README.md of a tokenizer's folder, as the Hugging Face hub reads it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.tokenization.config import TokenizerConfig


def card(
    config: TokenizerConfig, build: str, corpus: Mapping[str, int], row: Mapping[str, Any], trip: Mapping[str, Any]
) -> str:
    """What the tokenizer is, what it was trained on, and how it does on held-out text.

    ``corpus`` has the documents and bytes that it was trained on; ``row`` is report.Row of all held-out documents as a
    dict, ``trip`` what roundtrip.measure gives.
    """
    normalizer = [config.normalizer or "none"]
    normalizer += ["lower case"] * bool(config.lowercase) + ["without accents"] * bool(config.strip_accents)
    lost = ", ".join(f"{entry['kind']} ({entry['before']!r} becomes {entry['after']!r})" for entry in trip["lost"])
    rows = [
        ("algorithm", config.algorithm),
        ("entries", f"{row['vocab_size']:,}"),
        ("trained on", f"build `{build}`: {corpus['documents']:,} documents, {corpus['bytes']:,} bytes"),
        ("normaliser", ", ".join(normalizer)),
        ("pre-tokenizer", config.pre_tokenizer),
        ("special tokens", ", ".join(f"{role} `{token}`" for role, token in config.special.items()) or "none"),
        ("held-out documents", f"{row['documents']:,}"),
        ("bytes per token", f"{row['bytes_per_token']:.3f}"),
        ("tokens per word (fertility)", f"{row['fertility']:.3f}"),
        ("unknown tokens", f"{row['unknown_rate']:.3%}"),
        ("texts that decoding does not give back", f"{trip['changed']:,} of {trip['documents']:,}"),
        ("what they lose", lost or "nothing"),
    ]
    table = [f"| {name} | {str(value).replace('|', '&#124;')} |" for name, value in rows]
    head = ["---", "library_name: tokenizers", "tags: [corpusmill, tokenizer]", "---", "", f"# {config.name}", ""]
    use = [
        "```python",
        "from transformers import AutoTokenizer",
        "",
        'tokenizer = AutoTokenizer.from_pretrained("path/to/this/folder")',
        "tokenizer(text, split_special_tokens=True)  # reads no special token from text, as in training",
        "```",
    ]
    return "\n".join([*head, *use, "", "| | |", "|---|---|", *table, ""])
