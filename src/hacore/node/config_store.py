"""Contents by their SHA-256, in `state_dir/config/objects`; what is new waits in `incoming` until it is on the disk.

After a power cut an object is there entirely or not at all: `keep` moves contents to `objects` only after they were
flushed, and `incoming` is emptied at the start.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Collection
from pathlib import Path

from hacore.configsync.stream import Part
from hacore.errors import HacoreError
from hacore.linux.libc import start_writeback, syncfs
from hacore.node.config_digests import READ_BYTES, ChangedMeanwhile


class StoreError(HacoreError):
    """A content that is missing or not what its digest says."""

    exit_code = 74


class Store:
    """Owned by one process at a time; its methods block and may be called from one thread at a time."""

    def __init__(self, directory: Path) -> None:
        self.objects = directory / "objects"
        self._incoming = directory / "incoming"
        self._new: set[str] = set()
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        shutil.rmtree(self._incoming, ignore_errors=True)
        for path in (self.objects, self._incoming):
            path.mkdir(mode=0o700, exist_ok=True)
        self._made = {each.name for each in self.objects.iterdir()}
        self._handle = -1
        self._hashed = hashlib.sha256()

    def path(self, digest: str) -> Path:
        """Where a content is (or would be, once it is kept)."""
        if digest in self._new:
            return self._incoming / digest
        return self.objects / digest[:2] / digest[2:]

    def has(self, digest: str) -> bool:
        """Whether it is there, kept or not."""
        return digest in self._new or self.path(digest).exists()

    def read(self, digest: str) -> bytes:
        """A whole content; raises StoreError."""
        try:
            data = self.path(digest).read_bytes()
        except OSError as error:
            raise StoreError(f"the content {digest[:12]} cannot be read: {error.strerror}") from None
        if hashlib.sha256(data).hexdigest() != digest:
            raise StoreError(f"the content {digest[:12]} in {self.path(digest)} is damaged")
        return data

    def put(self, data: bytes) -> str:
        """Take a content; returns its digest."""
        digest = hashlib.sha256(data).hexdigest()
        if not self.has(digest):
            path = self._incoming / digest
            path.write_bytes(data)
            path.chmod(0o400)
            self._new.add(digest)
        return digest

    def take(self, part: Part) -> None:
        """A piece of a content from a stream; raises StoreError when the last one shows that it was another."""
        if part.first:
            self.abort()
            self._handle = os.open(
                self._incoming / "current", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o400
            )
            self._hashed = hashlib.sha256()
        self._hashed.update(part.data)
        view = part.data
        while len(view):
            view = view[os.write(self._handle, view) :]
        if part.last:
            start_writeback(self._handle)
            os.close(self._handle)
            self._handle = -1
            if self._hashed.hexdigest() != part.digest:
                raise StoreError(
                    f"the content {part.digest[:12]} is not what was announced: the file changed while it was sent"
                )
            os.rename(self._incoming / "current", self._incoming / part.digest)
            self._new.add(part.digest)

    def abort(self) -> None:
        """A content that began does not go on."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def copy_in(self, handle: int, digest: str) -> None:
        """Take the content of an open file that is said to have this digest; raises ChangedMeanwhile."""
        path = self._incoming / digest
        hashed = hashlib.sha256()
        with open(path, "wb", buffering=0) as target:
            os.fchmod(target.fileno(), 0o400)
            while data := os.read(handle, READ_BYTES):
                hashed.update(data)
                target.write(data)
        if hashed.hexdigest() != digest:
            path.unlink()
            raise ChangedMeanwhile("a file changed while it was read; try again")
        self._new.add(digest)

    def copy_out(self, digest: str, handle: int) -> None:
        """Write a content to an open file; raises StoreError, OSError."""
        try:
            source = os.open(self.path(digest), os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise StoreError(f"the content {digest[:12]} cannot be read: {error.strerror}") from None
        try:
            left = os.fstat(source).st_size
            while left > 0:
                count = os.sendfile(handle, source, None, left)
                if count == 0:
                    break
                left -= count
        finally:
            os.close(source)

    def keep(self) -> None:
        """Everything new is on the disk when this returns."""
        if not self._new:
            return
        flush(self._incoming)
        for digest in self._new:
            folder = digest[:2]
            if folder not in self._made:
                (self.objects / folder).mkdir(mode=0o700, exist_ok=True)
                self._made.add(folder)
            os.rename(self._incoming / digest, self.objects / folder / digest[2:])
        self._new.clear()
        flush(self.objects)

    def drop_new(self) -> None:
        """What was taken and is not kept is gone."""
        self.abort()
        for digest in self._new:
            (self._incoming / digest).unlink(missing_ok=True)
        self._new.clear()

    def sweep(self, wanted: Collection[str]) -> int:
        """Remove what nobody refers to; returns how many contents went."""
        gone = 0
        for folder in self.objects.iterdir():
            for each in folder.iterdir():
                if folder.name + each.name not in wanted:
                    each.unlink()
                    gone += 1
        return gone


def flush(directory: Path) -> None:
    """Everything written to the file system of a directory is on the disk when this returns."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        syncfs(handle)
    finally:
        os.close(handle)
