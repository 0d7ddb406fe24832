"""What Prometheus is told: a snapshot in its text format, and whether the peers' words come in.

Names and units are as Prometheus has them: seconds, bytes, `_total` for what only grows, moments as unix seconds (an
age is `time() - x`). What nobody vouches for now is left out, and not told as it was: a rule finds it `absent`, and
`hacore_election_up` says 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, get_args

from msgspec.structs import asdict
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector, CollectorRegistry

from hacore.carp.counters import Counters
from hacore.node.control_snapshot import ControlStatus
from hacore.node.snapshot import NodeStatus, Snapshot, State, VipStatus, doubt
from hacore.node.states_snapshot import PeerStates, StatesStatus, StreamStatus
from hacore.services.service import State as ServiceState

#: The counters of carp(4) that count adverts which were not taken, in the order of the checks.
DROPS = ("badif", "badttl", "hdrops", "badsum", "badver", "badlen", "badauth", "badvhid", "badaddrs")
#: What `KernelStates.injected` counts that are no rows.
NO_ROWS = ("messages", "sends", "queries", "failed")
VIP_LABELS = ("vip", "interface", "vhid")


class Peer(NamedTuple):
    """A peer as this node hears it over the node API: are its words fresh, and when did the last come (0: never)."""

    name: str
    fresh: bool
    at: float


class Answer(NamedTuple):
    """The body of a scrape, and its Content-Type."""

    body: bytes
    content_type: str


def scrape(snapshot: Snapshot | None, peers: Sequence[Peer], accept: str = "") -> Answer:
    """One scrape in the format that the header Accept asks for. Without a snapshot (the supervisor does not answer)
    only `hacore_up` is told of this node.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Snapshot(snapshot, peers))
    encode, content_type = choose_encoder(accept)
    return Answer(encode(registry), content_type)


class _Snapshot(Collector):
    def __init__(self, snapshot: Snapshot | None, peers: Sequence[Peer]) -> None:
        self._snapshot, self._peers = snapshot, peers

    def collect(self) -> Iterator[Metric]:
        snapshot = self._snapshot
        yield _gauge("up", "Whether the node's supervisor answers.", float(snapshot is not None))
        yield from _peers(self._peers)
        if snapshot is None:
            return
        yield from _node(snapshot.node)
        yield from _election(snapshot)
        if snapshot.states is not None:
            yield from _states(snapshot.states)
        if snapshot.control is not None:
            yield from _control(snapshot.control)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"hacore_{name}", text, value=value)


def _gauges(name: str, text: str, labels: Sequence[str], values: Iterable[tuple[Sequence[str], float]]) -> Metric:
    family = GaugeMetricFamily(f"hacore_{name}", text, labels=labels)
    for of, value in values:
        family.add_metric(of, value)
    return family


def _counters(name: str, text: str, labels: Sequence[str], values: Iterable[tuple[Sequence[str], float]]) -> Metric:
    """`name` without `_total`."""
    family = CounterMetricFamily(f"hacore_{name}", text, labels=labels)
    for of, value in values:
        family.add_metric(of, value)
    return family


def _peers(peers: Sequence[Peer]) -> Iterator[Metric]:
    yield _gauges(
        "peer_up", "Whether this peer's status comes in over the node API.", ["peer"],
        [([one.name], float(one.fresh)) for one in peers],
    )  # fmt: skip
    yield _gauges(
        "peer_last_word_timestamp_seconds", "When this peer's status came in last.", ["peer"],
        [([one.name], one.at) for one in peers if one.at],
    )  # fmt: skip


def _node(node: NodeStatus) -> Iterator[Metric]:
    info = InfoMetricFamily("hacore_node", "The node and the version of hacore that it runs.")
    info.add_metric([], {"node": node.name, "version": node.version})
    yield info
    yield _gauge("start_time_seconds", "When the node was started.", node.started)
    yield _gauge("maintenance", "Whether the node is in maintenance.", float(node.maintenance))
    yield _gauge("carp_enabled", "Whether CARP is enabled.", float(node.carp_enabled))
    yield _gauge("realtime", "Whether the election has all of real time that it wants.", float(node.realtime.obtained))
    yield _gauge("warnings", "Warnings that the node's status shows.", len(node.warnings))
    workers = {name: worker for name, worker in node.workers.items() if worker.state != "off"}
    yield _gauges(
        "worker_up", "Whether this worker of the node runs.", ["worker"],
        [([name], float(one.state == "running")) for name, one in workers.items()],
    )  # fmt: skip
    yield _counters(
        "worker_restarts", "Times that this worker was started again.", ["worker"],
        [([name], one.restarts) for name, one in workers.items()],
    )  # fmt: skip
    checks = [one for one in node.checks if one.runs]
    yield _gauges(
        "check_up", "Whether this health check passes; one that has not run often enough is left out.", ["check"],
        [([one.name], float(one.state == "up")) for one in checks if one.state != "unknown"],
    )  # fmt: skip
    yield _gauges(
        "check_last_run_timestamp_seconds", "When the last run of this check ended.", ["check"],
        [([one.name], one.ran) for one in checks],
    )  # fmt: skip
    yield _gauges(
        "check_duration_seconds", "What the last run of this check took.", ["check"],
        [([one.name], one.duration) for one in checks],
    )  # fmt: skip
    yield _gauges(
        "certificate_expiry_timestamp_seconds", "The end of a certificate, of this node (own) or of a peer.",
        ["name", "own"], [([one.name, str(one.own).lower()], one.expires) for one in node.certificates],
    )  # fmt: skip


