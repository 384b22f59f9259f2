# pyarrow's classes are compiled and its compute functions made at import: a type checker sees neither.
from typing import Any

def __getattr__(name: str) -> Any: ...
