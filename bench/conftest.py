"""What stands in the saved results beside the figures, so that two of them can be compared."""

from __future__ import annotations

import os
from typing import Any

import hacore


def pytest_benchmark_update_machine_info(config: object, machine_info: dict[str, Any]) -> None:
    machine_info["hacore"] = hacore.__version__
    machine_info["kernel"] = os.uname().release
