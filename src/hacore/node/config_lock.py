"""Who owns `state_dir/config`: one process at a time."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from hacore.errors import HacoreError


class Busy(HacoreError):
    """Another push or roll-back is under way, or another process has the directory; the message says which."""

    exit_code = 75


def lock(directory: Path) -> int:
    """A descriptor that owns the directory until it is closed; raises Busy."""
    handle = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise Busy(f"another process uses {directory}") from None
    return handle
