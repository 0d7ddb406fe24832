"""SHA-256 of files and their extended attributes, remembered as long as the kernel says that a file is the same."""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
import time
from pathlib import Path

import msgspec

from hacore.configsync.attributes import Attributes
from hacore.errors import HacoreError
from hacore.node.config_attributes import attributes_of

READ_BYTES = 1 << 20
#: A file that changed less than this many seconds ago may change again within the same tick of its timestamps.
SETTLED = 0.1


#: The digest of a file and its extended attributes.
Content = tuple[str, Attributes]


class ChangedMeanwhile(HacoreError):
    """A file was written while it was read."""

    exit_code = 75


class Known(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a digest was computed from, and the attributes that stood beside it."""

    size: int
    mtime_ns: int
    ctime_ns: int
    digest: str
    attributes: Attributes


class Digests:
    """Digests by device and inode, for several threads.

    They are kept in a file, so that a restarted worker does not read everything again.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._changed = False
        self._local = threading.local()
        self._saving = threading.Lock()
        try:
            self._known = msgspec.msgpack.decode(path.read_bytes(), type=dict[str, Known])
        except (OSError, msgspec.DecodeError):
            self._known = {}

    def known(self, status: os.stat_result) -> Content | None:
        """Of the regular file whose status that is; None where it has to be read."""
        known = self._known.get(f"{status.st_dev}:{status.st_ino}")
        if (
            known is not None
            and known.mtime_ns == status.st_mtime_ns
            and known.ctime_ns == status.st_ctime_ns
            and known.size == status.st_size
        ):
            return known.digest, known.attributes
        return None

    def read(self, status: os.stat_result, name: str, directory: int) -> Content:
        """Of the file `name` in the open directory, which is to have that status before and after it is read.

        Raises ChangedMeanwhile, OSError, BadAttribute.
        """
        handle = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
        try:
            now = time.time()
            left = status.st_size
            hashed = hashlib.sha256()
            view = self._view()
            while left > 0 and (count := os.readv(handle, [view[:left]])):
                hashed.update(view[:count])
                left -= count
            attributes = attributes_of(handle)
            after = os.fstat(handle)
        finally:
            os.close(handle)
        mark = status.st_ino, status.st_dev, status.st_size, status.st_mtime_ns, status.st_ctime_ns
        if left or mark != (after.st_ino, after.st_dev, after.st_size, after.st_mtime_ns, after.st_ctime_ns):
            raise ChangedMeanwhile(f"{name} changed while it was read; try again")
        digest = hashed.hexdigest()
        if now - status.st_ctime > SETTLED:
            key = f"{status.st_dev}:{status.st_ino}"
            self._known[key] = Known(status.st_size, status.st_mtime_ns, status.st_ctime_ns, digest, attributes)
            self._changed = True
        return digest, attributes

    def _view(self) -> memoryview:
        if not hasattr(self._local, "buffer"):
            self._local.buffer = bytearray(READ_BYTES)
        return memoryview(self._local.buffer)

    def save(self, most: int = 1_000_000) -> None:
        """Write what is new; a file that is lost or broken costs time and nothing else."""
        with self._saving:
            if not self._changed:
                return
            self._changed = False
            if len(self._known) > most:
                self._known.clear()
            new = self._path.with_suffix(".new")
            with contextlib.suppress(OSError):
                new.write_bytes(msgspec.msgpack.encode(dict(self._known)))
                new.replace(self._path)
