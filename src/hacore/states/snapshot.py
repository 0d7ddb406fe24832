"""Snapshots: a whole table as chunks of rows in key order, and an end. docs/wire-chunks.md describes the bytes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from hacore._fast.codec import (
    chunk_kind,
    chunk_length,
    decode_chunk,
    decode_end,
    encode_end,
    encode_rows,
    row_count,
)
from hacore.errors import WireError
from hacore.states.layout import KEY_BYTES, ROW_DTYPE, Rows, as_rows

BELIEVED_ROWS: Final = 1 << 22
"""Memory is reserved for so many rows on the word of chunk headers alone: a lie costs address space only."""


def encode_snapshot(rows: npt.NDArray[Any]) -> bytes:
    """All of `rows` (any order), about 10 bytes each for a table as firewalls have it.

    Raises:
        TypeError: not an array of rows.
        ValueError: a key comes twice.
    """
    return b"".join([*encode_rows(as_rows(rows)), encode_end(len(rows))])


def decode_snapshot(data: bytes | bytearray | memoryview) -> Rows:
    """The rows of a snapshot, sorted by key.

    Raises:
        WireError: these bytes are not a snapshot, whatever they are.
    """
    chunks = list(chunks_of(data))
    rows = _room(chunks, 0)
    at = 0
    for chunk in chunks[:-1]:
        count = row_count(chunk)
        if at + count > len(rows):
            larger = _room(chunks, 2 * (at + count))
            larger[:at] = rows[:at]
            rows = larger
        decode_chunk(chunk, rows[at : at + count])
        if at and rows[at - 1].tobytes()[:KEY_BYTES] >= rows[at].tobytes()[:KEY_BYTES]:
            raise WireError("order", "chunks come twice or out of order")
        at += count
    if not chunks or decode_end(chunks[-1]) != at:
        raise WireError("rows", "the chunks hold another number of rows than the last one says")
    return rows


def _room(chunks: list[memoryview], least: int) -> Rows:
    claimed = sum(row_count(chunk) for chunk in chunks if chunk_kind(chunk) == "R")
    return np.empty(min(claimed, max(least, BELIEVED_ROWS)), dtype=ROW_DTYPE)


def chunks_of(data: bytes | bytearray | memoryview) -> Iterator[memoryview]:
    """The chunks that stand one after another in `data`, each as a view.

    Raises:
        WireError: what stands there is no chunk, or ends early.
    """
    view = memoryview(data).cast("B")
    at = 0
    while at < len(view):
        length = chunk_length(view[at:])
        if not length or length > len(view) - at:
            raise WireError("short", "the chunk ends early", len(view))
        yield view[at : at + length]
        at += length


class ChunkReader:
    """Puts chunks together from a stream that comes in pieces of any size.

    Holds at most one incomplete chunk, so at most the longest a chunk may be and the last piece.
    """

    def __init__(self) -> None:
        self._bytes = bytearray()

    @property
    def pending_bytes(self) -> int:
        """Bytes of a chunk that is not whole yet."""
        return len(self._bytes)

    def receive(self, data: bytes | bytearray | memoryview) -> list[bytes]:
        """The chunks that are whole with `data`, in order.

        Raises:
            WireError: what comes is no chunk: another version, an unknown kind, a length out of bounds.
        """
        self._bytes += data
        chunks: list[bytes] = []
        at = 0
        with memoryview(self._bytes) as view:
            while length := chunk_length(view[at:]):
                if length > len(view) - at:
                    break
                chunks.append(bytes(view[at : at + length]))
                at += length
        del self._bytes[:at]
        return chunks
