"""Waits for files to become others, without looking at them all the time.

The kernel tells of changes in the directories that hold the files, and those that symbolic links lead to; where a
directory is missing, in the nearest one above it. Not seen are changes that another machine makes on a network file
system, and those above the directories: who watches looks for itself, too, now and then.

Source: inotify(7), include/uapi/linux/inotify.h.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

from hacore.linux import libc

_IN_CLOSE_WRITE: Final = 0x8
_IN_MOVED: Final = 0x40 | 0x80
_IN_CREATE: Final = 0x100
_IN_DELETE: Final = 0x200
_IN_GONE: Final = 0x400 | 0x800  # the directory itself was deleted or moved
_IN_OVERFLOW: Final = 0x4000
_IN_IGNORED: Final = 0x8000
_IN_ONLYDIR: Final = 0x0100_0000
_MASK: Final = _IN_CLOSE_WRITE | _IN_MOVED | _IN_CREATE | _IN_DELETE | _IN_GONE | _IN_ONLYDIR
_ALWAYS: Final = _IN_GONE | _IN_OVERFLOW | _IN_IGNORED
_EVENT: Final = struct.Struct("=iIII")
_READ_BYTES: Final = 16384
_ROUNDS: Final = 8  # of making watches, while directories appear at the same time


class FileWatch:
    """Put `fileno()` into a selector, and look at the files whenever `read` says so, or `works` is False."""

    def __init__(self) -> None:
        self._paths: list[Path] = []
        self._names: dict[int, set[str]] = {}
        self.works = False
        try:
            self._fd = libc.inotify_init()
        except OSError:
            self._fd = -1  # the user's instances are used up

    def fileno(self) -> int:
        """Readable while there is something to `read`; -1 where the kernel gives no watch at all."""
        return self._fd

    def follow(self, paths: Iterable[Path]) -> None:
        """These files from now on, whether they exist or not; look at them after this, too. `works` says whether the
        kernel will tell.
        """
        self._paths = list(paths)
        self._renew()

    def read(self) -> bool:
        """Whether one of the files may be another than before."""
        changed = False
        with suppress(BlockingIOError):
            while data := os.read(self._fd, _READ_BYTES):
                changed = self._take(data) or changed
        if changed:
            self._renew()
        return changed

    def _take(self, data: bytes) -> bool:
        changed, offset = False, 0
        while offset + _EVENT.size <= len(data):
            number, mask, _, length = _EVENT.unpack_from(data, offset)
            offset += _EVENT.size
            name = os.fsdecode(data[offset : offset + length].rstrip(b"\0"))
            offset += length
            known = self._names.get(number)
            if known is not None and mask & _IN_IGNORED:
                del self._names[number]
            changed = changed or bool(mask & _IN_OVERFLOW) or (
                known is not None and (bool(mask & _ALWAYS) or name in known)
            )  # fmt: skip
        return changed

    def _renew(self) -> None:
        """Watch what there is now. A directory that appears meanwhile leads to one round more."""
        if self._fd < 0:
            return
        self.works = False
        before: dict[int, set[str]] | None = None
        for _ in range(_ROUNDS):
            names: dict[int, set[str]] = {}
            try:
                for directory, name in {place for path in self._paths for place in _places(path)}:
                    names.setdefault(libc.inotify_add_watch(self._fd, directory, _MASK), set()).add(name)
            except OSError:
                continue  # deleted this moment, or the limit of watches
            if names == before:
                self.works = True
                break
            before = names
        for number in set(self._names) - set(before or {}):
            with suppress(OSError):
                libc.inotify_rm_watch(self._fd, number)
        self._names = before or {}

    def close(self) -> None:
        """Closes the descriptor; may be called twice."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd, self.works = -1, False


def _places(path: Path) -> list[tuple[str, str]]:
    """Directories that exist, and the name in each whose change may make the file another."""
    found = []
    for one in {os.path.abspath(path), os.path.realpath(path)}:
        directory, name = os.path.split(one)
        while not os.path.isdir(directory):
            directory, name = os.path.split(directory)
        found.append((directory, name))
    return found
