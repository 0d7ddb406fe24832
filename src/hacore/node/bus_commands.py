"""What the local bus answers: status, maintenance, carp, demotion, reload. (`events` is in `bus_server`.)"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

import msgspec

from hacore import __version__
from hacore.carp import demotion as reasons
from hacore.carp.counters import Counters
from hacore.node import maintenance
from hacore.node.bus import BadRequest
from hacore.node.bus_server import Deferred, Handler, Request
from hacore.node.loop import Timer
from hacore.node.messages import AskReport, Report, ResetDemotion, SetEnabled
from hacore.node.snapshot import Demotion, NodeStatus, Realtime, Snapshot, VipStatus

if TYPE_CHECKING:
    from hacore.node.supervisor import Supervisor

REPORT_TIMEOUT = 1.0  # how long a status waits for the election worker
FIGURES_TIMEOUT = 0.25  # and then for the figures of the states worker, which says itself of when those are
RESERVED = {reasons.LINK_DOWN, reasons.SEND_ERRORS, reasons.MAINTENANCE, reasons.BULK_UPDATE, reasons.NO_STATE_SYNC}


class BusCommands:
    """The handlers, and the reports that they wait for."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._node = supervisor
        self._number = 0
        self._waiting: dict[int, tuple[Deferred, Timer]] = {}
        self._unfinished: list[tuple[Deferred, str]] = []
        self._patience: Timer | None = None
        self._last: Report | None = None
        self.handlers: dict[str, Handler] = {
            "status": self._status,
            "maintenance": self._maintenance,
            "carp": self._carp,
            "demotion": self._demotion,
            "reload": self._reload,
        }

    # Status

    def _status(self, _request: Request) -> Deferred:
        deferred = Deferred()
        node = self._node
        node.replication.refresh()
        if node.election.state != "running":
            self._reported(deferred, "the election worker is not running")
            return deferred
        self._number += 1
        number = self._number
        node.election.send(AskReport(number))
        timer = node.loop.call_at(node.loop.now() + REPORT_TIMEOUT, lambda _now: self._give_up_waiting(number))
        self._waiting[number] = deferred, timer
        return deferred

    def _give_up_waiting(self, number: int) -> None:
        if waiting := self._waiting.pop(number, None):
            waiting[1].cancel()
            self._reported(waiting[0], f"the election worker did not answer within {REPORT_TIMEOUT:g} s")

    def _reported(self, deferred: Deferred, absent: str) -> None:
        """All that is missing is what the states worker says, if it is to say anything."""
        if not self._node.replication.is_asked:
            deferred.resolve(self._snapshot(absent))
            return
        self._unfinished.append((deferred, absent))
        if self._patience is None or not self._patience.pending:
            loop = self._node.loop
            self._patience = loop.call_at(loop.now() + FIGURES_TIMEOUT, lambda _now: self.take_figures())

    def take_figures(self) -> None:
        """The states worker answered, or is given up."""
        if self._patience is not None:
            self._patience.cancel()
        unfinished, self._unfinished = self._unfinished, []
        for deferred, absent in unfinished:
            deferred.resolve(self._snapshot(absent))

    def take_report(self, report: Report) -> None:
        """The election worker answered."""
        self._last = report
        if waiting := self._waiting.pop(report.number, None):
            waiting[1].cancel()
            self._reported(waiting[0], "")

    def election_ended(self) -> None:
        """Nobody will answer those who wait."""
        for number in list(self._waiting):
            self._give_up_waiting(number)

    def _snapshot(self, absent: str) -> dict[str, Any]:
        """`absent` says why the election's own word is not to be had; what it said last is not shown as if it were
        true.
        """
        node, last = self._node, self._last
        settings = node.settings
        vips = self._absent_vips(absent) if absent else last.vips if last else []
        total = sum(demote.value for demote in node.demotions.values())
        held = {demote.name: demote.value for demote in node.demotions.values()}
        warnings = [*node.refused, *node.warnings.values(), *node.rekeying.warnings()]
        warnings += [*node.history.warnings(), *node.control.warnings()]
        if absent:
            warnings.insert(0, absent)
        elif last:
            warnings += last.warnings
        snapshot = Snapshot(
            node=NodeStatus(
                name=settings.node.name,
                version=__version__,
                pid=os.getpid(),
                started=node.started,
                generated=time.time(),
                reported=last.generated if last else 0.0,
                demotion=Demotion(total=last.demotion_total, reasons=last.demotion_reasons)
                if last and not absent
                else Demotion(total=total, reasons=held),
                maintenance=maintenance.is_entered(settings.node.state_dir),
                carp_enabled=node.carp_enabled,
                preempt=settings.carp.preempt,
                peers=last.peers if last else [],
                links=last.links if last else [],
                counters=last.counters if last else Counters(),
                realtime=Realtime(
                    obtained=not node.refused,
                    scheduler=not any(text.startswith("SCHED_RR") for text in node.refused),
                    locked=not any(text.startswith("locked") for text in node.refused),
                    frozen=True,
                    problem="; ".join(node.refused),
                ),
                warnings=list(dict.fromkeys(warnings)),
                workers={"election": node.election.status(), **node.replication.workers(), **node.control.workers()},
                checks=node.checks.status(),
                certificates=node.control.certificates,
                runtime_dir=str(settings.node.runtime_dir),
                settings_path=str(settings.path),
            ),
            vips=[msgspec.structs.replace(vip, failovers=node.failovers.get(vip.name, 0)) for vip in vips],
            control=node.control.status,
            states=node.replication.figures,
        )
        return dict(msgspec.to_builtins(snapshot))

    def _absent_vips(self, why: str) -> list[VipStatus]:
        known = {vip.name: vip for vip in self._last.vips} if self._last else {}
        vips = []
        for vip in self._node.settings.vips:
            last = known.get(vip.name)
            vips.append(
                VipStatus(
                    name=vip.name,
                    interface=vip.interface,
                    vhid=vip.vhid,
                    state="INIT",
                    since=self._node.election.since,
                    reason=why,
                    advbase=vip.advbase,
                    advskew=vip.advskew,
                    effective_advskew=vip.advskew,
                    addresses=[str(address) for address in vip.addresses],
                    counters=last.counters if last else Counters(),
                )
            )
        return vips

    # The administrator

    def _maintenance(self, request: Request) -> dict[str, Any]:
        enter = request.argument("enter", bool)
        node = self._node
        node.history.record("maintenance", "maintenance entered" if enter else "maintenance left", uid=request.peer.uid)
        node.demote(reasons.MAINTENANCE, reasons.FULL if enter else 0)
        return {}

    def _carp(self, request: Request) -> dict[str, Any]:
        node = self._node
        node.carp_enabled = request.argument("enable", bool)
        text = "CARP enabled" if node.carp_enabled else "CARP disabled until the next start"
        node.history.record("carp", text, uid=request.peer.uid)
        node.election.send(SetEnabled(node.carp_enabled))
        return {}

    def _demotion(self, request: Request) -> dict[str, Any] | Deferred:
        action = request.argument("action", str)
        node = self._node
        if action == "show":
            return self._status(request)
        if action == "reset":
            names = [name for name, held in node.demotions.items() if held.administrative]
            for name in names:
                del node.demotions[name]
            node.election.send(ResetDemotion())
            return {"removed": names}
        name = request.argument("name", str)
        if name in RESERVED or name.startswith("check "):
            raise BadRequest(f'"{name}" is a reason of the node itself: it ends when its cause ends')
        if action == "add":
            value = request.argument("value", int)
            if not -240 <= value <= 240 or value == 0:
                raise BadRequest(f"a demotion is from 1 to 240 (or -240 to -1 to promote), not {value}")
            node.demote(name, value, administrative=True)
            return {}
        if action == "remove":
            if name not in node.demotions:
                held = ", ".join(sorted(node.demotions)) or "none"
                raise BadRequest(f'no demotion is called "{name}"; there are: {held}')
            node.demote(name, 0)
            return {}
        raise BadRequest(f'demotion knows show, add, remove and reset, not "{action}"')

    def _reload(self, _request: Request) -> dict[str, Any]:
        return {"later": self._node.reload()}