def _election(snapshot: Snapshot) -> Iterator[Metric]:
    node, vips = snapshot.node, snapshot.vips
    vouched = not doubt(snapshot)
    yield _gauge("election_up", "Whether the election worker runs and answers.", float(vouched))
    if node.reported:
        yield _gauge("election_last_word_timestamp_seconds", "When the election worker answered last.", node.reported)
    yield _counters(
        "vip_failovers", "Times that this node became MASTER of this VIP since it was started.", VIP_LABELS,
        [(_vip(one), one.failovers) for one in vips],
    )  # fmt: skip
    if not vouched:
        return
    yield _gauge("demotion", "What is added to every advskew.", node.demotion.total)
    yield _gauges(
        "demotion_reason", "What this reason adds to the demotion.", ["reason"],
        [([reason], value) for reason, value in node.demotion.reasons.items()],
    )  # fmt: skip
    yield _gauges(
        "vip_state", "1 for the state that this VIP is in here, 0 for the others.", [*VIP_LABELS, "state"],
        [([*_vip(one), state], float(one.state == state)) for one in vips for state in get_args(State)],
    )  # fmt: skip
    yield _gauges(
        "vip_state_since_timestamp_seconds", "When this VIP entered its state.", VIP_LABELS,
        [(_vip(one), one.since) for one in vips],
    )  # fmt: skip
    yield _gauges(
        "vip_advskew", "The setting advskew, in 1/256 s.", VIP_LABELS, [(_vip(one), one.advskew) for one in vips]
    )
    yield _gauges(
        "vip_effective_advskew", "What is advertised and compared: advskew and demotion, in 1/256 s.", VIP_LABELS,
        [(_vip(one), one.effective_advskew) for one in vips],
    )  # fmt: skip
    yield _gauges(
        "vip_master_last_advert_timestamp_seconds", "When the other MASTER of this VIP was heard last.",
        [*VIP_LABELS, "source"], [([*_vip(one), one.master.source], one.master.heard) for one in vips if one.master],
    )  # fmt: skip
    yield _gauges(
        "heard_last_advert_timestamp_seconds", "When another node was heard last on an interface.",
        ["interface", "source"], [([one.interface, one.source], one.heard) for one in node.peers],
    )  # fmt: skip
    yield from _adverts(node.counters, vips)


def _adverts(unknown: Counters, vips: Sequence[VipStatus]) -> Iterator[Metric]:
    def each(name: str, text: str, labels: Sequence[str], of: Callable[[Counters], Mapping[str, int]]) -> Metric:
        values = [((*_vip(vip), label), value) for vip in vips for label, value in of(vip.counters).items()]
        return _counters(name, text, [*VIP_LABELS, *labels], values)

    yield each(
        "vip_adverts_received", "Adverts of this VHID received.", ["family"],
        lambda counted: {"ipv4": counted.ipackets, "ipv6": counted.ipackets6},
    )  # fmt: skip
    yield each(
        "vip_adverts_sent", "Adverts of this VHID sent.", ["family"],
        lambda counted: {"ipv4": counted.opackets, "ipv6": counted.opackets6},
    )  # fmt: skip
    yield each(
        "vip_adverts_dropped", "Adverts of this VHID that were not taken, by the counter of carp(4).", ["reason"],
        _drops,
    )  # fmt: skip
    yield _counters(
        "vip_advert_send_errors", "Adverts of this VHID that the kernel did not send.", VIP_LABELS,
        [(_vip(vip), vip.counters.onomem) for vip in vips],
    )  # fmt: skip
    yield _counters(
        "vip_state_changes", "State changes of this VIP since the election worker started.", VIP_LABELS,
        [(_vip(vip), vip.counters.ostates) for vip in vips],
    )  # fmt: skip
    yield _counters(
        "vip_preemptions", "Takeovers of this VIP from a slower MASTER.", VIP_LABELS,
        [(_vip(vip), vip.counters.preempt) for vip in vips],
    )  # fmt: skip
    yield _counters(
        "adverts_dropped", "Adverts that belong to no VIP of this node, by the counter of carp(4).", ["reason"],
        [([reason], value) for reason, value in _drops(unknown).items()],
    )  # fmt: skip


def _drops(counted: Counters) -> dict[str, int]:
    values = asdict(counted)
    return {reason: values[reason] for reason in DROPS}


def _vip(vip: VipStatus) -> tuple[str, str, str]:
    return vip.name, vip.interface, str(vip.vhid)


