"""Whatever a peer sends: the session ends with one clear reason, the tables are untouched, and a new session starts
from hello.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

import numpy as np
import pytest

from hacore._fast.codec import encode_changes, encode_chunk
from hacore.states import frames, greeting
from hacore.states.frames import Kind
from hacore.states.gather import NO_KEYS, NO_ROWS
from tests.states.simulation import NEW, Connection, Node, World, pair, row, rows

KEY = bytes(32)


def synced() -> tuple[World, Connection]:
    """a streams to b, 50 rows are there, nothing is on the way."""
    world = World(Node("a"), Node("b"))
    world["a"].machine.set_master(True, world.now)
    connection = world.connect("a", "b")
    world["a"].sees(rows(range(50)), NEW, world.now)
    world.settle()
    return world, connection


def changes(position: int, epoch: int = 1, **fields: int) -> bytes:
    chunk = encode_changes(row(1000, **fields), NO_ROWS, NO_ROWS, NO_KEYS)
    return frames.positioned_frame(Kind.CHANGES, position, epoch, chunk)


def bulk(world: World, **fields: int) -> bytes:
    """A bulk update with one row."""
    begin = frames.SyncBegin(5, last(world), 1, world["a"].machine.secret, frames.NO_PARTITIONS)
    rows = frames.sync_rows_frame(5, 0, 1, encode_chunk(row(1000, **fields)))
    return frames.sync_begin_frame(begin) + rows


def last(world: World) -> int:
    return world["a"].machine.log.last


FROM_ORIGIN: dict[str, tuple[Callable[[World], bytes], str]] = {
    "a length of 4 GB": (lambda world: b"\xff\xff\xff\xff\x10", "a frame of 4294967295 bytes"),
    "no length": (lambda world: bytes(5), "a frame of 0 bytes"),
    "an unknown kind": (lambda world: struct.pack("<IB", 1, 99), "unknown kind 99"),
    "garbage": (lambda world: bytes(range(200, 256)) * 4, "a frame of"),
    "a change twice": (lambda world: changes(last(world)), "twice or out of order"),
    "a change left out": (lambda world: changes(last(world) + 2), "twice or out of order"),
    "a newer epoch than announced": (
        lambda world: changes(last(world) + 1, epoch=7),
        "a change of epoch 7, a said it has 1",
    ),
    "half a chunk": (
        lambda world: frames.positioned_frame(Kind.CHANGES, last(world) + 1, 1, b"C" * 40),
        "the chunk has another version",
    ),
    "a chunk without a bulk update": (
        lambda world: frames.sync_rows_frame(9, 0, 1, encode_chunk(row(1000))),
        "chunk 0 of bulk update 9",
    ),
    "the end of no bulk update": (lambda world: frames.sync_end_frame(frames.SyncEnd(1, 0, 0)), "expected was none"),
    "hello again": (lambda world: greeting.hello_frame(world["a"].machine.hello()), "HELLO does not come"),
    "what only a replica sends": (lambda world: frames.want_frame(frames.Want.BULK), "WANT does not come"),
    "digests of another position": (
        lambda world: frames.digests_frame(3, KEY, np.zeros((1024, 2), np.uint64)),
        "digests of position 3",
    ),
    "digests of other partitions": (
        lambda world: frames.digests_frame(last(world), KEY, np.zeros((7, 2), np.uint64)),
        "not those of 1024 partitions",
    ),
    "a row of no family": (lambda world: changes(last(world) + 1, family=7), "none that a kernel can have"),
    "a row in two zones": (lambda world: changes(last(world) + 1, zone=1, reply_zone=2), "none that a kernel can have"),
    "an address that goes on": (lambda world: changes(last(world) + 1, source=1), "none that a kernel can have"),
    "a bulk update with such a row": (lambda world: bulk(world, family=7), "none that a kernel can have"),
    "more names than bytes": (
        lambda world: frames.positioned_frame(
            Kind.CHANGES,
            last(world) + 1,
            1,
            encode_changes(NO_ROWS, NO_ROWS, NO_ROWS, NO_KEYS, deleted_names=np.arange(65_536)),
        ),
        "more rows than it has bytes",
    ),
    "a role with the last epoch": (
        lambda world: frames.positioned_frame(Kind.ROLE, last(world) + 1, 2**32 - 1, frames.role_body(False, 1)),
        "a speaks of epoch 4294967295, and the last one known here is 1",
    ),
    "a role that knows the last epoch": (
        lambda world: frames.positioned_frame(Kind.ROLE, last(world) + 1, 1, frames.role_body(False, 2**32 - 1)),
        "a speaks of epoch 4294967295",
    ),
    "a jump to an epoch that nobody has": (
        lambda world: frames.jump_frame(last(world), 1, True, 2**31 + 2**20 + 1),
        "a speaks of epoch",
    ),
    "a ping with a body": (lambda world: frames.frame(Kind.PING, b"x"), "a body where there is none"),
}


@pytest.mark.parametrize("what", FROM_ORIGIN)
def test_replica_ends_the_session(what: str) -> None:
    world, connection = synced()
    a, b = world["a"], world["b"]
    before = b.table(), dict(b.kernel)
    data, expected = FROM_ORIGIN[what]
    connection.receiver.receive(data(world), world.now)
    assert connection.receiver.ended
    assert expected in connection.receiver.reason
    assert (b.table(), b.kernel) == before
    world.settle()
    assert connection.sender.ended
    assert connection.receiver.reason in connection.sender.reason or not data(world)
    again = world.connect("a", "b")
    a.sees(rows(range(60, 70)), NEW, world.now)
    world.settle()
    assert again.sender.synced
    assert again.receiver.synced
    assert b.kernel == a.kernel


FROM_REPLICA: dict[str, tuple[bytes, str]] = {
    "more acknowledged than sent": (frames.ack_frame(frames.Ack(99, 0, 0)), "position 99 is acknowledged"),
    "more chunks than sent": (frames.ack_frame(frames.Ack(2, 1, 99)), "99 chunks are acknowledged"),
    "differences of nothing": (
        frames.differences_frame(frames.Differences(True, KEY, frames.NO_PARTITIONS)),
        "an answer to digests",
    ),
    "changes": (changes(1), "CHANGES does not come"),
    "an unknown wish": (frames.frame(Kind.WANT, b"\x07"), "wants something unknown"),
}


@pytest.mark.parametrize("what", FROM_REPLICA)
def test_origin_ends_the_session(what: str) -> None:
    world, connection = synced()
    data, expected = FROM_REPLICA[what]
    connection.sender.receive(data, world.now)
    assert expected in connection.sender.reason
    world.settle()
    assert connection.receiver.ended


def test_an_update_to_a_row_that_no_kernel_has() -> None:
    world, connection = synced()
    world["a"].sees(row(2000, zone=2), NEW, world.now)
    world.settle()
    before = world["b"].table()
    chunk = encode_changes(NO_ROWS, row(2000, zone=2), row(2000, zone=2, reply_zone=1), NO_KEYS)
    told = frames.positioned_frame(Kind.CHANGES, last(world) + 1, 1, chunk)
    connection.receiver.receive(told, world.now)
    assert "none that a kernel can have" in connection.receiver.reason
    assert world["b"].table() == before


@pytest.mark.parametrize("chunk", [0, 2])
def test_chunk_twice_or_out_of_order(chunk: int) -> None:
    world, connection = synced()
    receiver, position = connection.receiver, last(world)
    begin = frames.SyncBegin(5, position, 10, world["a"].machine.secret, frames.NO_PARTITIONS)
    receiver.receive(frames.sync_begin_frame(begin), world.now)
    receiver.receive(frames.sync_rows_frame(5, 0, 1, encode_chunk(row(1))), world.now)
    assert not receiver.ended
    receiver.receive(frames.sync_rows_frame(5, chunk, 1, encode_chunk(row(2))), world.now)
    assert receiver.reason == f"chunk {chunk} of bulk update 5 comes, expected was chunk 1 of 5"
    world.settle()
    world.connect("a", "b")
    world.settle()
    assert world["b"].kernel == world["a"].kernel


def test_bulk_update_with_another_number_of_rows() -> None:
    world, connection = synced()
    begin = frames.SyncBegin(5, last(world), 10, world["a"].machine.secret, frames.NO_PARTITIONS)
    connection.receiver.receive(frames.sync_begin_frame(begin), world.now)
    connection.receiver.receive(frames.sync_end_frame(frames.SyncEnd(5, 0, 8)), world.now)
    assert connection.receiver.reason == "the bulk update had 0 rows and says 8"


@pytest.mark.parametrize("field", ["epoch", "known"])
def test_a_hello_with_the_last_epoch(field: str) -> None:
    world = World(Node("a"), Node("b"))
    receiver = world["b"].machine.accept(world.now)
    hello, last_of_all = world["a"].machine.hello(), 2**32 - 1
    hello = hello._replace(epoch=last_of_all) if field == "epoch" else hello._replace(known=last_of_all)
    receiver.receive(greeting.hello_frame(hello), world.now)
    assert receiver.reason == "a speaks of epoch 4294967295, and the last one known here is 0"
    world["b"].machine.set_master(True, world.now, promoted=True)
    assert world["b"].machine.ownership.epoch == 1


def test_a_new_node_believes_the_epoch_of_an_old_pair_and_goes_on_from_there() -> None:
    world = World(Node("a", epoch=2**31), Node("b"))
    world.connect("a", "b")
    world.settle()
    world["b"].machine.set_master(True, world.now, promoted=True)
    assert world["b"].machine.ownership.epoch == 2**31 + 1
    world.connect("b", "a")
    world.settle()
    assert world["a"].machine.ownership.known == 2**31 + 1


def test_same_name() -> None:
    world = World(Node("a"), Node("b"))
    connection = Connection(
        world["a"], world["b"], world["a"].machine.dial("", world.now), Node("a", 1).machine.accept(world.now)
    )
    world.connections.append(connection)
    world.settle()
    assert connection.receiver.reason == "both nodes are named a"
    assert connection.sender.reason == "the other node ended it: both nodes are named a"


def test_another_name_than_expected() -> None:
    world = World(Node("a"), Node("b"))
    sender = world["a"].machine.dial("c", world.now)
    connection = Connection(world["a"], world["b"], sender, world["b"].machine.accept(world.now, "a"))
    world.connections.append(connection)
    world.settle()
    assert connection.sender.reason == "expected the node c, this is b"


def test_another_version() -> None:
    world = World(Node("a"), Node("b"))
    receiver = world["b"].machine.accept(world.now)
    hello = bytearray(greeting.hello_frame(world["a"].machine.hello()))
    hello[9:11] = struct.pack("<H", 2)
    receiver.receive(hello, world.now)
    assert receiver.reason == "the other node speaks version 2 of the protocol, this one 1"


def test_another_protocol() -> None:
    receiver = Node("b").machine.accept(0.0)
    receiver.receive(b"GET / HTTP/1.1\r\n\r\n", 0.0)
    assert receiver.reason.startswith("a frame of")


def test_other_partitions() -> None:
    world = World(Node("a", partitions=16), Node("b"))
    connection = world.connect("a", "b")
    world.settle()
    assert connection.receiver.reason == "the other node has 16 partitions, this one 1024"


def test_silence() -> None:
    world, connection = synced()
    connection.stalled = True
    world.pass_time(4.9)
    assert not connection.sender.ended
    world.pass_time(0.2)
    assert connection.sender.reason == "nothing was heard for 5.0 s"
    assert connection.receiver.ended


def test_closed_by_the_other_side() -> None:
    _, connection = synced()
    connection.receiver.receive(b"", 0.0)
    assert connection.receiver.reason == "the other side closed the connection"
    assert connection.receiver.data_to_send(0.0) == b""


def test_full_table_is_told_and_the_stream_goes_on() -> None:
    world = World(Node("a"), Node("b", max_states=60))
    world["a"].machine.set_master(True, world.now)
    connection = world.connect("a", "b")
    world["a"].sees(rows(range(100)), NEW, world.now)
    world.settle()
    b = world["b"].machine
    assert len(b.table) == 60
    assert b.table.not_fitted == 40
    assert not connection.receiver.ended


def test_second_connection_takes_over() -> None:
    world = pair()
    first = world.connections[0]
    second = world.connect("a", "b")
    world["a"].sees(rows(range(10)), NEW, world.now)
    world.settle()
    assert first.receiver.reason == "a has made another connection"
    assert second.receiver.synced
    assert world["b"].kernel == world["a"].kernel
