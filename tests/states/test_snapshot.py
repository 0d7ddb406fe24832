"""Snapshots: every table comes back in key order, however the bytes are cut; no other bytes are taken for one."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.realistic import realistic_table
from hacore._fast.codec import MAX_CHUNK_ROWS, encode_chunk, encode_end, encode_rows
from hacore.errors import WireError
from hacore.states import ChunkReader, decode_snapshot, empty_rows, encode_snapshot, key_order
from hacore.states.layout import Rows
from tests.oracle import states as oracle
from tests.states.rows import TABLE, rows_in, table_of


def same(a: Rows, b: Rows) -> bool:
    return a.dtype == b.dtype and a.tobytes() == b.tobytes()


@given(TABLE)
def test_a_snapshot_gives_the_same_rows_in_key_order(rows: list[bytes]) -> None:
    assert rows_in(decode_snapshot(encode_snapshot(table_of(rows)))) == oracle.in_key_order(rows)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("count", [0, 1, 2, 1000, 40_000, 70_000])
def test_realistic_tables_come_back(count: int, seed: int) -> None:
    rows = realistic_table(count, seed)
    snapshot = encode_snapshot(rows)
    back = decode_snapshot(snapshot)
    assert same(back, rows[key_order(rows)])
    assert encode_snapshot(back) == snapshot


def test_a_state_of_a_realistic_table_takes_at_most_12_bytes() -> None:
    assert len(encode_snapshot(realistic_table(200_000, 1))) <= 12 * 200_000


def test_random_rows_come_back_at_no_more_than_their_size() -> None:
    octets = np.random.default_rng(1).integers(0, 256, 3000 * 208, dtype=np.uint8)
    rows = octets.view(empty_rows(0).dtype)
    snapshot = encode_snapshot(rows)
    assert same(decode_snapshot(snapshot), rows[key_order(rows)])
    assert len(snapshot) < len(octets) * 1.01


def test_many_rows_of_one_source_and_many_zones_are_sorted() -> None:
    random = np.random.default_rng(2)
    rows = empty_rows(5000)
    rows["family"], rows["zone"] = 10, random.integers(0, 3000, 5000)
    rows["source"][:, 15], rows["destination"][:, 15] = 1, 2
    rows["source_port"] = np.arange(5000)
    assert same(decode_snapshot(encode_snapshot(rows)), rows[key_order(rows)])
    rows["zone"] = 5
    rows["source_port"], rows["destination_port"] = random.permutation(5000), random.integers(0, 9, 5000)
    assert same(decode_snapshot(encode_snapshot(rows)), rows[key_order(rows)])
    rows["family"] = 2
    assert same(decode_snapshot(encode_snapshot(rows)), rows[key_order(rows)])
    rows["source"][:, 15] = 0
    rows["destination"][:, 15] = 0
    assert same(decode_snapshot(encode_snapshot(rows)), rows[key_order(rows)])


@pytest.mark.parametrize("chunk_rows", [1, 7, 1000])
def test_chunks_may_have_any_size(chunk_rows: int) -> None:
    rows = realistic_table(2000, 9)
    data = b"".join(encode_rows(rows, chunk_rows)) + encode_end(2000)
    assert same(decode_snapshot(data), rows[key_order(rows)])


@given(TABLE, st.lists(st.integers(0, 2000)), st.integers(1, 5))
def test_a_stream_of_chunks_may_be_cut_anywhere(rows: list[bytes], cuts: list[int], chunk_rows: int) -> None:
    chunks = [*encode_rows(table_of(rows), chunk_rows), encode_end(len(rows))]
    data = b"".join(chunks)
    places = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    reader = ChunkReader()
    got = [chunk for start, end in pairwise(places) for chunk in reader.receive(data[start:end])]
    assert got == chunks
    assert reader.pending_bytes == 0


def test_a_key_twice_is_refused() -> None:
    for count in (2, 100, MAX_CHUNK_ROWS + 1):
        rows = realistic_table(count, 1)
        rows[-1] = rows[0]
        with pytest.raises(ValueError, match="twice"):
            encode_snapshot(rows)


def test_a_key_twice_in_two_chunks_is_refused() -> None:
    rows = empty_rows(2)
    with pytest.raises(ValueError, match="twice"):
        encode_rows(rows, 1)


def test_other_arrays_are_refused() -> None:
    with pytest.raises(TypeError, match="rows"):
        encode_snapshot(np.zeros(3))
    with pytest.raises(ValueError, match="chunk"):
        encode_rows(empty_rows(1), MAX_CHUNK_ROWS + 1)
    with pytest.raises(ValueError, match="chunk"):
        encode_chunk(empty_rows(0))


@pytest.mark.parametrize(
    ("spoil", "rung"),
    [
        (lambda a, b, end: b"", "rows"),
        (lambda a, b, end: a + b, "kind"),
        (lambda a, b, end: a + end, "rows"),
        (lambda a, b, end: b + a + end, "order"),
        (lambda a, b, end: a + a + end, "order"),
        (lambda a, b, end: a + b + end + end, "kind"),
        (lambda a, b, end: a + b + end[:-1], "short"),
        (lambda a, b, end: a[:-1] + b"\x01" + b + end, "checksum"),
        (lambda a, b, end: b"\x02" + a[1:] + b + end, "version"),
        (lambda a, b, end: a[:1] + b"Z" + a[2:] + b + end, "kind"),
        (lambda a, b, end: a[:2] + b"\x01" + a[3:] + b + end, "header"),
        (lambda a, b, end: a[:4] + b"\xff\xff\xff\xff" + a[8:] + b + end, "length"),
        (lambda a, b, end: a[:8] + bytes(8) + a[16:] + b + end, "checksum"),
        (lambda a, b, end: a + b + end + b"\0", "version"),
    ],
)
def test_what_is_wrong_has_a_rung(spoil: object, rung: str) -> None:
    first, second = encode_rows(realistic_table(100, 1), 50)
    with pytest.raises(WireError) as error:
        decode_snapshot(spoil(first, second, encode_end(100)))  # type: ignore[operator]
    assert error.value.rung == rung


def test_headers_that_lie_about_rows_reserve_no_memory() -> None:
    """Ten thousand chunks that claim 65,536 rows each, 136 GB together, in 240 KB."""
    body = b"\x80\x80\x04" + bytes(8)
    lie = oracle.sealed(b"\x01R\0\0" + bytes(12) + body)
    with pytest.raises(WireError):
        decode_snapshot(lie * 10_000 + encode_end(0))


def test_a_length_of_4_gb_ends_a_stream_at_once() -> None:
    reader = ChunkReader()
    assert reader.receive(b"\x01R\0\0\xff\xff\xff") == []
    with pytest.raises(WireError) as error:
        reader.receive(b"\xff")
    assert error.value.rung == "length"
