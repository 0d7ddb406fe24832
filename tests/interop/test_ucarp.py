"""A hacore node and ucarp hold one address between them, whichever is better.

ucarp takes packets in about once a second, so whatever it does may come that much later. It says in its log why it
moved, which tells a bow-out from silence without a clock.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.interop.ucarp import Ucarp
from tests.namespaces import Host, wait_until
from tests.running_node import PATIENCE, RunningNode, Segment, vip

TIMES_OUT = "Putting MASTER DOWN (going to time out)"
Start = Callable[..., Ucarp]


@pytest.fixture
def node(segment: Segment) -> RunningNode:
    return segment.node("fw1", 11)


@pytest.fixture
def other(segment: Segment) -> Host:
    return segment.host("other", 12)


@pytest.fixture
def ucarp(other: Host, tmp_path: Path, tool: Callable[[str], str]) -> Start:
    """Starts ucarp at 10.1.0.12, with these options."""
    path = tool("ucarp")
    return lambda **options: Ucarp(other, tmp_path / "ucarp", path, source="10.1.0.12", **options)


def configure(node: RunningNode, advskew: int, *, preempt: bool = True, **settings: Any) -> None:
    node.configure(vip(advbase=1, advskew=advskew, addresses=["10.1.0.1/16"], **settings), preempt=preempt)


def heard(node: RunningNode) -> int:
    return node.counters()["ipackets"]


def test_the_node_is_master_and_hands_over_to_ucarp(node: RunningNode, ucarp: Start) -> None:
    configure(node, advskew=0)
    node.start()
    peer = ucarp(advskew=100)
    node.until_state("MASTER")
    peer.until_state("BACKUP")
    assert node.held() == {"10.1.0.1"}
    assert not peer.holds()

    node.hacore("maintenance", "enter")
    peer.until_state("MASTER")
    node.until(lambda: peer.written().count(TIMES_OUT) == 1)
    node.until_state("BACKUP")
    node.until(lambda: peer.holds() and not node.held())

    node.hacore("maintenance", "leave")
    node.until_state("MASTER")
    assert node.vip()["reason"] == "preempting a slower master"
    peer.until_state("BACKUP")
    node.until(lambda: node.held() and not peer.holds())
    assert peer.written().count(TIMES_OUT) == 1

    assert node.stop() == 0
    peer.until_state("MASTER")
    wait_until(lambda: peer.written().count(TIMES_OUT) == 2, PATIENCE)
    assert peer.holds()
    assert node.held() == set()


def test_a_better_ucarp_preempts_only_where_it_may_and_is_replaced(node: RunningNode, ucarp: Start) -> None:
    configure(node, advskew=100)
    node.start()
    node.until_state("MASTER")
    polite = ucarp(advskew=0)
    polite.until_state("BACKUP")
    sent = node.counters()["opackets"]
    node.until(lambda: node.counters()["opackets"] >= sent + 3)
    assert polite.states() == ["BACKUP"]
    polite.stop()

    peer = ucarp(advskew=0, preempt=True)
    node.until_state("BACKUP")
    assert node.vip()["reason"] == "more frequent advertisement received"
    peer.until_state("MASTER")
    assert (node.vip()["master"] or {}) | {"heard": 0} == {
        "source": "10.1.0.12",
        "advbase": 1,
        "advskew": 0,
        "heard": 0,
    }
    assert [one["source"] for one in node.status()["node"]["peers"]] == ["10.1.0.12"]
    node.until(lambda: peer.holds() and not node.held())

    since = node.last_event()
    peer.demote()  # it says no farewell and rests for 3 s, then it is better again
    again = [("MASTER", "master timed out"), ("BACKUP", "more frequent advertisement received")]
    node.until(lambda: node.transitions(after=since) == again)
    assert peer.states()[-3:] == ["MASTER", "BACKUP", "MASTER"]
    node.until(lambda: peer.holds() and not node.held())

    peer.process.kill()
    node.until_state("MASTER")
    assert node.vip()["reason"] == "master timed out"
    assert node.held() == {"10.1.0.1"}


def test_a_better_node_preempts_only_where_it_may(node: RunningNode, ucarp: Start) -> None:
    peer = ucarp(advskew=100)
    configure(node, advskew=0, preempt=False)
    peer.until_state("MASTER")
    node.start()
    node.until(lambda: heard(node) >= 3)
    assert node.state() == "BACKUP"

    configure(node, advskew=0, preempt=True)
    node.hacore("check")
    node.ask("reload")
    node.until_state("MASTER")
    assert node.transitions() == [("BACKUP", "initialization complete"), ("MASTER", "preempting a slower master")]
    peer.until_state("BACKUP")
    assert node.counters()["badauth"] == 0


def test_another_password_leaves_both_alone(node: RunningNode, ucarp: Start) -> None:
    configure(node, advskew=100)
    node.start()
    peer = ucarp(advskew=0, password="other", preempt=True)
    node.until_state("MASTER")
    peer.until_state("MASTER")
    node.until(lambda: node.counters()["badauth"] >= 2)
    assert node.transitions()[1:] == [("MASTER", "master timed out")]
    node.until(lambda: "Bad digest" in peer.written())
    assert peer.states()[-1] == "MASTER"
    assert node.status()["node"]["peers"] == []


@pytest.mark.parametrize("number", [11, 13])
def test_equals_after_a_partition_agree_on_one(segment: Segment, other: Host, ucarp: Start, number: int) -> None:
    """The node's address is below ucarp's, or above: each of them is the one that keeps once."""
    segment.cut(other)
    peer = ucarp(advskew=0)
    node = segment.node("fw1", number)
    configure(node, advskew=0)
    node.start()
    node.until_state("MASTER")
    peer.until_state("MASTER")
    segment.mend(other)
    keeps, yields = ("MASTER", "BACKUP") if number < 12 else ("BACKUP", "MASTER")
    node.until_state(keeps)
    peer.until_state(yields)
    node.until(lambda: node.held() == ({"10.1.0.1"} if keeps == "MASTER" else set()))
