"""Who owns a row, when it changes hands, and which claim wins."""

from __future__ import annotations

from hacore.states.events import EpochRaised
from tests.states.kernel import contents
from tests.states.simulation import DESTROY, NEW, UPDATE, Node, World, pair, rows

QUIET = {"ping_interval": 20, "dead_time": 40}


def owned(node: Node, owner: str) -> int:
    return len(node.owned(owner))


def test_failover_by_traffic_and_failback() -> None:
    world = pair(**QUIET)
    a, b = world["a"], world["b"]
    a.sees(rows(range(100)), NEW, world.now)
    world.settle()
    world.sever()  # a crashed
    b.machine.set_master(True, world.now)
    b.sees(rows(range(40), mark=1), UPDATE, world.now)
    assert (owned(b, "b"), owned(b, "a")) == (40, 60)
    b.sees(rows(range(95, 100)), DESTROY, world.now)
    assert owned(b, "a") == 55
    returned = world.nodes["a"] = Node("a", 1, a.machine.ownership.epoch, **QUIET)
    world.mesh()
    world.settle()
    assert returned.kernel == b.kernel
    assert owned(returned, "b") == 95, "idle flows come back, too"
    b.machine.set_master(False, world.now)
    returned.machine.set_master(True, world.now)
    world.settle()
    assert owned(returned, "a") == owned(b, "a") == 95
    assert returned.kernel == b.kernel


def test_planned_failover_hands_over_without_sending_rows() -> None:
    world = pair(**QUIET)
    a, b = world["a"], world["b"]
    a.sees(rows(range(1000)), NEW, world.now)
    world.settle()
    sent = sum(connection.sender.bytes_sent for connection in world.connections)
    a.machine.set_master(False, world.now)
    b.machine.set_master(True, world.now)
    world.settle()
    assert owned(a, "b") == owned(b, "b") == 1000
    assert sum(connection.sender.bytes_sent for connection in world.connections) - sent < 500
    assert len(a.kernel) == len(b.kernel) == 1000


def test_rows_taken_over_while_the_kernel_is_compared_are_not_taken_for_gone() -> None:
    world = pair(**QUIET)
    a, b = world["a"], world["b"]
    a.sees(rows(range(100)), NEW, world.now)
    world.settle()
    b.machine.set_master(True, world.now)
    b.begin_dump(world.now)
    for _ in range(10):
        b.continue_dump(world.now)
    assert owned(b, "a") == 100, "nobody has said that a is not MASTER any more"
    a.machine.set_master(False, world.now)
    world.settle()
    assert not b.comparing
    assert owned(a, "b") == owned(b, "b") == 100
    assert len(a.kernel) == len(b.kernel) == 100


def test_rows_of_a_node_lost_while_the_kernel_is_compared_are_not_taken_for_gone() -> None:
    world = pair(**QUIET)
    a, b = world["a"], world["b"]
    a.sees(rows(range(100)), NEW, world.now)
    world.settle()
    b.machine.set_master(True, world.now)
    b.begin_dump(world.now)
    for _ in range(10):
        b.continue_dump(world.now)
    world.sever()  # a crashed
    world.settle()
    assert not b.comparing
    assert len(b.table()) == len(b.kernel) == 100
    b.sees(rows([1]), DESTROY, world.now)
    b.kernel.pop(next(iter(b.kernel)))  # ended without a word
    b.dump(world.now)
    assert len(b.table()) == len(b.kernel) == 98


def test_both_master_of_some() -> None:
    world = pair(**QUIET)
    a, b = world["a"], world["b"]
    b.machine.set_master(True, world.now)
    a.sees(rows(range(50)), NEW, world.now)
    b.sees(rows(range(100, 130)), NEW, world.now)
    world.settle()
    assert (owned(a, "a"), owned(a, "b"), owned(b, "a"), owned(b, "b")) == (50, 30, 50, 30)
    a.sees(rows([100]), DESTROY, world.now)
    assert a.machine.origin.sightings == 1
    world.now += 2
    a.sees(rows([101], mark=5), UPDATE, world.now)
    world.settle()
    assert (owned(b, "a"), owned(b, "b")) == (51, 29)
    b.sees(rows([101], mark=6), UPDATE, world.now + 2)
    world.settle()
    assert (owned(a, "a"), owned(a, "b")) == (50, 30)
    assert a.table() == b.table()


def test_udp_flow_that_moved_is_not_deleted_by_the_node_it_left() -> None:
    world = pair(**QUIET)
    a, b = world["a"], world["b"]
    b.machine.set_master(True, world.now)
    moved = rows([1], protocol=17, protocol_state=0, timeout=30)
    a.sees(moved, NEW, world.now)
    a.sees(rows([3], protocol_state=7), NEW, world.now)
    world.settle()
    a.sees(rows([3]), DESTROY, world.now)
    for _ in range(6):
        world.compare_for(10.0)
        b.kernel.carry(moved, world.now)
    assert len(b.kernel) == len(b.table()) == 1
    assert owned(b, "b") == owned(a, "b") == 1
    assert a.kernel == b.kernel


