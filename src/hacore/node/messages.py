"""What the supervisor and its workers say to each other, over a socket pair that only the two hold."""

from __future__ import annotations

from typing import Any

import msgspec

from hacore.carp.counters import Counters
from hacore.carp.events import AnyEvent
from hacore.carp.router import RouterSettings
from hacore.node.control_snapshot import ControlStatus
from hacore.node.snapshot import CertificateStatus, LinkStatus, PeerHeard, VipStatus
from hacore.node.states_snapshot import StatesStatus

SIGN_OF_LIFE = 5.0  # seconds between two conditions of a worker that are alike


class Device(msgspec.Struct, frozen=True, kw_only=True):
    """Where a VIP's addresses live, as `hacore.node.prepare` made it."""

    name: str  # of the VIP
    device: str
    ifindex: int
    parent_ifindex: int
    mac: str
    parent_mac: str
    noprefixroute: list[bool]  # one for each address
    gate: str  # "adverts", "static" or "none"


class Demote(msgspec.Struct, frozen=True, tag=True):
    """Hold a demotion reason with this value; 0 lets it go."""

    name: str
    value: int
    administrative: bool = False


class Configure(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Everything the election needs to know; sent at the start and on each reload."""

    routers: list[RouterSettings]
    devices: list[Device]
    preempt: bool
    rekey_time: float
    enabled: bool
    demotions: list[Demote]


class ResetDemotion(msgspec.Struct, frozen=True, tag=True):
    """Let go of what can be let go of."""


class Rekeyed(msgspec.Struct, frozen=True, tag=True):
    """Every node that can be asked has the keys of these VHIDs: interface, vhid, and for how many seconds those before
    them are still needed.
    """

    places: list[tuple[str, int, float]]


class SetEnabled(msgspec.Struct, frozen=True, tag=True):
    """`hacore carp enable` and `disable`."""

    enabled: bool


class Leave(msgspec.Struct, frozen=True, tag=True):
    """Bow out, give up, end."""


class AskReport(msgspec.Struct, frozen=True, tag=True):
    """Asks for a `Report` with the same number."""

    number: int


ToElection = Configure | Demote | ResetDemotion | Rekeyed | SetEnabled | Leave | AskReport


class Ready(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The worker runs; `refused` says what of real time it was not given."""

    refused: list[str]


class LastWords(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """What the supervisor sends when this worker is dead: one entry for each flag of the pulse page, in order."""

    vips: list[VipLastWords]


class VipLastWords(msgspec.Struct, frozen=True, kw_only=True):
    """Messages built beforehand that give one VIP up."""

    name: str
    interface: str
    dead_time: float
    bow_out: list[bytes]  # frames
    addresses: list[bytes]  # rtnetlink
    device: Device


class Happened(msgspec.Struct, frozen=True, tag=True):
    """Events of the election, with `at` as unix time."""

    events: list[AnyEvent]


class Report(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The election as it stands, for `hacore status`."""

    number: int
    generated: float
    vips: list[VipStatus]
    peers: list[PeerHeard]
    demotion_total: int
    demotion_reasons: dict[str, int]
    counters: Counters
    enabled: bool
    warnings: list[str]
    links: list[LinkStatus] = []


class WantsDevices(msgspec.Struct, frozen=True, tag=True):
    """A VIP's device is missing though its interface is there."""


class Left(msgspec.Struct, frozen=True, tag=True):
    """Everything is given up; the worker ends now."""


FromElection = Ready | LastWords | Happened | Report | WantsDevices | Left


class StatesPeer(msgspec.Struct, frozen=True, kw_only=True):
    """Another node, and where its states worker listens (`host` is empty where this node is not told)."""

    name: str
    host: str
    port: int


class IgnoredStates(msgspec.Struct, frozen=True, kw_only=True):
    """Connections that are not replicated: of this protocol (-1: any) and with an address in this network ("": any)."""

    protocol: int
    network: str


class ConfigureStates(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Everything the states worker needs to know; sent at its start. Places are (host, port)."""

    node: str
    runtime_dir: str
    state_dir: str
    listen: tuple[str, int]
    certificate: str
    key: str
    trust: str
    peers: list[StatesPeer]
    max_states: int
    reconcile_interval: float
    event_buffer_bytes: int
    ignore: list[IgnoredStates]
    own_places: list[tuple[str, int]]  # whose connections are the nodes' own and are not replicated
    virtual_addresses: list[str]


class Held(msgspec.Struct, frozen=True, tag=True):
    """The VIPs of which this node is MASTER now."""

    vips: list[str]


class AskStates(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Asks for a `StatesAnswer` with the same number."""

    number: int
    action: str
    arguments: dict[str, Any]


class AskFigures(msgspec.Struct, frozen=True, tag=True):
    """Asks for `StatesFigures`."""


ToStates = ConfigureStates | Held | AskStates | AskFigures | Leave


class StatesCondition(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """How this node stands with its peers: said on each change, and every few seconds as a sign of life.

    `connected` names the peers whose stream comes in; `awaited` those whose bulk update or repair is not yet in this
    node's kernel; `problem` says why there can be no stream, such as that the node is not paired.
    """

    connected: list[str]
    awaited: list[str]
    problem: str = ""


class StatesFigures(msgspec.Struct, frozen=True, tag=True):
    """What the states worker says of itself when it is asked, for the status."""

    status: StatesStatus


class StatesAnswer(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """`answer` as the bus gives it, or why there is none."""

    number: int
    answer: dict[str, Any]
    refusal: str = ""


class StatesEvent(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Something for the node's history."""

    kind: str
    text: str
    at: float  # unix time


FromStates = Ready | StatesCondition | StatesFigures | StatesAnswer | StatesEvent


class ConfigureControl(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The settings file, which is to be read now; sent at the start and on each reload."""

    path: str


ToControl = ConfigureControl | Leave


class ControlCondition(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """What `status` is to warn of, the certificates of pairing, and the worker's own figures: said on each change, and
    every few seconds as a sign of life.
    """

    warnings: list[str]
    certificates: list[CertificateStatus] = []
    status: ControlStatus | None = None


class ControlEvent(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Something for the node's history."""

    kind: str
    text: str
    vip: str
    at: float  # unix time
    fields: dict[str, str | int | float | bool | None]


FromControl = Ready | ControlCondition | ControlEvent
