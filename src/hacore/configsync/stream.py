"""Contents on the wire, one after the other: 32 bytes SHA-256, 8 bytes size (big endian), then so many bytes."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from hacore.errors import WireError

HEAD = struct.Struct(">32sQ")


def head(digest: str, size: int) -> bytes:
    """What comes before a content."""
    return HEAD.pack(bytes.fromhex(digest), size)


def stream_bytes(objects: Mapping[str, int]) -> int:
    """The length of a stream of these contents (digest: size)."""
    return sum(objects.values()) + HEAD.size * len(objects)


class Part(NamedTuple):
    """A piece of one content, in order; `last` ends it. `data` stands `at` so many bytes in what was fed, and is valid
    as long as that is.
    """

    digest: str
    data: memoryview
    first: bool
    last: bool
    at: int


class StreamReader:
    """Takes the bytes of a stream in pieces of any size and gives the parts of the contents in it.

    Only what was announced is taken, each once and with its size; anything else is a WireError. That a content has its
    digest is left to the caller, who sees the bytes.
    """

    def __init__(self, announced: Mapping[str, int]) -> None:
        self._announced = dict(announced)
        self._head = bytearray()
        self._digest = ""
        self._left = 0
        self.offset = 0

    @property
    def missing(self) -> int:
        """How many contents are not here whole."""
        return len(self._announced) + bool(self._digest)

    def feed(self, data: bytes | bytearray | memoryview) -> Iterator[Part]:
        """The parts in `data`."""
        view = memoryview(data)
        begin = self.offset
        while len(view):
            first = not self._digest
            if first:
                wanted = HEAD.size - len(self._head)
                self._head += view[:wanted]
                self.offset += len(view[:wanted])
                view = view[wanted:]
                if len(self._head) < HEAD.size:
                    return
                self._begin()
            piece = view[: self._left]
            view = view[len(piece) :]
            self._left -= len(piece)
            self.offset += len(piece)
            digest, last = self._digest, self._left == 0
            if last:
                self._digest = ""
            if first or len(piece):
                yield Part(digest, piece, first, last, self.offset - len(piece) - begin)

    def _begin(self) -> None:
        raw, size = HEAD.unpack(self._head)
        self._head.clear()
        digest = raw.hex()
        if digest not in self._announced:
            raise WireError("object", f"a content {digest} that was not asked for, or came before", self.offset)
        announced = self._announced.pop(digest)
        if size != announced:
            raise WireError("size", f"the content {digest} has {size} bytes; {announced} were announced", self.offset)
        self._digest, self._left = digest, size

    def end(self) -> None:
        """Nothing more comes; raises WireError where something is missing."""
        if self.missing or self._head:
            raise WireError("short", f"the stream ended with {self.missing} contents missing", self.offset)
