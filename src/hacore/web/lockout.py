"""Wrong passwords, counted for each address and for each user: after ten there is a pause."""

from __future__ import annotations

from collections import OrderedDict

WRONG_ALLOWED = 10
#: A wrong password is forgotten after this long; the tenth locks for as long.
LOCK_TIME = 300.0
#: Known at once: bounds the memory that a network full of senders can force.
KEPT = 4096


class Lockout:
    """`now` is monotonic seconds. A key is an address or a user, such as "address 10.0.0.1"."""

    def __init__(self) -> None:
        self._wrong: OrderedDict[str, list[float]] = OrderedDict()

    def locked_for(self, keys: list[str], now: float) -> float:
        """Seconds until one of these may try again, 0.0 if now."""
        return max((self._left(key, now) for key in keys), default=0.0)

    def wrong(self, keys: list[str], now: float) -> None:
        """One more wrong password."""
        for key in keys:
            times = [one for one in self._wrong.pop(key, []) if now - one < LOCK_TIME]
            self._wrong[key] = [*times, now][-WRONG_ALLOWED:]
        while len(self._wrong) > KEPT:
            self._wrong.popitem(last=False)

    def right(self, keys: list[str]) -> None:
        """These have shown that they know it."""
        for key in keys:
            self._wrong.pop(key, None)

    def _left(self, key: str, now: float) -> float:
        times = [one for one in self._wrong.get(key, []) if now - one < LOCK_TIME]
        return LOCK_TIME - (now - times[-1]) if len(times) >= WRONG_ALLOWED else 0.0
