"""What the election is told of links and addresses."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import pytest

from hacore.linux.rtnl import AddressChange, LinkChange
from hacore.node.ports import Ports
from tests.namespaces import Host, wait_until


@pytest.fixture
def keep() -> Iterator[Callable[[Host], Ports]]:
    with contextlib.ExitStack() as stack:

        def made(host: Host) -> Ports:
            with host.entered():
                ports = Ports()
            stack.callback(ports.monitor.close)
            return ports

        yield made


def test_a_renewed_lifetime_is_nothing_that_happened(lan: Host, keep: Callable[[Host], Ports]) -> None:
    ports = keep(lan)
    lan.ip("address add 10.1.0.9/32 dev lan valid_lft 5 preferred_lft 5")
    first = wait_until(lambda: [each for each in ports.read() if isinstance(each, AddressChange)])
    assert [(each.address, each.added) for each in first] == [("10.1.0.9", True)]
    for _ in range(3):
        lan.ip("address change 10.1.0.9/32 dev lan valid_lft 5 preferred_lft 5")
    lan.ip("address del 10.1.0.9/32 dev lan")
    told = wait_until(lambda: [each for each in ports.read() if isinstance(each, AddressChange)])
    assert [(each.address, each.added) for each in told] == [("10.1.0.9", False)]
    lan.ip("address add 10.1.0.9/32 dev lan")
    told = wait_until(lambda: [each for each in ports.read() if isinstance(each, AddressChange)])
    assert [(each.address, each.added) for each in told] == [("10.1.0.9", True)]


def test_a_link_that_changes_is_told(lan: Host, keep: Callable[[Host], Ports]) -> None:
    ports = keep(lan)
    lan.ip("link set lan down")
    assert wait_until(lambda: [each for each in ports.read() if isinstance(each, LinkChange) and each.name == "lan"])
    port = ports.port("lan")
    assert port is not None
    assert not port.up
