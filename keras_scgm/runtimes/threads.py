"""Number of threads that a network may use."""

import os


def thread_limit() -> int:
    """The number in `OMP_NUM_THREADS`, as schedulers of clusters set it; 0 for all cores."""
    text = os.environ.get("OMP_NUM_THREADS", "")
    return int(text) if text.isdecimal() else 0
