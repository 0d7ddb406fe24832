"""A node's kernel table for a comparison: sent once to who asks for it over a TLS connection of its own.

After the handshake with `ROWS_PROTOCOL` the listener sends its rows and then its expectations, in no order, as
`hacore.states.comparison` has them; it reads nothing.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from hacore._fast.codec import encode_chunk, encode_end
from hacore.errors import PlatformError, WireError
from hacore.linux import conntrack
from hacore.node.states_connection import Connection
from hacore.node.states_filter import Filter
from hacore.node.states_tls import ROWS_PROTOCOL, explain, names
from hacore.states.comparison import END_OF_EXPECTATIONS, TableReader, encode_group
from hacore.states.expectations import Expectations
from hacore.states.layout import Rows, keys_of
from hacore.states.masters import masters_of

BATCH_ROWS = 1024
TURN_BYTES = 1 << 14  # about one batch, a millisecond or two of a worker that others wait for
TIMEOUT = 30.0  # without a byte


class Tables(NamedTuple):
    """What a kernel has, in no order."""

    rows: Rows
    expectations: Expectations

    def replicated(self, wanted: Filter) -> Tables:
        """Without what is not: expectations are where the connections that expect are."""
        rows, expectations = self
        return Tables(rows[wanted.wanted(rows)], expectations[wanted.wanted(masters_of(expectations))])


def own_tables() -> Tables:
    """All that this node's kernel has."""
    return Tables(conntrack.dump_rows(), conntrack.dump_expectations())


class RowsSender:
    """The listener's side of one connection: a dump, a batch at a time as the connection takes it."""

    def __init__(self, connection: Connection, wanted: Filter) -> None:
        self._connection = connection
        self._wanted = wanted
        self._parts = self._dumped()
        connection.turn_bytes = TURN_BYTES
        connection.on_room = self._more

    def _more(self) -> None:
        try:
            part = next(self._parts, None)
        except PlatformError as error:
            self._connection.close(f"no table for a comparison: {error}")
            return
        if part:
            self._connection.send(part)
        elif part is not None:
            self._connection.ask_again()

    def _dumped(self) -> Iterator[bytes]:
        """In parts, of which some are empty."""
        count = 0
        for batch in conntrack.dump(rows=BATCH_ROWS):
            rows = batch.rows[self._wanted.wanted(batch.rows)]
            # The kernel's dump may bring an entry twice where its table changes meanwhile; a chunk may not.
            _keys, first = np.unique(keys_of(rows).view("V40"), return_index=True)
            rows = rows[np.sort(first)]
            count += len(rows)
            yield encode_chunk(np.ascontiguousarray(rows)) if len(rows) else b""
        yield encode_end(count)
        for some in conntrack.expectation_batches():
            chosen = some[self._wanted.wanted(masters_of(some))]
            yield encode_group(chosen) if len(chosen) else b""
        yield END_OF_EXPECTATIONS


def fetch(
    host: str, port: int, context: ssl.SSLContext, peer: str, progress: Callable[[int], None], most_rows: int
) -> Tables:
    """What `peer`'s kernel has; `progress` gets how many rows have come, of which there may be `most_rows`. Waits.

    Raises:
        PlatformError: there is no connection, or the wrong one answers.
        WireError: what came is no table, or too large a one.
    """
    context.set_alpn_protocols([ROWS_PROTOCOL])
    try:
        with (
            socket.create_connection((host, port), timeout=TIMEOUT) as plain,
            context.wrap_socket(plain) as connection,
        ):
            if peer not in names(connection.getpeercert()):
                raise PlatformError(f"{host}:{port} is not {peer} but {', '.join(names(connection.getpeercert()))}")
            if connection.selected_alpn_protocol() != ROWS_PROTOCOL:
                raise PlatformError(f"{peer} at {host}:{port} knows no {ROWS_PROTOCOL}: it runs another version")
            return _receive(connection, progress, most_rows)
    except OSError as error:
        raise PlatformError(f"{peer} at {host}:{port}: {explain(error)}") from error


def _receive(connection: ssl.SSLSocket, progress: Callable[[int], None], most_rows: int) -> Tables:
    reader = TableReader(most_rows)
    while data := connection.recv(1 << 18):
        reader.receive(data)
        progress(reader.count)
        if reader.is_done:
            return Tables(reader.rows, reader.expectations)
    raise WireError("short", "the connection ended before the table did")
