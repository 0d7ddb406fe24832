"""Replication as a whole: one table, one log, what this node owns (origin) and what its peers own (replica), and a
session a connection.

A machine without sockets, clock, random or files. The owner, for each connection that it dialled, calls `dial`, for
each that it accepted, `accept`, and then on each turn

    session.receive(data, now)              what came; b"" is the end of the stream
    replication.handle_deadline(now)        when next_deadline() has come
    for work in replication.replica.work(): put it into the kernel, then replication.replica.done(work, now)
    replication.events()                    what happened, in order
    session.data_to_send(now, limit)        for each connection whose socket takes more
    session.go_on(now)                      for each that `waits`, and has room; until then it receives no more

and closes a connection whose `session.ended` is set once its last bytes are sent. Kernel events go to `origin`. Times
are seconds of a clock that never goes back and counts sleep.

What a MASTER says it owns is the truth: the replicas take out of their kernels what is missing in it. A process that
starts anew on a MASTER has an empty table and a full kernel, so it has to be silent until its table has been compared
with the kernel's once: `may_speak`.
"""

from __future__ import annotations

from typing import Final

import msgspec
import numpy as np

from hacore._fast.table import Table
from hacore.errors import LocalProtocolError, WireError
from hacore.states.events import AnyEvent
from hacore.states.frames import Kind, role_body
from hacore.states.gather import pick
from hacore.states.greeting import Hello
from hacore.states.log import Log
from hacore.states.origin import Origin
from hacore.states.ownership import SELF, Node, Ownership
from hacore.states.receiver import ReceiverSession
from hacore.states.replica import Replica
from hacore.states.sender import SenderSession
from hacore.states.session import Session
from hacore.states.spared import Spared

MAX_SECRETS: Final = 16
"""Larger secrets that one connection may bring, each of which costs a look at every row. Of random ones that come one
after the other the n-th is larger than all before with a chance of 1/n: nodes would have to start anew a million times.
"""
EXPIRE_INTERVAL: Final = 60.0
"""Seconds between looks for rows that nobody speaks for any more."""


class ReplicationSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What the machines need to know.

    Attributes:
        name: this node's.
        max_states: rows in the table.
        partitions: of the keys, for digests; the nodes have to have the same number.
        log_bytes: of changes kept for peers that are behind; further behind, they are repaired by digests.
        reconcile_slack: seconds by which a timeout may differ from what is known, and is not sent.
        digest_interval: seconds between comparisons of digests with each peer.
        ping_interval: seconds of silence after which a node asks whether the other is there.
        dead_time: seconds of silence after which a connection is given up.
        bulk_rows: rows in a chunk of a bulk update.
        bulk_window: chunks of a bulk update that may be on the way to the peer's kernel.
        pending_rows: rows that may wait for this node's kernel while more is handled. More than that come only with
            the frame with which it is reached.
        ack_interval: seconds between two acknowledgements while the replica follows; 0.0: each frame gets one.
        linger: seconds that rows of a node that is gone are kept past their timeouts, where they cannot be seen to end.
    """

    name: str
    max_states: int = 2_000_000
    partitions: int = 1024
    log_bytes: int = 64 << 20
    reconcile_slack: int = 5
    digest_interval: float = 60.0
    ping_interval: float = 1.0
    dead_time: float = 5.0
    bulk_rows: int = 8192
    bulk_window: int = 8
    pending_rows: int = 1 << 62
    ack_interval: float = 0.0
    linger: int = 120


class Replication:
    """Everything of one node.

    Args:
        instance: 16 random bytes of this process: what tells a peer that the node started anew.
        seed, digest_key: 16 random bytes each. The nodes agree on the largest pair of theirs: names of rows and
            digests need it.
        epoch: the last `EpochRaised.epoch`, 0 for none.
    """

    def __init__(
        self, settings: ReplicationSettings, *, instance: bytes, seed: bytes, digest_key: bytes, epoch: int = 0
    ) -> None:
        self.settings = settings
        self.instance = instance
        self.secret = digest_key + seed
        self.journal: list[AnyEvent] = []
        self.table = Table(seed, digest_key, max_states=settings.max_states, partitions=settings.partitions)
        self.log = Log(settings.log_bytes)
        self.ownership = Ownership(settings.name, instance, epoch, self.journal, self.announce)
        self.spared = Spared(seed, digest_key, max_states=settings.max_states, slack=settings.reconcile_slack)
        self.origin = Origin(
            self.table, self.ownership, self.log, self.journal, self.spared, slack=settings.reconcile_slack,
            named=self._named,
        )  # fmt: skip
        self.replica = Replica(self.table, self.ownership, self.spared)
        self._sessions: list[SenderSession | ReceiverSession] = []
        self._expire_at: float | None = None

    # Roles

    def set_master(self, master: bool, now: float, *, promoted: bool = False) -> None:
        """Whether this node is MASTER of any VHID. `promoted`: it has just become MASTER of one, whatever it was
        before: a new epoch.
        """
        before = self.ownership.master
        self.ownership.set_master(master)
        if master and (promoted or not before):
            self.ownership.raise_epoch("became MASTER", now)
        elif master != before:
            self.announce(now)
        if not self.may_speak:
            for session in self._sessions:
                if isinstance(session, SenderSession):
                    session.order_digests(now)  # for as soon as it may, so that the replicas know it, too
        self._settle(now)

    def announce(self, now: float) -> None:
        """Role and epoch, in order with the changes."""
        ownership = self.ownership
        self.log.append(Kind.ROLE, ownership.epoch, 0, now, role_body(ownership.master, ownership.known))

    def _settle(self, now: float) -> None:
        """A MASTER goes on as the owner of what nobody else can speak for: rows of former lives, and of nodes that
        are MASTER of nothing.
        """
        if not self.ownership.master:
            return
        for node in self.ownership.nodes:
            if node.index == SELF or not node.has_rows:
                continue
            if not node.current or (not node.master and self._follows(node)):
                self.origin.take_over(node, now)

    def _follows(self, node: Node) -> bool:
        """Everything that `node` had to say until now is here."""
        return any(
            isinstance(session, ReceiverSession) and session.node is node and session.synced
            for session in self._sessions
        )

    def inherit(self, now: float) -> None:
        """Before a bulk update: rows of nodes that are gone would not be in it."""
        if self.ownership.master:
            for node in self.ownership.nodes:
                if node.index != SELF and node.has_rows and not node.connected:
                    self.origin.take_over(node, now)

    # Sessions

    @property
    def may_speak(self) -> bool:
        """Whether what is missing in this node's table is missing in its kernel, too, or nobody takes it for that: it
        is MASTER of nothing, or has compared the two to the end since it was started, or has followed a MASTER.

        Until then nothing is dialled or accepted: the hello of a MASTER that started anew makes the others take its new
        table for all that it owns. One that became MASTER when its sessions were there already goes on with them, but
        sends changes only, no digests and no bulk update.
        """
        return not self.ownership.master or self.origin.knows_kernel

    def _demand_speech(self) -> None:
        if not self.may_speak:
            raise LocalProtocolError("a MASTER begins no session before its table was compared with its kernel's")

    def dial(self, peer: str, now: float) -> SenderSession:
        """A connection to the node `peer` is there (its name when the settings tell it, else ""): this node is the
        origin.

        Raises:
            LocalProtocolError: this node may not speak yet.
        """
        self._demand_speech()
        session = SenderSession(self, peer, now)
        self._sessions.append(session)
        return session

    def accept(self, now: float, peer: str = "") -> ReceiverSession:
        """A connection came in: this node is the replica. `peer`: the name in the other's certificate, "" if it does
        not tell.

        Raises:
            LocalProtocolError: this node may not speak yet: its answer says who it is, too.
        """
        self._demand_speech()
        session = ReceiverSession(self, peer, now)
        self._sessions.append(session)
        return session

    @property
    def sessions(self) -> tuple[SenderSession | ReceiverSession, ...]:
        """Those that have not ended."""
        return tuple(self._sessions)

    # The verbs

    def next_deadline(self) -> float | None:
        """When `handle_deadline` wants to be called next, if ever."""
        deadlines = [deadline for session in self._sessions if (deadline := session.next_deadline()) is not None]
        if self._expire_at is not None:
            deadlines.append(self._expire_at)
        return min(deadlines, default=None)

    def handle_deadline(self, now: float) -> None:
        """Timers of all sessions that are due by `now`."""
        for session in tuple(self._sessions):
            session.handle_deadline(now)
        if self._expire_at is not None and self._expire_at <= now:
            self._expire(now)

    def events(self) -> list[AnyEvent]:
        """What happened since the last call, in order."""
        events, self.journal[:] = self.journal[:], []
        return events

    def _expire(self, now: float) -> None:
        """Rows of nodes that are gone leave the table when they have left every kernel."""
        gone = np.zeros(256, dtype=np.bool_)
        for node in self.ownership.nodes:
            gone[node.index] = node.index != SELF and not node.connected
        self._expire_at = now + EXPIRE_INTERVAL if gone.any() else None
        if self.ownership.master or not gone.any() or not len(self.table):
            return
        metadata = self.table.metadata()
        age = int(now) - metadata["stamp"].astype(np.int64)
        over = gone[metadata["owner"]] & (age > self.table.rows()["timeout"].astype(np.int64) + self.settings.linger)
        if over.any():
            self.table.delete(pick(self.table.rows(), over))

    # For the sessions

    def hello(self) -> Hello:
        """Who this node is."""
        ownership = self.ownership
        return Hello(
            self.settings.name, self.instance, ownership.epoch, ownership.known, ownership.master, self.secret,
            self.table.partitions,
        )  # fmt: skip

    def meet(self, session: Session, hello: Hello, now: float) -> Node:
        """The node that said hello is there."""
        ownership = self.ownership
        node, former = ownership.meet(hello.name, hello.instance, hello.epoch, hello.known, hello.master)
        if isinstance(session, ReceiverSession):
            for other in tuple(self._sessions):
                if other is not session and isinstance(other, ReceiverSession) and other.peer == hello.name:
                    other.end(f"{hello.name} has made another connection", now)
            node.connected = True
        else:
            node.follows = self.log.wanted = True
        self._agree(hello.secret, None)
        session.secret = max(hello.secret, self.secret)
        if former is not None and not former.has_rows:
            ownership.forget(former)
        self._overrule(node, now)
        self._settle(now)
        return node

    def session_ended(self, session: Session, now: float) -> None:
        """A session is over."""
        self._sessions = [other for other in self._sessions if other is not session]
        self.origin.whole_for.discard(session)
        node = session.node
        if node is None or not isinstance(session, ReceiverSession) or not node.connected:
            return
        if any(isinstance(other, ReceiverSession) and other.node is node for other in self._sessions):
            return
        node.connected = False
        if self.ownership.master:
            self.ownership.raise_epoch(f"MASTER without {node.name}", now)
            node.lost_epoch = self.ownership.epoch
        else:
            node.lost_epoch = self.ownership.known + 1
        if self._expire_at is None:
            self._expire_at = now + EXPIRE_INTERVAL

    def heard_role(self, node: Node, master: bool, epoch: int, known: int, now: float) -> None:
        """A peer's role or epoch, in order with its changes."""
        self.ownership.heard(node, epoch, known, master)
        self._overrule(node, now)
        self._settle(now)

    def _overrule(self, node: Node, now: float) -> None:
        if self.ownership.overruled_by(node):
            self.ownership.raise_epoch(f"{node.name} is not MASTER and has epoch {node.epoch}", now)
            self.origin.restamp(node.lost_epoch, now)

    def heard_secret(self, session: Session, secret: bytes) -> None:
        """A peer uses another secret from now on."""
        session.secret = secret
        self._agree(secret, session)

    def _agree(self, secret: bytes, told: Session | None) -> None:
        """The larger secret wins, and everybody is told."""
        if secret > self.secret:
            if told is not None:
                told.secrets += 1
                if told.secrets > MAX_SECRETS:
                    raise WireError("secret", f"the other node has changed its secret {told.secrets} times")
            self.secret = secret
            self.table.rekey(secret[16:], secret[:16])
            for session in self._sessions:
                session.send_secret(self.secret)
        elif secret < self.secret and told is not None:
            told.send_secret(self.secret)

    def _named(self) -> bool:
        """Whether rows may be named by number: every replica has the same secret."""
        return all(
            session.secret == self.secret
            for session in self._sessions
            if isinstance(session, SenderSession) and session.node is not None
        )

    @property
    def lag(self) -> int:
        """Changes of rows that a follower has yet to acknowledge, the one that is furthest behind."""
        sending = (each for each in self._sessions if isinstance(each, SenderSession) and each.node is not None)
        return max((self.log.lag(session.acknowledged)[0] for session in sending), default=0)

    def trim(self) -> None:
        """Lets go of what every follower has; one that is away may come back for the rest."""
        followers = [node.acknowledged for node in self.ownership.nodes if node.follows and node.current]
        if followers:
            self.log.trim(min(followers))

    def replica_synced(self, node: Node, now: float) -> None:
        """This node has everything of `node`: what a former life of it left is taken over, or gone."""
        self._settle(now)
        if self.ownership.master or not node.master:
            return
        self.origin.knows_kernel = True  # whatever else is in the kernel ended long ago
        for former in self.ownership.nodes:
            if not former.current and former.name == node.name:
                self.replica.clear(former, now, NO_RECEIPT)
                self.ownership.forget(former)


class _NoReceipt:
    def done(self, now: float) -> None:
        """Nobody waits for it."""


NO_RECEIPT: Final = _NoReceipt()
