"""What the states worker answers: figures, rows of its table, and sentences for what happens."""

from __future__ import annotations

import socket
import time
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import numpy.typing as npt

from hacore._fast.row import KEY_BYTES
from hacore.errors import PlatformError
from hacore.linux import conntrack
from hacore.node.bus import BadRequest
from hacore.node.states_snapshot import (
    KernelStates,
    PeerStates,
    Phase,
    SharingCounts,
    StatesStatus,
    StreamStatus,
    TableStates,
)
from hacore.states import events as told
from hacore.states.layout import Rows, keys_of

if TYPE_CHECKING:
    from hacore.node.states import StatesWorker
    from hacore.node.states_peers import Link, Peer

PAGE_ROWS = 2000  # of a list, in one answer
COUNTED_ROWS = 256  # of one with counters, for each of which the kernel is asked: about 2 ms
SCAN_ROWS = 65_536  # looked at for one answer at most, so that it takes a few milliseconds

PROTOCOL_NAMES: Mapping[int, str] = {
    1: "icmp", 6: "tcp", 17: "udp", 33: "dccp", 47: "gre", 50: "esp", 51: "ah", 58: "icmpv6", 132: "sctp",
    136: "udplite",
}  # fmt: skip
#: enum tcp_conntrack and enum sctp_conntrack, as conntrack(8) prints them.
TCP_STATES = (
    "NONE", "SYN_SENT", "SYN_RECV", "ESTABLISHED", "FIN_WAIT", "CLOSE_WAIT", "LAST_ACK", "TIME_WAIT", "CLOSE",
    "SYN_SENT2",
)  # fmt: skip
SCTP_STATES = (
    "NONE", "CLOSED", "COOKIE_WAIT", "COOKIE_ECHOED", "ESTABLISHED", "SHUTDOWN_SENT", "SHUTDOWN_RECD",
    "SHUTDOWN_ACK_SENT", "HEARTBEAT_SENT",
)  # fmt: skip
PHASES: Mapping[str, Phase] = {
    "hello": "hello", "bulk": "bulk update", "repair": "repair", "resume": "resume", "comparing": "comparing",
    "synced": "stream", "ended": "down",
}  # fmt: skip


