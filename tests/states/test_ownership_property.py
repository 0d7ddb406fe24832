"""Whatever becomes of roles, nodes and connections: with one MASTER and everybody connected, all have what it has,
and it owns it all.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from tests.states.simulation import DESTROY, NEW, UPDATE, Node, World, rows, whole

KEYS = st.integers(0, 20)
CHANGE = st.tuples(KEYS, st.sampled_from([NEW, UPDATE, UPDATE, DESTROY]), st.integers(0, 3))
Entry = TypeVar("Entry")

NAMES = st.sampled_from(["a", "b", "c"])
OPTIONS = {
    "partitions": 16,
    "max_states": 10_000,
    "ping_interval": 20,
    "dead_time": 40,
    "bulk_rows": 5,
    "bulk_window": 2,
}


class Cluster(RuleBasedStateMachine):
    """Three nodes of which any number may believe that they are MASTER."""

    world: World

    @initialize(log_bytes=st.sampled_from([600, 1 << 20]))
    def start(self, log_bytes: int) -> None:
        self.lives = 0
        self.options = OPTIONS | {"log_bytes": log_bytes}
        self.world = World(*(Node(name, **self.options) for name in ("a", "b", "c")))
        self.world.mesh()
        self.promote("a")

    @rule(name=NAMES)
    def promote(self, name: str) -> None:
        node = self.world[name]
        node.machine.set_master(True, self.world.now, promoted=True)
        node.begin_dump(self.world.now)

    @rule(name=NAMES)
    def demote(self, name: str) -> None:
        self.world[name].end_dump()
        self.world[name].machine.set_master(False, self.world.now)

    @rule(name=NAMES, changes=st.lists(CHANGE, min_size=1, max_size=8), mark=st.integers(0, 99))
    def traffic(self, name: str, changes: list[tuple[int, int, int]], mark: int) -> None:
        node = self.world[name]
        if node.machine.ownership.master:
            batch = [rows([key], status=0x18E + 16 * state, mark=mark) for key, _, state in changes]
            node.sees(np.concatenate(batch), [kind for _, kind, _ in changes], self.world.now)

    @rule(name=NAMES, first=st.integers(100, 200), count=st.integers(1, 30))
    def burst(self, name: str, first: int, count: int) -> None:
        if self.world[name].machine.ownership.master:
            self.world[name].sees(rows(range(first, first + count)), NEW, self.world.now)

    @rule(name=NAMES)
    def reconcile(self, name: str) -> None:
        if self.world[name].machine.ownership.master:
            self.world[name].begin_dump(self.world.now)

    @rule(name=NAMES)
    def partition(self, name: str) -> None:
        self.world.sever(name)

    @rule(origin=NAMES, replica=NAMES)
    def connect(self, origin: str, replica: str) -> None:
        if origin != replica:
            self.world.connect(origin, replica)

    @rule(cut=st.integers(1, 300), turns=st.integers(1, 8))
    def turns(self, cut: int, turns: int) -> None:
        self.world.cut = lambda available: min(available, cut)
        for _ in range(turns):
            self.world.turn()

    @rule(duration=st.floats(0, 50))
    def time(self, duration: float) -> None:
        self.world.cut = lambda available: min(available, 700)
        self.world.pass_time(duration)

    @rule(name=NAMES, crash=st.booleans(), forgetful=st.booleans())
    def restart(self, name: str, crash: bool, forgetful: bool) -> None:
        """The process starts anew, or the whole machine; it may have lost its state directory."""
        self.world.sever(name)
        self.lives += 1
        before = self.world[name]
        epoch = 0 if forgetful else before.machine.ownership.epoch
        after = self.world.nodes[name] = Node(name, self.lives, epoch, **self.options)
        if not crash:
            after.kernel = before.kernel
            if before.machine.ownership.master:
                self.promote(name)

    @rule(master=NAMES)
    def quiet(self, master: str) -> None:
        """The partition heals, the election leaves one MASTER, and it reads its kernel's table once more."""
        world = self.world
        world.cut = whole
        world.sever()
        world.mesh()
        for name, node in world.nodes.items():
            if name != master and node.machine.ownership.master:
                self.demote(name)
        if not world[master].machine.ownership.master:
            self.promote(master)
        world.pass_time(35.0)
        world[master].dump(world.now)
        world.pass_time(100.0)
        expected = world[master].kernel
        owners = dict.fromkeys(expected, master)
        for name, node in world.nodes.items():
            orphans = node.orphans() - expected.keys()
            assert _without(node.table(), orphans) == expected, name
            assert _without(node.owners(), orphans) == owners, name
            if name != master:
                assert node.kernel.items() >= _without(expected, node.overruled_here).items(), name
        assert all(connection.sender.synced and connection.receiver.synced for connection in world.connections)
        assert len(world.connections) == 6

    def teardown(self) -> None:
        if hasattr(self, "world"):
            self.quiet("a")


def _without(entries: dict[bytes, Entry], keys: set[bytes]) -> dict[bytes, Entry]:
    return {key: entry for key, entry in entries.items() if key not in keys}


TestCluster = Cluster.TestCase
TestCluster.settings = settings(
    max_examples=25, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
