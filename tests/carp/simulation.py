"""Elections joined by a simulated segment: latency, loss, partitions and stalls, on a clock that tests set."""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Callable
from itertools import count

from hacore.carp.election import Election
from hacore.carp.events import AnyEvent, Transition
from hacore.carp.router import Port, RouterSettings
from hacore.carp.terms import State

LATENCY = 0.0001


def settings(
    vhid: int = 1, *, interface: str = "lan", advbase: int = 1, advskew: int = 0, family: int = 4, **more: object
) -> RouterSettings:
    addresses = {4: (f"10.{vhid}.0.1/16",), 6: (f"fd00:{vhid}::1/64",), 46: (f"10.{vhid}.0.1/16", f"fd00:{vhid}::1/64")}
    fields: dict[str, object] = {
        "name": f"{interface}{vhid}",
        "interface": interface,
        "vhid": vhid,
        "advbase": advbase,
        "advskew": advskew,
        "addresses": addresses[family],
        "password": b"secret",
        **more,
    }
    return RouterSettings(**fields)  # type: ignore[arg-type]


class Node:
    """One election, its ports, and what it did."""

    def __init__(self, network: Network, number: int, routers: list[RouterSettings], *, preempt: bool) -> None:
        self.network = network
        self.number = number
        self.election = Election(preempt=preempt, counters_from=number << 32)
        self.history: list[AnyEvent] = []
        self.sent: list[tuple[float, str, bytes]] = []
        self.links: dict[str, bool] = {}
        self.stalled_at: float | None = None
        self.queue: list[tuple[str, bytes]] = []
        self.alive = True
        self.rekey_time = 600.0
        self.wakes_at = math.inf
        for interface in sorted({router.interface for router in routers}):
            self.set_link(interface, up=True)
        self.configure(routers, preempt=preempt)

    def configure(self, routers: list[RouterSettings], *, preempt: bool) -> None:
        self.election.configure(routers, self.network.now, preempt=preempt, rekey_time=self.rekey_time)
        self.turn()

    def set_link(self, interface: str, *, up: bool) -> None:
        self.links[interface] = up
        port = Port(
            up=up,
            mac=bytes([2, 0, 0, 0, 0, self.number]),
            source4=bytes([10, 0, 0, 10 + self.number]),
            source6=b"\xfe\x80" + bytes(13) + bytes([10 + self.number]),
        )
        self.election.set_port(interface, port, self.network.now)
        self.turn()

    def receive(self, interface: str, frame: bytes) -> None:
        if not self.alive or not self.links.get(interface):
            return
        if self.stalled_at is not None:
            self.queue.append((interface, frame))
            return
        self.election.receive(interface, frame, self.network.now)
        self.turn()

    def turn(self) -> None:
        """What the worker does each turn."""
        if not self.alive or self.stalled_at is not None:
            return
        now = self.network.now
        self.election.handle_deadline(now)
        self.history += self.election.events()
        for outgoing in self.election.frames_to_send(now):
            interface = outgoing.router.settings.interface
            error = 0 if self.links.get(interface) else 100
            if outgoing.is_advert:
                self.election.sent(outgoing, error, now)
                self.sent.append((now, interface, outgoing.data))
            if not error:
                self.network.carry(self, interface, outgoing.data)
        self.history += self.election.events()
        deadline = self.election.next_deadline()
        if deadline is not None and deadline < self.wakes_at:
            self.wakes_at = max(deadline, now)
            self.network.at(self.wakes_at, lambda when=self.wakes_at: self._wake(when))  # type: ignore[misc]

    def _wake(self, when: float) -> None:
        if when == self.wakes_at:
            self.wakes_at = math.inf
            self.turn()

    def stall(self) -> None:
        self.stalled_at = self.network.now

    def resume(self) -> None:
        assert self.stalled_at is not None
        duration = self.network.now - self.stalled_at
        self.stalled_at = None
        self.election.stalled(duration)
        for interface, frame in self.queue:
            self.election.receive(interface, frame, self.network.now)
        self.queue.clear()
        self.election.resumed(duration, self.network.now)
        self.turn()

    def die(self) -> None:
        self.alive = False

    def state(self, vhid: int = 1, interface: str = "lan") -> State:
        router = self.election.router(interface, vhid)
        assert router is not None
        return router.state

    def transitions(self, after: float = 0.0) -> list[Transition]:
        return [event for event in self.history if isinstance(event, Transition) and event.at >= after]


class Network:
    """The clock and the wires. `loss` is the share of frames that get lost; `cut` tells which pairs do not hear
    each other.
    """

    def __init__(self, seed: int = 0, loss: float = 0.0) -> None:
        self.now = 0.0
        self.loss = loss
        self.nodes: list[Node] = []
        self.cut: Callable[[Node, Node, str], bool] = lambda _a, _b, _interface: False
        self.double_masters: list[tuple[float, float]] = []
        self._random = random.Random(seed)
        self._pending: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        self._arrivals: dict[tuple[Node, Node, str], float] = {}
        self._double_since: float | None = None

    def add(self, *routers: RouterSettings, preempt: bool = True) -> Node:
        node = Node(self, len(self.nodes) + 1, list(routers), preempt=preempt)
        self.nodes.append(node)
        return node

    def at(self, when: float, what: Callable[[], None]) -> None:
        heapq.heappush(self._pending, (when, next(self._order), what))

    def carry(self, sender: Node, interface: str, frame: bytes) -> None:
        for node in self.nodes:
            if node is not sender and self._random.random() >= self.loss and not self.cut(sender, node, interface):
                arrival = self.now + LATENCY * (1 + self._random.random())
                arrival = self._arrivals[sender, node, interface] = max(
                    arrival, self._arrivals.get((sender, node, interface), 0.0)
                )  # a wire keeps the order of its frames
                self.at(arrival, lambda node=node: node.receive(interface, frame))  # type: ignore[misc]

    def run(self, until: float) -> None:
        while self._pending and self._pending[0][0] <= until:
            when, _order, what = heapq.heappop(self._pending)
            self.now = max(self.now, when)
            what()
            self._watch()
        self.now = until
        self._watch()

    def _watch(self) -> None:
        """Note the times in which two living nodes were MASTER of the first VHID."""
        masters = sum(node.alive and node.state() is State.MASTER for node in self.nodes)
        if masters > 1 and self._double_since is None:
            self._double_since = self.now
        elif masters <= 1 and self._double_since is not None:
            self.double_masters.append((self._double_since, self.now))
            self._double_since = None

    def masters(self, vhid: int = 1, interface: str = "lan") -> list[Node]:
        return [node for node in self.nodes if node.alive and node.state(vhid, interface) is State.MASTER]
