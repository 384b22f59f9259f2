"""Settings for the whole suite: the same examples on every run, no deadline (a first call compiles a kernel)."""

import os

from hypothesis import HealthCheck, settings

os.environ.setdefault("NUMBA_NUM_THREADS", "2")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # a thread that waits leaves its core to the other tests
# readline, which pytest imports, gives xdist's workers 80 columns; rich keeps those it finds when the commands are
# imported, over what a test sets.
os.environ.pop("COLUMNS", None)
os.environ.pop("LINES", None)
settings.register_profile(
    "corpusmill", deadline=None, derandomize=True, max_examples=60, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("corpusmill")
