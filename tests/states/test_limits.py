"""What a peer may force, and what a takeover has to wait for: memory and work in one call are bounded, and nothing that
came is lost for it.
"""

from __future__ import annotations

from hacore._fast.codec import encode_changes
from hacore.states import frames
from hacore.states.events import SyncStarted
from hacore.states.frames import Kind, Want
from hacore.states.gather import NO_KEYS, NO_ROWS
from hacore.states.replication import MAX_SECRETS
from hacore.states.session import ANSWERS_AHEAD, HEAVY_ROWS, TURN_ROWS
from tests.states.simulation import NEW, Connection, Node, World, pair, rows

PENDING = 100


def from_a(world: World) -> Connection:
    """That over which a's rows come to b."""
    return next(each for each in world.connections if each.origin.name == "a")


def changes(world: World, numbers: range, each: int) -> bytes:
    """Frames of a with `each` new rows."""
    position = world["a"].machine.log.last
    told = b""
    for start in range(numbers.start, numbers.stop, each):
        position += 1
        chunk = encode_changes(rows(range(start, start + each)), NO_ROWS, NO_ROWS, NO_KEYS)
        told += frames.positioned_frame(Kind.CHANGES, position, 1, chunk)
    return told


def test_who_asks_and_does_not_listen_is_not_listened_to() -> None:
    world = pair()
    for session in (from_a(world).receiver, from_a(world).sender):
        session.receive(frames.frame(Kind.PING) * 10_000, world.now)
        assert session.waits
        assert len(session._out) == ANSWERS_AHEAD
        session.go_on(world.now)
        assert len(session._out) == ANSWERS_AHEAD
        answers = b""
        while session.waits:
            answers += session.data_to_send(world.now)
            session.go_on(world.now)
        answers += session.data_to_send(world.now)
        assert answers.count(frames.frame(Kind.PONG)) == 10_000
        assert not session.ended


def test_who_never_listens_again_is_gone() -> None:
    world = pair()
    session = from_a(world).receiver
    session.receive(frames.frame(Kind.PING) * 10_000, world.now)
    while (due := session.next_deadline()) is not None:
        session.handle_deadline(due)
    assert session.reason == "nothing was heard for 5.0 s"


def test_bulk_updates_that_a_peer_asks_for_without_end_take_turns() -> None:
    world = pair()
    sender = from_a(world).sender
    sender.receive(frames.want_frame(Want.BULK) * 1000, world.now)
    begun = [event for event in world["a"].machine.events() if isinstance(event, SyncStarted)]
    assert len(begun) == TURN_ROWS // HEAVY_ROWS
    assert sender.waits
    world.settle()
    assert sender.synced
    assert len(world["a"].events) > 1000


def test_secrets_without_end() -> None:
    world = pair()
    sender = from_a(world).sender
    for number in range(MAX_SECRETS):
        sender.receive(frames.secret_frame(bytes([255, number]) + bytes(30)), world.now)
        world.settle()
    assert not sender.ended
    assert world["b"].machine.secret[:2] == bytes([255, MAX_SECRETS - 1])
    sender.receive(frames.secret_frame(bytes([255, 255]) + bytes(30)), world.now)
    assert sender.reason == f"the other node has changed its secret {MAX_SECRETS + 1} times"
    assert world["a"].machine.secret[1] != 255


def test_rows_that_wait_for_the_kernel_are_few_whatever_comes_at_once() -> None:
    world = pair(pending_rows=PENDING)
    receiver, replica = from_a(world).receiver, world["b"].machine.replica
    receiver.receive(changes(world, range(100, 1100), 20), world.now)
    assert receiver.waits
    assert PENDING <= replica.pending_rows < PENDING + 20
    receiver.go_on(world.now)
    assert replica.pending_rows < PENDING + 20
    while receiver.waits:
        world["b"].put_into_kernel(world.now)
        receiver.go_on(world.now)
        assert replica.pending_rows < PENDING + 20
    world["b"].put_into_kernel(world.now)
    assert len(world["b"].kernel) == 1000


def test_a_bulk_update_goes_through_though_few_rows_may_wait() -> None:
    world = World(Node("a", bulk_rows=64), Node("b", bulk_rows=64, pending_rows=1))
    world["a"].machine.set_master(True, world.now)
    world["a"].sees(rows(range(2000)), NEW, world.now)
    world.mesh()
    world.settle()
    assert world["b"].kernel == world["a"].kernel
    assert from_a(world).receiver.synced


def test_what_had_come_before_the_connection_broke_counts() -> None:
    world = pair(pending_rows=PENDING)
    receiver = from_a(world).receiver
    receiver.receive(changes(world, range(100, 1100), 20), world.now)
    receiver.lost("cut", world.now)
    world["b"].put_into_kernel(world.now)
    assert receiver.reason == "cut"
    assert len(world["b"].kernel) == 1000


def test_a_node_that_has_no_room_does_not_take_its_peer_for_silent() -> None:
    world = pair(pending_rows=PENDING)
    receiver = from_a(world).receiver
    receiver.receive(changes(world, range(100, 1100), 20), world.now)
    for _ in range(20):
        due = receiver.next_deadline()
        assert due is not None
        receiver.handle_deadline(due)
    assert not receiver.ended
