"""Rows for tests: hypothesis strategies, and tables by the handful made from a seed."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from hacore.states.layout import KEY_FIELDS, ROW_BYTES, ROW_DTYPE, Rows, empty_rows

# Few values of each, so that keys meet again and columns repeat; and any bytes at all.
ADDRESS = st.one_of(
    st.sampled_from([bytes([10, 0, 0, octet]) for octet in range(1, 6)]).map(lambda four: four.ljust(16, b"\0")),
    st.sampled_from([bytes.fromhex("20010db8000000000000000000000001"), bytes.fromhex("fe80" + "00" * 13 + "02")]),
    st.binary(min_size=16, max_size=16),
)
PORT = st.one_of(st.sampled_from([0, 22, 53, 80, 443, 65_535]), st.integers(0, 65_535))
WORD = st.one_of(st.sampled_from([0, 1, 0x18E, 432_000, 2**32 - 1]), st.integers(0, 2**32 - 1))
PLAIN = {
    "family": st.sampled_from([2, 10, 0]),
    "protocol": st.sampled_from([1, 6, 17, 47, 58, 132, 255]),
    "zone": st.sampled_from([0, 1, 256, 65_535]),
    "source": ADDRESS,
    "destination": ADDRESS,
    "source_port": PORT,
    "destination_port": PORT,
}
OTHER_NAMES = [name for name in ROW_DTYPE.names or () if name not in KEY_FIELDS]


def value_of(name: str) -> st.SearchStrategy[Any]:
    """Values of one field."""
    kind = ROW_DTYPE[name]
    if kind.shape == (16,):
        return ADDRESS
    if kind.kind == "S":
        return st.one_of(st.sampled_from([b"ftp", b"sip"]), st.binary(max_size=16))
    if kind.itemsize == 4:
        return WORD if kind.kind == "u" else st.integers(-(2**31), 2**31 - 1)
    return PORT if kind.itemsize == 2 else st.integers(0, 255)


@st.composite
def one_row(draw: st.DrawFn) -> bytes:
    """A row with the reply that belongs to it, some other fields set, as bytes."""
    row = empty_rows(1)
    for name, values in PLAIN.items():
        set_field(row, name, draw(values))
    if draw(st.booleans()):
        row["reply_source"], row["reply_destination"] = row["destination"], row["source"]
        row["reply_source_port"], row["reply_destination_port"] = row["destination_port"], row["source_port"]
        row["reply_zone"] = row["zone"]
    for name in draw(st.lists(st.sampled_from(OTHER_NAMES), max_size=6)):
        set_field(row, name, draw(value_of(name)))
    return row.tobytes()


def set_field(row: Rows, name: str, value: Any) -> None:
    """One field of a table of one row."""
    row[name] = np.frombuffer(value, np.uint8) if isinstance(value, bytes) and ROW_DTYPE[name].shape else value


ANY_ROW = st.one_of(one_row(), st.binary(min_size=ROW_BYTES, max_size=ROW_BYTES))


def table_of(rows: list[bytes]) -> Rows:
    """Rows from their bytes."""
    return np.frombuffer(b"".join(rows), dtype=ROW_DTYPE).copy()


def distinct(rows: list[bytes]) -> list[bytes]:
    """The rows without those whose key came before."""
    return list({row[:40]: row for row in rows}.values())


TABLE = st.lists(ANY_ROW, max_size=40).map(distinct)


def rows_in(table: Rows) -> list[bytes]:
    """The rows of a table as bytes."""
    octets = table.tobytes()
    return [octets[at : at + ROW_BYTES] for at in range(0, len(octets), ROW_BYTES)]
