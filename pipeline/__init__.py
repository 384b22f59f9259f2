from pathlib import Path

from pipeline import kernel_cache

kernel_cache.use(Path(__file__).parent.parent)
