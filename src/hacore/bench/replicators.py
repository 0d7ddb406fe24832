"""Those that replicate connections between the two nodes of a lab, each started, asked and ended in the same way."""

from __future__ import annotations

import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import msgspec
import numpy as np

from hacore.bench.conntrackd import EVENT_BUFFER_BYTES, Conntrackd
from hacore.bench.datagrams import prepare
from hacore.bench.load import Load, Stream
from hacore.bench.meters import Counter, cpu, memory, wait, wire_bytes
from hacore.bench.result import LIMIT, OWN
from hacore.errors import HacoreError
from hacore.lab import laboratory, namespaces, nodes, play, topology
from hacore.lab.faults import signal_all
from hacore.lab.laboratory import Lab
from hacore.lab.nodes import Node
from hacore.linux import conntrack
from hacore.node.bus import Client

BARE = LIMIT
CACHED = "conntrackd"
DIRECT = "conntrackd, no external cache"
SENDER, RECEIVER = "sender", "receiver"
SYNC = "sync"

PATIENCE = 30.0
MAX_STATES = 4_000_000
STATES = f"""
[states]
listen = "10.9.0.{{number}}:8116"
max_states = {MAX_STATES}
event_buffer_bytes = {EVENT_BUFFER_BYTES}
"""


class Site:
    """The lab whose fw1 has the load and whose fw2 gets the states; no node of it runs unless a replicator does."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.one, self.two = (lab.nodes[name] for name in topology.NODES)
        self.counters = {SENDER: Counter(self.one.namespace), RECEIVER: Counter(self.two.namespace)}
        for number, node in enumerate((self.one, self.two), 1):
            text = nodes.settings_text(node.name, node.directory, lab.profile, True, topology.gateways())
            node.settings.write_text(text + STATES.format(number=number), encoding="utf-8")
            with namespaces.inside(node.namespace):
                conntrack.keep_events()
        self._mac = prepare(self.one.namespace).hex()

    def stream(self, side: str, load: Load) -> Stream:
        """A load on one side, ready to begin; packets come from the lab's client."""
        node = self.one if side == SENDER else self.two
        if load.kind == "packets":
            return Stream(self.lab.paths[topology.CLIENT], node, msgspec.structs.replace(load, mac=self._mac))
        return Stream(node.namespace, node, load)

    def flush(self) -> None:
        """Both tables are empty."""
        for node in (self.one, self.two):
            flush(node)

    def wire(self) -> int:
        """Bytes that passed between the nodes, in both directions."""
        return wire_bytes(self.one.namespace, SYNC)


@contextmanager
def site(directory: Path) -> Iterator[Site]:
    """A lab in `directory` for the length of a `with`."""
    with laboratory.temporary(directory, profile="fast", preempt=True, states=True, start=False) as lab:
        made = Site(lab)
        with made.counters[SENDER], made.counters[RECEIVER]:
            yield made


def flush(node: Node) -> None:
    """Empties that kernel's table."""
    with namespaces.inside(node.namespace):
        conntrack.flush()


class Replicator(ABC):
    """One way; `name` is the subject of its figures. It runs for the length of a `with`."""

    name: str
    to_the_kernel = True
    """Whether what is replicated is in the receiver's kernel at once."""

    pause = 0.0003
    """Seconds between two looks at `arrived`, so that who looks takes little from who is looked at."""

    def __init__(self, where: Site) -> None:
        self.site = where

    def __enter__(self) -> Self:
        self.site.flush()
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self.site.flush()

    @abstractmethod
    def start(self) -> None:
        """On both nodes, until they replicate."""

    @abstractmethod
    def stop(self) -> None:
        """On both nodes."""

    @abstractmethod
    def pids(self) -> dict[str, int]:
        """Of the processes that replicate: the sender's and the receiver's."""

    @abstractmethod
    def clear(self) -> None:
        """Nobody has any states, and both go on. HacoreError where that does not come about."""

    def arrived(self) -> int:
        """How many states the receiver has."""
        return self.site.counters[RECEIVER]()

    def arrived_at(self, port: int) -> int:
        """How many of these go to that port of their server; to be asked for when nothing is measured any more."""
        with namespaces.inside(self.site.two.namespace):
            return int(np.count_nonzero(conntrack.dump_rows()["destination_port"] == port))

    def used(self) -> dict[str, float]:
        """Seconds of processor time of both sides so far."""
        return {side: cpu(pid) for side, pid in self.pids().items()}

    def memory(self) -> dict[str, int]:
        """Bytes that both sides have in memory."""
        return {side: memory(pid) for side, pid in self.pids().items()}


