"""OpenVINO without its telemetry, for all modules of this package that use it.

OpenVINO sends usage data when it is imported, from a forked process. A fork while NumPy's threads compute can stop them
for good, and nobody has asked for it. What has been imported without the telemetry never sends anything.
"""

import sys

__all__ = ["openvino", "opset13"]

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
