"""Expectations that change, come and go without an event: from the kernel of a MASTER to that of its peer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from hacore._fast import ctnetlink
from hacore._fast.ctnetlink_dtypes import EXPECTATION_DTYPE
from hacore.errors import PlatformError
from hacore.linux import conntrack
from hacore.node.states import LARGEST_SLACK, clock
from hacore.node.states_filter import Filter
from hacore.states.expectations import INACTIVE, Expectations
from hacore.states.layout import Rows
from tests.linux.test_conntrack_inject import connections
from tests.node.states_pair import Node, eventually, made
from tests.node.test_states_reconcile import Machine, entered
from tools import ct_packets
from tools.ct_flows import sip_answer, sip_register

ACTIVE_TIMEOUT = 3600
PERMANENT = 0x1


def expected(node: Node) -> conntrack.Records:
    with node.host.entered():
        return conntrack.dump_expectations()


def are(node: Node, flags: int) -> bool:
    """Whether it expects one thing, with these flags."""
    return bool(expected(node)["flags"].tolist() == [flags])


def test_a_registration_that_was_answered_survives_a_takeover(tmp_path: Path) -> None:
    with made(tmp_path, reconcile_interval=600.0) as pair:  # nothing but the answer's own look tells in time
        sip_register(pair.one.gateway)
        eventually(lambda: are(pair.one, PERMANENT | INACTIVE) and are(pair.two, PERMANENT | INACTIVE))
        way = sip_answer(pair.one.gateway)
        assert are(pair.one, PERMANENT)
        eventually(lambda: are(pair.two, PERMANENT))
        here, there = expected(pair.one), expected(pair.two)
        assert abs(int(here["timeout"][0]) - int(there["timeout"][0])) <= LARGEST_SLACK
        there["timeout"] = here["timeout"]
        assert here == there
        assert pair.one.hacore("states", "diff", "--settle", "0").returncode == 0

        pair.one.kill()
        eventually(lambda: pair.two.carp == "MASTER")
        eventually(lambda: pair.two.states()["kernel"]["reconciles"] > 0)
        assert are(pair.two, PERMANENT)
        assert expected(pair.two)["timeout"][0] > ACTIVE_TIMEOUT - 60
        call = way._replace(source_port=5070)
        pair.two.gateway.send("outside", call, ct_packets.udp(call, b"INVITE"))
        (came,) = pair.two.gateway.expect("inside", 1, 5.0)
        assert came.way.destination == bytes((10, 0, 0, 3)), "the phone's own address"


def phones(count: int) -> Rows:
    """Connections of SIP's helper, each of which expects calls."""
    rows = connections(count, protocol=17)
    rows["destination_port"] = rows["reply_source_port"] = 5060
    rows["helper"] = b"sip"
    return rows


def calls(masters: Rows, *, flags: int = PERMANENT, timeout: int = 300) -> Expectations:
    made = np.zeros(len(masters), dtype=EXPECTATION_DTYPE)
    made["family"], made["protocol"], made["master_protocol"] = 2, 17, 17
    for end in ("source", "destination"):
        made[end] = masters[f"reply_{end}"]
        made[f"master_{end}"] = masters[end]
        made[f"master_{end}_port"] = masters[f"{end}_port"]
    made["destination_port"] = masters["reply_destination_port"]
    made["mask_source"][:, :4] = 255
    made["flags"], made["timeout"], made["helper"] = flags, timeout, b"sip"
    return made


def listening(machine: Machine, masters: Rows) -> None:
    """These connections are there, and the first comparison is over."""
    machine.traffic.inject(masters)
    machine.follower.start(known=False)
    machine.compare()


def deaf(machine: Machine) -> None:
    """What is told from now on is lost."""
    assert machine.follower._socket is not None
    machine.run_until(lambda: not machine.follower._receive().messages)
    machine.follower._socket.mute()


def told(machine: Machine) -> Expectations:
    return np.sort(machine.replication.origin.expectations.all(clock()), order="destination_port")


@pytest.fixture
def machine() -> Iterator[Machine]:
    with entered() as made:
        yield made


def test_lost_events_are_made_good(machine: Machine) -> None:
    masters = phones(4)
    here = calls(masters)
    listening(machine, masters)
    machine.traffic.inject_expectations(here[:3])
    machine.run_until(lambda: len(told(machine)) == 3)
    deaf(machine)
    machine.traffic.inject_expectations(here[:1], np.full(1, ctnetlink.DELETE, np.uint8))
    here["timeout"][1] = 100
    here["flags"][2] = 0
    assert machine.traffic.inject_expectations(here[1:]).failed == 0
    machine.reconciler.soon(lost=True)
    machine.compare()
    found = told(machine)
    assert found["destination_port"].tolist() == here["destination_port"][1:].tolist()
    assert np.allclose(found["timeout"], [100, 300, 300], atol=2)
    assert found["flags"].tolist() == [PERMANENT, 0, PERMANENT]
    assert machine.problems == []


def test_one_that_is_inactive_is_looked_at_until_it_is_not(machine: Machine) -> None:
    masters = phones(1)
    listening(machine, masters)
    machine.traffic.inject_expectations(calls(masters, flags=PERMANENT | INACTIVE, timeout=180))
    machine.run_until(lambda: told(machine)["flags"].tolist() == [PERMANENT | INACTIVE])
    deaf(machine)
    comparisons = machine.reconciler.count
    machine.traffic.inject_expectations(calls(masters, timeout=ACTIVE_TIMEOUT))
    machine.run_until(lambda: told(machine)["flags"].tolist() == [PERMANENT])
    assert told(machine)["timeout"][0] > ACTIVE_TIMEOUT - 60
    assert machine.reconciler.count == comparisons
    assert machine.reconciler.expectations._next is None, "all is told"


def test_those_of_ignored_connections_are_left_out(machine: Machine) -> None:
    masters = phones(2)
    masters["source"][1, :4] = (127, 0, 0, 2)
    assert not Filter().wanted(masters)[1]
    listening(machine, masters)
    machine.traffic.inject_expectations(calls(masters))
    machine.run_until(lambda: len(told(machine)) == 1)
    machine.reconciler.soon()
    machine.compare()
    assert told(machine)["master_source"][0][0] == 10


def test_a_dump_that_fails_tells_nothing(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    masters = phones(1)
    listening(machine, masters)
    machine.traffic.inject_expectations(calls(masters))
    machine.run_until(lambda: len(told(machine)) == 1)

    def fails() -> None:
        raise PlatformError("the kernel broke it off")

    monkeypatch.setattr(conntrack, "dump_expectations", fails)
    machine.reconciler.soon()
    machine.compare()
    assert machine.problems == ["the kernel broke it off"]
    assert len(told(machine)) == 1
