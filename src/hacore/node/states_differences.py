"""What two kernels do not share, for `states diff`."""

from __future__ import annotations

import time
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from hacore.states.expectations import Expectations
from hacore.states.layout import TCP_FLAGS, TCP_FLAGS_SHARED, Rows, keys_of

Records = npt.NDArray[np.void]
Mask = npt.NDArray[np.bool_]

# What a copy need not share with its original: see `different`.
STATUS_COMPARED = 0x2 | 0x4 | 0x1 | 0x10 | 0x20  # SEEN_REPLY, ASSURED, EXPECTED, SRC_NAT, DST_NAT
STATES_COMPARED = ("protocol_state", "tcp_scale_original", "tcp_scale_reply")
FIELDS_COMPARED = (
    "reply_source", "reply_destination", "reply_source_port", "reply_destination_port", "reply_zone", *STATES_COMPARED,
    "mark", "sctp_tag_original", "sctp_tag_reply", "labels", "adjust_position_original", "adjust_before_original",
    "adjust_after_original", "adjust_position_reply", "adjust_before_reply", "adjust_after_reply", "synproxy_isn",
    "synproxy_its", "synproxy_tsoff", "master_protocol", "master_source", "master_destination", "master_source_port",
    "master_destination_port", "helper",
)  # fmt: skip
EXPECTATION_FIELDS_COMPARED = (
    "has_nat", "nat_source", "nat_source_port", "nat_protocol", "nat_direction", "flags", "class", "helper", "function",
)  # fmt: skip
OFFLOAD = 1 << 14  # IPS_OFFLOAD


class Difference(NamedTuple):
    """One connection or expectation that two kernels do not share: the records of both (None: there is none) and the
    fields that differ."""

    here: npt.NDArray[np.void] | None
    there: npt.NDArray[np.void] | None
    fields: tuple[str, ...]


Differences = dict[bytes, Difference]
"""By key."""


def differences(here: Rows, there: Rows) -> Differences:
    """The connections that two kernels do not share. Left out are timeouts (each kernel has its own, and a copy's is
    longer), what the kernel or the injector adds, and of a flow in a flow table what its kernel does not tell: the
    protocol's state.
    """
    found, both, ours, theirs = _beside(
        here, there, [key.tobytes() for key in keys_of(here)], [key.tobytes() for key in keys_of(there)]
    )
    unequal = {name: _unequal(ours, theirs, name) for name in (*FIELDS_COMPARED, "status", *TCP_FLAGS)}
    untold = ((ours["status"] | theirs["status"]) & OFFLOAD) != 0
    for name in (*STATES_COMPARED, *TCP_FLAGS):
        unequal[name] &= ~untold
    return found | _named(both, ours, theirs, unequal)


def expectation_differences(here: Expectations, there: Expectations) -> Differences:
    """The expectations that two kernels do not share, by what is expected and of which connection. Left out are
    timeouts. The kernel does not tell zones: what is alike in two of them counts once.
    """
    found, both, ours, theirs = _beside(here, there, _expectation_keys(here), _expectation_keys(there))
    unequal = {name: _unequal(ours, theirs, name) for name in EXPECTATION_FIELDS_COMPARED}
    return found | _named(both, ours, theirs, unequal)


def _expectation_keys(expectations: Expectations) -> list[bytes]:
    plain = expectations.copy()
    for name in (*EXPECTATION_FIELDS_COMPARED, "timeout"):
        plain[name] = np.zeros(1, dtype=plain.dtype)[name]
    return [each.tobytes() for each in plain]


def _beside(
    here: Records, there: Records, keys_here: list[bytes], keys_there: list[bytes]
) -> tuple[Differences, list[bytes], Records, Records]:
    """What only one of them has; of the others, the keys and the records, side by side."""
    places_here, places_there = ({key: at for at, key in enumerate(keys)} for keys in (keys_here, keys_there))
    found: Differences = {}
    for key in places_here.keys() - places_there.keys():
        found[key] = Difference(here[places_here[key]], None, ())
    for key in places_there.keys() - places_here.keys():
        found[key] = Difference(None, there[places_there[key]], ())
    both = list(places_here.keys() & places_there.keys())
    return found, both, here[[places_here[key] for key in both]], there[[places_there[key] for key in both]]


def _named(both: list[bytes], ours: Records, theirs: Records, unequal: dict[str, Mask]) -> Differences:
    """Those of which any field differs."""
    return {
        both[index]: Difference(
            ours[index], theirs[index], tuple(name for name, hits in unequal.items() if hits[index])
        )
        for index in np.flatnonzero(np.logical_or.reduce(list(unequal.values()))).tolist()
    }


def _unequal(ours: Records, theirs: Records, name: str) -> Mask:
    mask = STATUS_COMPARED if name == "status" else TCP_FLAGS_SHARED if name in TCP_FLAGS else None
    one, other = (rows[name] if mask is None else rows[name] & mask for rows in (ours, theirs))
    hits = one != other
    return np.asarray(hits.any(axis=1) if hits.ndim > 1 else hits)


def settled(once: Differences, again: Differences) -> Differences:
    """The differences that were there both times: what was only in flight is gone or another by then."""
    return {
        key: again[key]
        for key, before in once.items()
        if key in again
        and (before.here is None, before.there is None, before.fields)
        == (again[key].here is None, again[key].there is None, again[key].fields)
    }


def pause(duration: float) -> None:
    """What is in flight arrives."""
    time.sleep(duration)