def _states(states: StatesStatus) -> Iterator[Metric]:
    table, kernel = states.table, states.kernel
    yield _gauge("states_last_word_timestamp_seconds", "When the states worker said what follows.", states.generated)
    yield _gauge("states_rows", "Rows in the state table.", table.rows)
    yield _gauge("states_own_rows", "Rows of the state table that are this node's own.", table.own)
    yield _gauge("states_rows_limit", "Rows that the state table may have (states.max_states).", table.max_states)
    yield _gauge("states_memory_bytes", "Memory of the state table.", table.memory_bytes)
    yield _counters("states_not_fitted", "Rows that did not fit.", [], [([], table.not_fitted)])
    yield _counters(
        "states_sharing", "Rows, frames and connections on which the nodes did not agree at once.", ["what"],
        [([what], count) for what, count in asdict(states.sharing).items()],
    )  # fmt: skip
    yield _gauges(
        "states_protocol_rows", "Rows in the state table by protocol.", ["protocol"],
        [([name], count) for name, count in table.protocols.items()],
    )  # fmt: skip
    streams = [(peer, way) for peer in states.peers for way in ("to", "from")]
    labels = ["peer", "direction"]
    yield _gauges(
        "states_stream_up", "Whether each change is replicated to or from this peer as it happens.", labels,
        [([peer.name, way], float(_stream(peer, way).phase == "stream")) for peer, way in streams],
    )  # fmt: skip
    yield _gauges(
        "states_lag_seconds", "The age of the oldest change that is not in the other kernel yet.", labels,
        [([peer.name, way], _stream(peer, way).lag) for peer, way in streams],
    )  # fmt: skip
    yield _gauges(
        "states_lag_rows", "Changes that are not in the other kernel yet.", labels,
        [([peer.name, way], _stream(peer, way).lag_states) for peer, way in streams],
    )  # fmt: skip
    yield _counters(
        "states_changes", "Changes replicated over the stream that there is now.", labels,
        [([peer.name, way], _stream(peer, way).position) for peer, way in streams],
    )  # fmt: skip
    yield _counters(
        "states_stream_bytes", "Bytes of the changes' stream that there is now, sent or received here.", labels,
        [
            ([peer.name, way], peer.sending.sent_bytes if way == "to" else peer.receiving.received_bytes)
            for peer, way in streams
        ],
    )  # fmt: skip
    yield _gauges(
        "states_bulk_rows", "Rows that went over in the bulk update under way, or the last one.", labels,
        [([peer.name, way], _stream(peer, way).bulk_rows) for peer, way in streams],
    )  # fmt: skip
    yield _gauges(
        "states_bulk_rows_expected", "Rows of that bulk update in all.", labels,
        [([peer.name, way], _stream(peer, way).bulk_total) for peer, way in streams],
    )  # fmt: skip
    yield _gauge("kernel_states", "Entries of the kernel's connection table.", kernel.entries)
    yield _gauge("kernel_states_limit", "Entries that it may have (nf_conntrack_max).", kernel.limit)
    yield _counters("kernel_events", "Events of the kernel's connection table.", [], [([], kernel.events)])
    yield _counters("kernel_events_lost", "Times that the kernel dropped events.", [], [([], kernel.lost)])
    yield _counters(
        "kernel_states_injected", "What became of the rows put into the kernel.", ["result"],
        [([name], count) for name, count in kernel.injected.items() if name not in NO_ROWS],
    )  # fmt: skip
    yield _counters(
        "kernel_states_repaired", "Rows of peers that the kernel had lost or changed, put into it again.", ["what"],
        [(["missing"], kernel.missing), (["differing"], kernel.differing)],
    )  # fmt: skip
    yield _gauge("kernel_states_unfitted", "Rows of peers that wait for room in the kernel.", kernel.unfitted)
    yield _counters(
        "kernel_states_refused", "Rows that the kernel refused.", ["error"],
        [([name], count) for name, count in kernel.errors.items()],
    )  # fmt: skip


def _stream(peer: PeerStates, way: str) -> StreamStatus:
    return peer.sending if way == "to" else peer.receiving


def _control(control: ControlStatus) -> Iterator[Metric]:
    yield _counters(
        "pushes", "Pushes of the configuration by how they ended, to or from this peer.",
        ["peer", "direction", "result"], [([one.peer, one.direction, one.result], one.count) for one in control.pushes],
    )  # fmt: skip
    yield _gauges(
        "push_last_timestamp_seconds", "When the last push with this result ended.", ["peer", "direction", "result"],
        [([one.peer, one.direction, one.result], one.last) for one in control.pushes],
    )  # fmt: skip
    yield _gauges(
        "section_revision", "The last revision that changed this section here.", ["section"],
        [([one.id], one.revision) for one in control.sections],
    )  # fmt: skip
    yield _gauges(
        "section_applied_timestamp_seconds", "When that was.", ["section"],
        [([one.id], one.applied_at) for one in control.sections],
    )  # fmt: skip
    yield _gauges(
        "service_state", "1 for the state that this service is in here, 0 for the others.", ["service", "state"],
        [([one.id, state.value], float(one.state is state)) for one in control.services for state in ServiceState],
    )  # fmt: skip
    if control.services_seen:
        yield _gauge("services_last_look_timestamp_seconds", "When the services were looked at.", control.services_seen)
