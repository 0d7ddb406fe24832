"""Refused requests as lines of the event history: one for each, but no more than the history can bear."""

from __future__ import annotations

import time
from collections.abc import Callable

#: The same refusal of the same asker is one line in this time, and one more that counts the others.
SAME_INTERVAL = 30.0
#: Lines at once, and lines a second after that, whatever is tried from wherever.
BURST_LINES = 500
LINES_PER_SECOND = 2.0
#: Bounds what a stranger can make this node remember.
KEPT = 1000


class Refusals:
    """Counts every refusal in `total`; `record(kind, text, **fields)` writes a line."""

    def __init__(self, record: Callable[..., None], clock: Callable[[], float] = time.monotonic) -> None:
        self.total = 0
        self._record = record
        self._clock = clock
        self._seen: dict[tuple[str, str, str], tuple[float, int]] = {}
        self._credit = float(BURST_LINES)
        self._credited = clock()
        self._unwritten = 0

    def note(self, source: str, code: str, text: str) -> None:
        """`source` was refused with this code; `text` says what it asked and why not."""
        self.total += 1
        now = self._clock()
        self._credit = min(BURST_LINES, self._credit + (now - self._credited) * LINES_PER_SECOND)
        self._credited = now
        key = (source, code, text)
        since, more = self._seen.get(key, (-SAME_INTERVAL, 0))
        if key in self._seen and now - since < SAME_INTERVAL:
            self._seen[key] = (since, more + 1)
            return
        if len(self._seen) >= KEPT:
            self.flush()
        if self._credit < 1:
            self._unwritten += 1
            return
        self._credit -= 1
        again = f" (and {more} times more in the last {now - since:.0f} s)" if more else ""
        self._seen[key] = (now, 0)
        self._record("refused", f"refused {source}: {text}{again}", code=code, source=source)

    def flush(self) -> None:
        """Writes what was only counted, and forgets."""
        more = self._unwritten + sum(count for _since, count in self._seen.values())
        self._seen.clear()
        self._unwritten = 0
        if more:
            self._record("refused", f"refused {more} more requests like the ones before", count=more)
