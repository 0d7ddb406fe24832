"""The channel between supervisor and worker: framed, bounded, never blocking."""

from __future__ import annotations

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hacore.carp.events import Noticed
from hacore.errors import LocalProtocolError
from hacore.node.channel import MAX_PENDING_BYTES, Channel
from hacore.node.messages import AskReport, Demote, FromElection, Happened, Leave, ToElection


def pair() -> tuple[Channel[ToElection], Channel[FromElection], socket.socket, socket.socket]:
    left, right = socket.socketpair()
    return Channel(left, ToElection), Channel(right, FromElection), left, right


def test_messages_arrive_whole_and_in_order() -> None:
    worker, supervisor, *_ = pair()
    sent = [AskReport(number) for number in range(100)]
    for message in sent:
        assert supervisor.send(message)
    assert supervisor.send(Demote("x", -5, True))
    assert supervisor.send(Leave())
    assert worker.receive() == [*sent, Demote("x", -5, True), Leave()]
    worker.close()
    assert supervisor.receive() == []
    assert supervisor.closed
    supervisor.close()


def test_a_reader_that_does_not_read_costs_bounded_memory() -> None:
    worker, supervisor, *_ = pair()
    event = Happened([Noticed(at=0.0, vip="lan", kind="k", text="x" * 60_000)])
    results = [worker.send(event) for _ in range(200)]
    assert results[0]
    assert not results[-1]
    assert worker.dropped == results.count(False)
    assert worker.wants_write
    received = 0
    for _ in range(1000):
        received += len(supervisor.receive())
        worker.flush()
        if not worker.wants_write:
            break
    received += len(supervisor.receive())
    assert received == results.count(True)
    assert received * 60_000 > MAX_PENDING_BYTES * 0.9
    worker.close()
    supervisor.close()


def test_absurd_length_is_a_fault_of_the_other_side() -> None:
    worker, supervisor, _left, right = pair()
    right.send(b"\xff\xff\xff\xff")
    with pytest.raises(LocalProtocolError):
        worker.receive()
    worker.close()
    supervisor.close()


@given(st.lists(st.integers(1, 50), max_size=30))
def test_any_split(cuts: list[int]) -> None:
    left, right = socket.socketpair()
    channel: Channel[ToElection] = Channel(left, ToElection)
    scratch_left, scratch_right = socket.socketpair()
    writer: Channel[ToElection] = Channel(scratch_left, ToElection)
    for number in range(5):
        writer.send(AskReport(number))
    data = scratch_right.recv(65536)
    received: list[ToElection] = []
    position = 0
    for cut in [*cuts, len(data)]:
        right.send(data[position : position + cut])
        position += cut
        received += channel.receive()
        if position >= len(data):
            break
    assert received == [AskReport(number) for number in range(5)]
    channel.close()
    writer.close()
    right.close()
    scratch_right.close()
