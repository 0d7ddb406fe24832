"""A table for a comparison comes whole through any cuts; any other bytes are one error, before much room is made."""

from __future__ import annotations

import struct
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hacore._fast.codec import encode_chunk, encode_end
from hacore._fast.ctnetlink_dtypes import EXPECTATION_DTYPE
from hacore.errors import WireError
from hacore.states import comparison
from hacore.states.comparison import END_OF_EXPECTATIONS, GROUP_EXPECTATIONS, TableReader, encode_group, possible
from hacore.states.expectations import Expectations
from hacore.states.layout import key_order
from tests.states.simulation import rows
from tests.states.test_expectations import expectation

MOST = 100
COUNT = EXPECTATION_DTYPE.itemsize


def expectations(count: int) -> Expectations:
    return np.concatenate([expectation(20)[:0], *(expectation(20 + number) for number in range(count))])


def encoded(count: int, groups: list[int]) -> bytes:
    parts = [encode_chunk(rows(range(start, min(start + 7, count)))) for start in range(0, count, 7)]
    waited = [encode_group(expectations(size)) for size in groups]
    return b"".join([*parts, encode_end(count), *waited, END_OF_EXPECTATIONS])


def read(data: bytes, most_rows: int = MOST) -> TableReader:
    reader = TableReader(most_rows)
    reader.receive(data)
    return reader


@given(st.integers(0, 30), st.lists(st.integers(1, 3), max_size=3), st.lists(st.integers(0, 3000)))
def test_a_table_may_be_cut_anywhere(count: int, groups: list[int], cuts: list[int]) -> None:
    data = encoded(count, groups)
    reader = TableReader(MOST)
    for start, end in pairwise(sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})):
        assert not reader.is_done
        reader.receive(data[start:end])
    assert reader.is_done
    assert reader.count == count
    assert reader.rows[key_order(reader.rows)].tobytes() == rows(range(count))[key_order(rows(range(count)))].tobytes()
    assert reader.expectations.tobytes() == b"".join(expectations(size).tobytes() for size in groups)


@given(st.integers(0, 9), st.lists(st.integers(1, 2), max_size=2), st.data())
def test_spoiled_tables_are_a_table_or_one_error(count: int, groups: list[int], data: st.DataObject) -> None:
    octets = bytearray(encoded(count, groups))
    for _ in range(data.draw(st.integers(1, 3))):
        octets[data.draw(st.integers(0, len(octets) - 1))] = data.draw(st.integers(0, 255))
    del octets[data.draw(st.integers(0, len(octets))) :]
    try:
        reader = read(bytes(octets) + data.draw(st.binary(max_size=20)))
    except WireError:
        return
    assert possible(reader.expectations).all()


@given(st.binary(max_size=3 * COUNT))
def test_any_bytes_where_expectations_stand(data: bytes) -> None:
    try:
        reader = read(encode_end(0) + data)
    except WireError:
        return
    assert len(reader.expectations) * COUNT <= len(data)


def changed(field: str, value: Any) -> bytes:
    """Two expectations, of which the second is no such thing."""
    some = expectations(2)
    some[field][1] = value
    return encode_group(some)


NO_V4 = np.arange(16)


@pytest.mark.parametrize(
    ("rest", "rung", "text"),
    [
        (changed("family", 3), "value", "expectation 1 is none that a kernel can have"),
        (changed("source", NO_V4), "value", "expectation 1 is none"),
        (changed("mask_source", NO_V4), "value", "expectation 1 is none"),
        (changed("master_destination", NO_V4), "value", "expectation 1 is none"),
        (changed("nat_source", NO_V4), "value", "expectation 1 is none"),
        (changed("helper", b"sixteen-letters!"), "value", "expectation 1 is none"),
        (changed("function", b"x" * 32), "value", "expectation 1 is none"),
        (changed("has_nat", 2), "value", "expectation 1 is none"),
        (changed("nat_direction", 2), "value", "expectation 1 is none"),
        (struct.pack("<H", GROUP_EXPECTATIONS + 1), "list", "a group of 1025 expectations comes, 1024 are the most"),
        (END_OF_EXPECTATIONS + b"\0", "long", "something follows the end of the table"),
    ],
)
def test_what_is_wrong_with_expectations_is_said(rest: bytes, rung: str, text: str) -> None:
    with pytest.raises(WireError, match=text) as error:
        read(encode_end(0) + rest)
    assert error.value.rung == rung


def test_more_expectations_than_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparison, "MAX_COMPARED", 5)
    group = encode_group(expectations(3))
    reader = read(encode_end(0) + group)
    with pytest.raises(WireError, match="more than 5 expectations come"):
        reader.receive(group[:2])  # before the expectations themselves
    assert read(encode_end(0) + group + encode_group(expectations(2)) + END_OF_EXPECTATIONS).is_done


def test_more_rows_than_there_is_room_for() -> None:
    assert read(encoded(MOST, [])).is_done
    with pytest.raises(WireError, match=f"more than {MOST} connections come"):
        read(encoded(MOST + 1, []))


def test_an_end_that_counts_wrongly() -> None:
    with pytest.raises(WireError, match="2 rows were sent and 1 came"):
        read(encode_chunk(rows([1])) + encode_end(2))
