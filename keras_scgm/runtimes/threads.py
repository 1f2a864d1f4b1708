"""Number of threads that a network may use, and of cores that a process may."""

import os


def thread_limit() -> int:
    """The number in `OMP_NUM_THREADS`, as schedulers of clusters set it; 0 for all cores."""
    text = os.environ.get("OMP_NUM_THREADS", "")
    return int(text) if text.isdecimal() else 0


def available_cores() -> int:
    """Number of processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
