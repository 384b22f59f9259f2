"""How often this process opened a file of a build; in an object store each is a request, and requests cost money."""

from __future__ import annotations

from collections import Counter

#: ``read`` (a whole file), ``head`` (the schema of one, for its fingerprint) and ``write``.
counted: Counter[str] = Counter()
