"""A node's kernel table for a comparison: sent once to who asks for it over a TLS connection of its own.

After the handshake with `ROWS_PROTOCOL` the listener sends chunks of rows, in no order, and an end; it reads nothing.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from hacore._fast.codec import chunk_kind, decode_chunk, decode_end, encode_chunk, encode_end
from hacore.errors import PlatformError, WireError
from hacore.linux import conntrack
from hacore.node.states_connection import Connection
from hacore.node.states_filter import Filter
from hacore.node.states_tls import ROWS_PROTOCOL, explain, names
from hacore.states.layout import TCP_FLAGS, TCP_FLAGS_SHARED, Rows, empty_rows, keys_of
from hacore.states.snapshot import ChunkReader

BATCH_ROWS = 1024
TURN_BYTES = 1 << 14  # about one batch, a millisecond or two of a worker that others wait for
TIMEOUT = 30.0  # without a byte

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
OFFLOAD = 1 << 14  # IPS_OFFLOAD


class RowsSender:
    """The listener's side of one connection: a dump, a batch at a time as the connection takes it."""

    def __init__(self, connection: Connection, wanted: Filter) -> None:
        self._connection = connection
        self._wanted = wanted
        self._dump = conntrack.dump(rows=BATCH_ROWS)
        self._count = 0
        self._done = False
        connection.turn_bytes = TURN_BYTES
        connection.on_room = self._more

    def _more(self) -> None:
        try:
            self._go_on()
        except PlatformError as error:
            self._connection.close(f"no table for a comparison: {error}")

    def _go_on(self) -> None:
        if self._done:
            return
        batch = next(self._dump, None)
        if batch is None:
            self._done = True
            self._connection.send(encode_end(self._count))
            return
        rows = batch.rows[self._wanted.wanted(batch.rows)]
        # The kernel's dump may bring an entry twice where its table changes meanwhile; a chunk may not.
        _keys, first = np.unique(keys_of(rows).view("V40"), return_index=True)
        rows = rows[np.sort(first)]
        if len(rows):
            self._count += len(rows)
            self._connection.send(encode_chunk(np.ascontiguousarray(rows)))
        else:
            self._connection.ask_again()


def fetch(host: str, port: int, context: ssl.SSLContext, peer: str, progress: Callable[[int], None]) -> Rows:
    """The rows of `peer`'s kernel, in no order; `progress` gets how many have come. Waits.

    Raises:
        PlatformError: there is no connection, or the wrong one answers.
        WireError: what came is no table.
    """
    context.set_alpn_protocols([ROWS_PROTOCOL])
    try:
        with (
            socket.create_connection((host, port), timeout=TIMEOUT) as plain,
            context.wrap_socket(plain) as connection,
        ):
            if peer not in names(connection.getpeercert()):
                raise PlatformError(f"{host}:{port} is not {peer} but {', '.join(names(connection.getpeercert()))}")
            return _receive(connection, progress)
    except OSError as error:
        raise PlatformError(f"{peer} at {host}:{port}: {explain(error)}") from error


def _receive(connection: ssl.SSLSocket, progress: Callable[[int], None]) -> Rows:
    reader = ChunkReader()
    parts: list[Rows] = [empty_rows(0)]
    count = 0
    while data := connection.recv(1 << 18):
        for chunk in reader.receive(data):
            if chunk_kind(chunk) == "E":
                if decode_end(chunk) != count:
                    raise WireError("rows", f"{decode_end(chunk)} rows were sent and {count} came")
                return np.concatenate(parts)
            parts.append(decode_chunk(chunk, strict=True))
            count += len(parts[-1])
            progress(count)
    raise WireError("short", "the connection ended before the table did")


class Difference(NamedTuple):
    """One entry that two kernels do not share: the rows of both (None: there is none) and the fields that differ."""

    here: npt.NDArray[np.void] | None
    there: npt.NDArray[np.void] | None
    fields: tuple[str, ...]


def differences(here: Rows, there: Rows) -> dict[bytes, Difference]:
    """What two kernels do not share, by key. Left out are timeouts (each kernel has its own, and a copy's is longer),
    what the kernel or the injector adds, and of a flow in a flow table what its kernel does not tell: the protocol's
    state.
    """
    places_here, places_there = _places(here), _places(there)
    found: dict[bytes, Difference] = {}
    for key in places_here.keys() - places_there.keys():
        found[key] = Difference(here[places_here[key]], None, ())
    for key in places_there.keys() - places_here.keys():
        found[key] = Difference(None, there[places_there[key]], ())
    both = list(places_here.keys() & places_there.keys())
    ours = here[[places_here[key] for key in both]]
    theirs = there[[places_there[key] for key in both]]
    unequal = {name: _unequal(ours, theirs, name) for name in (*FIELDS_COMPARED, "status", *TCP_FLAGS)}
    untold = ((ours["status"] | theirs["status"]) & OFFLOAD) != 0
    for name in (*STATES_COMPARED, *TCP_FLAGS):
        unequal[name] &= ~untold
    for index in np.flatnonzero(np.logical_or.reduce(list(unequal.values()))).tolist():
        fields = tuple(name for name, hits in unequal.items() if hits[index])
        found[both[index]] = Difference(ours[index], theirs[index], fields)
    return found


def _unequal(ours: Rows, theirs: Rows, name: str) -> npt.NDArray[np.bool_]:
    mask = STATUS_COMPARED if name == "status" else TCP_FLAGS_SHARED if name in TCP_FLAGS else None
    one, other = (rows[name] if mask is None else rows[name] & mask for rows in (ours, theirs))
    hits = one != other
    return np.asarray(hits.any(axis=1) if hits.ndim > 1 else hits)


def _places(rows: Rows) -> dict[bytes, int]:
    return {key.tobytes(): index for index, key in enumerate(keys_of(rows))}


def settled(once: dict[bytes, Difference], again: dict[bytes, Difference]) -> dict[bytes, Difference]:
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
