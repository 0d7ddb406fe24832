"""Three nodes: the third one has what whoever is MASTER has."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.node.states_pair import Node, Pair, eventually, made
from tools.ct_flows import flow, mixed_flows
from tools.ct_packets import UDP


@pytest.fixture
def trio(tmp_path: Path) -> Iterator[Pair]:
    with made(tmp_path, count=3) as trio:
        yield trio


def test_the_master_dies_and_comes_back(trio: Pair) -> None:
    one, two, three = trio.nodes
    one.gateway.talk(mixed_flows(200))
    eventually(trio.alike)
    assert len(three.keys()) > 190
    before = one.keys()
    one.kill()
    eventually(lambda: two.carp == "MASTER")
    two.gateway.talk([flow(UDP, f"10.3.0.{2 + index}", "198.51.100.9", 5000, 53) for index in range(20)])
    eventually(lambda: three.keys() == two.keys())
    assert len(three.keys() - before) == 20
    assert three.carp == "BACKUP"

    one.host.run("nft", "-f", "-", text=CUT)
    one.start()
    eventually(lambda: one.carp == "BACKUP" and three.name in following(one))
    assert one.demotion == {"bulk update": 240}, "the MASTER's stream is missing, and the third node has nothing to say"
    assert any("of fw2 are awaited" in text for text in one.status()["node"]["warnings"])
    assert two.carp == "MASTER"
    kept = two.keys()
    one.host.run("nft", "delete", "table", "inet", "cut")
    eventually(lambda: one.carp == "MASTER")
    assert not (kept - one.keys()) & two.keys()
    eventually(trio.alike)


CUT = "table inet cut { chain in { type filter hook input priority 0; ip saddr 10.9.0.2 drop; }; }"


def following(node: Node) -> list[str]:
    """The peers whose streams come in."""
    peers = node.states().get("peers", [])
    return [peer["name"] for peer in peers if peer["receiving"]["phase"] == "stream"]
