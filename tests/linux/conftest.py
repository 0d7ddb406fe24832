"""One firewall, a peer and a client on a LAN."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import pytest

from tests.namespaces import Host, Network, Switch

T = TypeVar("T")


class Keep(Protocol):
    """Closes what it is given when the test ends, and returns it."""

    def __call__(self, opened: T) -> T: ...


@pytest.fixture
def keep() -> Iterator[Keep]:
    with ExitStack() as stack:

        def close_later(opened: Any) -> Any:
            return stack.enter_context(closing(opened))

        yield close_later


@dataclass(slots=True)
class Lan:
    """fw 10.1.0.11, peer 10.1.0.12, client 10.1.0.100, each `lan` on one switch; 2001:db8:1:: likewise."""

    network: Network
    switch: Switch
    fw: Host
    peer: Host
    client: Host


@pytest.fixture
def network() -> Iterator[Network]:
    with Network() as made:
        yield made


@pytest.fixture
def lan(network: Network) -> Lan:
    switch = network.switch("sw", "mcast_snooping 0")
    hosts = []
    for label, number in (("fw", "11"), ("peer", "12"), ("client", "100")):
        host = network.host(label)
        network.cable(host, "lan", switch)
        host.ip(f"addr add 10.1.0.{number}/16 dev lan")
        host.ip(f"-6 addr add 2001:db8:1::{number}/64 dev lan nodad")
        hosts.append(host)
    return Lan(network, switch, *hosts)
