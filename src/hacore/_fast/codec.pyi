"""Snapshots and deltas of rows: self-contained chunks of columns.

A chunk has a version, a kind, its length and a checksum in front, and can be decoded without any other. Kinds: "R" rows, "C" changes,
"B" the base of a delta, "E" the end of a snapshot or a delta. docs/wire.md describes each field. Coding releases the GIL.

Every decoder ends in a value or a `WireError`, whatever the bytes; its `rung` says which check failed, `offset` where in the body.
"""

from typing import Final, final

import numpy as np
import numpy.typing as npt

Buffer = bytes | bytearray | memoryview
Rows = npt.NDArray[np.void]
Keys = npt.NDArray[np.void]

MAX_CHUNK_ROWS: Final[int]
"""Rows in a chunk at most, and changes of each kind."""
NAME_BITS: Final[int]
"""Numbers that name rows are below 2 ** NAME_BITS."""

def chunk_length(data: Buffer) -> int:
    """The whole length of the chunk that `data` begins with; 0 when more bytes are needed to tell. Looks at the head only.

    Raises:
        WireError: version, kind, header (reserved bytes) or length (out of bounds).
    """

def chunk_kind(data: Buffer) -> str:
    """The kind of the chunk that `data` begins with."""

def row_count(data: Buffer) -> int:
    """How many rows a chunk of rows says it holds (1 to MAX_CHUNK_ROWS)."""

def encode_rows(rows: Rows, chunk_rows: int = 32_768) -> list[bytes]:
    """`rows` in key order as chunks of `chunk_rows`; nothing for no rows.

    Raises:
        ValueError: a key comes twice, or `chunk_rows` is out of bounds.
    """

def encode_chunk(rows: Rows) -> bytes:
    """One chunk of 1 to MAX_CHUNK_ROWS rows."""

def decode_chunk(data: Buffer, out: Rows | None = None) -> Rows:
    """The rows of a whole chunk, in key order; into `out` when it is given, which has to have `row_count(data)` rows.

    What `out` holds after a WireError is undefined.
    """

def encode_base(digest: bytes, count: int) -> bytes:
    """The first chunk of a delta: the 16 bytes of `digest_of_rows` of its base, and the number of rows."""

def decode_base(data: Buffer) -> tuple[bytes, int]: ...
def encode_end(count: int) -> bytes:
    """The last chunk of a snapshot or a delta: how many rows there are then."""

def decode_end(data: Buffer) -> int: ...
def encode_changes(
    inserted: Rows,
    before: Rows,
    after: Rows,
    deleted_keys: Keys,
    *,
    updated_names: npt.ArrayLike | None = None,
    deleted_names: npt.ArrayLike | None = None,
) -> bytes:
    """One chunk of changes, at most MAX_CHUNK_ROWS of each kind, in any order.

    Args:
        inserted: rows that the other side does not have, or has to overwrite whole.
        before, after: rows that the other side has, as it has them and as they are now, side by side.
        deleted_keys: keys of rows that are gone.
        updated_names: a number for each of `after`, by which the other side finds the row; without, rows are named by key.
        deleted_names: numbers of further rows that are gone.

    Raises:
        ValueError: a key or a name comes twice, a name has more than NAME_BITS, or there are too many changes.
    """

@final
class Changes:
    """What a chunk of changes says; `len()` is how many there are."""

    @property
    def inserted(self) -> Rows:
        """In key order."""

    @property
    def updated_names(self) -> npt.NDArray[np.uint64]:
        """Ascending; empty when the chunk names rows by key."""

    @property
    def updated_keys(self) -> Keys:
        """In key order; empty when the chunk names rows by number."""

    @property
    def deleted_names(self) -> npt.NDArray[np.uint64]: ...
    @property
    def deleted_keys(self) -> Keys: ...
    def __len__(self) -> int: ...
    def apply(self, before: Rows) -> Rows:
        """The updated rows, from what they were, in the order of `updated_names` or `updated_keys`.

        Raises:
            WireError: rung "base", the updates were made from other rows than these (timeouts may differ).
        """

def decode_changes(data: Buffer) -> Changes:
    """What a whole chunk of changes says."""

def digest_of_rows(rows: Rows) -> bytes:
    """16 bytes that name a set of rows, in whatever order; not keyed, so against mistakes and not against forgery."""

def sort_rows(rows: Rows) -> Rows:
    """A copy of `rows` in key order.

    Raises:
        ValueError: a key comes twice.
    """

def compare(
    old: Rows, new: Rows
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Positions in two tables in key order: inserted (in `new`), changed (in `old`), the same (in `new`), deleted (in `old`)."""