class Pair(Replicator):
    """Two nodes of hacore: the sender is MASTER."""

    name = OWN

    def start(self) -> None:
        """Both nodes, until the sender is MASTER and has told everything."""
        for node in (self.site.one, self.site.two):
            self.site.lab.start(node)
        play.heal(self.site.lab)
        wait(lambda: set(self.site.one.states().values()) == {"MASTER"}, PATIENCE, "fw1 is MASTER")
        wait(lambda: self.site.one.replicates() and self.site.two.replicates(), PATIENCE, "the nodes replicate")

    def stop(self) -> None:
        """Both nodes."""
        self.site.lab.stop_nodes()
        for node in (self.site.one, self.site.two):
            node.reap()

    def stop_receiver(self) -> None:
        """fw2 alone, and its table is empty."""
        supervisor = self.site.two.supervisor
        if supervisor is not None and supervisor.alive():
            signal_all([supervisor.pid], signal.SIGTERM)
            wait(lambda: not self.site.two.running(), PATIENCE, "fw2 stops")
            self.site.two.reap()
        flush(self.site.two)

    def pids(self) -> dict[str, int]:
        """The states workers."""
        return {SENDER: worker(self.site.one), RECEIVER: worker(self.site.two)}

    def clear(self) -> None:
        """The sender's table is emptied, and what that says reaches the receiver."""
        flush(self.site.one)
        wait(
            lambda: max(shown(node)["table"]["rows"] for node in (self.site.one, self.site.two)) == 0,
            PATIENCE, "the states are deleted",
        )  # fmt: skip
        flush(self.site.two)


class Bare(Pair):
    """The sender of a pair, and instead of the receiver an injector of what it would get: the physical limit."""

    name = BARE

    def start(self) -> None:
        """The pair; then the receiver stops."""
        super().start()
        self.stop_receiver()

    def pids(self) -> dict[str, int]:
        """The sender's states worker; each injector is a process of its own."""
        return {SENDER: worker(self.site.one)}

    def clear(self) -> None:
        """Nobody has any states."""
        flush(self.site.one)
        wait(lambda: shown(self.site.one)["table"]["rows"] == 0, PATIENCE, "the states are deleted")
        flush(self.site.two)


def worker(node: Node) -> int:
    """The id of a node's states worker. HacoreError where none runs."""
    status = node.status() or {}
    pid = status.get("node", {}).get("workers", {}).get("states", {}).get("pid", 0)
    if not pid:
        raise HacoreError(f"{node.name} has no states worker running:\n{node.log_tail()}")
    return int(pid)


def shown(node: Node) -> dict[str, Any]:
    """What `hacore states show --json` says on a node."""
    return dict(Client(node.runtime_directory).request("states", action="show"))


class Daemons(Replicator):
    """conntrackd on both nodes, the receiver with an external cache."""

    name = CACHED
    to_the_kernel = False
    pause = 0.25  # each look is a program that asks the daemon
    external_cache = True

    def __init__(self, where: Site) -> None:
        super().__init__(where)
        self.daemons: dict[str, Conntrackd] = {}

    def start(self) -> None:
        """Both daemons."""
        for side in (SENDER, RECEIVER):
            self.start_one(side)

    def start_one(self, side: str) -> Conntrackd:
        """The daemon of one side, anew."""
        number = 1 if side == SENDER else 2
        place = self.site.lab.directory / f"conntrackd-{side}-{time.monotonic_ns()}"
        node = self.site.one if side == SENDER else self.site.two
        self.daemons[side] = Conntrackd(
            node, place, f"10.9.0.{number}", f"10.9.0.{3 - number}", interface=SYNC, external_cache=self.external_cache
        )
        return self.daemons[side]

    def stop(self) -> None:
        """Both daemons."""
        while self.daemons:
            self.daemons.popitem()[1].close()

    def pids(self) -> dict[str, int]:
        """The daemons."""
        return {side: daemon.pid for side, daemon in self.daemons.items()}

    def clear(self) -> None:
        """The sender's table is emptied; where the receiver does not follow, both daemons start anew."""
        flush(self.site.one)
        try:
            wait(lambda: self.arrived() == 0, PATIENCE / 3, "the states are deleted", 0.1)
        except HacoreError:
            self.stop()
            self.site.flush()
            self.start()

    def arrived(self) -> int:
        """How many states the receiver's cache has, or its kernel where it has none."""
        return self.daemons[RECEIVER].cached("external") if self.external_cache else super().arrived()

    def arrived_at(self, port: int) -> int:
        """Of the cache or the kernel."""
        return self.daemons[RECEIVER].cached_to(port) if self.external_cache else super().arrived_at(port)


class DirectDaemons(Daemons):
    """conntrackd on both nodes, the receiver without an external cache: what comes goes into the kernel."""

    name = DIRECT
    to_the_kernel = True
    pause = Replicator.pause
    external_cache = False


def replicators(where: Site, without: tuple[str, ...] = ()) -> list[Replicator]:
    """hacore and those that it stands beside, but for the programs in `without`."""
    found: list[Replicator] = [Pair(where), Bare(where)]
    return found if "conntrackd" in without else [*found, Daemons(where), DirectDaemons(where)]
