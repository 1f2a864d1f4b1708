"""OpenVINO without its telemetry and in any locale, for all modules of this package that use it.

OpenVINO sends usage data when it is imported, from a forked process. A fork while NumPy's threads compute can stop them
for good, and nobody has asked for it. What has been imported without the telemetry never sends anything.
"""

import locale
import sys
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["openvino", "opset13", "plain_letters"]

_TELEMETRY = "openvino_telemetry"

_is_ours = _TELEMETRY not in sys.modules
if _is_ours:
    sys.modules[_TELEMETRY] = None  # type: ignore[assignment]
try:
    import openvino
    import openvino.opset13 as opset13
finally:
    if _is_ours:
        del sys.modules[_TELEMETRY]


@contextmanager
def plain_letters() -> Iterator[None]:
    """Letters have the case of English while OpenVINO builds, reads or compiles a network.

    It folds the case of names by the locale. In Turkish the small letter of I is another one than i, and names that
    hold it are not found.
    """
    letters = locale.setlocale(locale.LC_CTYPE)
    locale.setlocale(locale.LC_CTYPE, "C")
    try:
        yield
    finally:
        locale.setlocale(locale.LC_CTYPE, letters)
