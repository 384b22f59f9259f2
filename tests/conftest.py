"""Settings for the whole suite: the same examples on every run, no deadline (a first call compiles a kernel)."""

import os

from hypothesis import HealthCheck, settings

os.environ.setdefault("NUMBA_NUM_THREADS", "2")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # a thread that waits leaves its core to the other tests
settings.register_profile(
    "corpusmill", deadline=None, derandomize=True, max_examples=60, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("corpusmill")