def test_a_flow_that_is_over_expires_everywhere() -> None:
    """Copies outlive their originals, and a comparison finds them: that is no sign of life."""
    world = pair(**QUIET)
    a, b = world["a"], world["b"]
    b.machine.set_master(True, world.now)
    a.sees(rows([1, 2], protocol=17, protocol_state=0, timeout=30), NEW, world.now)
    b.sees(rows([3], protocol=1, protocol_state=0, timeout=30), NEW, world.now)
    b.sees(rows([4], timeout=300), NEW, world.now)
    world.compare_for(10.0)
    assert len(a.kernel) == len(b.kernel) == 4
    world.compare_for(50.0)
    assert len(a.table()) == len(b.table()) == len(b.kernel) == 1
    world.compare_for(300.0)
    assert all(not (node.kernel or node.table() or node.machine.spared) for node in (a, b))


def test_an_event_claims_an_entry_that_was_spared() -> None:
    world = pair(**QUIET)
    a, b = world["a"], world["b"]
    b.machine.set_master(True, world.now)
    flow = rows([1], protocol=17, protocol_state=0, timeout=30)
    a.sees(flow, NEW, world.now)
    world.pass_time(31.0)
    assert len(b.machine.spared) == len(b.kernel) == 1
    assert not b.table()
    b.sees(rows([1], protocol=17, protocol_state=0, timeout=30, mark=7), UPDATE, world.now)
    world.settle()
    assert not b.machine.spared
    assert owned(a, "b") == owned(b, "b") == 1


def test_partition_and_heal() -> None:
    world = pair(**QUIET)
    a, b = world["a"], world["b"]
    a.sees(rows(range(30)), NEW, world.now)
    world.settle()
    world.sever()
    b.machine.set_master(True, world.now)
    a.sees(rows(range(10), mark=1), UPDATE, world.now)
    b.sees(rows(range(5, 15), mark=2), UPDATE, world.now)
    b.machine.set_master(False, world.now)
    world.mesh()
    world.settle()
    marks = dict(zip(range(30), a.machine.table.lookup(rows(range(30)))[0]["mark"].tolist(), strict=True))
    assert [marks[number] for number in range(10)] == [1] * 10, "the MASTER's row wins"
    assert [marks[number] for number in range(10, 15)] == [2] * 5, "what it has not touched it takes from the other"
    assert a.table() == b.table() == a.kernel == b.kernel
    assert owned(a, "a") == 30


def test_return_from_a_hang() -> None:
    world = pair(**QUIET)
    a, b = world["a"], world["b"]
    a.sees(rows(range(20)), NEW, world.now)
    world.settle()
    stuck = [connection for connection in world.connections if connection.origin is a]
    for connection in stuck:
        connection.stalled = True
    a.sees(rows(range(10), mark=1), UPDATE, world.now)
    b.machine.set_master(True, world.now)
    b.sees(rows(range(20), mark=2), UPDATE, world.now)
    for connection in stuck:
        connection.stalled = False
    a.machine.set_master(False, world.now)
    world.settle()
    assert b.machine.replica.refused + b.machine.replica.mismatched
    assert set(b.machine.table.rows()["mark"].tolist()) == {2}
    world.pass_time(61)
    assert a.table() == b.table()
    assert owned(a, "b") == owned(b, "b") == 20


def test_epochs_only_rise_and_are_told() -> None:
    world = pair(**QUIET)
    a, b = world["a"], world["b"]
    b.machine.set_master(True, world.now)
    a.machine.set_master(True, world.now, promoted=True)
    world.settle()
    for name in ("a", "b"):
        told = [event.epoch for event in world.told(name, EpochRaised)]
        assert told == sorted(set(told))
    assert b.machine.ownership.known == a.machine.ownership.known


def test_lost_state_directory() -> None:
    """A MASTER that forgot its epoch still wins over one that is not."""
    world = World(Node("a", 0, 0, **QUIET), Node("b", 0, 57, **QUIET))
    a, b = world["a"], world["b"]
    b.machine.set_master(True, world.now)
    b.sees(rows(range(10), mark=2), NEW, world.now)
    b.machine.set_master(False, world.now)
    a.machine.set_master(True, world.now)
    a.sees(rows(range(5), mark=1), NEW, world.now)
    world.mesh()
    world.settle()
    assert a.machine.ownership.epoch > 57
    assert a.table() == b.table()
    assert sorted(b.machine.table.rows()["mark"].tolist()) == [1] * 5 + [2] * 5


def test_rows_of_a_node_that_is_gone_do_not_stay_for_ever() -> None:
    world = pair(**QUIET)
    a, b = world["a"], world["b"]
    a.sees(rows(range(10), timeout=100), NEW, world.now)
    a.sees(rows([20]), NEW, world.now)
    world.settle()
    world.sever()
    world.pass_time(400.0)
    assert len(b.table()) == 1


