"""`hacore run`: starts and watches the workers, runs checks and hooks, keeps the history and answers on the local bus.

It waits for nothing and nobody: what takes long runs in processes of its own (`prepare`, checks, hooks).
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from hacore import __version__
from hacore.carp.events import DemotionChanged, Noticed, Transition
from hacore.errors import AlreadyRunning, HacoreError, PlatformError, PrivilegeError
from hacore.linux import libc
from hacore.linux.rtnl import dump_links
from hacore.node import maintenance
from hacore.node.bus_commands import BusCommands
from hacore.node.bus_server import Server, serve_events
from hacore.node.checks import Checks
from hacore.node.commands import Result, Runner
from hacore.node.control_supervision import ControlSupervision
from hacore.node.guard import Guard
from hacore.node.history import History
from hacore.node.hooks import Hooks, epochs_of
from hacore.node.key_ring import KeyRing
from hacore.node.loop import Loop, Timer
from hacore.node.messages import (
    Configure,
    Demote,
    Device,
    FromElection,
    Happened,
    LastWords,
    Leave,
    Left,
    Ready,
    Report,
    WantsDevices,
)
from hacore.node.notify import Notifier
from hacore.node.realtime import become_realtime, freeze_collector
from hacore.node.rekeying import RekeyingEnd
from hacore.node.router_settings import prepare_request, router_settings
from hacore.node.runtime_lock import RuntimeLock
from hacore.node.settings import Settings, Vip, load
from hacore.node.states_supervision import StatesSupervision, untracked
from hacore.node.worker_process import WorkerProcess

log = logging.getLogger("hacore")

PRIORITY = 51  # of SCHED_RR, above the election: it must get a look in when that spins
PREPARE_TIMEOUT = 60.0
PREPARE_ANSWER_BYTES = 4 << 20
LEAVE_TIMEOUT = 2.5  # the election leaves within a second, or two where it is loaded
HOOKS_TIMEOUT = 10.0  # how long the node's end waits for the hooks of its last transitions
LEFTOVERS_AFTER = 2.5  # seconds after a reload, when removed VIPs have left, until their devices go


class Supervisor:
    """One node. `run` returns when it was told to stop, or raises what kept it from running."""

    def __init__(self, settings: Settings, refused: list[str]) -> None:
        self.settings = settings
        self.started = time.time()
        self.refused = refused
        self.warnings: dict[str, str] = {}
        self.demotions: dict[str, Demote] = {}
        self.carp_enabled = True
        self.states: dict[str, str] = {}
        self.failovers: dict[str, int] = {}
        self.lock = RuntimeLock(settings.node.runtime_dir)
        self._namespace = _lock_namespace()
        self.loop = Loop(self._on_error)
        self.runner = Runner(self.loop)
        self.history = History(settings.node.state_dir, settings.node.name)
        self.history.follow(lambda event, _line: log.info("%s", event.text))
        self.hooks = Hooks(self.runner, self.history.record, settings.node.name, epochs_of(self.history.read(1000)))
        self.checks = Checks(
            self.loop, self.runner, self.history.record, demote=self.demote, undemote=lambda name: self.demote(name, 0)
        )
        self.keys = KeyRing(settings.node.state_dir)
        self.guard = Guard()
        self.election: WorkerProcess[FromElection] = WorkerProcess(
            self.loop,
            "election",
            "hacore.node.election",
            FromElection,
            on_start=self._start_election,
            on_message=self._hear_election,
            on_end=self._election_ended,
            on_lost=self._election_lost,
        )
        self.replication = StatesSupervision(self)
        self.control = ControlSupervision(self)
        self.commands = BusCommands(self)
        self.rekeying = RekeyingEnd(self)
        self.commands.handlers.update(self.replication.handlers())
        self.commands.handlers.update(self.rekeying.handlers())
        self.server = Server(self.loop, self.lock, self.commands.handlers, self._on_error)
        serve_events(self.server, self.commands.handlers, self.history)
        self.notifier = Notifier()
        self._devices: list[Device] = []
        self._given_up: list[str] = []
        self._preparing = False
        self._failure: HacoreError | None = None
        self._stopping = False
        self._pulse_look: Timer | None = None

    # The node's life

    def run(self) -> None:
        """Until SIGTERM or SIGINT."""
        libc.set_process_name("hacore")
        libc.forbid_core_dumps()
        freeze_collector()
        self.loop.on_signals(
            {
                signal.SIGTERM: self.stop,
                signal.SIGINT: self.stop,
                signal.SIGHUP: self._reload_by_signal,
                signal.SIGCHLD: self._look_for_stopped,
            }
        )
        self.history.record("start", f"hacore {__version__} starts", version=__version__, pid=os.getpid())
        for problem in self.settings.warnings:
            self.history.record("warning", str(problem))
        if maintenance.is_entered(self.settings.node.state_dir):
            self.demotions["maintenance"] = Demote("maintenance", 240)
        self.hooks.load(self.settings.hooks)
        self._remember_keys()
        self._prepare(self._start_first)
        self.notifier.start_watchdog(self.loop)
        try:
            self.loop.run()
        finally:
            self._close()
        if self._failure is not None:
            raise self._failure

    def _start_first(self, now: float) -> None:
        self.checks.load(self.settings.checks)
        self.replication.load(self.settings)
        self._start_election(now)
        self.control.load(self.settings)
        self._look_at_pulse(now)

    def stop(self) -> None:
        """Leave in order: the election bows out, the last hooks run, the devices go."""
        if self._stopping:
            return
        self._stopping = True
        self.notifier.stopping()
        self.history.record("stop", "asked to stop")
        self.checks.close()
        self.election.stop()
        now = self.loop.now()
        if not self.election.runs:
            self._election_gone(now)
            return
        self.election.send(Leave())
        self.loop.call_at(now + LEAVE_TIMEOUT, lambda then: self.election.kill("did not leave in time", then))

    def _look_for_stopped(self) -> None:
        self.election.check_for_stop()
        self.replication.check_for_stop()
        self.control.check_for_stop()

    def _election_gone(self, now: float) -> None:
        self.replication.stop()
        self.control.stop()
        limit = now + HOOKS_TIMEOUT
        self.loop.call_soon(lambda then: self._end_hooks(then, limit))

    def _end_hooks(self, now: float, limit: float) -> None:
        if not (self.hooks.idle and self.replication.is_gone and self.control.is_gone) and now < limit:
            self.loop.call_at(now + 0.05, lambda then: self._end_hooks(then, limit))
            return
        self.hooks.stop()
        self.runner.cancel_all()
        self._run_prepare("remove", [], lambda _answer, _now: self.loop.stop())

    def _close(self) -> None:
        self.history.record("stop", "hacore ends")
        self.server.close()
        self.notifier.close()
        self.history.close()
        self.loop.close()
        self.guard.close()
        self._namespace.close()
        self.lock.release()

    def _fail(self, error: HacoreError) -> None:
        self._failure = error
        self.loop.stop()

    def _on_error(self, where: str, error: Exception) -> None:
        log.error("%s: %s", where, error, exc_info=error)
        self.history.record("fault", f"{where}: {type(error).__name__}: {error}")

    # Settings

    def _reload_by_signal(self) -> None:
        try:
            self.reload()
        except HacoreError as error:
            self.history.record("reload-refused", f"the settings were not taken: {error}")

    def reload(self) -> list[str]:
        """Take the settings anew; returns what waits for the next start. Raises SettingsError and changes nothing."""
        new = load(self.settings.path, links_now())
        later = [
            key
            for key in ("name", "runtime_dir", "state_dir", "realtime")
            if getattr(new.node, key) != getattr(self.settings.node, key)
        ]
        self.notifier.reloading()
        self.rekeying.changing()
        old, self.settings = self.settings, new
        places = {(vip.interface, vip.vhid) for vip in new.vips}
        leaving = [vip for vip in old.vips if (vip.interface, vip.vhid) not in places]
        self._remember_keys()
        self.hooks.load(new.hooks)
        self.checks.load(new.checks)
        self.replication.load(new)
        self.control.load(new)
        self.history.record(
            "reload", "settings reloaded" + (f"; at the next start: {', '.join(later)}" if later else "")
        )
        self._prepare(lambda now: self._reloaded(now, bool(leaving)), [*new.vips, *leaving])
        return later

    def _remember_keys(self) -> None:
        settings = self.settings
        asked = settings.control is not None and any(peer.control for peer in settings.peers)
        problem = self.keys.remember(settings.vips, settings.carp.rekey_time, time.time(), asked=asked)
        if problem:
            self.history.record("keys", problem)

    def _reloaded(self, now: float, leftovers: bool) -> None:
        self._configure_election()
        self.notifier.ready()
        if leftovers:
            self.loop.call_at(now + LEFTOVERS_AFTER, lambda _now: self._prepare(lambda _then: None))

    # Devices

    def _prepare(self, then: Callable[[float], None], vips: Sequence[Vip] | None = None) -> None:
        """Make the devices of these VIPs (all of the settings), then go on."""
        self._preparing = True
        held = {vip.name for vip in self.guard.held}
        wanted = self.settings.vips if vips is None else vips

        def answered(answer: dict[str, Any], now: float) -> None:
            self._preparing = False
            self._take_devices(answer)
            if self._failure is None:
                then(now)

        self._run_prepare("prepare", [prepare_request(vip, held=vip.name in held) for vip in wanted], answered)

    def _run_prepare(
        self, action: str, vips: list[dict[str, object]], answered: Callable[[dict[str, Any], float], None]
    ) -> None:
        request = {
            "runtime_dir": str(self.settings.node.runtime_dir),
            "action": action,
            "vips": vips,
            "untracked": untracked(self.settings),
        }

        def ended(result: Result, now: float) -> None:
            lines = result.output.strip().splitlines()
            try:
                answer = msgspec.json.decode(lines[-1], type=dict[str, Any])
            except (IndexError, msgspec.DecodeError):
                answer = {
                    "error": {"message": f"preparing the devices: {result}: {result.output[-500:]}", "exit_code": 71}
                }
            answered(answer, now)

        self.runner.run(
            [sys.executable, "-m", "hacore.node.prepare"],
            ended,
            timeout=PREPARE_TIMEOUT,
            stdin=msgspec.json.encode(request),
            variables={key: os.environ[key] for key in ("PYTHONPATH",) if key in os.environ},
            keep=PREPARE_ANSWER_BYTES,
        )

    def _take_devices(self, answer: dict[str, Any]) -> None:
        error = answer.get("error")
        known = {*self.warnings.values()}
        self.warnings = {key: text for key, text in self.warnings.items() if not key.startswith("device")}
        if error:
            if not self.election.runs and not self._devices:
                failure = PlatformError(error["message"])
                failure.exit_code = error.get("exit_code", failure.exit_code)
                self._fail(failure)
            else:
                self._device_problem("devices", error["message"], known)
            return
        self._devices = [msgspec.convert(vip, Device) for vip in answer["vips"] if "error" not in vip]
        for vip in answer["vips"]:
            if "error" in vip:
                name, message = vip["name"], vip["error"]["message"]
                text = message if message.startswith(f"{name}: ") else f"{name}: {message}"
                self._device_problem(f"device {name}", text, known)
        for index, text in enumerate(answer.get("warnings", [])):
            self.warnings[f"device warning {index}"] = text

    def _device_problem(self, key: str, text: str, known: set[str]) -> None:
        if text not in known:
            self.history.record("device", text)
        self.warnings[key] = text

    # The election worker

    def _start_election(self, now: float) -> None:
        self.guard.renew(now)
        self.election.start([self.guard.pulse_fd])
        self._configure_election()

    def _configure_election(self) -> None:
        self.election.send(
            Configure(
                routers=[router_settings(vip, self.keys.previous(vip, time.time())) for vip in self.settings.vips],
                devices=self._devices,
                preempt=self.settings.carp.preempt,
                rekey_time=self.settings.carp.rekey_time,
                enabled=self.carp_enabled,
                demotions=list(self.demotions.values()),
            )
        )
        self.rekeying.configured()

    def demote(self, name: str, value: int, *, administrative: bool = False) -> None:
        """Hold a reason from now on, over restarts of the worker too; 0 lets it go."""
        message = Demote(name, value, administrative)
        if value:
            self.demotions[name] = message
        else:
            self.demotions.pop(name, None)
        self.election.send(message)

    def _hear_election(self, message: FromElection, _now: float) -> None:
        if isinstance(message, Ready):
            self.election.is_ready()
            self.warnings.update({f"realtime {each}": each for each in message.refused})
            self.notifier.ready("running")
        elif isinstance(message, LastWords):
            self.guard.take(message)
            self._plan_look_at_pulse()
        elif isinstance(message, Happened):
            for event in message.events:
                self._record(event)
            self.notifier.status(", ".join(f"{vip} {state}" for vip, state in self.states.items()))
        elif isinstance(message, Report):
            self.commands.take_report(message)
            self.rekeying.take_report(message)
        elif isinstance(message, WantsDevices) and not self._preparing:
            self._prepare(lambda _now: self._configure_election())
        elif isinstance(message, Left):
            pass  # its exit follows

    def _record(self, event: Transition | DemotionChanged | Noticed) -> None:
        if isinstance(event, Transition):
            self._transition(
                event.vip,
                event.interface,
                event.vhid,
                event.old.value,
                event.new.value,
                event.reason,
                event.at,
                event.master,
            )
        elif isinstance(event, DemotionChanged):
            how = "demoted" if event.by > 0 else "promoted"
            text = f"{how} by {abs(event.by)} to {event.total} ({event.reason})"
            self.history.record("demotion", text, at=event.at, reason=event.reason, by=event.by, total=event.total)
        else:
            self.history.record(
                event.kind, f"{event.vip}: {event.text}" if event.vip else event.text, vip=event.vip, at=event.at
            )

    def _transition(
        self, vip: str, interface: str, vhid: int, old: str, new: str, reason: str, at: float, master: str = ""
    ) -> None:
        self.states[vip] = new
        if new == "MASTER":
            self.failovers[vip] = self.failovers.get(vip, 0) + 1
        self.replication.roles_changed()
        told = self.hooks.transition(vip, interface=interface, vhid=vhid, before=old, after=new, reason=reason, at=at)
        text = f"{vip} ({vhid}@{interface}): {old} -> {new} ({reason})"
        self.history.record(
            "transition", text, vip=vip, at=at, interface=interface, vhid=vhid,
            old=old, new=new, reason=reason, master=master, epoch=told.epoch,
        )  # fmt: skip

    def _look_at_pulse(self, now: float) -> None:
        if self.election.runs and self.guard.is_silent(now):
            self.election.kill("did not run for one dead time", now)
        self._plan_look_at_pulse()

    def _plan_look_at_pulse(self) -> None:
        if self._pulse_look is not None:
            self._pulse_look.cancel()
        self._pulse_look = self.loop.call_at(self.guard.next_look(self.loop.now()), self._look_at_pulse)

    def _election_lost(self, now: float) -> None:
        self._given_up = self.guard.give_up(now)

    def _election_ended(self, why: str, now: float) -> None:
        given_up = self._given_up
        if self._stopping:
            self._election_gone(now)
        at = time.time()
        if not self._stopping or given_up:
            what = f"; gave up {', '.join(given_up)}" if given_up else ""
            self.history.record("worker", f"election worker {why}{what}", why=why)
        self.commands.election_ended()
        for vip in self.settings.vips:
            old = self.states.get(vip.name, "INIT")
            if old != "INIT":
                self._transition(vip.name, vip.interface, vip.vhid, old, "INIT", f"election worker {why}", at)


def _lock_namespace() -> socket.socket:
    """One node to a network namespace: two would fight over the same devices. The kernel frees the name when the
    node ends.
    """
    held = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        held.bind("\0hacore-node")
    except OSError:
        held.close()
        raise AlreadyRunning("another hacore node runs in this network namespace, on another runtime_dir") from None
    return held


def links_now() -> dict[str, bool]:
    """The names of the links of this network namespace, and whether each carries Ethernet."""
    return {link.name: link.ethernet for link in dump_links()}


def require_privileges() -> None:
    """CAP_NET_ADMIN and CAP_NET_RAW. Raises PrivilegeError that says how to give them."""
    effective = libc.effective_capabilities()
    needed = {"CAP_NET_ADMIN": libc.CAP_NET_ADMIN, "CAP_NET_RAW": libc.CAP_NET_RAW}
    missing = [name for name, number in needed.items() if not effective >> number & 1]
    if missing:
        raise PrivilegeError(
            f"missing {' and '.join(missing)}: run as root, "
            f"or under systemd with AmbientCapabilities={' '.join(missing)}"
        )


def run(path: str | Path) -> None:
    """Run the node of these settings until it is told to stop."""
    settings = load(path, links_now())
    require_privileges()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    refused = become_realtime(PRIORITY)
    if refused and settings.node.realtime == "require":
        raise PrivilegeError(f'{"; ".join(refused)} (the settings say realtime = "require")')
    Supervisor(settings, refused).run()
