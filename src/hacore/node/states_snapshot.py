"""What the states worker says about itself: the structs behind `hacore states show --json`.

Moments are unix seconds, durations seconds, as in `snapshot`; every field that is gained has a default.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

Phase = Literal["down", "hello", "bulk update", "repair", "resume", "comparing", "stream"]


class StreamStatus(Struct, frozen=True, kw_only=True):
    """One direction between this node and a peer.

    `since`: when it entered `phase`, and `reason` why it is down. `position` is that of the last change sent or taken,
    `acknowledged` that which is in the replica's kernel; `lag_states` changes wait between the two, the oldest for
    `lag` seconds. `bulk_rows` of `bulk_total` have gone over in the bulk update under way, or in the last one.
    `bulk_updates` have begun and `repairs` came to their end since the worker started, over all connections.
    """

    phase: Phase = "down"
    since: float = 0.0
    reason: str = ""
    position: int = 0
    acknowledged: int = 0
    lag_states: int = 0
    lag: float = 0.0
    sent_bytes: int = 0
    received_bytes: int = 0
    bulk_rows: int = 0
    bulk_total: int = 0
    bulk_updates: int = 0
    repairs: int = 0


class PeerStates(Struct, frozen=True, kw_only=True):
    """A peer: what goes there, what comes from there, and how many rows of the table are its own."""

    name: str
    address: str = ""
    sending: StreamStatus = StreamStatus()
    receiving: StreamStatus = StreamStatus()
    rows: int = 0


class TableStates(Struct, frozen=True, kw_only=True):
    """The worker's table: `own` rows are this node's; `protocols` counts rows by protocol."""

    rows: int = 0
    own: int = 0
    max_states: int = 0
    memory_bytes: int = 0
    not_fitted: int = 0
    protocols: dict[str, int] = {}


class KernelStates(Struct, frozen=True, kw_only=True):
    """The kernel's side. `entries` of `limit` are in its table; `listening` while this node is MASTER of something.

    `echoes` are events of this worker's own injections, `ignored` those that the settings leave out, `lost` how often
    the kernel dropped events. `reconciled` is when the table was last compared, which took `reconcile_duration`;
    `checks`, `checked` and `check_duration` tell the same of comparisons with what the peers own: `missing` and
    `differing` entries were put into the kernel again, `unfitted` ones wait for room there. `injected` and `errors`
    count what came of rows put into the kernel. `lenient`: it lets TCP packets out of their windows pass for the time
    being, since this node has lost a VIP; `relaxed` counts entries that were made so.
    """

    entries: int = 0
    limit: int = 0
    listening: bool = False
    buffer_bytes: int = 0
    events: int = 0
    echoes: int = 0
    ignored: int = 0
    lost: int = 0
    malformed: int = 0
    reconciles: int = 0
    reconciled: float = 0.0
    reconcile_duration: float = 0.0
    checks: int = 0
    checked: float = 0.0
    check_duration: float = 0.0
    missing: int = 0
    differing: int = 0
    unfitted: int = 0
    waiting: int = 0
    injected: dict[str, int] = {}
    errors: dict[str, int] = {}
    lenient: bool = False
    relaxed: int = 0


class SharingCounts(Struct, frozen=True, kw_only=True):
    """What became of rows that two nodes had to do with, since the worker started.

    `claimed` rows became this node's own, by traffic here or because their owner was gone; `contested` ones had traffic
    here and stay another's; `ends_left` ended in this kernel and are left to their owner. Of what peers sent,
    `outdated` rows lost against a newer claim, and `mismatched` frames had updates of other rows than are here: digests
    repair it, as they do for the `overflowed` frames that left the log before every peer had them. `refused`
    connections came from who may not stream.
    """

    claimed: int = 0
    contested: int = 0
    ends_left: int = 0
    outdated: int = 0
    mismatched: int = 0
    overflowed: int = 0
    refused: int = 0


class StatesStatus(Struct, frozen=True, kw_only=True):
    """The whole of `hacore states show --json`."""

    node: str
    generated: float
    started: float
    epoch: int = 0
    master_of: list[str] = []
    peers: list[PeerStates] = []
    table: TableStates = TableStates()
    kernel: KernelStates = KernelStates()
    sharing: SharingCounts = SharingCounts()
    warnings: list[str] = []