def test_secrets_agree() -> None:
    world = World(Node("a", **QUIET), Node("b", **QUIET), Node("c", **QUIET))
    world["a"].machine.set_master(True, world.now)
    world["a"].sees(rows(range(10)), NEW, world.now)
    world.connect("a", "b")
    world.settle()
    world.connect("c", "b")
    world.settle()
    world["a"].sees(rows(range(5), mark=3), UPDATE, world.now)
    world.settle()
    assert len({node.machine.secret for node in world.nodes.values()}) == 1
    assert world["b"].kernel == world["a"].kernel


def test_after_a_partition_the_masters_connection_keeps_the_nat_port() -> None:
    """Both nodes have given one port to another client while they did not hear of each other."""
    world = pair(**QUIET)
    a, b = world["a"], world["b"]
    world.sever()
    b.machine.set_master(True, world.now)
    port = {"reply_destination": rows([99])["source"], "reply_destination_port": 40_000}
    live, stale = rows([1]), rows([2])
    for name, value in port.items():
        live[name] = stale[name] = value
    a.sees(live, NEW, world.now)
    b.sees(stale, NEW, world.now)
    b.machine.set_master(False, world.now)
    world.mesh()
    world.settle()
    assert a.kernel.keys() == b.kernel.keys() == contents(live).keys()
    assert a.yielded == 1
    assert all(connection.sender.synced for connection in world.connections)
    world.compare_for(10.0)
    assert a.kernel == b.kernel == a.table() == b.table()


def test_the_newer_claim_displaces_a_masters_entry_and_its_row() -> None:
    world = pair(**QUIET)
    a, b = world["a"], world["b"]
    old, new = rows([1]), rows([2])
    for name in ("reply_destination", "reply_destination_port"):
        new[name] = old[name]
    a.sees(old, NEW, world.now)
    b.machine.set_master(True, world.now)  # of a VHID that a has lost without having heard of it
    b.kernel.clear()
    b.sees(new, NEW, world.now)
    world.settle()
    assert a.kernel.keys() == b.kernel.keys() == contents(new).keys()
    assert a.table() == b.table() == a.kernel


def test_a_third_node_hears_what_became_of_the_rows_of_one_that_is_gone() -> None:
    world = World(*(Node(name, **QUIET) for name in ("a", "b", "c")))
    a, b, c = (world[name] for name in ("a", "b", "c"))
    a.machine.set_master(True, world.now)
    world.mesh()
    world.settle()
    a.sees(rows(range(100), protocol=17, protocol_state=0, timeout=300), NEW, world.now)
    world.settle()
    world.sever("a")  # it crashed
    b.machine.set_master(True, world.now, promoted=True)
    world.settle()
    b.sees(rows(range(20), protocol=17), DESTROY, world.now)
    for key in contents(rows(range(20, 30), protocol=17)):
        del b.kernel[key]  # ended without a word
    following = c.machine.replica.following(next(n for n in c.machine.ownership.nodes if n.name == "b"))
    world.turn()
    world.turn()
    assert following.complete, "nothing is missing there, and no digests are asked for"
    assert len(c.table()) == len(c.kernel) == 80
    b.dump(world.now)
    world.settle()
    assert len(b.table()) == len(c.table()) == len(c.kernel) == 70


def test_no_third_node_drops_rows_of_one_that_speaks_for_them() -> None:
    world = World(*(Node(name, **QUIET) for name in ("a", "b", "c")))
    a, b, c = (world[name] for name in ("a", "b", "c"))
    a.machine.set_master(True, world.now)
    world.mesh()
    world.settle()
    a.sees(rows(range(10)), NEW, world.now)
    world.settle()
    for each in world.connections:
        if {each.origin.name, each.replica.name} == {"a", "b"}:
            each.sender.lost("cut", world.now)
            each.receiver.lost("cut", world.now)
    b.machine.set_master(True, world.now, promoted=True)
    b.sees(rows(range(5)), DESTROY, world.now)
    world.settle()
    assert len(c.table()) == len(c.kernel) == 10


def test_a_flow_in_a_flow_table_stays_what_it_was() -> None:
    """The kernel dumps it without its state, window scales and timeout."""
    world = pair(**QUIET)
    a, b = world["a"], world["b"]
    scaled = {"tcp_scale_original": 7, "tcp_scale_reply": 8, "tcp_flags_original": 3, "tcp_flags_reply": 3}
    a.sees(rows([1], **scaled), NEW, world.now)
    world.settle()
    a.machine.origin.begin_reconcile(world.now)
    a.machine.origin.reconcile(rows([1], status=0x418E | 1 << 14, timeout=0), world.now)
    a.machine.origin.end_reconcile(world.now)
    world.settle()
    known = b.machine.table.rows()[0]
    assert {name: int(known[name]) for name in scaled} == scaled
    assert known["timeout"] == 432_000
    assert known["status"] & 1 << 14
