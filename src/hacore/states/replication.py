"""Replication as a whole: one table, one log, what this node owns (origin) and what its peers own (replica), and a session a connection.

A machine without sockets, clock, random or files. The owner, for each connection that it dialled, calls `dial`, for each that it
accepted, `accept`, and then on each turn

    session.receive(data, now)              what came; b"" is the end of the stream
    replication.handle_deadline(now)        when next_deadline() has come
    for work in replication.replica.work(): put it into the kernel, then replication.replica.done(work, now)
    replication.events()                    what happened, in order
    session.data_to_send(now, limit)        for each connection whose socket takes more

and closes a connection whose `session.ended` is set once its last bytes are sent. Kernel events go to `origin`. Times are seconds of a
clock that never goes back and counts sleep.
"""

from __future__ import annotations

import msgspec

from hacore._fast.table import Table
from hacore.states.events import AnyEvent
from hacore.states.log import Log
from hacore.states.origin import Origin
from hacore.states.ownership import Ownership
from hacore.states.receiver import ReceiverSession
from hacore.states.replica import Replica
from hacore.states.sender import SenderSession


class ReplicationSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What the machines need to know.

    Attributes:
        name: this node's.
        max_states: rows in the table.
        log_bytes: of changes kept for peers that are behind; further behind, they are repaired by digests.
        reconcile_slack: seconds by which a timeout may differ from what is known, and is not sent.
        digest_interval: seconds between comparisons of digests with each peer.
        ping_interval: seconds of silence after which a node asks whether the other is there.
        dead_time: seconds of silence after which a connection is given up.
        bulk_rows: rows in a chunk of a bulk update.
        bulk_window: chunks of a bulk update that may be on the way to the peer's kernel.
    """

    name: str
    max_states: int = 2_000_000
    log_bytes: int = 64 << 20
    reconcile_slack: int = 5
    digest_interval: float = 60.0
    ping_interval: float = 1.0
    dead_time: float = 5.0
    bulk_rows: int = 8192
    bulk_window: int = 8


class Replication:
    """Everything of one node.

    Args:
        instance: 16 random bytes of this process: what tells a peer that the node started anew.
        seed: 16 random bytes for the table's index.
        digest_key: 16 random bytes; the nodes agree on the largest of theirs.
        epoch: the last `EpochRaised.epoch`, 0 for none.
    """

    settings: ReplicationSettings
    table: Table
    ownership: Ownership
    log: Log
    origin: Origin
    replica: Replica

    def __init__(
        self, settings: ReplicationSettings, *, instance: bytes, seed: bytes, digest_key: bytes, epoch: int = 0
    ) -> None:
        raise NotImplementedError

    def set_master(self, master: bool, now: float, *, promoted: bool = False) -> None:
        """Whether this node is MASTER of any VHID. `promoted`: it has just become MASTER of one, whatever it was before: a new epoch."""
        raise NotImplementedError

    def dial(self, peer: str, now: float) -> SenderSession:
        """A connection to the node `peer` is there (its name when the settings tell it, else ""): this node is the origin."""
        raise NotImplementedError

    def accept(self, now: float, peer: str = "") -> ReceiverSession:
        """A connection came in: this node is the replica. `peer`: the name in the other's certificate, "" if it does not tell."""
        raise NotImplementedError

    @property
    def sessions(self) -> tuple[SenderSession | ReceiverSession, ...]:
        """Those that have not ended."""
        raise NotImplementedError

    def next_deadline(self) -> float | None:
        """When `handle_deadline` wants to be called next, if ever."""
        raise NotImplementedError

    def handle_deadline(self, now: float) -> None:
        """Timers of all sessions that are due by `now`."""
        raise NotImplementedError

    def events(self) -> list[AnyEvent]:
        """What happened since the last call, in order."""
        raise NotImplementedError
