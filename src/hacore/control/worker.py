"""The control worker as its parts see it: settings, VIPs, event history, and peers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol, TypeVar

from hacore.control import tls
from hacore.control.certificates import Place
from hacore.control.client import PeerClient
from hacore.control.problems import ApiError, not_found
from hacore.control.refusals import Refusals
from hacore.control.server import Server
from hacore.control.trust import Trust, TrustStore, file_mark
from hacore.errors import HacoreError, PlatformError
from hacore.node.control_snapshot import ControlStatus
from hacore.node.event import Value
from hacore.node.settings import Settings, load
from hacore.node.snapshot import CertificateStatus

#: Called with the name of a VIP, its state before and now, and the transition's epoch (0: not known).
OnTransition = Callable[[str, str, str, int], None]
#: Called with each event of the node as the bus tells it, and with an empty one once nothing is missed any more.
OnEvent = Callable[[Mapping[str, Any]], None]
Told = Callable[[str, str, str, Mapping[str, Value]], None]
P = TypeVar("P")


class Bus(Protocol):
    """The local bus, asked without waiting in the loop."""

    async def request(self, command: str, **arguments: Any) -> dict[str, Any]:
        """The supervisor's answer; raises HacoreError."""

    def follow(self) -> AsyncIterator[dict[str, Any]]:
        """An empty one once nothing is missed any more, then each new event of the node."""


class Warnings(dict[str, str]):
    """What the node's status is to warn of, by what it is about; `changed` is set whenever it may be another."""

    def __init__(self, changed: asyncio.Event) -> None:
        super().__init__()
        self._changed = changed

    def __setitem__(self, key: str, text: str) -> None:
        super().__setitem__(key, text)
        self._changed.set()

    def pop(self, key: str, *default: Any) -> Any:
        """As of any dict."""
        self._changed.set()
        return super().pop(key, *default)


