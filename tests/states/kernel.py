"""A kernel's connection table as a dict of entries by key. As in a real one, entries expire, and no two of them share
a reply tuple.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from hacore._fast.row import KEY_BYTES
from hacore.states.layout import ROW_DTYPE, Rows, keys_of

EXTRA: Final = 21.0
"""Seconds that copies live longer than their originals: two intervals of comparison and one second."""

LONG: Final = 432_000
REPLY_BYTES: Final = 38

Tuple = tuple[bytes, bytes]


def contents(table: Rows) -> dict[bytes, bytes]:
    """Rows by key, timeouts left out."""
    plain = table.copy()
    plain["timeout"] = 0
    return {key.tobytes(): each.tobytes() for key, each in zip(keys_of(table), plain, strict=True)}


class Kernel(dict[bytes, bytes]):
    """Rows without timeouts by key; those that are put in by hand never expire."""

    def __init__(self) -> None:
        super().__init__()
        self._expires: dict[bytes, float] = {}
        self._by_reply: dict[Tuple, bytes] = {}
        self._soonest = np.inf  # nothing expires before

    def put(self, rows: Rows, now: float, extra: float = 0.0) -> None:
        """Entries as these rows have them; whatever holds a reply tuple of theirs has to go."""
        for (key, entry), timeout in zip(contents(rows).items(), rows["timeout"].tolist(), strict=True):
            holder = self.holder(key, entry)
            if holder is not None:
                del self[holder]
            self[key] = entry
            self._by_reply[_reply(entry)] = key
            self._expires[key] = now + timeout + extra
            self._soonest = min(self._soonest, self._expires[key])

    def holder(self, key: bytes, entry: bytes) -> bytes | None:
        """The key of another entry that has the reply tuple of this one."""
        held = self._by_reply.get(_reply(entry))
        if held is None or held == key or held not in self or _reply(self[held]) != _reply(entry):
            return None
        return held

    def carry(self, rows: Rows, now: float) -> None:
        """Traffic that changes nothing but the timeouts, of which nobody is told."""
        for key, timeout in zip(contents(rows), rows["timeout"].tolist(), strict=True):
            assert key in self, "there is no such connection"
            self._expires[key] = now + timeout
            self._soonest = min(self._soonest, self._expires[key])

    def next_expiry(self) -> float:
        """When the next entry expires, at the earliest; inf: never."""
        return self._soonest

    def expired(self, now: float) -> Rows:
        """Those whose time is over; they are still here."""
        if self._soonest > now:
            return self.rows([], now)
        over = [key for key in self if self._expires.get(key, np.inf) <= now]
        left = self.keys() - over
        self._expires = {key: at for key, at in self._expires.items() if key in left}
        self._soonest = min(self._expires.values(), default=np.inf)
        return self.rows(over, now)

    def rows(self, wanted: list[bytes], now: float) -> Rows:
        """Entries of these keys that are here, as a dump tells them."""
        found = [key for key in wanted if key in self]
        rows = np.frombuffer(b"".join(self[key] for key in found), dtype=ROW_DTYPE).copy()
        rows["timeout"] = [max(int(self._expires.get(key, now + LONG) - now), 0) for key in found]
        return rows


def _reply(entry: bytes) -> Tuple:
    """Family and protocol, and the reply tuple with its zone."""
    return entry[:2], entry[KEY_BYTES : KEY_BYTES + REPLY_BYTES]
