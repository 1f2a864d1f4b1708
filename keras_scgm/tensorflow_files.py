"""Where TensorFlow keeps its library. Imports nothing, so that it can be opened while everything else is imported."""

from __future__ import annotations

import ctypes
from importlib.util import find_spec
from pathlib import Path

NAMES = ("libtensorflow_framework.so.2", "libtensorflow_cc.so.2")
NVIDIA_DRIVER = Path("/proc/driver/nvidia")


def find_library() -> list[Path]:
    """The files of TensorFlow's library in load order; none where it is packed in another way."""
    package = find_spec("tensorflow")
    for folder in (package.submodule_search_locations or []) if package else []:
        paths = [Path(folder) / name for name in NAMES]
        if all(path.exists() for path in paths):
            return paths
    return []


def open_library() -> ctypes.CDLL:
    """The library; it takes a while the first time, in which Python goes on with its other threads.

    Raises:
        OSError: there is none, see `find_library`.
    """
    opened = [ctypes.CDLL(str(path)) for path in find_library()]
    if not opened:
        raise OSError("TensorFlow has no library that can be called from C here")
    return opened[-1]
