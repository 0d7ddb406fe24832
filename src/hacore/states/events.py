"""What replication tells of itself: every change with its time and its reason. Times are the machines' `now`."""

from __future__ import annotations

import msgspec


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened at `at`."""

    at: float


class PeerConnected(Event, frozen=True, kw_only=True, tag="peer connected"):
    """Both hellos of a connection were accepted. `role` is this node's part in it: "origin" or "replica"."""

    peer: str
    role: str


class PeerDisconnected(Event, frozen=True, kw_only=True, tag="peer disconnected"):
    """A connection ended; `peer` is empty when it did not get as far as the other's name."""

    peer: str
    role: str
    reason: str


class SyncStarted(Event, frozen=True, kw_only=True, tag="sync started"):
    """`how`: "bulk" (everything), "repair" (the partitions that differ) or "resume" (what the log still holds)."""

    peer: str
    role: str
    how: str
    reason: str


class Synced(Event, frozen=True, kw_only=True, tag="synced"):
    """The replica has what the origin has. As the replica: it is in the kernel, too."""

    peer: str
    role: str
    how: str
    rows: int
    duration: float


class Repaired(Event, frozen=True, kw_only=True, tag="repaired"):
    """Digests differed in so many partitions; their rows were sent again."""

    peer: str
    role: str
    partitions: int
    rows: int


class EpochRaised(Event, frozen=True, kw_only=True, tag="epoch raised"):
    """To be kept in the state directory, and given to the next `Replication`."""

    epoch: int
    reason: str


class QueueDropped(Event, frozen=True, kw_only=True, tag="queue dropped"):
    """The log was emptied: what the peers have not got by now, they get by digests."""

    reason: str


class NotFitted(Event, frozen=True, kw_only=True, tag="not fitted"):
    """`count` rows more did not fit into the table; said when the first one did not, and when it goes on, once a
    minute.
    """

    count: int


AnyEvent = PeerConnected | PeerDisconnected | SyncStarted | Synced | Repaired | EpochRaised | QueueDropped | NotFitted
