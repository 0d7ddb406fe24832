"""The supervisor's side of the states worker: starts and watches it, tells it what this node holds, and demotes the
node while it could not take over the connections of others.

    "bulk update"     from the start of a worker until what every peer has is in this node's kernel, from a reconnection
                      until what that peer has is, or until `bulk_deadline` has passed: a peer that is not connected may
                      be the MASTER, and one that has nothing to say cannot speak for it
    "no state sync"   while the worker is down or no peer's stream comes in

Neither is held by a node that is MASTER of something: it has what the others lack.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hacore.carp import demotion as reasons
from hacore.node.bus import BadRequest, Refused
from hacore.node.bus_server import Deferred, Handler, Request
from hacore.node.loop import Timer
from hacore.node.messages import (
    AskFigures,
    AskStates,
    ConfigureStates,
    FromStates,
    Held,
    IgnoredStates,
    StatesAnswer,
    StatesCondition,
    StatesEvent,
    StatesFigures,
    StatesPeer,
)
from hacore.node.settings import Settings
from hacore.node.settings_values import Endpoint
from hacore.node.snapshot import Worker
from hacore.node.states_snapshot import StatesStatus
from hacore.node.worker_process import WorkerProcess
from hacore.node.worker_supervision import WorkerSupervision

if TYPE_CHECKING:
    from hacore.node.supervisor import Supervisor

LEAVE_TIMEOUT = 2.0  # the worker hands on what it has and ends
ANSWER_TIMEOUT = 4.0  # before the bus gives up on the command

# IPPROTO_*, of the names that the settings know.
PROTOCOLS: Mapping[str, int] = {
    "icmp": 1, "tcp": 6, "udp": 17, "dccp": 33, "gre": 47, "esp": 50, "ah": 51, "icmpv6": 58, "ospf": 89, "sctp": 132,
    "udplite": 136,
}  # fmt: skip


def configuration(settings: Settings) -> ConfigureStates | None:
    """What the worker is told; None where these settings replicate nothing."""
    states = settings.states
    if states is None:
        return None
    control = settings.control
    state_dir = settings.node.state_dir
    places = [states.listen, *([control.listen] if control else [])]
    for peer in settings.peers:
        places += [place for place in (peer.states, peer.control) if place is not None]
    return ConfigureStates(
        node=settings.node.name,
        runtime_dir=str(settings.node.runtime_dir),
        state_dir=str(state_dir),
        listen=(states.listen.host, states.listen.port),
        certificate=str(control.certificate if control else state_dir / "tls/node.crt"),
        key=str(control.key if control else state_dir / "tls/node.key"),
        trust=str(control.trust if control else state_dir / "tls/peers.pem"),
        peers=[
            StatesPeer(name=peer.name, host=peer.states.host, port=peer.states.port)
            for peer in settings.peers
            if peer.states is not None
        ],
        max_states=states.max_states,
        reconcile_interval=states.reconcile_interval,
        event_buffer_bytes=states.event_buffer_bytes,
        ignore=[
            IgnoredStates(
                protocol=PROTOCOLS[rule.protocol] if isinstance(rule.protocol, str)
                else -1 if rule.protocol is None else rule.protocol,
                network=str(rule.network or ""),
            )
            for rule in states.ignore
        ],
        own_places=[(place.host, place.port) for place in places],
        virtual_addresses=[str(address.ip) for vip in settings.vips for address in vip.addresses],
    )  # fmt: skip


def untracked(settings: Settings) -> list[dict[str, object]]:
    """The places whose connections the kernel is not to track, for the preparing process: `local` ones are listened
    on here.
    """
    if settings.states is None and settings.control is None:
        return []
    local: list[Endpoint | None] = [each.listen for each in (settings.states, settings.control) if each is not None]
    remote = [place for peer in settings.peers for place in (peer.states, peer.control)]
    return [
        {"address": place.host, "port": place.port, "local": is_local}
        for places, is_local in ((local, True), (remote, False))
        for place in places
        if place is not None
    ]


class StatesSupervision(WorkerSupervision[StatesCondition | StatesFigures | StatesEvent | StatesAnswer]):
    """Present on every node; without `[states]` there is no worker and no demotion."""

    def __init__(self, node: Supervisor) -> None:
        super().__init__(node, "states", "hacore.node.states", FromStates, LEAVE_TIMEOUT)
        self._settings: Settings | None = None
        self._configuration: ConfigureStates | None = None
        self._condition: StatesCondition | None = None
        self.figures: StatesStatus | None = None
        self.is_asked = False  # for figures, and has not answered yet
        self._awaited: set[str] = set()  # peers whose connections may be missing in this node's kernel
        self._deadline: Timer | None = None
        self._number = 0
        self._waiting: dict[int, tuple[Deferred, Timer]] = {}

    # The worker's life

    def load(self, settings: Settings) -> None:
        """Bring the worker in line with the settings; one that is told other things starts anew."""
        before, self._configuration = self._configuration, configuration(settings)
        self._settings = settings
        if self._configuration == before:
            return
        self._end()
        self._end_waiting()
        if self._configuration is not None:
            self._await_bulk(self._peers)
            self._begin()
        self._decide()

    def _configure(self, worker: WorkerProcess[StatesCondition | StatesFigures | StatesEvent | StatesAnswer]) -> None:
        assert self._configuration is not None
        worker.send(self._configuration)
        worker.send(Held(self._held()))

    def _forget(self) -> None:
        self._condition = self.figures = None
        self._answered()
        self._warn("")

    def _ended(self, why: str) -> None:
        for number in list(self._waiting):
            self._refuse(number, f"the states worker {why}")
        self._condition = self.figures = None
        self._answered()
        self._node.history.record("worker", f"states worker {why}", why=why)
        self._await_bulk(self._peers)
        self._decide()

    def workers(self) -> dict[str, Worker]:
        """For the status."""
        if self._worker is None:
            return {} if self._configuration is None else {"states": Worker(state="stopped")}
        return {"states": self._worker.status()}

    # What it says

    def _hear(self, message: StatesCondition | StatesFigures | StatesEvent | StatesAnswer, current: bool) -> None:
        if not current:
            return
        if isinstance(message, StatesCondition):
            before, self._condition = self._condition, message
            self._warn(message.problem)
            self._await_bulk(set(message.awaited) - set(before.awaited if before else ()))
            self._awaited -= set(message.connected) - set(message.awaited)
            self._decide()
        elif isinstance(message, StatesFigures):
            self.figures = message.status
            self._answered()
        elif isinstance(message, StatesAnswer):
            if waiting := self._waiting.pop(message.number, None):
                deferred, timer = waiting
                timer.cancel()
                if message.refusal:
                    deferred.fail(Refused("StatesRefused", message.refusal, 69))
                else:
                    deferred.resolve(message.answer)
        else:
            self._node.history.record(message.kind, message.text, at=message.at)

    def refresh(self) -> None:
        """Ask for figures of this moment; `BusCommands.take_figures` is called when there are, or will be none."""
        if self._worker is not None and self._worker.state == "running" and not self.is_asked:
            self.is_asked = True
            self._worker.send(AskFigures())

    def _answered(self) -> None:
        if self.is_asked:
            self.is_asked = False
            self._node.commands.take_figures()

    def _warn(self, problem: str) -> None:
        """For the status: why nothing is replicated."""
        if problem:
            self._node.warnings["states"] = f"connections are not replicated: {problem}"
        else:
            self._node.warnings.pop("states", None)

    # Demotion

    def _held(self) -> list[str]:
        return sorted(name for name, state in self._node.states.items() if state == "MASTER")

    def roles_changed(self) -> None:
        """A VIP changed its state."""
        if self._worker is not None:
            self._worker.send(Held(self._held()))
        if self._configuration is not None:
            self._decide()

    @property
    def _peers(self) -> set[str]:
        """The names of all with whom this node replicates."""
        return {peer.name for peer in self._configuration.peers} if self._configuration else set()

    def _await_bulk(self, peers: set[str]) -> None:
        """Bulk updates of these peers, too, are awaited from now on, all together for at most `bulk_deadline`."""
        if not peers or self._settings is None or self._settings.states is None:
            return
        loop = self._node.loop
        if not self._awaited:
            self._deadline = loop.call_at(loop.now() + self._settings.states.bulk_deadline, self._give_up_waiting)
        self._awaited |= peers

    def _give_up_waiting(self, _now: float) -> None:
        assert self._settings is not None
        assert self._settings.states is not None
        limit = self._settings.states.bulk_deadline
        text = f"no bulk update from {self._missing} within {limit:g} s: going on without"
        if not self._held():
            self._node.history.record("bulk update", text)
        self._end_waiting()
        self._decide()

    @property
    def _missing(self) -> str:
        return ", ".join(sorted(self._awaited))

    def _end_waiting(self) -> None:
        self._awaited.clear()
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _decide(self) -> None:
        """Which reasons hold now."""
        replicates = bool(self._peers)
        connected = self._condition is not None and bool(self._condition.connected)
        if not self._awaited:
            self._end_waiting()
        master = bool(self._held())
        waits = bool(self._awaited) and not master
        if waits:
            self._node.warnings["bulk update"] = f"demoted while the connections of {self._missing} are awaited"
        else:
            self._node.warnings.pop("bulk update", None)
        self._demote(reasons.BULK_UPDATE, waits)
        self._demote(reasons.NO_STATE_SYNC, replicates and not master and not connected)

    def _demote(self, reason: str, wanted: bool) -> None:
        if wanted != (reason in self._node.demotions):
            self._node.demote(reason, reasons.FULL if wanted else 0)

    # The bus

    def handlers(self) -> dict[str, Handler]:
        """`states`: {"action": "show" | "list" | "bulk", ...}, answered by the worker."""
        return {"states": self._ask}

    def _ask(self, request: Request) -> Deferred:
        action = request.argument("action", str)
        worker = self._worker
        if self._configuration is None:
            raise BadRequest("this node replicates no states: its settings have no [states]")
        deferred = Deferred()
        if worker is None or worker.state != "running":
            deferred.fail(Refused("NoAnswer", "the states worker is not running", 69))
            return deferred
        self._number += 1
        number = self._number
        arguments: dict[str, Any] = {key: value for key, value in request.arguments.items() if key != "action"}
        worker.send(AskStates(number=number, action=action, arguments=arguments))
        loop = self._node.loop
        timer = loop.call_at(
            loop.now() + ANSWER_TIMEOUT,
            lambda _now: self._refuse(number, f"the states worker did not answer within {ANSWER_TIMEOUT:g} s"),
        )
        self._waiting[number] = deferred, timer
        return deferred

    def _refuse(self, number: int, why: str) -> None:
        if waiting := self._waiting.pop(number, None):
            waiting[1].cancel()
            waiting[0].fail(Refused("NoAnswer", why, 69))
