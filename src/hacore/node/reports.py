"""What the election worker tells the supervisor: events, the state of things, and its last words."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

import msgspec

from hacore.carp.election import Election, virtual_mac
from hacore.carp.events import AnyEvent
from hacore.carp.router import VirtualRouter
from hacore.carp.terms import State, master_down_interval
from hacore.node.messages import LastWords, Report, VipLastWords
from hacore.node.snapshot import LinkStatus, Master, PeerHeard, VipStatus
from hacore.node.vips import Vip

if TYPE_CHECKING:
    from hacore.node.election import ElectionWorker

WARNING_KEPT = 600.0  # seconds that a kernel error stays among the warnings


def unix_offset() -> float:
    """What to add to a monotonic time."""
    return time.time() - time.monotonic()


def in_unix_time(events: Iterable[AnyEvent]) -> list[AnyEvent]:
    """The same events with wall-clock times."""
    offset = unix_offset()
    return [msgspec.structs.replace(event, at=event.at + offset) for event in events]


def last_words(election: Election, vips: list[Vip]) -> LastWords:
    """What gives each VIP up without this process: sent by the supervisor when the worker is dead."""
    words = []
    for vip in vips:
        settings = vip.settings
        router = election.router(settings.interface, settings.vhid)
        words.append(
            VipLastWords(
                name=settings.name,
                interface=settings.interface,
                dead_time=master_down_interval(settings.advbase, settings.advskew, None),
                bow_out=election.bow_out_frames(router) if router else [],
                addresses=vip.give_up,
                device=vip.device,
            )
        )
    return LastWords(vips=words)


def report(number: int, worker: ElectionWorker) -> Report:
    """The election as it stands."""
    offset = unix_offset()
    election, now = worker.election, time.monotonic()
    return Report(
        number=number,
        generated=now + offset,
        vips=[_vip_status(router, worker, offset) for router in election.routers],
        peers=[
            PeerHeard(
                interface=peer.interface,
                source=peer.address,
                vhids=sorted(peer.vhids),
                heard=peer.last_heard + offset,
                form="openbsd" if peer.form == "openbsd" else "freebsd",
            )
            for peer in election.peers.values()
        ],
        demotion_total=election.demotion.total,
        demotion_reasons=election.demotion.reasons,
        counters=election.counters,
        enabled=election.enabled,
        links=[_link(name, worker) for name in dict.fromkeys(router.settings.interface for router in election.routers)],
        warnings=[text for text, at in worker.warnings.items() if now - at < WARNING_KEPT],
    )


def _link(name: str, worker: ElectionWorker) -> LinkStatus:
    port = worker.ports.port(name)
    if port is None:
        return LinkStatus(name=name)
    return LinkStatus(
        name=name,
        present=True,
        up=port.up,
        mac=port.mac.hex(":") if any(port.mac) else "",
        source4=socket.inet_ntop(socket.AF_INET, port.source4) if any(port.source4) else "",
        source6=socket.inet_ntop(socket.AF_INET6, port.source6) if any(port.source6) else "",
    )


def _vip_status(router: VirtualRouter, worker: ElectionWorker, offset: float) -> VipStatus:
    settings, heard = router.settings, router.heard
    vip = worker.vips.get(settings.interface, settings.vhid)
    return VipStatus(
        name=settings.name,
        interface=settings.interface,
        vhid=settings.vhid,
        state=router.state.value,
        since=router.since + offset,
        reason=router.reason,
        advbase=settings.advbase,
        advskew=settings.advskew,
        effective_advskew=router.effective_advskew(worker.election.demotion.total),
        addresses=list(settings.addresses),
        counters=router.counters,
        master=Master(source=heard.address, advbase=heard.advbase, advskew=heard.advskew, heard=heard.at + offset)
        if heard and router.state is not State.MASTER
        else None,
        leaving=router.leaving,
        gate={"adverts": "nft", "static": "nft, static"}.get(vip.device.gate, "lifetime") if vip else "",
        device=vip.device.device if vip else "",
        virtual_mac=virtual_mac(settings.vhid).hex(":") if settings.virtual_mac else "",
    )
