"""When files that somebody else may replace want to be looked at, for a loop of asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from hacore.linux.file_watch import FileWatch

#: Seconds between two looks where the kernel tells of changes, and where it does not.
SLOW_INTERVAL = 10.0
INTERVAL = 1.0
#: Until who replaces several files, such as a certificate and its key, has replaced them all.
SETTLED = 0.5


class FileLooks:
    """Make it inside the loop; `wait` again and again, and look each time."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._watch = FileWatch()
        self._changed = asyncio.Event()
        self.follow(paths)
        if self._watch.fileno() >= 0:
            asyncio.get_running_loop().add_reader(self._watch.fileno(), self._readable)

    def follow(self, paths: Sequence[Path]) -> None:
        """These from now on."""
        self._paths = paths
        self._watch.follow(paths)

    async def wait(self) -> None:
        """Until one of them may be another, or some seconds have passed."""
        with suppress(TimeoutError):
            async with asyncio.timeout(SLOW_INTERVAL if self._watch.works else INTERVAL):
                await self._changed.wait()
        if self._changed.is_set():
            await asyncio.sleep(SETTLED)
        else:
            self._watch.follow(self._paths)
        self._changed.clear()

    def close(self) -> None:
        """The end."""
        if self._watch.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self._watch.fileno())
        self._watch.close()

    def _readable(self) -> None:
        if self._watch.read():
            self._changed.set()