class ControlWorker:
    """What `routes(worker)` and the parts behind them get.

    `settings` are those in force; `states` is the state of each VIP here. A part is a class whose `__init__` takes
    the worker; `worker.part(Class)` makes it once and gives the same one to all who ask. In its `__init__` a part
    says what it wants to be called for: `on_start`, `on_stop`, `on_reload`, `on_transition`.
    """

    def __init__(self, settings: Settings, bus: Bus, told: Told) -> None:
        self.settings = settings
        self.bus = bus
        self.started = time.time()
        self.states: dict[str, str] = {}
        self.trust = Trust()
        self.certificates: list[CertificateStatus] = []
        self.status = ControlStatus()
        self.status_changed = asyncio.Event()
        self.warnings = Warnings(self.status_changed)
        self.peers: dict[str, PeerClient] = {}
        self._told = told
        self._parts: dict[type[Any], Any] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._on_start: list[Callable[[], Coroutine[Any, Any, None]]] = []
        self._on_leave: list[Callable[[], None]] = []
        self._on_stop: list[Callable[[], Coroutine[Any, Any, None]]] = []
        self._on_reload: list[Callable[[], None]] = []
        self._on_transition: list[OnTransition] = []
        self._on_event: list[OnEvent] = []
        self._on_trust: list[Callable[[], None]] = []
        self._own_mark: tuple[int, int] | None = None
        self.refusals = Refusals(self.record)
        self.server = Server(self)

    # For the parts

    @property
    def name(self) -> str:
        """This node's."""
        return self.settings.node.name

    @property
    def state_dir(self) -> Path:
        """Where what survives a reboot is kept."""
        return self.settings.node.state_dir

    @property
    def masters(self) -> list[str]:
        """The VIPs of which this node is MASTER."""
        return [name for name, state in self.states.items() if state == "MASTER"]

    def part(self, kind: Callable[[ControlWorker], P]) -> P:
        """The one instance of this class in the worker."""
        key: Any = kind
        if key not in self._parts:
            self._parts[key] = kind(self)
        made: P = self._parts[key]
        return made

    def record(self, kind: str, text: str, *, vip: str = "", **fields: Value) -> None:
        """One line in the node's event history."""
        self._told(kind, text, vip, fields)

    def tell_status(self, status: ControlStatus) -> None:
        """What the node's status says of this worker from now on."""
        self.status = status
        self.status_changed.set()

    def peer(self, name: str = "") -> PeerClient:
        """The peer of this name, or the only one; raises ApiError where there is none such."""
        if not name and len(self.peers) == 1:
            return next(iter(self.peers.values()))
        if name in self.peers:
            return self.peers[name]
        known = ", ".join(self.peers) or "none"
        if name:
            raise not_found(f'there is no peer "{name}" with `control` in the settings; there are: {known}')
        if self.peers:
            raise ApiError(400, "bad-request", f"there are several peers: {known}", "name one of them")
        raise ApiError(400, "not-configured", "the settings name no peer with `control`", "add a [[peer]] table")

    def spawn(self, work: Coroutine[Any, Any, Any], what: str) -> asyncio.Task[Any]:
        """Runs to its end, whether or not who asked for it still listens; a fault goes into the event history."""
        task = asyncio.get_running_loop().create_task(work, name=what)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None and not isinstance(error, HacoreError):
            self.fault(task.get_name(), error)

    def fault(self, where: str, error: BaseException) -> None:
        """Something that is a bug here."""
        import traceback

        traceback.print_exception(error)
        self.record("fault", f"control worker: {where}: {type(error).__name__}: {error}")

    async def reload_node(self) -> list[str]:
        """The whole node takes its settings anew; returns what waits for the next start. Raises SettingsError."""
        answer = await self.bus.request("reload")
        return list(answer["later"])

    def on_start(self, call: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Before the first request is answered."""
        self._on_start.append(call)

    def on_leave(self, call: Callable[[], None]) -> None:
        """When the worker is about to stop: what would never end by itself ends now."""
        self._on_leave.append(call)

    def on_stop(self, call: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """After the last one."""
        self._on_stop.append(call)

    def on_reload(self, call: Callable[[], None]) -> None:
        """When `settings` are new."""
        self._on_reload.append(call)

    def on_trust(self, call: Callable[[], None]) -> None:
        """When certificates, this node's or those that it trusts, are others, or have been looked at anew."""
        self._on_trust.append(call)

    def on_transition(self, call: OnTransition) -> None:
        """When a VIP's state is another."""
        self._on_transition.append(call)

    def on_event(self, call: OnEvent) -> None:
        """When anything happened on this node; again with an empty one after the supervisor's end was lost."""
        self._on_event.append(call)

    def allows(self, peer: str, right: str) -> bool:
        """Whether the settings give this peer this right; one that is not in them has none."""
        return any(one.name == peer and right in one.allow for one in self.settings.peers)

    def identify(self, der: bytes) -> str:
        """The peer whose certificate this is, "" where it is nobody's."""
        found = self.trust.find(der)
        return found.name if found is not None else ""

    # Its life

    async def start(self) -> None:
        """Listen; raises PlatformError where even the Unix socket cannot be had."""
        self.server.collect()
        for call in self._on_start:
            await call()
        await self.server.start_local()
        await self.trust_changed()
        self.spawn(self._follow(), "following the events")

    async def stop(self) -> None:
        """Answer what was asked, then end."""
        for leave in self._on_leave:
            leave()
        await self.server.stop()
        for call in self._on_stop:
            await call()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)  # one may have a command to end
        for peer in self.peers.values():
            await peer.close()
        self.refusals.flush()

    async def reload(self) -> None:
        """Take the settings file anew; what is being answered goes on."""
        self.settings = await asyncio.to_thread(load, self.settings.path)
        await self.trust_changed()
        for call in self._on_reload:
            call()

    async def trust_changed(self) -> None:
        """The certificates on the disk, or the peers in the settings, are others: use them from now on."""
        control = self.settings.control
        assert control is not None
        try:
            self.trust = TrustStore(control.trust).read()
            if not control.certificate.exists():
                self.warnings["tls"] = "not paired yet: this node has no certificate (`hacore pair invite` makes it)"
                context = None
            else:
                known = [*self.trust.peers, *self.trust.revoked]  # those revoked get through TLS to be told so
                context = tls.server_context(control.certificate, control.key, [one.der for one in known])
                self.warnings.pop("tls", None)
                if not self.trust.peers:
                    self.warnings["tls"] = "not paired yet: this node trusts no other (`hacore pair invite`, `join`)"
        except PlatformError as error:
            self.warnings["tls"] = str(error)
            context = None
        await self._renew_peers()
        await self.server.listen(control.listen, context)
        for call in self._on_trust:
            call()
        self.status_changed.set()

    async def _renew_peers(self) -> None:
        """A client whose peer and whose certificates are what they were goes on with its connections."""
        old, self.peers = self.peers, {}
        control = self.settings.control
        assert control is not None
        own = Place(control.certificate, control.key)
        mark = file_mark(control.certificate)
        for peer in self.settings.peers:
            if peer.control is None:
                continue
            client = old.pop(peer.name, None)
            trusted = self.trust.of(peer.name)
            if client is None or (client.place, client.trusted) != (peer.control, trusted) or mark != self._own_mark:
                if client is not None:
                    await (client.retire() if set(client.trusted) <= set(trusted) else client.close())
                client = PeerClient(peer.name, peer.control, own, trusted)
            self.peers[peer.name] = client
        self._own_mark = mark
        for client in old.values():
            await client.close()

    # The VIPs

    async def _follow(self) -> None:
        """Keeps `states` true, over restarts of the supervisor's end."""
        while True:
            with suppress(HacoreError):
                async for event in self.bus.follow():
                    if not event:
                        await self._look()
                    elif event.get("kind") == "transition":
                        fields = event.get("fields", {})
                        self._take(str(event.get("vip")), str(fields.get("new")), int(fields.get("epoch") or 0))
                    for call in self._on_event:
                        call(event)
            await asyncio.sleep(1.0)

    async def _look(self) -> None:
        status = await self.bus.request("status")
        now = {vip["name"]: vip["state"] for vip in status["vips"]}
        for name in set(self.states) - set(now):
            self._take(name, "", 0)
        for name, state in now.items():
            self._take(name, state, 0)

    def _take(self, vip: str, new: str, epoch: int) -> None:
        old = self.states.get(vip, "")
        if old == new:
            return
        if new:
            self.states[vip] = new
        else:
            self.states.pop(vip, None)
        for call in self._on_transition:
            try:
                call(vip, old, new, epoch)
            except Exception as error:  # noqa: BLE001 - a part's bug is no other part's
                self.fault("a transition", error)
