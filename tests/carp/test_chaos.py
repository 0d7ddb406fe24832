"""Whatever happens to a few nodes: once it is quiet, exactly one of them is MASTER, and the same one stays."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tests.carp.simulation import Network, Node, settings

STEPS = st.lists(
    st.tuples(
        st.sampled_from(["stall", "link", "demote", "maintenance", "cut", "loss", "disable", "rekey", "wait"]),
        st.integers(0, 2),
        st.floats(0.0, 5.0),
    ),
    max_size=25,
)


def disturb(network: Network, node: Node, what: str, seed: int) -> None:
    """Begin or end a fault."""
    now = network.now
    if what == "stall":
        node.resume() if node.stalled_at is not None else node.stall()
    elif node.stalled_at is not None:
        return
    elif what == "link":
        node.set_link("lan", up=not node.links["lan"])
    elif what == "demote":
        node.election.demote("chaos", 0 if "chaos" in node.election.demotion else 100, now, administrative=True)
    elif what == "maintenance":
        node.election.demote("maintenance", 0 if "maintenance" in node.election.demotion else 240, now)
    elif what == "disable":
        node.election.disable(now) if node.election.enabled else node.election.enable(now)
    elif what == "rekey":
        for index, each in enumerate(network.nodes):
            network.at(now + 0.3 * index, lambda each=each: rekey(each, b"%d" % seed))  # type: ignore[misc]
    elif what == "cut":
        cut = not network.cut(network.nodes[0], network.nodes[1], "lan")
        network.cut = lambda _a, _b, _interface: cut
    elif what == "loss":
        network.loss = 0.0 if network.loss else 0.05
    node.turn()


def rekey(node: Node, password: bytes) -> None:
    if node.stalled_at is None:
        mine = node.election.routers[0].settings
        changed = settings(advbase=mine.advbase, advskew=mine.advskew, password=password)
        node.configure([changed], preempt=node.election.preempt)


def calm_down(network: Network) -> None:
    """Every fault ends, and all nodes have the same settings."""
    network.loss = 0.0
    network.cut = lambda _a, _b, _interface: False
    for node in network.nodes:
        if node.stalled_at is not None:
            node.resume()
        if not node.links["lan"]:
            node.set_link("lan", up=True)
        if not node.election.enabled:
            node.election.enable(network.now)
        node.turn()
        rekey(node, b"at last")


def play(fast: bool, preempt: bool, steps: list[tuple[str, int, float]]) -> None:
    network = Network(seed=len(steps))
    for number in range(3):
        advbase, advskew = (0, 1 + number) if fast else (1, 100 * number)
        network.add(settings(advbase=advbase, advskew=advskew), preempt=preempt)
    for seed, (what, index, pause) in enumerate(steps):
        disturb(network, network.nodes[index], what, seed)
        network.run(network.now + pause)
    calm_down(network)
    network.run(network.now + 15.0)
    assert len(network.masters()) == 1
    quiet = network.now
    network.run(network.now + 30.0)
    assert len(network.masters()) == 1
    assert [event for node in network.nodes for event in node.transitions(quiet)] == []


@given(fast=st.booleans(), preempt=st.booleans(), steps=STEPS)
@hypothesis_settings(max_examples=25)
def test_one_master_once_it_is_quiet(fast: bool, preempt: bool, steps: list[tuple[str, int, float]]) -> None:
    play(fast, preempt, steps)


@pytest.mark.soak
@given(fast=st.booleans(), preempt=st.booleans(), steps=STEPS)
@hypothesis_settings(max_examples=2000)
def test_long_chaos(fast: bool, preempt: bool, steps: list[tuple[str, int, float]]) -> None:
    play(fast, preempt, steps)
