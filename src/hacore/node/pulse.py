"""The pulse page: memory that the election worker shares with the supervisor, written on each turn without a
system call.

The supervisor reads there that the worker lives and which VIPs it holds, also after the worker is dead or stopped.
"""

from __future__ import annotations

import mmap
import os

MAX_VIPS = 4096
FLAGS_AT = 64
PAGE_BYTES = FLAGS_AT + MAX_VIPS


class Pulse:
    """The worker writes, the supervisor reads. Flags follow the order of the `LastWords` message."""

    def __init__(self, fd: int) -> None:
        self._page = mmap.mmap(fd, PAGE_BYTES)
        # One store of eight bytes. struct.pack_into clears them first, and whoever looks just then sees a beat at 0.
        self._beat = memoryview(self._page)[:8].cast("d")

    @staticmethod
    def create() -> int:
        """A new page; returns the file descriptor that both sides map."""
        fd = os.memfd_create("hacore-pulse")
        os.ftruncate(fd, PAGE_BYTES)
        return fd

    def beat(self, now: float) -> None:
        """Say that the worker turns, at this monotonic time."""
        self._beat[0] = now

    @property
    def last_beat(self) -> float:
        """When the worker last turned, in monotonic seconds."""
        return self._beat[0]

    def set_held(self, index: int, held: bool) -> None:
        """Say that the VIP with this index is held, or no longer."""
        self._page[FLAGS_AT + index] = held

    def held(self, count: int) -> list[int]:
        """The indices of the VIPs that are held, of the first `count`."""
        return [index for index, flag in enumerate(self._page[FLAGS_AT : FLAGS_AT + count]) if flag]

    def close(self) -> None:
        """Close what is open; the kernel keeps what it has."""
        self._beat.release()
        self._page.close()
