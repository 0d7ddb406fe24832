"""Rows of peers with the reply tuple of another entry in this MASTER's kernel."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from hacore._fast import ctnetlink
from hacore._fast.ctnetlink_dtypes import EVENT_DTYPE
from hacore.linux import conntrack
from hacore.node.states_conflicts import Conflicts
from hacore.node.states_injection import InjectionQueue
from hacore.states.layout import Rows
from hacore.states.ownership import Node
from hacore.states.replication import Replication, ReplicationSettings
from tests.linux.conntrack_world import by_key
from tests.linux.test_conntrack_inject import connections

NOW = 1000.0


class Master:
    """This node, MASTER, with one peer that is MASTER of nothing."""

    def __init__(self, injector: conntrack.Injector) -> None:
        self.replication = Replication(
            ReplicationSettings(name="a"), instance=b"a" * 16, seed=b"s" * 16, digest_key=b"d" * 16
        )
        self.queue = InjectionQueue(injector)
        self.problems: list[str] = []
        self.conflicts = Conflicts(self.replication, self.queue, lambda: NOW, self.problems.append)
        self.replication.set_master(True, NOW)
        self.peer: Node = self.replication.ownership.meet("b", b"b" * 16, 0, 0, False)[0]
        self.peer.has_rows = True

    def carries(self, rows: Rows) -> None:
        """Traffic of its own."""
        self.queue.put(rows)
        self.work_off()
        events = np.zeros(len(rows), EVENT_DTYPE)
        events["kind"], events["present"] = ctnetlink.EVENT_NEW, ctnetlink.HAS_ALL
        self.replication.origin.observe(rows.copy(), events, NOW)

    def hears(self, rows: Rows, epoch: int) -> None:
        """What the peer tells."""
        self.replication.table.put(rows, owner=self.peer.index, epoch=epoch)
        self.queue.put(rows, np.full(len(rows), ctnetlink.INSERT | ctnetlink.YIELD, np.uint8))
        self.work_off()

    def work_off(self) -> None:
        while not self.queue.is_empty:
            self.queue.work(everything=True)
        assert not self.problems


@pytest.fixture
def master(injector: conntrack.Injector) -> Iterator[Master]:
    made = Master(injector)
    yield made
    made.queue.close()


def other_clients(count: int) -> Rows:
    """Connections that have the NAT ports of `connections`."""
    rows = connections(count)
    rows["source"][:, 3] = 99
    return rows


def test_what_this_master_carries_stays(master: Master) -> None:
    master.carries(connections(3))
    master.hears(other_clients(5), 0)
    assert by_key(conntrack.dump_rows()).keys() == by_key(np.concatenate([connections(3), other_clients(5)[3:]])).keys()
    assert master.queue.counts["yielded"] == 3
    assert not master.queue.errors
    assert "failed" not in master.queue.counts


def test_an_entry_whose_event_was_not_read_yet_stays(master: Master) -> None:
    master.queue.put(connections(1))
    master.work_off()
    master.hears(other_clients(1), 0)
    assert by_key(conntrack.dump_rows()).keys() == by_key(connections(1)).keys()


def test_a_newer_claim_takes_the_place_and_the_row_goes(master: Master) -> None:
    master.carries(connections(3))
    master.hears(other_clients(3), master.replication.ownership.epoch + 1)
    assert by_key(conntrack.dump_rows()).keys() == by_key(other_clients(3)).keys()
    assert by_key(master.replication.table.rows()).keys() == by_key(other_clients(3)).keys()
    assert not master.queue.counts["yielded"]


def test_what_its_owner_has_let_go_of_makes_way(master: Master) -> None:
    master.hears(connections(2), 0)
    master.replication.table.delete(connections(2))
    master.replication.spared.keep(connections(2), NOW)
    master.hears(other_clients(2), 0)
    assert by_key(conntrack.dump_rows()).keys() == by_key(other_clients(2)).keys()


def test_a_row_that_its_owner_has_deleted_meanwhile_does_not_come_back(master: Master) -> None:
    master.carries(connections(1))
    rows = other_clients(1)
    master.replication.table.put(rows, owner=master.peer.index, epoch=master.replication.ownership.epoch + 1)
    master.queue.put(rows, np.full(1, ctnetlink.INSERT | ctnetlink.YIELD, np.uint8))
    master.replication.table.delete(rows)
    master.queue.put(rows, np.full(1, ctnetlink.DELETE, np.uint8))
    master.work_off()
    assert by_key(conntrack.dump_rows()).keys() == by_key(connections(1)).keys()
