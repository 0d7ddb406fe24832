"""Entries that were born here become lenient when a VIP is lost: real connections in the table of a namespace."""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from hacore._fast.table import Table
from hacore.linux import conntrack, sysctl
from hacore.node.loop import Loop
from hacore.node.states_injection import InjectionQueue
from hacore.node.states_windows import BE_LIBERAL, FLAG_BE_LIBERAL, Windows
from hacore.states.layout import TCP_FLAGS, Rows
from tests.namespaces import Network

TIME_WAIT = 7
CONNECTIONS = 300


class Machine:
    """What the states worker has, in the namespace that the test works in."""

    def __init__(self, injector: conntrack.Injector, directory: Path) -> None:
        self.problems: list[str] = []
        self.loop = Loop(self._failed)
        self.table = Table(bytes(16), bytes(16), max_states=10_000)
        self.queue = InjectionQueue(injector)
        self.directory = directory
        self.windows = self.new_windows()
        self.loop.register(self.queue.fileno(), lambda _events, _now: self.work())

    def new_windows(self) -> Windows:
        changes = sysctl.Changes(self.directory / "states-sysctl.json")
        return Windows(self.loop, self.table, self.queue, changes, self.work, self.problems.append)

    def _failed(self, where: str, error: Exception) -> None:
        self.problems.append(f"{where}: {error!r}")
        self.loop.stop()

    def work(self) -> None:
        if self.queue.work():
            self.loop.call_soon(lambda _now: self.work())

    def run(self) -> None:
        """Until the kernel has its setting back."""

        def look(now: float) -> None:
            if self.windows.is_lenient and now < until:
                self.loop.call_at(now + 0.001, look)
            else:
                self.loop.stop()

        until = self.loop.now() + 10.0
        self.loop.call_soon(look)
        self.loop.run()


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    """With connections of its loopback interface in the table."""
    with Network() as network, ExitStack() as stack:
        host = network.host("fw")
        host.run("nft", "add table inet t; add chain inet t c { type filter hook input priority 0; }")
        host.run("nft", "add rule inet t c ct state established accept")
        stack.enter_context(host.entered())
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=CONNECTIONS))
        for _ in range(CONNECTIONS):
            client = stack.enter_context(socket.create_connection(listener.getsockname()))
            served = stack.enter_context(listener.accept()[0])
            served.sendall(b"there")
            assert client.recv(5) == b"there"
        made = Machine(stack.enter_context(conntrack.Injector(extra_timeout=60)), tmp_path)
        yield made
        made.queue.close()
        assert made.problems == []


def lenient(rows: Rows) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Which entries are, both ways."""
    return np.asarray(rows[TCP_FLAGS[0]] & rows[TCP_FLAGS[1]] & FLAG_BE_LIBERAL != 0)


def is_liberal() -> int:
    return int(sysctl.read(BE_LIBERAL) or "-1")


def by_port(rows: Rows) -> Rows:
    return rows[np.argsort(rows["source_port"])]


def test_entries_of_a_lost_vip_become_lenient(machine: Machine) -> None:
    before = by_port(conntrack.dump_rows())
    assert len(before) == CONNECTIONS
    assert not lenient(before).any()
    assert is_liberal() == 0
    replicated = np.arange(CONNECTIONS) % 3 > 0
    known = before[replicated].copy()
    known["protocol_state"][:5] = TIME_WAIT  # the kernel is about to hear of it
    machine.table.put(known)
    machine.windows.lose()
    assert is_liberal() == 1, "at once, for all"
    machine.windows.rest()
    machine.run()
    assert is_liberal() == 0
    after = by_port(conntrack.dump_rows())
    assert (lenient(after) == replicated).all()
    assert machine.windows.relaxed == np.count_nonzero(replicated)
    expected = before["protocol_state"].copy()
    expected[replicated] = known["protocol_state"]
    assert (after["protocol_state"] == expected).all()
    for name in ("status", "reply_destination_port", "mark", "tcp_scale_original"):
        assert (after[name] == before[name]).all()
    machine.windows.lose()
    machine.windows.rest()
    machine.run()
    assert machine.windows.relaxed == np.count_nonzero(replicated), "they are already"


def test_a_master_writes_nothing_and_stays_lenient(machine: Machine) -> None:
    machine.table.put(conntrack.dump_rows())
    machine.windows.lose()
    machine.windows.rest()
    machine.windows.pause()  # the addresses are back before it has begun
    assert not select.select([machine.queue], [], [], 0.05)[0]
    assert (machine.windows.relaxed, is_liberal()) == (0, 1)
    assert not lenient(conntrack.dump_rows()).any()
    machine.windows.lose()
    machine.windows.rest()
    machine.run()
    assert lenient(conntrack.dump_rows()).all()
    assert is_liberal() == 0


def test_what_the_peers_send_goes_first(machine: Machine) -> None:
    rows = conntrack.dump_rows()
    machine.table.put(rows)
    machine.windows.lose()
    machine.windows.rest()
    machine.queue.put(rows[:1])
    for _ in range(50):
        machine.loop.run_once(0.002)
    assert machine.queue.waiting_rows == 1
    assert machine.windows.relaxed == 0
    machine.work()
    machine.run()
    assert machine.windows.relaxed == CONNECTIONS - 1, "as a copy that one was made lenient"


def test_an_administrator_who_is_lenient_anyway_stays_so(machine: Machine) -> None:
    sysctl.write(BE_LIBERAL, "1")
    machine.table.put(conntrack.dump_rows())
    machine.windows.lose()
    assert not machine.windows.is_lenient
    machine.windows.rest()
    machine.windows.close()
    assert is_liberal() == 1


def test_the_kernel_gets_its_setting_back_when_the_node_stops(machine: Machine) -> None:
    machine.windows.lose()
    machine.windows.close()
    assert is_liberal() == 0


def test_a_worker_that_is_started_anew_goes_on(machine: Machine) -> None:
    machine.windows.lose()
    machine.windows = machine.new_windows()
    assert machine.windows.is_lenient
    machine.table.put(conntrack.dump_rows())
    machine.windows.rest()
    machine.run()
    assert lenient(conntrack.dump_rows()).all()
    assert is_liberal() == 0
