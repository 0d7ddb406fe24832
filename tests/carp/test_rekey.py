"""A change of addresses or password that reaches the nodes one after the other."""

from __future__ import annotations

from math import inf

import msgspec
import pytest

from hacore.carp.terms import State
from tests.carp.segment import PROFILES, settle
from tests.carp.simulation import Network, settings


@PROFILES
@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_no_split_while_settings_differ(profile: tuple[tuple[int, int], ...], order: tuple[int, int]) -> None:
    network = Network(seed=5)
    nodes = [network.add(settings(advbase=base, advskew=skew)) for base, skew in profile]
    settle(network)
    changed = [
        settings(advbase=base, advskew=skew, addresses=("10.1.0.1/16", "10.1.0.2/16"), password=b"new")
        for base, skew in profile
    ]
    start = network.now
    for index in order:
        nodes[index].configure([changed[index]], preempt=True)
        settle(network, 20.0)
        assert network.masters() == [nodes[0]]
    overlap = sum(end - begin for begin, end in network.double_masters if begin >= start)
    assert overlap < 2.1, "only the planned handovers overlap"
    assert all(not event.reason.startswith("master timed out") for node in nodes for event in node.transitions(start))


def test_previous_keys_of_an_earlier_run() -> None:
    """The one node was restarted with other settings, the other has the old ones still: no split."""
    network = Network()
    old, new = settings(advskew=100), settings(advskew=0, password=b"new", previous=(settings().key_material,))
    new = msgspec.structs.replace(
        new, previous=tuple(msgspec.structs.replace(each, remaining=60.0) for each in new.previous)
    )
    second = network.add(old)
    settle(network)
    first = network.add(new)
    settle(network, 40.0)
    assert network.masters() == [first]
    assert second.state() is State.BACKUP
    settle(network, 40.0)
    assert network.masters() == [second, first], "the old key has ended"


def test_old_key_ends_with_rekey_time() -> None:
    network = Network()
    node = network.add(settings())
    node.rekey_time = 30.0
    settle(network)
    node.configure([settings(password=b"new")], preempt=True)
    settle(network, 10.0)
    node.sent.clear()
    settle(network, 5.0)
    assert len(node.sent) == 10
    settle(network, 30.0)
    node.sent.clear()
    settle(network, 5.0)
    assert len(node.sent) == 5


def test_previous_keys_of_a_reload_last_as_long_as_they_say() -> None:
    """Who keeps the settings knows who still needs an old key; the latest change may be none that anybody has."""
    network = Network()
    node = network.add(settings(password=b"1"))
    node.rekey_time = 30.0
    settle(network)
    kept = tuple(msgspec.structs.replace(settings(password=each).key_material, remaining=inf) for each in (b"2", b"1"))
    for password, previous in ((b"2", kept[1:]), (b"3", kept), (b"4", kept)):
        node.configure([settings(password=password, previous=previous)], preempt=True)
        settle(network)
    router = node.election.routers[0]
    settle(network, 1000.0)
    assert [(old.material.password, old.until) for old in router.old_keys] == [(b"2", inf), (b"1", inf)]
    spoken = [old.key for old in router.old_keys]
    node.configure([settings(password=b"4", previous=kept)], preempt=True)
    assert all(old.key is key for old, key in zip(router.old_keys, spoken, strict=True))
    node.election.rekeyed("lan", 1, network.now + 5.0, network.now)
    settle(network, 4.0)
    assert len(router.old_keys) == 2
    settle(network, 2.0)
    assert router.old_keys == []


def test_copies_under_several_keys_do_not_shorten_the_interval() -> None:
    """A BACKUP that waits for three intervals of a slower MASTER, which sends each advertisement three times."""
    network = Network()
    backup, master = (network.add(settings(advbase=0, advskew=skew), preempt=False) for skew in (1, 8))
    settle(network)
    backup.election.demote("maintenance", 240, network.now)
    backup.turn()
    settle(network)
    for password in (b"new", b"newer"):
        for node in network.nodes:
            node.configure([settings(advbase=0, advskew=8 if node is master else 1, password=password)], preempt=False)
        settle(network)
    start = network.now
    settle(network, 5.0)
    assert network.masters() == [master]
    assert backup.transitions(start) == master.transitions(start) == []
    heard = backup.election.routers[0].heard
    assert heard is not None
    assert heard.interval == pytest.approx(8 / 256, abs=0.001)


def test_lone_master_keeps_its_addresses() -> None:
    network = Network()
    node = network.add(settings())
    settle(network)
    start = network.now
    node.configure([settings(addresses=("10.1.0.1/16", "10.1.0.9/16"))], preempt=True)
    settle(network, 2.0)
    assert node.state() is State.MASTER
    assert [event.new for event in node.transitions(start)] == [State.INIT, State.BACKUP, State.MASTER]
    assert len({event.at for event in node.transitions(start)}) == 1


def test_changed_skew_changes_no_state() -> None:
    network = Network()
    node = network.add(settings())
    settle(network)
    start = network.now
    node.configure([settings(advskew=50)], preempt=True)
    settle(network, 20.0)
    assert node.transitions(start) == []
