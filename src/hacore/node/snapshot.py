"""What a node says about itself: the structs behind `status --json`, the bus and the status page.

Times that mark a moment are unix seconds, so that a reader can tell the age of every figure from `generated`; durations are seconds. Every
field that a struct gains has a default, so that a reader and a node of different versions understand each other.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from hacore.carp.counters import Counters

State = Literal["INIT", "BACKUP", "MASTER"]
WorkerState = Literal["running", "starting", "stopped", "failed", "off"]


class Master(Struct, kw_only=True):
    """The foreign MASTER last heard for a VHID: `advbase` in seconds and `advskew` in 1/256 s as its advert carried them."""

    source: str
    advbase: int
    advskew: int
    heard: float


class VipStatus(Struct, kw_only=True):
    """One virtual router. `since` is when it entered `state` and `reason` why; `master` is None while this node is MASTER or none was heard.

    `gate` is what stands between a stopped node and the traffic: "nft" (timed set elements) or "lifetime" (address lifetimes alone);
    `device` is the link that carries the addresses, `leaving` whether it has bowed out and waits for its successor.
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


class Demotion(Struct, kw_only=True):
    """The sum that is added to every advskew, and what it is made of."""

    total: int = 0
    reasons: dict[str, int] = {}


class PeerHeard(Struct, kw_only=True):
    """A source of valid adverts on an interface: which VHIDs it speaks for, when it last did, and which HMAC form it uses."""

    interface: str
    source: str
    vhids: list[int]
    heard: float
    form: Literal["freebsd", "openbsd"] = "freebsd"


class Realtime(Struct, frozen=True, kw_only=True):
    """Whether the election worker has SCHED_RR, locked memory and a frozen collector, and if not, `problem` says why."""

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
    """One health check: "unknown" until it ran often enough to tell; `finding` is the last run's exit code or signal and first line."""

    name: str
    state: Literal["unknown", "up", "down"] = "unknown"
    since: float = 0.0
    ran: float = 0.0
    finding: str = ""
    demotion: int = 0


class NodeStatus(Struct, kw_only=True):
    """The node itself. `started` and `generated` are unix seconds; `carp_enabled` is False between `carp disable` and the next start."""

    name: str
    version: str
    pid: int
    started: float
    generated: float
    demotion: Demotion
    maintenance: bool = False
    carp_enabled: bool = True
    preempt: bool = True
    peers: list[PeerHeard] = []
    realtime: Realtime = Realtime()
    warnings: list[str] = []
    workers: dict[str, Worker] = {}
    checks: list[CheckStatus] = []
    runtime_dir: str = ""
    settings_path: str = ""


class Snapshot(Struct, kw_only=True):
    """The whole of `status --json`."""

    node: NodeStatus
    vips: list[VipStatus]
