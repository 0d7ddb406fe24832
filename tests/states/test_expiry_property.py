"""Whoever is MASTER, and whatever was cut: when there is no traffic any more, every flow expires on all nodes."""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from hacore.states.layout import Rows
from tests.states.kernel import contents
from tests.states.simulation import INTERVAL, NEW, Node, World, rows

NAMES = st.sampled_from(["a", "b", "c"])
NUMBERS = st.integers(0, 5)
TIMEOUT = 30


def flow(number: int) -> Rows:
    """UDP: no event but the first tells of its traffic."""
    return rows([number], protocol=17, protocol_state=0, timeout=TIMEOUT)


class Flows(RuleBasedStateMachine):
    """Flows of 30 seconds through three nodes, each MASTER of something or not."""

    @initialize()
    def start(self) -> None:
        self.world = World(*(Node(name, ping_interval=200, dead_time=400, partitions=16) for name in ("a", "b", "c")))
        self.world.mesh()
        self.promote("a")
        self.promote("b")

    @rule(name=NAMES)
    def promote(self, name: str) -> None:
        self.world[name].machine.set_master(True, self.world.now, promoted=True)
        self.world.settle()

    @rule(name=NAMES)
    def demote(self, name: str) -> None:
        self.world[name].machine.set_master(False, self.world.now)
        self.world.settle()

    @rule(name=NAMES, number=NUMBERS)
    def packet(self, name: str, number: int) -> None:
        node = self.world[name]
        if not node.machine.ownership.master:
            return
        if contents(flow(number)).keys() <= node.kernel.keys():
            node.kernel.carry(flow(number), self.world.now)
        else:
            node.sees(flow(number), NEW, self.world.now)
        self.world.settle()

    @rule(intervals=st.integers(1, 4))
    def time(self, intervals: int) -> None:
        self.world.compare_for(INTERVAL * intervals)

    @rule(name=NAMES)
    def partition(self, name: str) -> None:
        self.world.sever(name)

    @rule()
    def heal(self) -> None:
        self.world.sever()
        self.world.mesh()
        self.world.settle()

    @rule(keepers=st.sets(NAMES, min_size=1))
    def quiet(self, keepers: set[str]) -> None:
        """At least one MASTER is left, everybody is connected, and no packet comes."""
        self.heal()
        for name in ("a", "b", "c"):
            if name in keepers:
                self.promote(name)
            else:
                self.demote(name)
        self.world.compare_for(200.0)
        for name, node in self.world.nodes.items():
            assert not node.kernel, name
            assert not node.table(), name

    def teardown(self) -> None:
        if hasattr(self, "world"):
            self.quiet({"a", "b"})


TestFlows = Flows.TestCase
TestFlows.settings = settings(
    max_examples=25, stateful_step_count=20, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