class Reports:
    """Of one worker."""

    def __init__(self, worker: StatesWorker) -> None:
        self._worker = worker
        self._counted = (0, dict[str, int]())
        self._count_again = 0.0
        self._syncs: Counter[tuple[str, str, str]] = Counter()  # by peer, role and what it was

    def answer(self, action: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """One request of the bus. Raises BadRequest."""
        if action == "show":
            return dict(msgspec.to_builtins(self.status()))
        if action == "list":
            return self._list(arguments)
        if action == "bulk":
            return self._bulk(arguments)
        raise BadRequest(f'states knows show, list and bulk, not "{action}"')

    def note(self, event: told.AnyEvent) -> None:
        """Something that is counted."""
        if isinstance(event, told.SyncStarted) and event.how == "bulk":
            self._syncs[event.peer, event.role, "bulk"] += 1
        elif isinstance(event, told.Repaired):
            self._syncs[event.peer, event.role, "repair"] += 1

    # Figures

    def status(self) -> StatesStatus:
        """Everything as it stands."""
        worker = self._worker
        return StatesStatus(
            node=worker.configuration.node,
            generated=time.time(),
            started=worker.started,
            epoch=worker.replication.ownership.epoch,
            master_of=sorted(worker.held),
            peers=[self._peer(peer) for peer in worker.peers.known.values()],
            table=self._table(),
            kernel=self._kernel(),
            sharing=self._sharing(),
            warnings=[*filter(None, [worker.problem, worker.epoch_file.problem]), *worker.warnings.values()],
        )

    def _peer(self, peer: Peer) -> PeerStates:
        return PeerStates(
            name=peer.name,
            address=peer.place,
            sending=self._stream(peer.name, "origin", peer.sending, peer.sending_reason, peer.sending_since),
            receiving=self._stream(peer.name, "replica", peer.receiving, peer.receiving_reason, peer.receiving_since),
            rows=peer.receiving.session.status(self._worker.clock()).rows if peer.receiving else 0,
        )

    def _stream(self, peer: str, role: str, link: Link[Any] | None, reason: str, since: float) -> StreamStatus:
        bulk_updates, repairs = self._syncs[peer, role, "bulk"], self._syncs[peer, role, "repair"]
        if link is None:
            lost = since + time.time() - self._worker.loop.now() if since else self._worker.started
            return StreamStatus(reason=reason, since=lost, bulk_updates=bulk_updates, repairs=repairs)
        status = link.session.status(self._worker.clock())
        return StreamStatus(
            phase=PHASES[status.state],
            since=time.time() - (self._worker.clock() - status.since),
            reason=link.session.reason,
            position=status.position,
            acknowledged=status.acknowledged,
            lag_states=status.lag_states,
            lag=status.lag,
            sent_bytes=link.connection.sent_bytes,
            received_bytes=link.connection.received_bytes,
            bulk_rows=status.bulk_rows,
            bulk_total=status.bulk_total,
            bulk_updates=bulk_updates,
            repairs=repairs,
        )

    def _table(self) -> TableStates:
        table = self._worker.replication.table
        own, protocols = self._counts()
        return TableStates(
            rows=len(table),
            own=min(own, len(table)),
            max_states=table.max_states,
            memory_bytes=table.memory_bytes,
            not_fitted=table.not_fitted,
            protocols=protocols,
        )

    def _counts(self) -> tuple[int, dict[str, int]]:
        """Rows that are this node's own, and rows by protocol: every row is looked at, so a large table is counted
        anew only so often that it takes a hundredth of the time.
        """
        now = time.monotonic()
        if now >= self._count_again:
            table = self._worker.replication.table
            counts = np.bincount(table.rows()["protocol"], minlength=1) if len(table) else np.zeros(1, np.int64)
            protocols = {protocol_name(number): int(counts[number]) for number in np.flatnonzero(counts).tolist()}
            self._counted = int(np.count_nonzero(table.metadata()["owner"] == 0)), protocols
            ended = time.monotonic()
            self._count_again = ended + 100 * (ended - now)
        return self._counted

    def _kernel(self) -> KernelStates:
        worker, follower = self._worker, self._worker.kernel
        try:
            entries, limit = conntrack.count(), conntrack.limit()
        except PlatformError:
            entries = limit = 0  # connection tracking is not there
        return KernelStates(
            entries=entries,
            limit=limit,
            listening=follower.listening,
            buffer_bytes=follower.buffer_bytes,
            events=follower.events,
            echoes=follower.echoes,
            ignored=follower.ignored,
            lost=follower.lost,
            malformed=follower.malformed,
            reconciles=follower.reconciler.count,
            reconciled=follower.reconciler.ended,
            reconcile_duration=follower.reconciler.duration,
            checks=worker.upkeep.count,
            checked=worker.upkeep.ended,
            check_duration=worker.upkeep.duration,
            missing=worker.upkeep.missing,
            differing=worker.upkeep.differing,
            unfitted=worker.upkeep.unfitted,
            waiting=worker.queue.waiting_rows + worker.replication.replica.pending_rows,
            injected={name: count for name, count in worker.queue.counts.items() if count},
            errors=dict(worker.queue.errors),
            lenient=worker.windows.is_lenient,
            relaxed=worker.windows.relaxed,
        )

    def _sharing(self) -> SharingCounts:
        replication = self._worker.replication
        origin, replica = replication.origin, replication.replica
        return SharingCounts(
            claimed=origin.claimed,
            contested=origin.contested,
            ends_left=origin.sightings,
            outdated=replica.refused,
            mismatched=replica.mismatched,
            overflowed=replication.log.overflowed,
            refused=self._worker.peers.listener.refused,
        )

    # Rows

    def _list(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """One page: `cursor` goes on where the last one ended, 0 is the end; filters as `chosen`. With `counters`, the
        kernel is asked what it counts for each row.
        """
        replication = self._worker.replication
        cursor = arguments.get("cursor")
        now = int(self._worker.clock())
        page = COUNTED_ROWS if arguments.get("counters") else PAGE_ROWS
        rows, following = replication.table.scan(cursor, min(SCAN_ROWS, PAGE_ROWS * 8), now=now)
        rows = rows[chosen(rows, arguments)]
        left = len(rows) > page
        if left:  # few scans are that dense in what was asked for: look at less
            rows, following = replication.table.scan(cursor, page, now=now)
            rows = rows[chosen(rows, arguments)]
        counted = _counted(rows) if arguments.get("counters") else {}
        metadata = replication.table.metadata()[replication.table.find(rows)] if len(rows) else ()
        return {
            "states": [
                described(row)
                | {"owner": replication.ownership.owner_name(int(meta["owner"])), "epoch": int(meta["epoch"])}
                | counted.get(row.tobytes()[:KEY_BYTES], {})
                for row, meta in zip(rows, metadata, strict=True)
            ],
            "cursor": following,
        }

    def _bulk(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """Both ways with one peer, or with all."""
        name = arguments.get("peer")
        known = self._worker.peers.known
        if name is not None and name not in known:
            raise BadRequest(f'there is no peer "{name}"; there are: {", ".join(known) or "none"}')
        peers = [known[name]] if name is not None else list(known.values())
        ordered = [peer.name for peer in peers if peer.links()]
        for peer in peers:
            peer.order_bulk("asked for by the administrator")
        self._worker.turn_soon()
        if not ordered:
            raise PlatformError(f"not connected to {' or '.join(peer.name for peer in peers) or 'any peer'}")
        return {"peers": ordered}


def _counted(rows: Rows) -> dict[bytes, dict[str, Any]]:
    """By key, what the kernel counts: `packets_original` and so on, and `start` (unix seconds). Nothing for what is not
    in it, and where it does not count.
    """
    found, shown = conntrack.fetch_shown(rows)
    counted = {}
    for key, each in zip(keys_of(found), shown, strict=True):
        values: dict[str, float] = {name: int(each[name]) for name in COUNTERS if each[name]}
        if each["start_ns"]:
            values["start"] = int(each["start_ns"]) / 1e9
        counted[key.tobytes()] = values
    return counted


COUNTERS = ("packets_original", "packets_reply", "bytes_original", "bytes_reply")


def protocol_name(number: int) -> str:
    """As conntrack(8) prints it."""
    return PROTOCOL_NAMES.get(number, str(number))


def chosen(rows: Rows, wanted: Mapping[str, Any]) -> npt.NDArray[np.bool_]:
    """Which rows match all of `protocol` (name or number), `address` (of any end), `port` (of any end), `zone`,
    `state`. Raises BadRequest.
    """
    hits = np.ones(len(rows), np.bool_)
    if (protocol := wanted.get("protocol")) is not None:
        numbers = {name: number for number, name in PROTOCOL_NAMES.items()}
        if protocol not in numbers and not str(protocol).isdigit():
            raise BadRequest(f"protocol is a number or one of {', '.join(numbers)}, not {protocol}")
        hits &= rows["protocol"] == (numbers[protocol] if protocol in numbers else int(protocol))
    if (address := wanted.get("address")) is not None:
        hits &= _has_address(rows, str(address))
    if (port := wanted.get("port")) is not None:
        ends = ("source_port", "destination_port", "reply_source_port", "reply_destination_port")
        hits &= np.logical_or.reduce([rows[end] == int(port) for end in ends])
        hits &= np.isin(rows["protocol"], (6, 17, 33, 132, 136))
    if (zone := wanted.get("zone")) is not None:
        hits &= (rows["zone"] == int(zone)) | (rows["reply_zone"] == int(zone))
    if (state := wanted.get("state")) is not None:
        tcp = TCP_STATES.index(state) if state in TCP_STATES else -1
        sctp = SCTP_STATES.index(state) if state in SCTP_STATES else -1
        if tcp < 0 and sctp < 0:
            raise BadRequest(f"state is one of {', '.join(dict.fromkeys((*TCP_STATES, *SCTP_STATES)))}, not {state}")
        number = rows["protocol_state"].astype(np.int16)
        hits &= ((rows["protocol"] == 6) & (number == tcp)) | ((rows["protocol"] == 132) & (number == sctp))
    return hits


def _has_address(rows: Rows, text: str) -> npt.NDArray[np.bool_]:
    from hacore._fast.match import matching
    from hacore.node.states_filter import ANY_END, rule

    try:
        return matching(rows, rule(network=text, ends=ANY_END))
    except ValueError as error:
        raise BadRequest(f"address is an address or a network: {error}") from None


def described(row: Any) -> dict[str, Any]:
    """One row for people and programs: names as in the layout, addresses and states as text, zeros left out."""
    protocol = int(row["protocol"])
    shown: dict[str, Any] = {"protocol": protocol_name(protocol)}
    for end in ("source", "destination", "reply_source", "reply_destination"):
        shown[end] = _address(row, end)
        shown[f"{end}_port"] = int(row[f"{end}_port"])
    states = {6: TCP_STATES, 132: SCTP_STATES}.get(protocol)
    if states is not None:
        number = int(row["protocol_state"])
        shown["state"] = states[number] if number < len(states) else str(number)
    shown["timeout"] = int(row["timeout"])
    shown["status"] = _bits(row["status"], STATUS_BITS)
    for name in ("mark", "zone", "reply_zone"):
        if row[name]:
            shown[name] = int(row[name])
    if row["helper"]:
        shown["helper"] = row["helper"].decode(errors="replace")
    if row["master_protocol"]:
        shown["master"] = _master(row)
    return shown


def described_expectation(expectation: Any) -> dict[str, Any]:
    """The same of an expectation; where any address or port will do, it is zero."""
    shown: dict[str, Any] = {"protocol": protocol_name(int(expectation["protocol"]))}
    for end in ("source", "destination", "mask_source"):
        shown[end] = _address(expectation, end)
    for end in ("source_port", "destination_port", "mask_source_port"):
        shown[end] = int(expectation[end])
    shown["timeout"] = int(expectation["timeout"])
    shown["flags"] = _bits(expectation["flags"], EXPECTATION_BITS)
    if expectation["class"]:
        shown["class"] = int(expectation["class"])
    for name in ("helper", "function"):
        if expectation[name]:
            shown[name] = expectation[name].decode(errors="replace")
    shown["master"] = _master(expectation)
    if expectation["has_nat"]:
        shown["nat_source"] = _address(expectation, "nat_source")
        shown["nat_source_port"] = int(expectation["nat_source_port"])
    return shown


def _address(record: Any, name: str) -> str:
    family = int(record["family"])
    return socket.inet_ntop(family, record[name].tobytes()[: 4 if family == socket.AF_INET else 16])


def _master(record: Any) -> str:
    """The connection that expected this one, or expects it."""
    return (
        f"{_address(record, 'master_source')}:{int(record['master_source_port'])} -> "
        f"{_address(record, 'master_destination')}:{int(record['master_destination_port'])}"
    )


def _bits(value: Any, bits: Mapping[int, str]) -> list[str]:
    return [name for bit, name in bits.items() if int(value) & bit]


STATUS_BITS: Mapping[int, str] = {
    0x1: "EXPECTED", 0x2: "SEEN_REPLY", 0x4: "ASSURED", 0x10: "SRC_NAT", 0x20: "DST_NAT", 0x4000: "OFFLOAD",
}  # fmt: skip
#: NF_CT_EXPECT_* (linux/netfilter/nf_conntrack_common.h).
EXPECTATION_BITS: Mapping[int, str] = {0x1: "PERMANENT", 0x2: "INACTIVE", 0x4: "USERSPACE"}


def sentence(event: told.AnyEvent) -> tuple[str, str]:
    """Kind and text of an event for the node's history."""
    match event:
        case told.PeerConnected(peer=peer, role=role):
            return "states peer", f"stream {_way(role)} {peer} stands"
        case told.PeerDisconnected(peer=peer, role=role, reason=reason):
            return "states peer", f"stream {_way(role)} {peer or 'a node without a name'} ended: {reason}"
        case told.SyncStarted(peer=peer, role=role, how=how, reason=reason):
            return "states sync", f"{_how(how)} {_way(role)} {peer} begins: {reason}"
        case told.Synced(peer=peer, role=role, how=how, rows=rows, duration=duration):
            where = "in this kernel" if role == "replica" else "there"
            return "states sync", f"{_how(how)} {_way(role)} {peer} is {where}: {rows} states in {duration:.3f} s"
        case told.Repaired(peer=peer, role=role, partitions=partitions, rows=rows):
            return "states repair", f"{partitions} partitions {_way(role)} {peer} differed: {rows} states sent again"
        case told.EpochRaised(epoch=epoch, reason=reason):
            return "states epoch", f"epoch {epoch}: {reason}"
        case told.QueueDropped(reason=reason):
            return "states queue dropped", f"unsent changes dropped, digests will tell what is missing: {reason}"
        case told.NotFitted(count=count):
            return "states not fitted", f"{count} states did not fit into the table (states.max_states)"


def _way(role: str) -> str:
    return "to" if role == "origin" else "from"


def _how(how: str) -> str:
    return {"bulk": "bulk update", "repair": "repair", "resume": "stream resumed"}.get(how, how)
