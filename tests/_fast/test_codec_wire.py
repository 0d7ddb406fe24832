"""Chunks against docs/wire-chunks.md, read by the plain decoder; and vectors: bytes that other versions understand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given

from bench.realistic import realistic_table
from hacore._fast.codec import encode_changes, encode_chunk
from hacore.states import apply_delta, decode_snapshot, encode_delta, encode_snapshot, key_order, keys_of
from hacore.states.layout import KEY_DTYPE, empty_rows
from tests.oracle import chunks as oracle
from tests.oracle.states import in_key_order
from tests.states.rows import TABLE, rows_in, table_of

VECTORS = Path(__file__).parent.parent / "corpus" / "states"


@given(TABLE)
def test_any_rows(rows: list[bytes]) -> None:
    if rows:
        assert oracle.rows_in_chunk(encode_chunk(table_of(rows))) == in_key_order(rows)


@pytest.mark.parametrize("count", [1, 30, 3000])
def test_realistic_rows(count: int) -> None:
    rows = realistic_table(count, count)
    assert oracle.rows_in_chunk(encode_chunk(rows)) == rows_in(rows[key_order(rows)])


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("count", [1, 30, 1000])
def test_changes(count: int, named: bool) -> None:
    rows = realistic_table(count + 40, 8)
    before, inserted, deleted = rows[:count], rows[count : count + 20], rows[count + 20 :]
    after = before.copy()
    random = np.random.default_rng(3)
    for name in after.dtype.names or ():
        if name not in (KEY_DTYPE.names or ()):
            places = random.choice(count, 1 + count // 4)
            after[name][places] = random.permutation(after[name])[places]
            after[name][places[:5]] = np.frombuffer(random.bytes(208), after.dtype)[name][0]
    after["timeout"] = random.choice([30, 120], count)
    numbers = random.choice(2**40, (2, count), replace=False).astype(np.uint64) if named else None
    chunk = encode_changes(
        inserted, before, after, keys_of(deleted),
        updated_names=None if numbers is None else numbers[0], deleted_names=None if numbers is None else numbers[1],
    )  # fmt: skip
    got = oracle.changes_in_chunk(chunk)
    order = key_order(before) if numbers is None else np.argsort(numbers[0])
    assert got.inserted == rows_in(inserted[key_order(inserted)])
    assert got.deleted_keys == [row[:40] for row in rows_in(deleted[key_order(deleted)])]
    assert got.deleted == ([] if numbers is None else sorted(numbers[1].tolist()))
    names = [row[:40] for row in rows_in(before[order])] if numbers is None else sorted(numbers[0].tolist())
    assert list(got.updated) == names
    was = rows_in(before[order])
    assert [update.apply(row) for update, row in zip(got.updates, was, strict=True)] == rows_in(after[order])


def test_the_vectors_are_read_and_written_as_ever() -> None:
    old, new = (
        table_of(rows_in(np.fromfile(VECTORS / name, empty_rows(0).dtype))) for name in ("old.rows", "new.rows")
    )
    snapshot, delta = ((VECTORS / name).read_bytes() for name in ("new.snapshot", "old-to-new.delta"))
    assert decode_snapshot(snapshot).tobytes() == apply_delta(old, delta).tobytes() == new[key_order(new)].tobytes()
    assert encode_snapshot(new) == snapshot
    assert encode_delta(old, new) == delta
