"""What `hacore status` looks like: renderables of a snapshot; what nobody vouches for now is shown as not known."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from hacore.cli.terminal import duration, folded, moment, state_text
from hacore.node.snapshot import NodeStatus, Snapshot, VipStatus, doubt
from hacore.web.wording import size

#: Columns from which the VIPs are a table; below, each is a few lines.
TABLE_COLUMNS = 100
SERVICE_STYLES = {"running": "green", "starting": "yellow", "stopping": "yellow", "stopped": ""}
#: Seconds before its end from which a certificate stands out.
EXPIRY_NEAR = 30 * 86400.0


class Seen(NamedTuple):
    """A snapshot, when it arrived (unix seconds), and why there is none after it."""

    snapshot: Snapshot
    at: float
    unreachable: str = ""

    @property
    def fault(self) -> str:
        """Why nobody vouches for the states of the VIPs; empty while the election worker does."""
        return self.unreachable or doubt(self.snapshot)


def view(seen: Seen, now: float, width: int) -> RenderableType:
    """Everything, for a terminal of `width` columns at the unix time `now`."""
    return Group(*_parts(seen, now, width))


def _parts(seen: Seen, now: float, width: int) -> Iterator[RenderableType]:
    snapshot, fault = seen.snapshot, seen.fault
    node = snapshot.node
    yield _title(node, now)
    said = node.reported or node.generated
    if fault:
        yield Text(f"NOT KNOWN: {fault}", style="bold red")
        yield Text(f"What follows is from {moment(said)}, {duration(now - said)} ago.", style="red")
    else:
        yield Text(f"as of {moment(said)}, {duration(now - said)} ago", style="dim")
    yield from _notes(node, width, reached=not seen.unreachable)
    yield Text()
    if not snapshot.vips:
        yield Text("no VIPs" if not fault else "nothing known of any VIP", style="yellow")
    elif width >= TABLE_COLUMNS:
        yield _vip_table(snapshot.vips, now, known=not fault)
    else:
        for vip in snapshot.vips:
            yield from _vip_lines(vip, now, width, known=not fault)
    yield from _heard(node, now, width)
    yield from _certificates(node, now)
    yield from _checks(node, now, width)
    yield from _states(snapshot, now, width)
    yield from _control(snapshot, now, width)


def _title(node: NodeStatus, now: float) -> Text:
    title = Text(node.name, style="bold")
    title.append(
        f"  hacore {node.version}, pid {node.pid}, started {duration(now - node.started)} ago", style="not bold"
    )
    return title


def _notes(node: NodeStatus, width: int, *, reached: bool) -> Iterator[Text]:
    if node.maintenance:
        yield Text("in maintenance: takes no address (hacore maintenance leave)", style="bold yellow")
    if not node.carp_enabled:
        yield Text("carp is disabled: holds no address (hacore carp enable)", style="bold yellow")
    if node.demotion.total or node.demotion.reasons:
        parts = ", ".join(f"{name} {value}" for name, value in sorted(node.demotion.reasons.items()))
        yield Text(f"demoted by {node.demotion.total}: {parts}", style="yellow")
    else:
        yield Text("not demoted")
    for name, worker in sorted(node.workers.items()):
        if worker.state == "off":
            continue
        if not reached:
            yield Text(f"worker {name}: ? (last {worker.state})", style="red")
            continue
        text = f"worker {name}: {worker.state}"
        text += f", pid {worker.pid}" if worker.pid else ""
        text += f", {worker.restarts} restart{'s' * (worker.restarts != 1)}" if worker.restarts else ""
        yield Text(text, style="" if worker.state == "running" else "bold red")
    if not node.realtime.obtained:
        yield Text(f"no real time: {node.realtime.problem or 'not obtained yet'}", style="yellow")
    for warning in node.warnings:
        yield folded(Text(warning, style="yellow"), width, Text("warning: ", style="yellow"))


def _state(vip: VipStatus, *, known: bool) -> Text:
    if not known:
        return Text(f"? (last {vip.state})", style="red")
    text = state_text(vip.state)
    if vip.leaving:
        text.append(", leaving", style="yellow")
    return text


def _adverts(vip: VipStatus) -> str:
    text = f"{vip.advbase}/{vip.advskew}"
    return text if vip.effective_advskew == vip.advskew else f"{text}, now {vip.effective_advskew}"


def _master(vip: VipStatus, now: float) -> str:
    master = vip.master
    if master is None or vip.state == "MASTER":  # one that was heard before this node took over
        return ""
    return f"{master.source} ({master.advbase}/{master.advskew}), heard {duration(now - master.heard)} ago"


def _vip_table(vips: list[VipStatus], now: float, *, known: bool) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for heading in ("VIP", "STATE", "FOR", "INTERFACE", "VHID", "BASE/SKEW", "ADDRESSES", "WHY"):
        table.add_column(heading, no_wrap=heading not in ("ADDRESSES", "WHY"), overflow="fold")
    for vip in vips:
        why = Text(vip.reason)
        if master := _master(vip, now):
            why.append(f"\nMASTER is {master}", style="dim")
        table.add_row(
            Text(vip.name, style="bold"),
            _state(vip, known=known),
            duration(now - vip.since) if known else "",
            vip.interface,
            str(vip.vhid),
            _adverts(vip),
            "\n".join(vip.addresses),
            why,
        )
    return table


def _vip_lines(vip: VipStatus, now: float, width: int, *, known: bool) -> Iterator[RenderableType]:
    head = Text(f"{vip.name}  ", style="bold")
    head.append_text(_state(vip, known=known))
    if known:
        head.append(f"  for {duration(now - vip.since)}", style="not bold")
    yield head
    details = [
        vip.reason,
        f"vhid {vip.vhid} on {vip.interface}, advbase/advskew {_adverts(vip)}",
        ", ".join(vip.addresses),
    ]
    if master := _master(vip, now):
        details.append(f"MASTER is {master}")
    yield folded(Text("\n".join(details)), width)


def _heard(node: NodeStatus, now: float, width: int) -> Iterator[RenderableType]:
    yield Text()
    if not node.peers:
        yield Text("no other node heard", style="dim")
        return
    yield Text("other nodes heard", style="dim")
    for peer in sorted(node.peers, key=lambda peer: (peer.interface, peer.source)):
        vhids = ", ".join(str(vhid) for vhid in peer.vhids)
        text = f"{peer.source} on {peer.interface}, vhid {vhids}, {duration(now - peer.heard)} ago"
        yield folded(Text(text), width)


def _certificates(node: NodeStatus, now: float) -> Iterator[RenderableType]:
    if node.certificates:
        yield Text("certificates", style="dim")
    for one in node.certificates:
        left = one.expires - now
        whose = f"{one.name}, this node" if one.own else one.name
        if left < 0:
            yield Text(f"{whose}: expired {duration(-left)} ago", style="bold red")
        else:
            style = "yellow" if left < EXPIRY_NEAR else ""
            yield Text(f"{whose}: until {moment(one.expires)}, for {duration(left)}", style=style)


def _checks(node: NodeStatus, now: float, width: int) -> Iterator[RenderableType]:
    if node.checks:
        yield Text("health checks", style="dim")
    for check in node.checks:
        style = {"up": "green", "down": "bold red"}.get(check.state, "yellow")
        line = Text(f"{check.name}  ")
        line.append(check.state, style=style)
        if check.since:
            line.append(f"  for {duration(now - check.since)}")
        if check.demotion and check.state == "down":
            line.append(f", demotes by {check.demotion}")
        if check.finding:
            line.append(f": {check.finding}")
        yield folded(line, width)


def _states(snapshot: Snapshot, now: float, width: int) -> Iterator[RenderableType]:
    states = snapshot.states
    if states is None:
        return
    table, kernel = states.table, states.kernel
    ago = duration(now - states.generated)
    yield Text(f"replicated connections, {ago} ago", style="dim")
    yield folded(
        Text(
            f"{table.rows:,} of {table.max_states:,} rows, {table.own:,} own, {size(table.memory_bytes)}; "
            f"kernel {kernel.entries:,} of {kernel.limit:,}"
        ),
        width,
        Text(""),
    )
    for peer in states.peers:
        for way, stream in (("to", peer.sending), ("from", peer.receiving)):
            line = Text(f"{way} {peer.name}  ")
            line.append(stream.phase, style={"stream": "green", "down": "bold red"}.get(stream.phase, "yellow"))
            if stream.phase == "down":
                line.append(f": {stream.reason}")
            elif stream.phase == "stream":
                line.append(f", lag {duration(stream.lag)}, {stream.lag_states:,} states")
            elif stream.bulk_total:
                line.append(f", {stream.bulk_rows:,} of {stream.bulk_total:,} states")
            yield folded(line, width)


def _control(snapshot: Snapshot, now: float, width: int) -> Iterator[RenderableType]:
    control = snapshot.control
    if control is None:
        return
    if control.services:
        yield Text(f"services, looked at {duration(now - control.services_seen)} ago", style="dim")
    for one in control.services:
        line = Text(f"{one.id}  ")
        line.append(one.state.value, style=SERVICE_STYLES.get(one.state.value, "bold red"))
        if one.since is not None:
            line.append(f"  for {duration(now - one.since)}")
        if one.problem or one.state.value in ("failed", "missing", "unknown"):
            line.append(f": {one.problem or one.detail}")
        yield folded(line, width)
    if control.sections:
        yield Text("sections brought here", style="dim")
    for section in control.sections:
        yield folded(
            Text(f"{section.id}: revision {section.revision}, {moment(section.applied_at)}, by {section.by}"), width
        )
    if control.pushes:
        yield Text("pushes", style="dim")
    for push in control.pushes:
        text = f"{push.direction} {push.peer}: {push.count} {push.result}, last {duration(now - push.last)} ago"
        failed = push.result in ("refused", "undone", "broken", "failed")
        yield folded(Text(text, style="red" if failed else ""), width)
