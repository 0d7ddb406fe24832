"""The log: encoded changes by position, bounded in bytes, read by any number of cursors.

A change is encoded once, whoever is to get it. A reader keeps nothing but the position that it has got; one whose
position has left the log at the old end has missed changes and needs digests.
"""

from __future__ import annotations

from array import array
from typing import Final

from hacore.states.frames import Body, Kind, positioned_frame

ENTRY_BYTES: Final = 80
"""What a frame takes beside its own bytes: the object that holds them, and its place, time and count of rows."""


class Log:
    """Frames `first` to `last` (positions, from 1); none when `first` is larger.

    Args:
        limit_bytes: of memory that the frames take at most. The newest frame is kept whatever its size.
    """

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.first = 1
        self.last = 0
        self.bytes_held = 0
        self.wanted = False
        """Somebody follows; else frames are only counted."""
        self.overflowed = 0  # frames ever that were let go of before every peer had them
        self._frames: list[bytes] = []  # of positions _base + 1 ...; those before `first` are empty
        self._times = array("d")
        self._rows = array("q")  # changes of rows ever, up to and with this frame
        self._base = 0
        self._rows_at_base = 0
        self._rows_ever = 0

    def append(self, kind: Kind, epoch: int, rows: int, now: float, *parts: Body) -> int:
        """A frame at the next position, which is returned; `rows` are the changes it stands for."""
        if not self.wanted:
            return self.skip(rows)
        self.last += 1
        data = positioned_frame(kind, self.last, epoch, *parts)
        self._rows_ever += rows
        self._frames.append(data)
        self._times.append(now)
        self._rows.append(self._rows_ever)
        self.bytes_held += len(data) + ENTRY_BYTES
        while self.bytes_held > self.limit_bytes and self.first < self.last:
            self.overflowed += 1
            self._drop_first()
        return self.last

    def skip(self, rows: int) -> int:
        """A position that nobody gets."""
        self.drop()
        self._rows_ever += rows
        self.last += 1
        self.first = self.last + 1
        self._base, self._rows_at_base = self.last, self._rows_ever
        for each in (self._frames, self._times, self._rows):
            del each[:]
        return self.last

    def holds(self, position: int) -> bool:
        """Whether a reader that has everything up to `position` can go on."""
        return self.first - 1 <= position <= self.last

    def read(self, position: int, limit: int) -> tuple[list[bytes], int]:
        """Frames after `position`, until they have `limit` bytes, and the position of the last one. The log has to
        hold it.
        """
        start = at = position - self._base
        frames = self._frames
        end = len(frames)
        while at < end and limit > 0:
            limit -= len(frames[at])
            at += 1
        return frames[start:at], self._base + at

    def trim(self, position: int) -> None:
        """Everybody has the frames up to `position`."""
        while self.first <= position and self.first <= self.last:
            self._drop_first()

    def drop(self) -> None:
        """Lets go of everything: whoever is behind has missed it."""
        self.trim(self.last)

    def lag(self, position: int) -> tuple[int, float | None]:
        """Changes of rows after `position` and when the oldest of them was made, None without one. Past the log: of
        what it holds.
        """
        at = max(position, self.first - 1) - self._base
        if at >= len(self._frames):
            return 0, None
        before = self._rows[at - 1] if at else self._rows_at_base
        return self._rows_ever - before, self._times[at]

    def _drop_first(self) -> None:
        at = self.first - 1 - self._base
        self.bytes_held -= len(self._frames[at]) + ENTRY_BYTES
        self._frames[at] = b""
        self.first += 1
        if at >= 1024 and at * 2 > len(self._frames):
            self._rows_at_base = self._rows[at]
            for each in (self._frames, self._times, self._rows):
                del each[: at + 1]
            self._base += at + 1
