"""A kernel's table for a comparison, in bytes: rows and their end, expectations and their end. docs/wire-states.md
describes them.
"""

from __future__ import annotations

import struct
from typing import Final

import numpy as np
import numpy.typing as npt

from hacore._fast.codec import chunk_kind, chunk_length, decode_chunk, decode_end, row_count
from hacore._fast.ctnetlink_dtypes import EXPECTATION_DTYPE
from hacore.errors import WireError
from hacore.states.expectations import Expectations
from hacore.states.gather import join
from hacore.states.layout import Rows, empty_rows

GROUP_EXPECTATIONS: Final = 1024
"""In one group at most."""
MAX_COMPARED: Final = 65_536
"""Expectations of one kernel, at most: bounds the memory that a peer can claim (11 MB). The kernel's own bound,
nf_conntrack_expect_max, is 4,096 where nobody raised it."""

_COUNT = struct.Struct("<H")
END_OF_EXPECTATIONS: Final = _COUNT.pack(0)

AF_INET, AF_INET6 = 2, 10
ADDRESSES = ("source", "destination", "mask_source", "master_source", "master_destination", "nat_source")
NAMES = ("helper", "function")


def encode_group(expectations: Expectations) -> bytes:
    """Between 1 and `GROUP_EXPECTATIONS` of them."""
    if not 0 < len(expectations) <= GROUP_EXPECTATIONS:
        raise ValueError(f"a group has 1 to {GROUP_EXPECTATIONS} expectations, not {len(expectations)}")
    return _COUNT.pack(len(expectations)) + expectations.tobytes()


class TableReader:
    """Takes the bytes in pieces of any size. Holds the rows and expectations that have come, and at most one chunk that
    is not whole yet.

    Args:
        most_rows: that may come; more end in an error before room is made for them.
    """

    def __init__(self, most_rows: int) -> None:
        self.count = 0
        """Rows so far."""
        self.is_done = False
        """Everything is there."""
        self._most_rows = most_rows
        self._rows: list[Rows] = [empty_rows(0)]
        self._expectations: list[Expectations] = [np.zeros(0, dtype=EXPECTATION_DTYPE)]
        self._expected = 0
        self._rows_ended = False
        self._bytes = bytearray()

    @property
    def rows(self) -> Rows:
        """Those that have come."""
        return join(self._rows)

    @property
    def expectations(self) -> Expectations:
        """Those that have come."""
        return np.concatenate(self._expectations)

    def receive(self, data: bytes) -> None:
        """The next bytes.

        Raises:
            WireError: this is no table, or it is too large.
        """
        self._bytes += data
        at = 0
        while not self.is_done:
            with memoryview(self._bytes)[at:] as rest:
                length = self._group_length(rest) if self._rows_ended else chunk_length(rest)
                if not length or length > len(rest):
                    break
                part = bytes(rest[:length])
            at += length
            if self._rows_ended:
                self._take_group(part)
            else:
                self._take_chunk(part)
        del self._bytes[:at]
        if self.is_done and self._bytes:
            raise WireError("long", "something follows the end of the table", len(self._bytes))

    def _take_chunk(self, chunk: bytes) -> None:
        if chunk_kind(chunk) == "E":
            if decode_end(chunk) != self.count:
                raise WireError("rows", f"{decode_end(chunk)} rows were sent and {self.count} came")
            self._rows_ended = True
            return
        if self.count + row_count(chunk) > self._most_rows:
            raise WireError(
                "rows",
                f"more than {self._most_rows} connections come: this node's table (states.max_states) and kernel "
                "(nf_conntrack_max) have room for no more",
            )
        self._rows.append(decode_chunk(chunk, strict=True))
        self.count += len(self._rows[-1])

    def _group_length(self, rest: memoryview) -> int:
        """Of the group that begins here, 0 while that is not known."""
        if len(rest) < _COUNT.size:
            return 0
        (count,) = _COUNT.unpack_from(rest)
        if count > GROUP_EXPECTATIONS:
            raise WireError("list", f"a group of {count} expectations comes, {GROUP_EXPECTATIONS} are the most")
        if self._expected + count > MAX_COMPARED:
            raise WireError("list", f"more than {MAX_COMPARED} expectations come, which are not compared")
        return _COUNT.size + int(count) * EXPECTATION_DTYPE.itemsize

    def _take_group(self, group: bytes) -> None:
        expectations = np.frombuffer(group, dtype=EXPECTATION_DTYPE, offset=_COUNT.size)
        impossible = np.flatnonzero(~possible(expectations))
        if len(impossible):
            raise WireError(
                "value", f"expectation {self._expected + int(impossible[0])} is none that a kernel can have"
            )
        self._expectations.append(expectations)
        self._expected += len(expectations)
        self.is_done = not len(expectations)


def possible(expectations: Expectations) -> npt.NDArray[np.bool_]:
    """(n,): which of them a kernel can have: a family that there is, nothing behind the four bytes of an IPv4 address,
    names that end, a direction.
    """
    v4 = expectations["family"] == AF_INET
    good: npt.NDArray[np.bool_] = v4 | (expectations["family"] == AF_INET6)
    for name in ADDRESSES:
        good &= ~v4 | ~expectations[name][:, 4:].any(axis=1)
    octets = expectations.view(np.uint8).reshape(len(expectations), EXPECTATION_DTYPE.itemsize)
    for name in NAMES:
        dtype, offset = EXPECTATION_DTYPE.fields[name][:2]  # type: ignore[index]
        good &= octets[:, offset + dtype.itemsize - 1] == 0
    good &= (expectations["has_nat"] <= 1) & (expectations["nat_direction"] <= 1)
    return good
