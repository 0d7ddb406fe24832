"""Nodes joined by a simulated byte stream, each with a kernel of its own (`tests.states.kernel`). Times are literal,
nothing sleeps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from hacore._fast.ctnetlink import EVENT_DESTROY, EVENT_NEW, EVENT_UPDATE, HAS_ALL
from hacore._fast.ctnetlink_dtypes import EVENT_DTYPE
from hacore.states.contention import displacing
from hacore.states.events import AnyEvent
from hacore.states.gather import pick
from hacore.states.layout import ROW_DTYPE, Rows, keys_of
from hacore.states.receiver import ReceiverSession
from hacore.states.replication import Replication, ReplicationSettings
from hacore.states.sender import SenderSession
from tests.states.kernel import EXTRA, Kernel, contents

Told = TypeVar("Told")

NEW, UPDATE, DESTROY = EVENT_NEW, EVENT_UPDATE, EVENT_DESTROY

ESTABLISHED, TIME_WAIT = 3, 7
DUMP_ROWS = 7
INTERVAL = 10.0
"""Seconds between comparisons with the kernel."""


def row(number: int, **fields: int) -> Rows:
    """One TCP connection, told from others by `number`."""
    made = np.zeros(1, dtype=ROW_DTYPE)
    made["family"], made["protocol"] = 2, 6
    made["source"][0, :4] = 10, 0, number >> 8 & 255, number & 255
    made["destination"][0, :4] = 192, 0, 2, 1
    made["source_port"], made["destination_port"] = 1024 + number % 50_000, 443
    made["reply_source"], made["reply_destination"] = made["destination"], made["source"]
    made["reply_source_port"], made["reply_destination_port"] = 443, made["source_port"]
    made["status"], made["protocol_state"], made["timeout"] = 0x18E, ESTABLISHED, 432_000
    for name, value in fields.items():
        made[name] = value
    return made


def rows(numbers: Iterable[int], **fields: int) -> Rows:
    """Several of `row`."""
    parts = [row(number, **fields) for number in numbers]
    return np.concatenate(parts) if parts else np.zeros(0, dtype=ROW_DTYPE)


def events_of(kinds: Iterable[int]) -> Rows:
    """EVENT_DTYPE beside rows that are told whole."""
    listed = list(kinds)
    made = np.zeros(len(listed), dtype=EVENT_DTYPE)
    made["kind"], made["present"] = listed, HAS_ALL
    return made


class Node:
    """A node: its machines, its kernel, what it told."""

    def __init__(self, name: str, life: int = 0, epoch: int = 0, **settings: int) -> None:
        self.name = name
        identity = f"{name}.{life}".encode().ljust(16, b"-")
        self.machine = Replication(
            ReplicationSettings(name=name, **settings),
            instance=identity, seed=identity[::-1], digest_key=identity, epoch=epoch,
        )  # fmt: skip
        self.kernel = Kernel()
        self.events: list[AnyEvent] = []
        self.injected = 0
        self.yielded = 0
        self.overruled_here: set[bytes] = set()
        """Keys of entries that ended in this kernel, or that traffic changed in vain, while another node spoke for
        them: nobody makes them what the owner has.
        """
        self.comparing = False
        self._to_compare: list[bytes] = []
        self.holds_work = False

    def put_into_kernel(self, now: float) -> None:
        """What the adapter does with the replica's work."""
        if self.holds_work:
            return
        for work in self.machine.replica.work():
            self.injected += len(work.rows)
            for key in keys_of(work.deleted):
                self.kernel.pop(key.tobytes(), None)
            put = self._displacing(work.rows, now)
            self.kernel.put(put, now, EXTRA)
            self.overruled_here -= contents(put).keys()
            self.machine.replica.done(work, now)

    def _displacing(self, brought: Rows, now: float) -> Rows:
        """Those of which no other entry has the reply tuple, or only one that has to go."""
        kernel, machine = self.kernel, self.machine
        if not machine.ownership.master or not len(brought):
            return brought
        met = [kernel.holder(key, entry) for key, entry in contents(brought).items()]
        holders = kernel.rows([key for key in met if key is not None], now)
        if not len(holders):
            return brought
        at_odds = np.array([key is not None for key in met])
        goes_in = ~at_odds
        goes_in[at_odds] = displacing(machine.table, machine.ownership, machine.spared, pick(brought, at_odds), holders)
        machine.origin.displaced(pick(holders, goes_in[at_odds]), now)
        self.yielded += len(brought) - int(np.count_nonzero(goes_in))
        return pick(brought, goes_in)

    def sees(self, changed: Rows, kinds: Iterable[int] | int, now: float) -> None:
        """Traffic (or expiry) changes this node's kernel, and it hears of it."""
        listed = [kinds] * len(changed) if isinstance(kinds, int) else list(kinds)
        spoken_for = self._spoken_for()
        for key, each, kind in zip(keys_of(changed), changed, listed, strict=True):
            if kind == DESTROY:
                self.kernel.pop(key.tobytes(), None)
                if key.tobytes() in spoken_for:
                    self.overruled_here.add(key.tobytes())
            else:
                self.kernel.put(each[None], now)
                self.overruled_here.discard(key.tobytes())
        self.machine.origin.observe(changed.copy(), events_of(listed), now)
        owners = self.owners()
        self.overruled_here |= {key for key in contents(changed) if owners.get(key, self.name) != self.name}

    def expire(self, now: float) -> bool:
        """Entries whose time is over go; only a MASTER listens. Whether there were any."""
        over = self.kernel.expired(now)
        if not len(over):
            return False
        if self.machine.ownership.master:
            self.sees(over, DESTROY, now)
        else:
            spoken_for = self._spoken_for()
            for key in contents(over):
                del self.kernel[key]
                if key in spoken_for:
                    self.overruled_here.add(key)
        return True

    def dump(self, now: float) -> None:
        """The node compares its table with its kernel, all at once."""
        self.begin_dump(now)
        while self.comparing:
            self.continue_dump(now)

    def begin_dump(self, now: float) -> None:
        """It begins to; what comes into the kernel later is not seen, as in buckets that a real dump has passed."""
        self.end_dump()
        self.machine.origin.begin_reconcile(now)
        self._to_compare = list(self.kernel)
        self.comparing = True

    def continue_dump(self, now: float) -> None:
        """The next few entries, as they are by now, or the end."""
        batch, self._to_compare = self._to_compare[:DUMP_ROWS], self._to_compare[DUMP_ROWS:]
        if not batch:
            self.comparing = False
            self.machine.origin.end_reconcile(now)
            return
        self.machine.origin.reconcile(self.kernel.rows(batch, now), now)

    def end_dump(self) -> None:
        """A node that is MASTER of nothing does not go on."""
        if self.comparing:
            self.comparing = False
            self.machine.origin.end_reconcile(0.0, complete=False)

    def _spoken_for(self) -> set[bytes]:
        """Keys of rows of other nodes that are connected."""
        names = {node.name for node in self.machine.ownership.nodes if node.connected}
        return {key for key, name in self.owners().items() if name in names}

    def orphans(self) -> set[bytes]:
        """Keys of rows of nodes' lives that are over: if no MASTER has taken them over, they go with their timeouts."""
        gone = [node.index for node in self.machine.ownership.nodes if not node.current]
        orphaned = np.isin(self.machine.table.metadata()["owner"], gone)
        return set(contents(self.machine.table.rows()[orphaned]))

    def owners(self) -> dict[bytes, str]:
        """The owner of each row, by key."""
        table = self.machine.table
        names = [self.machine.ownership.owner_name(index) for index in table.metadata()["owner"]]
        return {key.tobytes(): name for key, name in zip(keys_of(table.rows().copy()), names, strict=True)}

    def table(self) -> dict[bytes, bytes]:
        """The table by key."""
        return contents(self.machine.table.rows().copy())

    def owned(self, owner: str) -> dict[bytes, bytes]:
        """The rows of the node of that name, in its present life."""
        node = self.machine.ownership.node(owner)
        if node is None:
            return {}
        mine = self.machine.table.metadata()["owner"] == node.index
        return contents(self.machine.table.rows()[mine])


