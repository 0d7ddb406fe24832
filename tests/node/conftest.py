"""A LAN with real nodes on it, a host on an empty one, a loop in which nothing may fail, a way into a kernel."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hacore.linux import conntrack
from hacore.node.loop import Loop
from hacore.node.states_injection import InjectionQueue
from tests.namespaces import Host, Network
from tests.running_node import Segment


@pytest.fixture
def loop() -> Iterator[Loop]:
    def fail(where: str, error: Exception) -> None:
        raise AssertionError(where) from error

    loop = Loop(fail)
    yield loop
    loop.close()


@pytest.fixture
def lan() -> Iterator[Host]:
    with Network() as network:
        host = network.host("fw")
        network.cable(host, "lan", network.switch("switch"))
        yield host


@pytest.fixture
def segment(tmp_path: Path, tool: Callable[[str], str]) -> Iterator[Segment]:
    tool("nft")
    with Segment(tmp_path) as made:
        yield made


@pytest.fixture
def injector() -> Iterator[conntrack.Injector]:
    """Into the empty table of a namespace, in which the test works."""
    with Network() as network:
        host = network.host("fw")
        host.run("nft", "add table inet t; add chain inet t c { type nat hook postrouting priority 0; }")
        with host.entered(), conntrack.Injector() as made:
            yield made


@pytest.fixture
def queue(injector: conntrack.Injector) -> Iterator[InjectionQueue]:
    made = InjectionQueue(injector)
    yield made
    made.close()
