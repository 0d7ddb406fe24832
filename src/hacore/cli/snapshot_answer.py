"""The answer of a node to `status`, whoever brought it."""

from __future__ import annotations

from typing import Any

import msgspec

from hacore.errors import PlatformError
from hacore.node.snapshot import Snapshot


def as_snapshot(answer: Any) -> Snapshot:
    """Raises PlatformError where it is none."""
    try:
        return msgspec.convert(answer, Snapshot)
    except msgspec.ValidationError as error:
        raise PlatformError(f"the node's answer is of another version of hacore: {error}") from None
