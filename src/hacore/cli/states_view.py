"""What `hacore states` looks like."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from hacore.cli.terminal import duration, moment
from hacore.web.wording import size

if TYPE_CHECKING:
    from rich.console import RenderableType

    from hacore.node.states_snapshot import SharingCounts, StatesStatus, StreamStatus


def line(row: dict[str, Any]) -> str:
    """One connection in one line."""
    parts = [f"{row['protocol']:7}", f"{row.get('state', ''):11}", f"{row['timeout']:>7}"]
    parts.append(f"{_end(row, 'source')} -> {_end(row, 'destination')}")
    there = _end(row, "destination"), _end(row, "source")
    if (_end(row, "reply_source"), _end(row, "reply_destination")) != there:
        parts.append(f"[{_end(row, 'reply_source')} -> {_end(row, 'reply_destination')}]")
    parts += [name for name in row["status"] if name not in ("SRC_NAT", "DST_NAT")]
    parts += [f"{name}={row[name]}" for name in ("mark", "zone", "helper", "master", "owner") if name in row]
    for name in ("packets", "bytes"):
        both = row.get(f"{name}_original", 0), row.get(f"{name}_reply", 0)
        if any(both):
            parts.append(f"{name}={both[0]}/{both[1]}")
    if "start" in row:
        parts.append(f"start={moment(row['start'])}")
    return " ".join(parts)


def expectation_line(shown: dict[str, Any]) -> str:
    """One expectation in one line."""
    parts = [
        f"{shown['protocol']:7}",
        f"{shown['timeout']:>7}",
        f"{_end(shown, 'source')} -> {_end(shown, 'destination')}",
    ]
    parts += [*shown["flags"], *(f"{name}={shown[name]}" for name in ("helper", "function", "class") if name in shown)]
    return " ".join([*parts, f"master={shown['master']}"])


def _end(row: dict[str, Any], end: str) -> str:
    address, port = row[end], row[f"{end}_port"]
    if not port:
        return str(address)
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def view(status: StatesStatus) -> RenderableType:
    """Everything."""
    from rich.console import Group

    return Group(*_parts(status))


def _parts(status: StatesStatus) -> Iterator[RenderableType]:
    from rich.text import Text

    title = Text(status.node, style="bold")
    held = ", ".join(status.master_of)
    title.append(f"  MASTER of {held}" if held else "  MASTER of nothing", style="not bold")
    title.append(f", epoch {status.epoch}", style="not bold")
    yield title
    for warning in status.warnings:
        yield Text(f"warning: {warning}", style="yellow")
    yield Text()
    if not status.peers:
        yield Text("no peers", style="yellow")
    for peer in status.peers:
        yield Text(f"{peer.name}  {peer.address}", style="bold")
        yield _stream("to  ", peer.sending, status.generated)
        yield _stream("from", peer.receiving, status.generated)
    table, kernel = status.table, status.kernel
    yield Text()
    by_protocol = ", ".join(f"{name} {count:,}" for name, count in sorted(table.protocols.items()))
    yield Text(f"table    {table.rows:,} of {table.max_states:,} rows, {table.own:,} own, {size(table.memory_bytes)}")
    if by_protocol:
        yield Text(f"         {by_protocol}")
    if table.not_fitted:
        yield Text(f"         {table.not_fitted:,} did not fit (states.max_states)", style="bold red")
    full = kernel.limit and kernel.entries >= kernel.limit
    yield Text(
        f"kernel   {kernel.entries:,} of {kernel.limit:,} entries, "
        + ("listening" if kernel.listening else "not listening")
        + (f", {kernel.waiting:,} waiting" if kernel.waiting else ""),
        style="bold red" if full else "",
    )
    yield Text(
        f"events   {kernel.events:,}, of which {kernel.echoes:,} echoes and {kernel.ignored:,} not to be replicated"
    )
    if kernel.lost or kernel.malformed:
        yield Text(f"         lost {kernel.lost:,} times, {kernel.malformed:,} not understood", style="yellow")
    if kernel.lenient:
        yield Text("         lenient with all TCP windows until this node is MASTER of nothing and has seen to each")
    if kernel.reconciles:
        ago = duration(status.generated - kernel.reconciled)
        yield Text(
            f"compared with the kernel {kernel.reconciles:,} times, last {ago} ago, "
            f"in {duration(kernel.reconcile_duration)}"
        )
    if kernel.checks:
        ago = duration(status.generated - kernel.checked)
        yield Text(
            f"checked what peers own {kernel.checks:,} times, last {ago} ago, in {duration(kernel.check_duration)}: "
            f"{kernel.missing:,} missing and {kernel.differing:,} differing entries were put in again"
        )
    if kernel.unfitted:
        yield Text(f"         {kernel.unfitted:,} wait for room in the kernel", style="bold red")
    if kernel.injected:
        counts = ", ".join(
            f"{name.replace('_', ' ')} {count:,}"
            for name, count in kernel.injected.items()
            if name not in ("messages", "sends", "queries", "failed")
        )
        yield Text(f"put into the kernel: {counts}")
    yield from _sharing(status.sharing)
    for error, count in sorted(kernel.errors.items()):
        hint = f" (nf_conntrack_max is {kernel.limit:,})" if error.startswith("ENOMEM") else ""
        yield Text(f"refused by the kernel: {count:,} with {error}{hint}", style="red")


def _sharing(counts: SharingCounts) -> Iterator[RenderableType]:
    from rich.text import Text

    owned = {"claimed": counts.claimed, "contested": counts.contested, "ends left to their owners": counts.ends_left}
    if any(owned.values()):
        yield Text("owners   " + ", ".join(f"{count:,} {what}" for what, count in owned.items() if count))
    troubles = {
        "rows with outdated claims": counts.outdated,
        "frames that met other rows": counts.mismatched,
        "frames that left the log too early": counts.overflowed,
        "connections refused": counts.refused,
    }
    if any(troubles.values()):
        told = ", ".join(f"{count:,} {what}" for what, count in troubles.items() if count)
        yield Text(f"peers    {told}", style="yellow")


def _stream(way: str, stream: StreamStatus, now: float) -> RenderableType:
    from rich.text import Text

    text = Text(f"  {way}  ")
    style = {"stream": "green", "down": "bold red"}.get(stream.phase, "yellow")
    text.append(f"{stream.phase}", style=style)
    text.append(f" for {duration(now - stream.since)}")
    if stream.phase == "down":
        text.append(f": {stream.reason}")
        return text
    if stream.phase in ("bulk update", "repair") and stream.bulk_total:
        text.append(f", {stream.bulk_rows:,} of {stream.bulk_total:,} states")
    text.append(f", position {stream.position:,}")
    if stream.lag_states:
        text.append(f", behind by {stream.lag_states:,} states and {duration(stream.lag)}")
    text.append(f", {size(stream.sent_bytes)} sent, {size(stream.received_bytes)} received")
    return text
