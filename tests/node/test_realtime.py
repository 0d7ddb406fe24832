"""Threads beside the one that must not be late."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from hacore.node import realtime
from hacore.node.address_writer import AddressWriter
from tests.namespaces import Network


@pytest.fixture(autouse=True)
def interval() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(0.005)
    yield
    sys.setswitchinterval(before)


def test_who_starts_a_thread_shares_the_interpreter() -> None:
    with Network() as network, network.host("host").entered():
        writer = AddressWriter()
        writer.close()
    assert sys.getswitchinterval() == pytest.approx(realtime.SWITCH_INTERVAL)
