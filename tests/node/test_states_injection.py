"""The queue into the kernel: in order, in slices, with every refusal counted."""

from __future__ import annotations

import select

import numpy as np
import pytest

from hacore._fast import ctnetlink
from hacore.errors import PlatformError
from hacore.linux import conntrack
from hacore.node.states_injection import InjectionQueue
from tests.linux.test_conntrack_inject import connections


def work_off(queue: InjectionQueue) -> int:
    """As the worker does: again at once, or when the thread has finished something. Returns the number of turns."""
    turns = 1
    while (again := queue.work()) or not queue.is_empty:
        assert again or select.select([queue], [], [], 10.0)[0]
        turns += 1
    return turns


def test_rows_go_in_slices_and_in_order(queue: InjectionQueue) -> None:
    done: list[str] = []
    rows = connections(20_000)
    queue.put(rows, done=lambda: done.append("rows"))
    queue.put(rows[:100], np.full(100, ctnetlink.DELETE, np.uint8), done=lambda: done.append("deletes"))
    queue.put(rows[:0], done=lambda: done.append("nothing"))
    assert queue.waiting_rows == 20_100
    assert queue.is_busy
    assert not queue.work()
    assert done == []
    assert work_off(queue) > 2
    assert done == ["rows", "deletes", "nothing"]
    assert conntrack.count() == 19_900
    assert (queue.waiting_rows, queue.is_busy) == (0, False)
    assert queue.counts["inserted"] == 20_000
    assert queue.counts["deleted"] == 100


def test_few_rows_are_there_at_once(queue: InjectionQueue) -> None:
    done: list[str] = []
    rows = connections(200)
    queue.put(rows[:100], done=lambda: done.append("first"))
    queue.put(rows[100:], done=lambda: done.append("second"))
    assert queue.work()
    assert (done, conntrack.count()) == (["first"], 100)
    assert not queue.work()
    assert (done, conntrack.count()) == (["first", "second"], 200)


def test_few_rows_do_not_overtake_what_the_thread_has(queue: InjectionQueue) -> None:
    done: list[str] = []
    rows = connections(2_000)
    queue.put(rows, done=lambda: done.append("rows"))
    queue.work()
    queue.put(rows[:10], np.full(10, ctnetlink.DELETE, np.uint8), done=lambda: done.append("deletes"))
    work_off(queue)
    assert done == ["rows", "deletes"]
    assert conntrack.count() == 1_990


def test_everything_at_once_when_this_node_is_promoted(queue: InjectionQueue) -> None:
    done: list[str] = []
    queue.put(connections(20_000), done=lambda: done.append("rows"))
    queue.work()  # the thread has some of them
    queue.put(connections(20_010)[20_000:], done=lambda: done.append("more"))
    assert not queue.work(everything=True)
    assert conntrack.count() == 20_010
    assert done == ["rows", "more"]


def test_refusals_are_counted_by_their_number(queue: InjectionQueue) -> None:
    rows = connections(50)
    rows["protocol_state"][[3, 30]] = 77
    done: list[str] = []
    queue.put(rows, done=lambda: done.append("rows"))
    queue.work()
    assert done == ["rows"]
    assert conntrack.count() == 48
    assert dict(queue.errors) == {"ERANGE: Numerical result out of range": 2}


def test_refusals_of_many(queue: InjectionQueue) -> None:
    rows = connections(5_000)
    rows["protocol_state"][[3, 4_900]] = 77
    queue.put(rows)
    work_off(queue)
    assert conntrack.count() == 4_998
    assert dict(queue.errors) == {"ERANGE: Numerical result out of range": 2}


def test_the_end_of_the_socket_is_raised_where_somebody_asks(queue: InjectionQueue) -> None:
    """The worker ends then, and the next one begins with a bulk update."""
    injector = queue._injector
    queue.put(connections(5_000))
    injector.close()
    with pytest.raises(PlatformError):
        work_off(queue)
