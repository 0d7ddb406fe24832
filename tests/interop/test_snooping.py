"""Two nodes through a switch that passes multicast only where somebody asked for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.interop.conftest import Watching
from tests.namespaces import Sniffer
from tests.oracle.carp import Parts, parse_frame
from tests.running_node import RunningNode, Segment, await_master

# The querier at its quickest, so that its groups are in force soon.
SNOOPING = "mcast_snooping 1 mcast_query_interval 100 mcast_startup_query_interval 100 mcast_query_response_interval 50"


@pytest.fixture
def snooping(tmp_path: Path, tool: Callable[[str], str]) -> Iterator[Segment]:
    tool("nft")
    with Segment(tmp_path, SNOOPING) as segment:
        switch = segment.switch()
        switch.sysctl("ipv6/conf/br0/accept_dad", "0")
        switch.ip("addr add 10.1.0.254/16 dev br0")
        # Apart and last: how long it waits until it trusts its groups is what the response interval is then.
        switch.ip("link set br0 type bridge mcast_querier 1")
        yield segment


def adverts_seen(sniffer: Sniffer) -> int:
    return sum(isinstance(parse_frame(frame), Parts) for frame in sniffer.frames())


@pytest.mark.parametrize("address", ["10.1.0.1/16", "2001:db8:1::1/64"])
def test_one_master_behind_a_snooping_switch(snooping: Segment, watching: Watching, address: str) -> None:
    family, name = (6, "ipackets6") if ":" in address else (4, "ipackets")
    bystander = watching(Sniffer(snooping.host("bystander", 13), "lan"))
    first, second = snooping.pair(addresses=[address])

    def only_the_backup_hears() -> bool:
        bystander.frames()
        before = second.counters()[name]
        second.until(lambda: second.counters()[name] >= before + 5)
        # Linux's bridge passes 224.0.0.x to everybody, whoever asked.
        return family == 4 or adverts_seen(bystander) == 0

    second.until(only_the_backup_hears)
    since = second.last_event()
    before = second.counters()[name]
    second.until(lambda: second.counters()[name] >= before + 30)
    assert second.transitions(after=since) == []

    # One that comes to a switch whose groups are in force has to ask before it hears the MASTER.
    second.kill()
    second.start()
    second.until(only_the_backup_hears)
    await_master(first, second)
    assert "MASTER" not in [state for state, _ in second.transitions(after=since)]

    takes_over(first, second)


def takes_over(first: RunningNode, second: RunningNode) -> None:
    first.kill()
    second.until_state("MASTER")
    assert second.vip()["reason"] == "master timed out"
    first.start()
    await_master(first, second)
