"""Connections to and from the peers: one is dialled to each, and one taken from each. A session of `hacore.states`
lives on each of them; which end of it this node is follows from who dialled.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from hacore.node.loop import READ, Loop, Timer
from hacore.node.states_connection import Connection
from hacore.node.states_credentials import Credentials
from hacore.node.states_filter import Filter
from hacore.node.states_listening import Listener, numeric
from hacore.node.states_rows import RowsSender
from hacore.node.states_tls import ROWS_PROTOCOL, names
from hacore.states.receiver import ReceiverSession
from hacore.states.replication import Replication
from hacore.states.sender import SenderSession
from hacore.states.session import Session

FIRST_DELAY = 0.1  # seconds until a lost peer is dialled again; doubled each time it does not answer
LAST_DELAY = 2.0
SEND_BYTES = 1 << 17  # asked of a session at once

NOT_YET = "this node is MASTER and has yet to read its kernel's table"
NOT_TRUSTED = "the peer's certificate is not to be trusted: this node does not know it, or not any more"

OnProblem = Callable[[str], None]
AnySession = TypeVar("AnySession", bound=Session)


class Link(Generic[AnySession]):
    """One connection with a session on it."""

    def __init__(
        self, connection: Connection, session: AnySession, clock: Callable[[], float], on_turn: Callable[[], None]
    ) -> None:
        self.connection, self.session = connection, session
        self._clock, self._on_turn = clock, on_turn
        connection.on_data = self._receive
        connection.on_room = self._more
        connection.flush()

    def _receive(self, data: bytes) -> None:
        self.session.receive(data, self._clock())
        if self.session.waits:
            self.connection.read_on(False)
        self._on_turn()

    def go_on(self, has_room: bool) -> bool:
        """Takes more from the peer where this node `has_room`, first of what has come already; whether some of that
        can be taken at once.
        """
        session = self.session
        if session.waits and has_room:
            session.go_on(self._clock())
        self.connection.read_on(has_room and not session.waits)
        return has_room and session.waits and session.has_room

    def _more(self) -> None:
        data = self.session.data_to_send(self._clock(), SEND_BYTES)
        if self.session.waits:
            self._on_turn()
        if data:
            self.connection.send(data)
        elif self.session.ended:
            self.connection.close(self.session.reason)

    @property
    def has_something(self) -> bool:
        """Whether there may be anything to send, or to end."""
        return bool(self.connection.pending_bytes) or self.session.has_something or self.session.ended

    def closed(self, reason: str) -> None:
        """The connection is no more."""
        if not self.session.ended:
            self.session.lost(reason, self._clock())


class Peer:
    """One of the nodes in the settings: `sending` goes to it, `receiving` comes from it."""

    def __init__(self, peers: Peers, name: str, host: str, port: int) -> None:
        self.name, self.host, self.port = name, host, port
        self.sending: Link[SenderSession] | None = None
        self.receiving: Link[ReceiverSession] | None = None
        self.sending_reason = self.receiving_reason = "not connected yet"
        self.sending_since = self.receiving_since = 0.0  # monotonic, of the link or of its loss
        self._peers = peers
        self._dialled: Connection | None = None
        self._delay = FIRST_DELAY
        self._timer: Timer | None = None

    @property
    def place(self) -> str:
        """Where it listens."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def dial(self, _now: float) -> None:
        """Connect, unless that is done or under way."""
        if self._dialled is not None or self._peers.closed or not self._peers.is_open:
            return
        found = numeric(self.host, self.port)
        if found is not None:
            self._dial(*found)
            return
        try:
            resolve(self._peers.loop, self.host, self.port, self._resolved)
        except OSError as error:
            self._lost(error.strerror or str(error))

    def _resolved(self, found: tuple[int, tuple[str, int]] | str) -> None:
        if isinstance(found, str):
            self._lost(found)
            return
        self._peers.listener.stands_for(self.host, found[1][0])
        if self._dialled is None and not self._peers.closed:
            self._dial(*found)

    def _dial(self, family: int, address: tuple[str, int]) -> None:
        contexts = self._peers.credentials.contexts
        if contexts is None:
            self.sending_reason = self._peers.credentials.problem  # the worker has told it, once for all peers
            self._lost(self.sending_reason)
            return
        try:
            self._dialled = Connection.dial(
                self._peers.loop, family, address, contexts.client,
                on_open=self._opened, on_close=self._dialled_closed,
            )  # fmt: skip
        except OSError as error:
            self._lost(error.strerror or str(error))

    def dial_soon(self) -> None:
        """Without waiting any longer: it is there, or may be dialled now."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._peers.loop.call_soon(self.dial)

    def _opened(self, connection: Connection) -> None:
        shown = names(connection.tls.getpeercert())
        peers = self._peers
        if self.name not in shown:
            connection.close(f"{self.place} is not {self.name}: its certificate says {', '.join(shown) or 'nothing'}")
            return
        if not peers.trusts(connection):
            connection.close(NOT_TRUSTED)
            return
        if not peers.is_open:
            connection.close(NOT_YET)
            return
        session = peers.replication.dial(self.name, peers.clock())
        self.sending_since, self.sending_reason = peers.loop.now(), ""
        self.sending = Link(connection, session, peers.clock, peers.on_turn)
        peers.on_turn()

    def _dialled_closed(self, connection: Connection, reason: str) -> None:
        now = self._peers.loop.now()
        if connection.opened and now - connection.opened > LAST_DELAY:
            self._delay = FIRST_DELAY
        if self.sending is not None:
            self.sending.closed(reason)
            reason = self.sending.session.reason or reason
            self.sending, self.sending_since = None, now
        self._dialled = None
        self._lost(reason)
        self._peers.on_turn()

    def _lost(self, reason: str) -> None:
        if reason != self.sending_reason:
            self.sending_reason = reason
            self._peers.on_problem(f"no stream to {self.name}: {reason}")
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._peers.loop.call_at(self._peers.loop.now() + self._delay, self.dial)
        self._delay = min(2 * self._delay, LAST_DELAY)

    def take(self, connection: Connection) -> None:
        """It has dialled; what came from it before ends here."""
        peers = self._peers
        if self.receiving is not None:
            self.receiving.connection.close("it has connected anew")
        session = peers.replication.accept(peers.clock(), self.name)
        self.receiving_since, self.receiving_reason = peers.loop.now(), ""
        self.receiving = Link(connection, session, peers.clock, peers.on_turn)
        self.dial_soon()
        peers.on_turn()

    def taken_closed(self, connection: Connection, reason: str) -> None:
        """A connection that it had dialled ended."""
        if self.receiving is None or self.receiving.connection is not connection:
            return
        self.receiving.closed(reason)
        self.receiving_reason = self.receiving.session.reason or reason
        self.receiving, self.receiving_since = None, self._peers.loop.now()
        self._peers.on_turn()

    def links(self) -> list[Link[Any]]:
        """Those that stand."""
        return [link for link in (self.sending, self.receiving) if link is not None]

    def order_bulk(self, reason: str) -> None:
        """Everything anew, both ways."""
        now = self._peers.clock()
        if self.sending is not None:
            self.sending.session.order_bulk(reason, now)
        if self.receiving is not None:
            self.receiving.session.request_bulk(now)

    def close(self, reason: str) -> None:
        """End both streams."""
        if self._timer is not None:
            self._timer.cancel()
        for connection in [self._dialled, *(link.connection for link in self.links())]:
            if connection is not None:
                connection.close(reason)


class Peers:
    """All of them, and the connections that they make. Nobody is dialled or let in before `set_open`."""

    def __init__(
        self,
        loop: Loop,
        replication: Replication,
        credentials: Credentials,
        wanted: Callable[[], Filter],
        clock: Callable[[], float],
        on_turn: Callable[[], None],
        on_problem: OnProblem,
    ) -> None:
        self.loop, self.replication, self.credentials = loop, replication, credentials
        self.clock, self.on_turn, self.on_problem = clock, on_turn, on_problem
        self.known: dict[str, Peer] = {}
        self.is_open = self.closed = False
        self.listener = Listener(loop, credentials, self._identify, self._taken_closed, on_problem)
        self._wanted = wanted

    def add(self, name: str, host: str, port: int) -> None:
        """A peer of the settings."""
        self.known[name] = Peer(self, name, host, port)
        self.listener.know(each.host for each in self.known.values())

    def set_open(self, is_open: bool) -> None:
        """Whether sessions may begin: `Replication.may_speak`. Who calls before waits where the kernel keeps calls."""
        if is_open == self.is_open or self.closed:
            return
        self.is_open = is_open
        self.listener.set_open(is_open)
        if is_open:
            for peer in self.known.values():
                peer.dial_soon()

    def links(self) -> list[Link[Any]]:
        """All connections with a session."""
        return [link for peer in self.known.values() for link in peer.links()]

    def listen(self, host: str, port: int) -> None:
        """Take calls, once it is open. Raises PlatformError."""
        self.listener.listen(host, port)

    def _identify(self, connection: Connection) -> None:
        shown = names(connection.tls.getpeercert())
        peer = next((self.known[name] for name in shown if name in self.known), None)
        if peer is None:
            own = self.replication.settings.name
            who = "this node's own name" if own in shown else "no [[peer]] of this node"
            connection.close(f"its certificate says {', '.join(shown) or 'nothing'}, which is {who}")
        elif not self.trusts(connection):
            connection.close(NOT_TRUSTED)
        elif not self.is_open:
            connection.close(NOT_YET)
        else:
            self.listener.trusted(connection, peer.name)
            if connection.tls.selected_alpn_protocol() == ROWS_PROTOCOL:
                RowsSender(connection, self._wanted())
            else:
                peer.take(connection)

    def _taken_closed(self, connection: Connection, reason: str) -> None:
        for peer in self.known.values():
            if peer.receiving is not None and peer.receiving.connection is connection:
                peer.taken_closed(connection, reason)
                return
        if not connection.opened or "certificate" in reason:
            self.listener.refuse(reason)

    def trusts(self, connection: Connection) -> bool:
        """Whether the certificate at the other end is one of those that this node trusts now."""
        return connection.tls.getpeercert(True) in self.credentials.trusted

    def credentials_changed(self) -> None:
        """Certificates were made, replaced or revoked: who is not trusted any more goes, and all others are dialled."""
        dialled = [peer.sending.connection for peer in self.known.values() if peer.sending is not None]
        for connection in [*dialled, *self.listener.taken]:
            if connection.is_open and not self.trusts(connection):
                connection.close(NOT_TRUSTED)
        for peer in self.known.values():
            peer.dial_soon()

    def close(self, reason: str) -> None:
        """End everything."""
        self.closed = True
        for peer in self.known.values():
            peer.close(reason)
        self.listener.close(reason)


def resolve(loop: Loop, host: str, port: int, found: Callable[[tuple[int, tuple[str, int]] | str], None]) -> None:
    """Looks a name up in a thread, as that waits; `found` gets family and address, or why there is none."""
    ours, theirs = socket.socketpair()
    answer: list[tuple[int, tuple[str, int]] | str] = []

    def look_up() -> None:
        try:
            family, _kind, _protocol, _name, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            answer.append((family, (str(address[0]), port)))
        except OSError as error:
            answer.append(f"{host}: {error.strerror or error}")
        theirs.close()

    def done(_events: int, _now: float) -> None:
        loop.unregister(ours.fileno())
        ours.close()
        found(answer[0])

    loop.register(ours.fileno(), done, READ)
    threading.Thread(target=look_up, daemon=True).start()
