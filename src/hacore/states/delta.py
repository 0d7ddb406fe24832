"""Deltas: what makes one table of another, in terms of the first. docs/wire-chunks.md describes the bytes."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from hacore._fast.codec import (
    MAX_CHUNK_ROWS,
    chunk_kind,
    compare,
    decode_base,
    decode_changes,
    decode_end,
    digest_of_rows,
    encode_base,
    encode_changes,
    encode_end,
    sort_rows,
)
from hacore.errors import WireError
from hacore.states.layout import KEY_DTYPE, Rows, as_rows
from hacore.states.snapshot import chunks_of


def encode_delta(old: npt.NDArray[Any], new: npt.NDArray[Any]) -> bytes:
    """What makes `new` of `old`; both in any order, matched by key.

    Raises:
        TypeError: not arrays of rows.
        ValueError: a key comes twice in one of them.
    """
    before, after = sort_rows(as_rows(old)), sort_rows(as_rows(new))
    inserted, changed_before, changed_after, deleted = compare(before, after)
    parts = [encode_base(digest_of_rows(before), len(before))]
    no_keys = np.empty(0, dtype=KEY_DTYPE)
    for start in range(0, max(len(inserted), len(changed_before), len(deleted)), MAX_CHUNK_ROWS):
        part = slice(start, start + MAX_CHUNK_ROWS)
        parts.append(
            encode_changes(
                after[inserted[part]],
                before[changed_before[part]],
                after[changed_after[part]],
                no_keys,
                updated_names=changed_before[part],
                deleted_names=deleted[part],
            )
        )
    parts.append(encode_end(len(after)))
    return b"".join(parts)


def apply_delta(old: npt.NDArray[Any], delta: bytes | bytearray | memoryview) -> Rows:
    """`old` (in any order) as `delta` changes it, sorted by key.

    Raises:
        TypeError: `old` is not an array of rows.
        ValueError: a key comes twice in `old`.
        WireError: these bytes are not a delta; with rung "base": not one that was made from `old`.
    """
    rows = sort_rows(as_rows(old))
    chunks = list(chunks_of(delta))
    if len(chunks) < 2:
        raise WireError("short", "a delta has a base and an end", len(delta))
    if decode_base(chunks[0]) != (digest_of_rows(rows), len(rows)):
        raise WireError("base", "the delta was made from another table than this")
    kept = np.ones(len(rows), dtype=np.bool_)
    named = np.zeros(len(rows), dtype=np.bool_)
    inserted = []
    for chunk in chunks[1:-1]:
        if chunk_kind(chunk) != "C":
            raise WireError("kind", "the chunk is of another kind than expected here", 1)
        changes = decode_changes(chunk)
        if len(changes.updated_keys) or len(changes.deleted_keys):
            raise WireError("mode", "a delta names rows by position")
        updated, deleted = _positions(changes.updated_names, named), _positions(changes.deleted_names, named)
        rows[updated] = changes.apply(rows[updated])
        kept[deleted] = False
        inserted.append(changes.inserted)
    try:
        after = sort_rows(np.concatenate([rows if kept.all() else rows[kept], *inserted]))
    except ValueError as twice:
        raise WireError("order", "a delta inserts a row that is there") from twice
    if decode_end(chunks[-1]) != len(after):
        raise WireError("rows", "the delta leads to another number of rows than it says")
    return after


def _positions(names: npt.NDArray[np.uint64], named: npt.NDArray[np.bool_]) -> npt.NDArray[np.intp]:
    """Names as positions, once they are known to be in the base and not named before."""
    if len(names) and int(names[-1]) >= len(named):
        raise WireError("base", "a delta names a row that its base does not have")
    positions = names.astype(np.intp)
    if named[positions].any():
        raise WireError("order", "a delta names a row twice")
    named[positions] = True
    return positions
