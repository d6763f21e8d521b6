"""OpenVINO, whose converter would tell Google Analytics that it is used: vitrail sends nothing to anybody."""

import sys
from typing import Any


def import_openvino() -> Any:
    """The package, which then works with its own stand-in for its telemetry."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # an import of it fails
    import openvino

    return openvino
