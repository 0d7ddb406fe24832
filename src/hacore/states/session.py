"""What both ends of a connection have in common: hellos, pings, one reason for the end."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import msgspec

from hacore.errors import WireError
from hacore.states import frames
from hacore.states.events import PeerConnected, PeerDisconnected
from hacore.states.frames import FrameReader, Kind
from hacore.states.greeting import Hello
from hacore.states.ownership import Node

if TYPE_CHECKING:
    from hacore.states.replication import Replication

ANSWERS_AHEAD: Final = 64
"""Frames that may wait to be sent while more is handled: bounds what a peer can make of this node's memory that asks
and does not listen.
"""
TURN_ROWS: Final = 8192
"""Changes of rows, or as much other work, in one call: a peer has this node for some milliseconds at a time."""
LIGHT: Final = frozenset({Kind.PING, Kind.PONG, Kind.CHANGES, Kind.EXPECTATIONS, Kind.SYNC_ROWS, Kind.ACK})
"""What costs no more than the rows that it brings. Of the others each may have to look at the whole table."""
HEAVY_ROWS: Final = TURN_ROWS // 2
LAST_ROWS: Final = 4 * TURN_ROWS
"""The same, of what a connection that has broken leaves behind."""


class SessionStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One connection, to be shown.

    Attributes:
        peer: the other node's name, "" before its hello.
        role: this node's part: "origin" or "replica".
        state: "hello", "bulk", "repair", "resume", "comparing", "synced" or "ended".
        since: `now` when it came into that state ("comparing": into the one before).
        position: of the last change sent or received.
        acknowledged: position that is in the replica's kernel.
        lag_states: changes (of rows) not yet acknowledged, as far as the log reaches.
        lag: seconds since the oldest of them was made; 0.0 without one.
        bytes_sent, bytes_received: of the stream (before TLS).
        bulk_rows: rows of the running or last bulk update (or repair) that are in the replica's kernel.
        bulk_total: rows that it has in all, 0 before the first.
        rows: that the origin of this connection owns.
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


class Session:
    """One connection, until it ends. A new connection has a new session."""

    role = ""

    def __init__(self, owner: Replication, expected: str, now: float) -> None:
        self.peer = expected
        self.node: Node | None = None
        self.since = now
        self.bytes_sent = 0
        self.bytes_received = 0
        self.secrets = 0
        """How often the other side came with a secret larger than this node's, after its hello."""
        self.waits = False
        """Frames have come that were not handled: `go_on` when there is room again, and take no more until then."""
        self.synced = False
        """The replica has everything and follows the changes."""
        self.reason = ""
        """Why it ended, "" while it has not."""
        self._owner = owner
        self._expected = expected
        self._reader = FrameReader()
        self._out: list[bytes] = []
        self._heard_at = now
        self._pinged = False
        self._broken = False
        self._handlers: dict[Kind, Callable[[bytes, float], None]] = {}

    @property
    def ended(self) -> bool:
        """Nothing more is received; what `data_to_send` still gives (the goodbye) may be sent, then the connection is
        closed.
        """
        return bool(self.reason)

    # The verbs

    def receive(self, data: bytes | bytearray | memoryview, now: float) -> None:
        """Bytes of the stream in pieces of any size; none at all: the other side closed it. Any bytes end in work, in
        `waits` or in `ended`.
        """
        if self.ended:
            return
        if not data:
            self.lost("the other side closed the connection", now)
            return
        self.bytes_received += len(data)
        self._heard_at, self._pinged = now, False
        self._reader.receive(data)
        self.go_on(now)

    def go_on(self, now: float) -> None:
        """Handles what has come, as far as there is room for what it leads to, and some milliseconds of it."""
        if self.waits:
            self._heard_at, self._pinged = now, False
        self._work_off(now, TURN_ROWS)

    def _work_off(self, now: float, rows: int, *, room_or_not: bool = False) -> None:
        """Handles frames that cost about as much as `rows` changes."""
        replica = self._owner.replica
        rows += replica.handled
        self.waits = False
        try:
            while not self.ended:
                if replica.handled >= rows or not (room_or_not or self.has_room):
                    self.waits = self._reader.has_frame
                    return
                frame = self._reader.next()
                if frame is None:
                    return
                rows -= 1 if frame[0] in LIGHT else HEAVY_ROWS
                self._handle(*frame, now)
        except WireError as error:
            self.end(str(error), now)

    @property
    def has_room(self) -> bool:
        """Whether another frame may be handled."""
        return len(self._out) < ANSWERS_AHEAD

    def data_to_send(self, now: float, limit: int = 1 << 18) -> bytes:
        """The next bytes of the stream, about `limit` at most (a frame is never held back for being longer); b"" when
        there are none.

        What is returned counts as sent. Rows are only encoded for the stream when they are asked for here.
        """
        if self._broken:
            return b""
        if not self.ended:
            self._fill(now, limit)
        data = b"".join(self._out)
        self._out.clear()
        self.bytes_sent += len(data)
        return data

    def next_deadline(self) -> float | None:
        """When `handle_deadline` wants to be called next, if ever."""
        if self.ended:
            return None
        settings = self._owner.settings
        return self._heard_at + (settings.dead_time if self._pinged else settings.ping_interval)

    def handle_deadline(self, now: float) -> None:
        """Timers that are due by `now`."""
        deadline = Session.next_deadline(self)
        if deadline is None or now < deadline:
            return
        if self.waits and len(self._out) < ANSWERS_AHEAD:
            self._heard_at, self._pinged = now, False  # it has spoken: this node has no room for it
        elif self._pinged:
            self.end(f"nothing was heard for {now - self._heard_at:.1f} s", now)
        else:
            self._pinged = True
            self._out.append(frames.frame(Kind.PING))

    def end(self, reason: str, now: float) -> None:
        """Ends it from this side: says goodbye with `reason`."""
        if not self.ended:
            self._out.append(frames.bye_frame(reason))
            self._finish(reason, now)

    def lost(self, reason: str, now: float) -> None:
        """The connection broke: nothing more can be sent. What had come over it until then counts."""
        if self.waits:
            self._work_off(now, LAST_ROWS, room_or_not=True)
        self._broken = True
        self._out.clear()
        if not self.ended:
            self._finish(reason, now)

    def _finish(self, reason: str, now: float) -> None:
        self.reason = reason or "no reason given"
        self.synced, self.since = False, now
        self._owner.journal.append(PeerDisconnected(at=now, peer=self.peer, role=self.role, reason=self.reason))
        self._owner.session_ended(self, now)

    @property
    def has_something(self) -> bool:
        """Whether `data_to_send` may have something to give."""
        return bool(self._out)

    # For the two ends

    def _fill(self, now: float, limit: int) -> None:
        """Puts what is due into `_out`."""

    def _greet(self, body: bytes, now: float) -> None:
        """The other side's first frame."""
        raise NotImplementedError

    def _greeting(self) -> Kind:
        raise NotImplementedError

    def _handle(self, kind: Kind, body: bytes, now: float) -> None:
        if kind is Kind.BYE:
            self.lost(f"the other node ended it: {frames.read_bye(body)}", now)
        elif self.node is None:
            if kind is not self._greeting():
                raise WireError("order", f"the other side starts with {kind.name} and not with {self._greeting().name}")
            self._greet(body, now)
        elif kind is Kind.PING:
            frames.read_empty(body)
            self._out.append(frames.frame(Kind.PONG))
        elif kind is Kind.PONG:
            frames.read_empty(body)
        elif kind is Kind.SECRET:
            self._owner.heard_secret(self, frames.read_secret(body))
        else:
            handler = self._handlers.get(kind)
            if handler is None:
                raise WireError("order", f"{kind.name} does not come from this side of the connection")
            handler(body, now)

    def _accept(self, hello: Hello, now: float) -> Node:
        """Checks a hello; the node that says it.

        Raises:
            WireError: with the one reason why the connection cannot be.
        """
        owner = self._owner
        if hello.name == owner.settings.name:
            raise WireError("name", f"both nodes are named {hello.name}")
        if self._expected and hello.name != self._expected:
            raise WireError("name", f"expected the node {self._expected}, this is {hello.name}")
        if hello.partitions != owner.table.partitions:
            raise WireError(
                "partitions", f"the other node has {hello.partitions} partitions, this one {owner.table.partitions}"
            )
        self.peer = hello.name
        self.node = owner.meet(self, hello, now)
        self.since = now
        owner.journal.append(PeerConnected(at=now, peer=hello.name, role=self.role))
        return self.node

    def send_secret(self, secret: bytes) -> None:
        """This node's secret changed."""
        if self.node is not None and not self.ended:
            self._out.append(frames.secret_frame(secret))

    secret = b""
    """What the other side said last that it uses."""
