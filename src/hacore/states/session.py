"""What both ends of a connection have in common: hellos, pings, one reason for the end."""

from __future__ import annotations

import msgspec


class SessionStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One connection, to be shown.

    Attributes:
        peer: the other node's name, "" before its hello.
        role: this node's part: "origin" or "replica".
        state: "hello", "bulk", "repair", "synced" or "ended".
        since: `now` of the hello's end, or of the start.
        position: of the last change sent or received.
        acknowledged: position that is in the replica's kernel.
        lag_states: changes (of rows) not yet acknowledged.
        lag: seconds since the oldest of them was made; 0.0 without one.
        bytes_sent, bytes_received: of the stream (before TLS).
        bulk_rows: rows of the running or last bulk update that are in the replica's kernel.
        bulk_total: rows that it has in all, 0 before the first.
        rows: that the origin of this connection owns.
        refused: rows that came with an older epoch, or lost against this node's.
    """

    peer: str
    role: str
    state: str
    since: float
    position: int
    acknowledged: int
    lag_states: int
    lag: float
    bytes_sent: int
    bytes_received: int
    bulk_rows: int
    bulk_total: int
    rows: int
    refused: int


class Session:
    """One connection, until it ends. A new connection has a new session."""

    peer: str
    role: str

    @property
    def ended(self) -> bool:
        """Nothing more is received; what `data_to_send` still gives (the goodbye) may be sent, then the connection is closed."""
        raise NotImplementedError

    @property
    def reason(self) -> str:
        """Why it ended, "" while it has not."""
        raise NotImplementedError

    @property
    def synced(self) -> bool:
        """The replica has everything and follows the changes."""
        raise NotImplementedError

    def receive(self, data: bytes | bytearray | memoryview, now: float) -> None:
        """Bytes of the stream in pieces of any size; none at all: the other side closed it. Any bytes end in work or in `ended`."""
        raise NotImplementedError

    def data_to_send(self, now: float, limit: int = 1 << 18) -> bytes:
        """The next bytes of the stream, about `limit` at most (a frame is never held back for being longer); b"" when there are none.

        What is returned counts as sent. Rows are only encoded for the stream when they are asked for here.
        """
        raise NotImplementedError

    def next_deadline(self) -> float | None:
        """When `handle_deadline` wants to be called next, if ever."""
        raise NotImplementedError

    def handle_deadline(self, now: float) -> None:
        """Timers that are due by `now`."""
        raise NotImplementedError

    def end(self, reason: str, now: float) -> None:
        """Ends it from this side: says goodbye with `reason`."""
        raise NotImplementedError

    def lost(self, reason: str, now: float) -> None:
        """The connection broke: nothing more can be sent."""
        raise NotImplementedError

    def status(self, now: float) -> SessionStatus:
        """To be shown."""
        raise NotImplementedError
