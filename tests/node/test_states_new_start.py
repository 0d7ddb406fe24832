"""The states worker starts anew beside a full kernel: the peers' kernels lose nothing for that."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hacore.lab.fill import idle_connections
from hacore.linux import conntrack
from hacore.node.states import StatesWorker
from tests.node.states_pair import Node, Pair, eventually, made
from tests.node.test_states_first_dump import Clockwork

COUNT = 20_000
ANOTHER_VIP = """
[[vip]]
name = "lan2"
interface = "lan"
vhid = 2
advbase = 0
advskew = {advskew}
password = "secret"
addresses = ["10.20.0.2/24"]
"""


class Lowest:
    """The fewest entries that a node's kernel had, looked at all the time."""

    def __init__(self, node: Node) -> None:
        self.count = 1 << 30
        self._node = node
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def _look(self) -> None:
        with self._node.host.entered():  # of this thread only
            while not self._ended.wait(0.002):
                self.count = min(self.count, conntrack.count())

    @classmethod
    @contextmanager
    def of(cls, node: Node) -> Iterator[Lowest]:
        lowest = cls(node)
        lowest._thread.start()
        try:
            yield lowest
        finally:
            lowest._ended.set()
            lowest._thread.join()


def fill(pair: Pair) -> None:
    with pair.one.host.entered(), conntrack.Injector() as injector:
        for first in range(0, COUNT, 5000):
            injector.inject(idle_connections(5000, first))

    def arrived() -> bool:
        with pair.two.host.entered():
            return conntrack.count() >= COUNT

    eventually(arrived)


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    with made(tmp_path) as pair:
        fill(pair)
        yield pair


def restarts(node: Node) -> int:
    return int(node.status()["node"]["workers"]["states"]["restarts"])


def started(node: Node) -> float:
    return float(node.states().get("started", 0.0))


def test_the_masters_worker_dies(pair: Pair) -> None:
    before = started(pair.one)
    with Lowest.of(pair.two) as lowest:
        os.kill(pair.one.worker(), signal.SIGKILL)
        eventually(lambda: started(pair.one) > before)
        eventually(pair.alike)
        pair.follow()
    assert lowest.count >= COUNT
    texts = pair.two.history()
    assert not [text for text in texts if "bulk update from fw1 begins" in text][1:]
    assert pair.one.states()["kernel"]["reconciles"] >= 1


def test_a_silence_is_explained() -> None:
    loop, told = Clockwork(), []
    worker: Any = StatesWorker.__new__(StatesWorker)
    worker.loop, worker._silent_since, worker._unread_reason = loop, loop.now(), ""
    worker.credentials, worker.peers = SimpleNamespace(problem=""), SimpleNamespace(is_open=False)
    worker._say_condition_if_new, worker.tell = lambda: told.append(worker.problem), lambda *_: None
    assert not worker.problem, "most tables are read in a moment"
    loop.pass_time(110.0)
    assert worker.problem == "the kernel's table has yet to be read to its end"
    worker._kernel_problem("dumping the kernel's connection table: no memory")
    assert told == ["the kernel's table has yet to be read: dumping the kernel's connection table: no memory"]
    worker.peers.is_open = True
    assert not worker.problem
    worker.credentials.problem = "not paired"
    assert worker.problem == "not paired"


def test_the_masters_worker_is_configured_anew(pair: Pair) -> None:
    before = started(pair.one)
    with Lowest.of(pair.two) as lowest:
        settings = pair.one.path.read_text()
        pair.one.path.write_text(settings + ANOTHER_VIP.format(advskew=20))
        os.kill(pair.one.process.pid, signal.SIGHUP)
        eventually(lambda: started(pair.one) > before)
        eventually(pair.alike)
        pair.follow()
    assert lowest.count >= COUNT


def test_the_backups_worker_dies(pair: Pair) -> None:
    before = started(pair.two)
    with Lowest.of(pair.two) as lowest, Lowest.of(pair.one) as masters:
        os.kill(pair.two.worker(), signal.SIGKILL)
        eventually(lambda: started(pair.two) > before)
        pair.follow()
        eventually(pair.alike)
    assert lowest.count >= COUNT
    assert masters.count >= COUNT


def test_the_masters_worker_dies_and_the_node_stops_being_master(pair: Pair) -> None:
    before = started(pair.one)
    with Lowest.of(pair.two) as lowest, Lowest.of(pair.one) as masters:
        os.kill(pair.one.worker(), signal.SIGKILL)
        pair.one.ask("maintenance", enter=True)
        eventually(lambda: pair.two.carp == "MASTER")
        eventually(lambda: started(pair.one) > before)
        pair.follow()
        eventually(pair.alike)
    assert lowest.count >= COUNT
    assert masters.count >= COUNT
    eventually(lambda: pair.two.states()["table"]["own"] >= COUNT)
