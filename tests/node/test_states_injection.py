"""The queue into the kernel: in order, in slices, with every refusal counted."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from hacore._fast import ctnetlink
from hacore.linux import conntrack
from hacore.node.states_injection import SLICE_ROWS, InjectionQueue
from tests.linux.test_conntrack_inject import connections
from tests.namespaces import Network


@pytest.fixture
def queue() -> Iterator[InjectionQueue]:
    """On the table of a namespace, in which the test works."""
    with Network() as network:
        host = network.host("fw")
        host.run("nft", "add table inet t; add chain inet t c { type nat hook postrouting priority 0; }")
        with host.entered(), conntrack.Injector() as injector:
            yield InjectionQueue(injector)


def test_rows_go_in_slices_and_in_order(queue: InjectionQueue) -> None:
    done: list[str] = []
    rows = connections(20_000)
    queue.put(rows, done=lambda: done.append("rows"))
    queue.put(rows[:100], np.full(100, ctnetlink.DELETE, np.uint8), done=lambda: done.append("deletes"))
    queue.put(rows[:0], done=lambda: done.append("nothing"))
    assert queue.waiting_rows == 20_100
    assert queue.is_busy
    assert queue.work()
    assert SLICE_ROWS[0] <= conntrack.count() <= SLICE_ROWS[1]
    assert done == []
    turns = 1
    while queue.work():
        turns += 1
    assert turns > 2
    assert done == ["rows", "deletes", "nothing"]
    assert conntrack.count() == 19_900
    assert (queue.waiting_rows, queue.is_busy) == (0, False)
    assert queue.counts["inserted"] == 20_000
    assert queue.counts["deleted"] == 100


def test_everything_at_once_when_this_node_is_promoted(queue: InjectionQueue) -> None:
    queue.put(connections(20_000))
    assert not queue.work(everything=True)
    assert conntrack.count() == 20_000


def test_refusals_are_counted_by_their_number(queue: InjectionQueue) -> None:
    rows = connections(50)
    rows["protocol_state"][[3, 30]] = 77
    done: list[str] = []
    queue.put(rows, done=lambda: done.append("rows"))
    queue.work()
    assert done == ["rows"]
    assert conntrack.count() == 48
    assert dict(queue.errors) == {"ERANGE: Numerical result out of range": 2}
