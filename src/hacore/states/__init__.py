"""Replicated connections: the row, and snapshots and deltas of tables of rows.

Everything here is imported when it is first asked for: the row needs numpy, and what does not handle rows must not pay
for it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hacore.states.delta import apply_delta, encode_delta
    from hacore.states.layout import KEY_DTYPE, KEY_FIELDS, ROW_DTYPE, Keys, Rows, empty_rows, key_order, keys_of
    from hacore.states.snapshot import ChunkReader, decode_snapshot, encode_snapshot

_HOME = {
    "ChunkReader": "snapshot",
    "KEY_DTYPE": "layout",
    "KEY_FIELDS": "layout",
    "Keys": "layout",
    "ROW_DTYPE": "layout",
    "Rows": "layout",
    "apply_delta": "delta",
    "decode_snapshot": "snapshot",
    "empty_rows": "layout",
    "encode_delta": "delta",
    "encode_snapshot": "snapshot",
    "key_order": "layout",
    "keys_of": "layout",
}

__all__ = [
    "KEY_DTYPE", "KEY_FIELDS", "ROW_DTYPE", "ChunkReader", "Keys", "Rows", "apply_delta", "decode_snapshot",
    "empty_rows", "encode_delta", "encode_snapshot", "key_order", "keys_of",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
