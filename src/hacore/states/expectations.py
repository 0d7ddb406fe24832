"""Expectations: connections that a helper waits for. Few and short-lived: kept one by one, they travel as they are."""

from __future__ import annotations

from typing import Any, Final, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from hacore._fast.ctnetlink_dtypes import EXPECTATION_DTYPE

Expectations = npt.NDArray[np.void]
"""A one-dimensional array of `EXPECTATION_DTYPE`."""

MAX_EXPECTATIONS: Final = 16_384
"""Of one owner: bounds the memory that they can take."""
INACTIVE: Final = 0x2
"""NF_CT_EXPECT_INACTIVE (linux/netfilter/nf_conntrack_common.h): nothing matches it yet. SIP's helper makes one for a
REGISTER so; the answer makes it active, without an event.
"""

assert EXPECTATION_DTYPE.fields is not None
NAME_BYTES: Final = EXPECTATION_DTYPE.fields["nat_source"][1]
"""Of an expectation, what tells it from others: zone, tuple, mask and master. What follows may change."""
_TIMEOUT: Final = EXPECTATION_DTYPE.fields["timeout"][1]


def records(parts: list[bytes]) -> Expectations:
    """As one array."""
    return np.frombuffer(b"".join(parts), dtype=EXPECTATION_DTYPE)


class _Held(NamedTuple):
    """One expectation, without its timeout, and when it ends."""

    plain: bytes
    ends: float

    @classmethod
    def of(cls, data: bytes, now: float) -> Self:
        timeout = int.from_bytes(data[_TIMEOUT : _TIMEOUT + 4], "little")
        return cls(data[:_TIMEOUT] + bytes(4) + data[_TIMEOUT + 4 :], now + timeout)


class Expected:
    """The expectations of one owner."""

    def __init__(self) -> None:
        self.are_known = False
        """There has been one, or all that there are were told."""
        self._held: dict[bytes, _Held] = {}

    def all(self, now: float) -> Expectations:
        """Those in force, with what is left of their timeouts."""
        return _restored(list(self._held.values()), now)

    def clear(self) -> None:
        """There are none any more."""
        self._held.clear()

    def forget(self, expectations: Expectations) -> None:
        """These are not this owner's any more."""
        for record in expectations:
            self._held.pop(record.tobytes()[:NAME_BYTES], None)

    def observe(
        self, expectations: Expectations, alive: npt.NDArray[Any], now: float
    ) -> tuple[Expectations, Expectations]:
        """Events in order, with whether each came or went; what that comes to: those that there are, and those gone."""
        self.are_known = self.are_known or bool(len(expectations))
        touched: dict[bytes, bytes] = {}
        for record, lives in zip(expectations, alive, strict=True):
            data = record.tobytes()
            name = data[:NAME_BYTES]
            touched[name] = data
            if not lives:
                self._held.pop(name, None)
            elif name in self._held or len(self._held) < MAX_EXPECTATIONS:
                self._held[name] = _Held.of(data, now)
        born = [data for name, data in touched.items() if name in self._held]
        return records(born), records([data for name, data in touched.items() if name not in self._held])

    def replace(self, expectations: Expectations, now: float, slack: float = -1.0) -> tuple[Expectations, Expectations]:
        """These are all there are; those of them that are new or other than before, and those that are gone with that.
        One that ends within `slack` seconds of when it was to end is no other; below 0, all are.
        """
        self.are_known = True
        before, self._held = self._held, {}
        changed: list[bytes] = []
        for record in expectations[:MAX_EXPECTATIONS]:
            data = record.tobytes()
            held, name = _Held.of(data, now), data[:NAME_BYTES]
            if name in self._held:
                continue  # a dump that meets a change begins a bucket anew
            known = before.pop(name, None)
            if known is None or known.plain != held.plain or abs(known.ends - held.ends) > slack:
                changed.append(data)
                known = held
            self._held[name] = known
        return records(changed), _restored(list(before.values()), now)


def _restored(held: list[_Held], now: float) -> Expectations:
    found = records([each.plain for each in held]).copy()
    found["timeout"] = [max(round(each.ends - now), 0) for each in held]
    return found
