"""For any sequence of events and any cuts of the stream, the replica equals the origin once the stream is quiet; until
then it loses nothing that the origin still has.
"""

from __future__ import annotations

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from hacore.states.layout import keys_of
from tests.states.kernel import contents
from tests.states.simulation import DESTROY, NEW, UPDATE, Node, World, rows, whole

KEYS = st.integers(0, 30)
LASTING = {key.tobytes() for key in keys_of(rows(range(100, 2400)))}
CHANGE = st.tuples(KEYS, st.sampled_from([NEW, UPDATE, UPDATE, DESTROY]), st.integers(0, 3))


class Watched(World):
    """No connection of a burst leaves a replica's kernel."""

    def turn(self) -> bool:
        before = {node: node.kernel.keys() & LASTING for name, node in self.nodes.items() if name != "a"}
        moved = super().turn()
        for node, entries in before.items():
            assert entries <= node.kernel.keys()
        return moved


class Stream(RuleBasedStateMachine):
    """a is MASTER all the time, b and c follow it, whatever happens to the connections."""

    world: World

    @initialize(
        log_bytes=st.sampled_from([400, 3000, 1 << 20]), bulk_rows=st.sampled_from([3, 8192]), third=st.booleans()
    )
    def start(self, log_bytes: int, bulk_rows: int, third: bool) -> None:
        options = {"log_bytes": log_bytes, "bulk_rows": bulk_rows, "bulk_window": 2, "partitions": 16}
        options |= {"max_states": 10_000, "ping_interval": 20, "dead_time": 40}
        self.lives = 0
        names = ["a", "b", "c"] if third else ["a", "b"]
        self.world = Watched(*(Node(name, **options) for name in names))
        self.options = options
        self.world["a"].machine.set_master(True, self.world.now)

    def origin(self) -> Node:
        return self.world["a"]

    @rule(changes=st.lists(CHANGE, min_size=1, max_size=12), values=st.integers(0, 99))
    def traffic(self, changes: list[tuple[int, int, int]], values: int) -> None:
        batch = [rows([key], status=0x18E + 16 * state, mark=values) for key, _, state in changes]
        self.origin().sees(np.concatenate(batch), [kind for _, kind, _ in changes], self.world.now)

    @rule(first=st.integers(100, 2000), count=st.integers(1, 400))
    def burst(self, first: int, count: int) -> None:
        """Connections that never end."""
        self.origin().sees(rows(range(first, first + count)), NEW, self.world.now)

    @rule(lost=st.lists(CHANGE, max_size=5))
    def reconcile(self, lost: list[tuple[int, int, int]]) -> None:
        """Events were lost; a dump tells."""
        origin = self.origin()
        for key, kind, state in lost:
            each = rows([key], status=0x18E + 16 * state)
            if kind == DESTROY:
                origin.kernel.pop(keys_of(each)[0].tobytes(), None)
            else:
                origin.kernel.update(contents(each))
        origin.dump(self.world.now)

    @rule(cut=st.integers(1, 300), turns=st.integers(1, 8))
    def turns(self, cut: int, turns: int) -> None:
        self.world.cut = lambda available: min(available, cut)
        for _ in range(turns):
            self.world.turn()

    @rule(replica=st.sampled_from(["b", "c"]))
    def connect(self, replica: str) -> None:
        if replica in self.world.nodes and self.origin().machine.may_speak:
            self.world.connect("a", replica)

    @rule(replica=st.sampled_from(["b", "c"]))
    def sever(self, replica: str) -> None:
        self.world.sever(replica)

    @rule(replica=st.sampled_from(["b", "c"]), shut=st.booleans())
    def stall(self, replica: str, shut: bool) -> None:
        for connection in self.world.connections:
            if connection.replica.name == replica:
                connection.stalled = shut

    @rule(held=st.booleans())
    def slow_kernel(self, held: bool) -> None:
        self.world["b"].holds_work = held

    @rule(duration=st.floats(0, 10))
    def time(self, duration: float) -> None:
        for connection in self.world.connections:
            connection.stalled = False
        self.world.cut = lambda available: min(available, 700)
        self.world.pass_time(duration)

    @rule(name=st.sampled_from(["a", "b", "c"]), rested=st.booleans())
    def restart(self, name: str, rested: bool) -> None:
        """A replica starts anew with an empty kernel, the MASTER's process with its kernel as it is, which it begins to
        look at.
        """
        if name not in self.world.nodes:
            return
        if rested:
            self.quiet()
        self.world.sever(name)
        self.lives += 1
        before = self.world[name]
        after = self.world.nodes[name] = Node(name, self.lives, before.machine.ownership.epoch, **self.options)
        if name == "a":
            after.kernel = before.kernel
            after.machine.set_master(True, self.world.now)
            after.begin_dump(self.world.now)

    @rule()
    def quiet(self) -> None:
        world = self.world
        world["b"].holds_work = False
        world.cut = whole
        for connection in world.connections:
            connection.stalled = False
        connected = {connection.replica.name for connection in world.connections}
        for name in world.nodes:
            if name != "a" and name not in connected:
                world.connect("a", name)
        world.pass_time(70.0)
        expected = world["a"].kernel
        assert world["a"].table() == expected
        for name, node in world.nodes.items():
            if name != "a":
                assert node.owned("a") == node.table() == expected
                assert node.kernel == expected
        assert all(connection.sender.synced and connection.receiver.synced for connection in world.connections)
        assert not world["a"].machine.origin.whole_for

    def teardown(self) -> None:
        if hasattr(self, "world"):
            self.quiet()


TestStream = Stream.TestCase
TestStream.settings = settings(
    max_examples=25, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
