"""How often somebody may try to pair: a bucket of attempts for each address, filled slowly."""

from __future__ import annotations

from collections import OrderedDict

BURST = 20  # attempts in a row
INTERVAL = 1.0  # seconds until there is one more
ADDRESSES = 1024  # known at once: bounds the memory that a network full of senders can force


class Attempts:
    """Counts all, and says which have to wait."""

    def __init__(self) -> None:
        self.made = 0
        self.held_back = 0
        self.refused = 0
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # attempts left, as of

    def wait_time(self, address: str, now: float) -> float:
        """Takes one attempt of this address: 0.0, or the seconds until it has one. `now` never goes back."""
        self.made += 1
        left, since = self._buckets.pop(address, (float(BURST), now))
        left = min(float(BURST), left + (now - since) / INTERVAL)
        wait = 0.0
        if left >= 1:
            left -= 1
        else:
            self.held_back += 1
            wait = (1 - left) * INTERVAL
        self._buckets[address] = (left, now)
        if len(self._buckets) > ADDRESSES:
            self._buckets.popitem(last=False)
        return wait
