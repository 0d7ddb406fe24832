"""Contents by their SHA-256, in packs: `state_dir/config/packs/N.pack` with `N.index` beside it.

What belongs together came together, so a transaction is one file that is written from its beginning to its end: making
ten thousand small files costs some file systems more than their contents do. A pack counts once its index is there,
which is written last; one without an index is a leftover, and goes at the start.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import NamedTuple

import msgspec

from hacore.configsync.stream import HEAD, Part
from hacore.errors import HacoreError
from hacore.linux.libc import start_writeback
from hacore.node.config_digests import READ_BYTES, ChangedMeanwhile
from hacore.node.durable import sync_directory, write_durably

FLUSH_BYTES = 16 << 20  # so much goes to the disk while the rest still comes
SPARSE = 0.5  # a pack of which less is wanted is written anew


class StoreError(HacoreError):
    """A content that is missing or not what its digest says."""

    exit_code = 74


class Place(NamedTuple):
    """Where a content lies."""

    pack: int
    offset: int
    size: int


class Line(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A content in an index."""

    digest: str
    offset: int
    size: int


class Store:
    """Owned by one process at a time. Contents come from one thread at a time; any may read.

    `damage` says what of it is lost: such contents count as not there, so that they are taken anew.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory / "packs"
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        directory.chmod(0o700)
        self._places: dict[str, Place] = {}
        self._handles: dict[int, int] = {}
        self._new: dict[str, Place] = {}
        self._writing = -1
        self._end = self._flushed = self._begin = 0
        self._hashed = hashlib.sha256()
        self.damage: list[str] = []
        known = {int(path.stem) for path in self.directory.glob("*.index") if path.stem.isdigit()}
        stems = {str(pack) for pack in known}
        for path in self.directory.iterdir():
            if path.suffix != ".index" and not (path.suffix == ".pack" and path.stem in stems):
                path.unlink()
        for pack in sorted(known):
            self._places.update(self._indexed(pack))
        self._pack = max(known, default=0) + 1

    def _indexed(self, pack: int) -> dict[str, Place]:
        index = self.directory / f"{pack}.index"
        try:
            lines = msgspec.json.decode(index.read_bytes(), type=list[Line])
            size = (self.directory / f"{pack}.pack").stat().st_size
        except (OSError, msgspec.DecodeError) as error:
            self.damage.append(f"pack {pack} of {self.directory} is lost: {error}")
            return {}
        whole = [line for line in lines if line.offset + line.size <= size]
        if len(whole) < len(lines):
            self.damage.append(f"pack {pack} of {self.directory} is cut off")
        return {line.digest: Place(pack, line.offset, line.size) for line in whole}

    def has(self, digest: str) -> bool:
        """Whether it is there, kept or not."""
        return digest in self._new or digest in self._places

    def _find(self, digest: str) -> tuple[int, Place]:
        place = self._new.get(digest) or self._places.get(digest)
        if place is None:
            raise StoreError(f"the content {digest[:12]} is not there")
        if place.pack == self._pack:
            return self._writing, place
        if place.pack not in self._handles:
            try:
                handle = os.open(self.directory / f"{place.pack}.pack", os.O_RDONLY | os.O_CLOEXEC)
            except OSError as error:
                raise StoreError(f"the content {digest[:12]} cannot be read: {error.strerror}") from None
            if self._handles.setdefault(place.pack, handle) != handle:
                os.close(handle)
        return self._handles[place.pack], place

    def read(self, digest: str) -> bytes:
        """A whole content; raises StoreError."""
        handle, place = self._find(digest)
        data = bytearray()
        while len(data) < place.size:
            piece = os.pread(handle, place.size - len(data), place.offset + len(data))
            if not piece:
                break
            data += piece
        if hashlib.sha256(data).hexdigest() != digest:
            raise StoreError(f"the content {digest[:12]} in pack {place.pack} of {self.directory} is damaged")
        return bytes(data)

    def copy_out(self, digest: str, handle: int) -> None:
        """Write a content to an open file; raises StoreError, OSError."""
        source, place = self._find(digest)
        done = 0
        while done < place.size:
            count = os.sendfile(handle, source, place.offset + done, place.size - done)
            if count == 0:
                raise StoreError(f"the content {digest[:12]} in pack {place.pack} of {self.directory} is cut off")
            done += count

    # What comes

    def put(self, data: bytes) -> str:
        """Take a content; returns its digest."""
        digest = hashlib.sha256(data).hexdigest()
        if not self.has(digest):
            self._start()
            self._write(data)
            self._done(digest)
        return digest

    def take(self, data: bytes | bytearray | memoryview, parts: Iterable[Part]) -> None:
        """A piece of a stream, written as it came, and the parts of contents in it.

        Raises StoreError where the last part of a content shows that it was another; what is new is of no use then.
        """
        self._open_new()
        begin = self._end
        self._write(data)
        for part in parts:
            if part.first:
                self._begin = begin + part.at
                self._hashed = hashlib.sha256()
            self._hashed.update(part.data)
            if part.last:
                if self._hashed.hexdigest() != part.digest:
                    raise StoreError(
                        f"the content {part.digest[:12]} is not what was announced: the file changed while it was sent"
                    )
                self._done(part.digest, begin + part.at + len(part.data))

    def copy_in(self, handle: int, digest: str) -> None:
        """Take the content of an open file that is said to have this digest; raises ChangedMeanwhile."""
        self._start()
        while data := os.read(handle, READ_BYTES):
            self._hashed.update(data)
            self._write(data)
        if self._hashed.hexdigest() != digest:
            raise ChangedMeanwhile("a file changed while it was read; try again")
        self._done(digest)

    def _open_new(self) -> None:
        if self._writing < 0:
            path = self.directory / f"{self._pack}.new"
            self._writing = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            self._end = self._flushed = 0

    def _start(self) -> None:
        """A content begins."""
        self._open_new()
        self._begin = self._end
        self._hashed = hashlib.sha256()

    def _write(self, data: bytes | bytearray | memoryview) -> None:
        view = memoryview(data)
        while len(view):
            count = os.pwrite(self._writing, view, self._end)
            self._end += count
            view = view[count:]

    def _done(self, digest: str, end: int | None = None) -> None:
        end = self._end if end is None else end
        self._new[digest] = Place(self._pack, self._begin, end - self._begin)
        if end - self._flushed >= FLUSH_BYTES:
            start_writeback(self._writing)
            self._flushed = end

    def keep(self) -> None:
        """Everything new is on the disk when this returns. Raises OSError."""
        if not self._new:
            self.drop_new()
            return
        os.ftruncate(self._writing, self._end)
        os.fsync(self._writing)
        os.rename(self.directory / f"{self._pack}.new", self.directory / f"{self._pack}.pack")
        lines = [Line(digest, place.offset, place.size) for digest, place in self._new.items()]
        write_durably(self.directory / f"{self._pack}.index", msgspec.json.encode(lines), mode=0o600)
        self._places.update(self._new)
        self._handles[self._pack] = self._writing
        self._new, self._writing = {}, -1
        self._pack += 1

    def drop_new(self) -> None:
        """What was taken and is not kept is gone."""
        self._new.clear()
        if self._writing >= 0:
            os.close(self._writing)
            self._writing = -1
            (self.directory / f"{self._pack}.new").unlink(missing_ok=True)

    # What goes

    def sweep(self, wanted: Collection[str]) -> int:
        """Remove what nobody refers to; returns how many contents went. Only while nothing new is there."""
        gone = [digest for digest in self._places if digest not in wanted]
        for digest in gone:
            del self._places[digest]
        left: dict[int, list[str]] = {}
        for digest, place in self._places.items():
            left.setdefault(place.pack, []).append(digest)
        for path in list(self.directory.glob("*.pack")):
            pack = int(path.stem)
            digests = left.get(pack, [])
            used = sum(self._places[each].size + HEAD.size for each in digests)
            if digests and used >= SPARSE * path.stat().st_size:
                continue
            self._move(digests)
            (self.directory / f"{pack}.index").unlink(missing_ok=True)
            path.unlink()
            if (handle := self._handles.pop(pack, -1)) >= 0:
                os.close(handle)
        sync_directory(self.directory)
        return len(gone)

    def _move(self, digests: list[str]) -> None:
        """Into a pack of their own."""
        for digest in digests:
            source, place = self._find(digest)
            self._start()
            for offset in range(0, place.size, READ_BYTES):
                self._write(os.pread(source, min(READ_BYTES, place.size - offset), place.offset + offset))
            self._done(digest)
        self.keep()

    def close(self) -> None:
        """Let go of the files."""
        self.drop_new()
        for handle in self._handles.values():
            os.close(handle)
        self._handles.clear()