@dataclass
class Connection:
    """One that `origin` dialled: both sessions and the bytes on the way."""

    origin: Node
    replica: Node
    sender: SenderSession
    receiver: ReceiverSession
    forth: bytearray = field(default_factory=bytearray)
    back: bytearray = field(default_factory=bytearray)
    stalled: bool = False  # TCP's window is shut: nothing is read

    @property
    def over(self) -> bool:
        return self.sender.ended and self.receiver.ended


def whole(available: int) -> int:
    """All at once."""
    return available


class World:
    """Nodes and the connections between them."""

    def __init__(self, *nodes: Node) -> None:
        self.nodes = {node.name: node for node in nodes}
        self.connections: list[Connection] = []
        self.now = 1000.0
        self.cut: Callable[[int], int] = whole
        self.limit = 1 << 18

    def __getitem__(self, name: str) -> Node:
        return self.nodes[name]

    def connect(self, origin: str, replica: str) -> Connection:
        """`origin` dials `replica`; who may not speak yet compares its table with its kernel first."""
        a, b = self[origin], self[replica]
        for node in (a, b):
            if not node.machine.may_speak:
                node.dump(self.now)
        made = Connection(a, b, a.machine.dial(replica, self.now), b.machine.accept(self.now))
        self.connections.append(made)
        return made

    def mesh(self) -> None:
        """Everybody dials everybody."""
        for origin in self.nodes:
            for replica in self.nodes:
                if origin != replica:
                    self.connect(origin, replica)

    def sever(self, *names: str) -> None:
        """All connections (of these nodes) break, with what is on the way."""
        for each in self.connections:
            if not names or each.origin.name in names or each.replica.name in names:
                each.sender.lost("cut", self.now)
                each.receiver.lost("cut", self.now)
        self.connections = [each for each in self.connections if not each.over]

    def turn(self) -> bool:
        """One turn of every node; whether anything moved."""
        moved = False
        for each in self.connections:
            for session, other, wire in (
                (each.sender, each.receiver, each.forth), (each.receiver, each.sender, each.back),
            ):  # fmt: skip
                if len(wire) < self.limit:
                    data = session.data_to_send(self.now, self.limit)
                    wire += data
                    moved |= bool(data)
                if other.waits:
                    other.go_on(self.now)
                    moved = True
                elif wire and not each.stalled:
                    taken = self.cut(len(wire))
                    other.receive(bytes(wire[:taken]), self.now)
                    del wire[:taken]
                    moved = True
                if session.ended and not wire and not other.ended and not other.waits:
                    other.receive(b"", self.now)
                    moved = True
        for node in self.nodes.values():
            moved |= node.expire(self.now)
            if node.comparing:
                node.continue_dump(self.now)
                moved = True
            node.put_into_kernel(self.now)
            node.events += node.machine.events()
        self.connections = [each for each in self.connections if not each.over]
        return moved

    def settle(self, turns: int = 5_000) -> None:
        """Until nothing moves at this time; timers do not run."""
        for _ in range(turns):
            if not self.turn() and not self.turn():
                return
        raise AssertionError("the nodes never come to rest")

    def pass_time(self, duration: float) -> None:
        """Time passes, with every deadline in it."""
        end = self.now + duration
        self.settle()
        for _ in range(100_000):
            deadlines = [due for node in self.nodes.values() if (due := node.machine.next_deadline()) is not None]
            deadlines += [node.kernel.next_expiry() for node in self.nodes.values()]
            due = min(deadlines, default=np.inf)
            if due > end:
                self.now = end
                return
            self.now = max(self.now, due)
            for node in self.nodes.values():
                node.machine.handle_deadline(self.now)
            self.settle()
        raise AssertionError("a deadline is never over")

    def compare_for(self, duration: float, interval: float = INTERVAL) -> None:
        """Time passes, and every MASTER compares its table with its kernel once in each interval."""
        for _ in range(int(duration / interval)):
            self.pass_time(interval)
            for node in self.nodes.values():
                if node.machine.ownership.master:
                    node.dump(self.now)
            self.settle()

    def told(self, name: str, kind: type[Told]) -> list[Told]:
        """What a node told of that kind."""
        return [event for event in self[name].events if isinstance(event, kind)]


def pair(**settings: int) -> World:
    """Two nodes, a is MASTER, connected both ways and in sync."""
    world = World(Node("a", **settings), Node("b", **settings))
    world["a"].machine.set_master(True, world.now)
    world.mesh()
    world.settle()
    return world
