"""The files of the event history: `events.jsonl`, appended to and rotated to `events.jsonl.1`, one JSON object a line.

A line that a power cut or a full disk left torn is skipped by the reader and ended by the next writer.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Self

from hacore.node.event import NOT_JSON, Event, decode

FILE = "events.jsonl"
PREVIOUS = "events.jsonl.1"
#: Size at which the file is rotated; two are kept, so that the history takes twice this on disk.
ROTATE_AT_BYTES = 4 << 20
BLOCK_BYTES = 64 << 10
MODE = 0o640


class EventFile:
    """The file, open for appending.

    Nothing here raises: `problem` says what the disk answered last, and is empty when that was well.
    """

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._fd = -1
        self._size = 0
        self._torn = False
        self._unsynced = False
        self.problem = ""

    @property
    def unsynced(self) -> bool:
        """Whether something was written that a power cut could still take."""
        return self._unsynced

    def append(self, lines: Sequence[bytes]) -> int:
        """Writes the lines in one write; how many of them are in the file whole."""
        data = b"\n".join(lines) + b"\n"
        written = 0
        try:
            if self._fd >= 0 and self._size + len(data) > ROTATE_AT_BYTES:
                self._rotate()
            if self._fd < 0:
                self._open()
            if self._torn:
                os.write(self._fd, b"\n")
                self._torn = False
            while written < len(data):  # a disk that fills up takes a part, and says why when it is asked again
                count = os.write(self._fd, data[written:])
                self._unsynced = True
                self._size += count
                written += count
            self.problem = ""
        except OSError as error:
            self.problem = f"cannot write {FILE}: {error.strerror}"
            self._close()
        return data.count(b"\n", 0, written)

    def sync(self) -> None:
        """Waits until the disk has everything."""
        self._unsynced = False
        if self._fd >= 0:
            try:
                os.fdatasync(self._fd)
            except OSError as error:
                self.problem = f"cannot sync {FILE}: {error.strerror}"
                self._close()

    def close(self) -> None:
        """Syncs and closes."""
        self.sync()
        self._close()

    def _open(self) -> None:
        os.makedirs(self._directory, mode=0o750, exist_ok=True)
        path = f"{self._directory}/{FILE}"
        flags = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC
        try:
            self._fd = os.open(path, flags)
        except FileNotFoundError:
            self._fd = os.open(path, flags | os.O_CREAT, MODE)
            os.fchmod(self._fd, MODE)
            self._sync_directory()
        self._size = os.fstat(self._fd).st_size
        self._torn = self._size > 0 and os.pread(self._fd, 1, self._size - 1) != b"\n"

    def _rotate(self) -> None:
        self.sync()
        self._close()
        os.rename(f"{self._directory}/{FILE}", f"{self._directory}/{PREVIOUS}")

    def _sync_directory(self) -> None:
        fd = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def _close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def read_events(state_dir: str | os.PathLike[str], limit: int, after: int = 0) -> list[Event]:
    """The latest `limit` events on disk with a number above `after`, oldest first; needs no running node.

    No file is an empty history; raises OSError when one cannot be read.
    """
    found: list[Event] = []
    for line in _lines_backwards(os.fspath(state_dir)):
        if len(found) >= limit:
            break
        try:
            event = decode(line)
        except NOT_JSON:
            continue
        if event.seq <= after:
            break
        found.append(event)
    found.reverse()
    return found


def _lines_backwards(directory: str) -> Iterator[bytes]:
    # The current file is opened first: should it be rotated meanwhile, it is the same file under both names.
    with _Reading(f"{directory}/{FILE}") as current, _Reading(f"{directory}/{PREVIOUS}") as previous:
        yield from current.lines_backwards()
        if not current.is_same_as(previous):
            yield from previous.lines_backwards()


class _Reading:
    def __init__(self, path: str) -> None:
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._fd >= 0:
            os.close(self._fd)

    def is_same_as(self, other: _Reading) -> bool:
        return self._fd >= 0 and other._fd >= 0 and os.path.sameopenfile(self._fd, other._fd)

    def lines_backwards(self) -> Iterator[bytes]:
        if self._fd < 0:
            return
        position = os.fstat(self._fd).st_size
        rest = b""
        while position > 0:
            count = min(BLOCK_BYTES, position)
            position -= count
            rest, *lines = (os.pread(self._fd, count, position) + rest).split(b"\n")
            yield from reversed(lines)
        yield rest
