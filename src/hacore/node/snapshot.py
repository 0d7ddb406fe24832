"""What a node says about itself: the structs behind `status --json`, the bus and the status page.

Times that mark a moment are unix seconds, so that a reader can tell the age of every figure from `generated`;
durations are seconds. Every field that a struct gains has a default, so that a reader and a node of different
versions understand each other.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct, field

from hacore.carp.counters import Counters
from hacore.node.control_snapshot import ControlStatus
from hacore.node.states_snapshot import StatesStatus

State = Literal["INIT", "BACKUP", "MASTER"]
WorkerState = Literal["running", "starting", "stopped", "failed", "off"]


class Master(Struct, kw_only=True):
    """The foreign MASTER last heard for a VHID, with advbase (seconds) and advskew (1/256 s) as its advert had them."""

    source: str
    advbase: int
    advskew: int
    heard: float


class VipStatus(Struct, kw_only=True):
    """One virtual router. `since` is when it entered `state` and `reason` why.

    `master` is None while this node is MASTER or none was heard. `gate` is what stands between a stopped node and the
    traffic: "nft" (timed set elements) or "lifetime" (address lifetimes alone); `device` is the link that carries the
    addresses, `leaving` whether it has bowed out and waits for its successor. `failovers` is how often this node became
    MASTER since it was started.
    """

    name: str
    interface: str
    vhid: int
    state: State
    since: float
    reason: str
    advbase: int
    advskew: int
    effective_advskew: int
    addresses: list[str]
    counters: Counters
    master: Master | None = None
    leaving: bool = False
    gate: str = ""
    device: str = ""
    virtual_mac: str = ""
    failovers: int = 0


class Demotion(Struct, kw_only=True):
    """The sum that is added to every advskew, and what it is made of."""

    total: int = 0
    reasons: dict[str, int] = {}


class PeerHeard(Struct, kw_only=True):
    """A source of valid adverts on an interface: the VHIDs it speaks for, when it last did, and its HMAC form."""

    interface: str
    source: str
    vhids: list[int]
    heard: float
    form: Literal["freebsd", "openbsd"] = "freebsd"


class LinkStatus(Struct, frozen=True, kw_only=True):
    """An interface that VIPs stand on: `present`: it exists, `up`: it has a carrier; adverts go out from `source4` and
    `source6`.
    """

    name: str
    present: bool = False
    up: bool = False
    mac: str = ""
    source4: str = ""
    source6: str = ""


class Realtime(Struct, frozen=True, kw_only=True):
    """Whether the election worker has SCHED_RR, locked memory and a frozen collector; if not, `problem` says why."""

    obtained: bool = False
    scheduler: bool = False
    locked: bool = False
    frozen: bool = False
    problem: str = ""


class Worker(Struct, kw_only=True):
    """One process under the supervisor. `since` is when it entered `state`; `pid` is 0 while there is none."""

    state: WorkerState
    pid: int = 0
    restarts: int = 0
    since: float = 0.0


class CheckStatus(Struct, kw_only=True):
    """One health check: "unknown" until it ran often enough to tell; `finding` says how the last run ended, at `ran`.

    `demotion` is what it adds now; `failures` and `successes` are in a row up to now; `late` counts runs that ended
    after their time was up, `duration` is what the last one took.
    """

    name: str
    state: Literal["unknown", "up", "down"] = "unknown"
    since: float = 0.0
    ran: float = 0.0
    finding: str = ""
    demotion: int = 0
    failures: int = 0
    successes: int = 0
    runs: int = 0
    late: int = 0
    duration: float = 0.0


class CertificateStatus(Struct, frozen=True, kw_only=True):
    """A certificate that this node shows (`own`), or that it trusts: the name in it, its SHA-256 in hex, its end."""

    name: str
    own: bool
    fingerprint: str
    expires: float


class NodeStatus(Struct, kw_only=True):
    """The node itself. `started` and `generated` are unix seconds.

    `carp_enabled` is False between `carp disable` and the next start; `reported` is when the election worker said what
    stands under `vips` and `peers` (0: never), which is older than `generated` when that worker does not answer.
    `links` are the interfaces that VIPs stand on. `counters` are of the packets that belong to no virtual router, such
    as those of an unknown VHID. `certificates` are those of pairing, as the control worker said last.
    """

    name: str
    version: str
    pid: int
    started: float
    generated: float
    reported: float = 0.0
    demotion: Demotion
    maintenance: bool = False
    carp_enabled: bool = True
    preempt: bool = True
    peers: list[PeerHeard] = []
    links: list[LinkStatus] = []
    counters: Counters = field(default_factory=Counters)
    realtime: Realtime = Realtime()
    warnings: list[str] = []
    workers: dict[str, Worker] = {}
    checks: list[CheckStatus] = []
    certificates: list[CertificateStatus] = []
    runtime_dir: str = ""
    settings_path: str = ""


class Snapshot(Struct, kw_only=True):
    """The whole of `status --json`. `states` are the figures of the replication as the states worker said last, None
    where it said none: without `[states]`, or while that worker is not running. `control` is what the control worker
    said last, None while none runs.
    """

    node: NodeStatus
    vips: list[VipStatus]
    states: StatesStatus | None = None
    control: ControlStatus | None = None


#: Seconds after which what the election worker said is old; it is asked for each status.
OLD = 3.0


def doubt(snapshot: Snapshot) -> str:
    """Why nobody vouches for the states of the VIPs; "" while the election worker does."""
    node = snapshot.node
    worker = node.workers.get("election")
    if worker is None:
        return "the node says nothing of its election worker"
    if worker.state != "running":
        return f"the election worker is not running: {worker.state}"
    if not node.reported:
        return "the election worker has not reported yet"
    if node.generated - node.reported > OLD:
        return f"the election worker does not answer, since {node.generated - node.reported:.0f} s"
    return ""
