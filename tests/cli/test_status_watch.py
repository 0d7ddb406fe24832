"""`hacore status --watch`: a pair in the terminal, at every width, nothing as well that nobody vouches for."""

from __future__ import annotations

from io import StringIO
from typing import Any

import pytest
from msgspec.structs import replace
from rich.console import Console

from hacore.cli.pair_status_view import Known, findings, pair_view
from hacore.cli.status_view import Seen
from hacore.node.event import Event
from hacore.node.snapshot import Snapshot, Worker
from tests.web.full_snapshot import NOW, full_snapshot


def other(snapshot: Snapshot) -> Snapshot:
    """The same, as fw2 that stands by for what fw1 holds."""
    states: dict[str, Any] = {"lan": "BACKUP", "wan": "MASTER"}
    vips = [replace(vip, state=states[vip.name]) for vip in snapshot.vips]
    return replace(snapshot, node=replace(snapshot.node, name="fw2"), vips=vips)


def pair() -> list[Known]:
    one, two = Known("fw1", here=True), Known("fw2", here=False)
    one.seen = Seen(full_snapshot(), NOW)
    two.seen = Seen(other(full_snapshot()), NOW)
    two.sync, two.compared = {"problem": None, "in_sync": {"rules": False, "vips": True}}, NOW - 4
    return [one, two]


def shown(nodes: list[Known], width: int, now: float = NOW) -> str:
    out = Console(file=StringIO(), width=width, color_system=None, highlight=False)
    event = Event(seq=1, boot="", time=NOW - 60, node="fw1", kind="transition", text="lan: BACKUP -> MASTER")
    out.print(pair_view(nodes, [event], now, width))
    assert isinstance(out.file, StringIO)
    return out.file.getvalue()


@pytest.mark.parametrize("width", [40, 60, 80, 120, 200])
def test_everything_is_there_at_every_width(width: int) -> None:
    text = shown(pair(), width)
    flat = " ".join(text.split())
    for word in (
        "fw1: MASTER of lan; fw2: MASTER of wan", "squid running", "dhcp failed", "1,000 own",
        "to fw2 stream, lag 4.0 ms",
        "from fw2 down: connection refused", "rules not in sync", "vips in sync", "lan: BACKUP -> MASTER",
        "firewall: revision 7", "to fw2: 3 applied",
    ):  # fmt: skip
        side_by_side = width >= 150
        assert word in flat or (side_by_side and all(part in flat for part in word.split())), word
    assert "NOT KNOWN" not in flat
    assert max(len(line) for line in text.splitlines()) <= width


def test_side_by_side_where_there_is_room() -> None:
    assert any(line.count("pid 42") == 2 for line in shown(pair(), 200).splitlines())
    assert not any(line.count("pid 42") == 2 for line in shown(pair(), 100).splitlines())


@pytest.mark.parametrize("width", [60, 200])
def test_a_peer_that_is_silent_is_never_shown_as_well(width: int) -> None:
    nodes = pair()
    assert nodes[1].seen is not None
    nodes[1].seen = nodes[1].seen._replace(unreachable="fw2: no answer within 2 s")
    text = shown(nodes, width, NOW + 30)
    assert "fw2: NOT KNOWN: fw2: no answer within 2 s" in " ".join(text.split())
    assert "? (last MASTER)" in text


def test_a_peer_that_never_said_a_word() -> None:
    nodes = [pair()[0], Known("fw2", here=False)]
    nodes[1].problem = "fw2 (10.0.0.2:8117): connection refused"
    assert "fw2: NOT KNOWN: fw2 (10.0.0.2:8117): connection refused" in " ".join(shown(nodes, 80).split())


def test_what_is_to_be_known_first() -> None:
    nodes = pair()
    assert nodes[1].seen is not None
    both = replace(other(full_snapshot()), vips=full_snapshot().vips)
    nodes[1].seen = Seen(replace(both, node=replace(both.node, version="0.2.0")), NOW)
    found = findings(nodes)
    assert ("bad", "lan has 2 MASTERs: fw1, fw2") in found
    assert ("bad", "wan has no MASTER") in found
    assert ("notice", "versions differ: fw1 0.1.0, fw2 0.2.0") in found
    dead = full_snapshot()
    nodes[0].seen = Seen(replace(dead, node=replace(dead.node, workers={"election": Worker(state="failed")})), NOW)
    assert findings(nodes)[0] == ("bad", "fw1: NOT KNOWN: the election worker is not running: failed")
