"""A changed address list that a push brings to the backup: at no moment of the change are there two that stay MASTER.

Watched is what the kernels of both nodes did with the addresses, from before the change until the old list is no longer
spoken. A node that changes its list bows out and comes back: two hold an address only from the first advert of the one
until the other hears it.
"""

from __future__ import annotations

import datetime as dt
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

import pytest

from tests.control.push_pair import PushNode, push_pair
from tests.namespaces import wait_until

SECTION = '[[section]]\nid = "vips"\n'
INTERVAL = 1.0  # seconds between two adverts, at least: nodes that do not know each other's keys hold for longer
CHANGES = [
    ("addresses", '["10.1.0.1/16", "10.1.0.5/16", "2001:db8:1::1/64"]'),
    ("addresses", '["10.1.0.1/16", "10.1.0.6/16", "2001:db8:1::1/64"]'),
    ("password", '"another"'),
    ("addresses", '["10.1.0.1/16"]'),
]
LINE = re.compile(r"\[(\S+)\] (Deleted )?\d+: carp\S*\s+inet6? (\S+)/\d+ ")

Held = dict[str, list[tuple[float, float]]]  # by address, from when until when, in seconds


class Witness:
    """Every change of a node's addresses, as its kernel tells it."""

    def __init__(self, node: PushNode) -> None:
        self.node = node
        self.path = node.directory / "addresses"
        self._before = node.held()
        with open(self.path, "wb") as written:
            self._monitor = node.host.start(
                "ip", "-o", "-ts", "monitor", "address", stdout=written, stdin=subprocess.DEVNULL
            )

    def __enter__(self) -> Self:
        self.node.until(self._told)
        return self

    def __exit__(self, *_: object) -> None:
        self._monitor.kill()
        self._monitor.wait()

    def _told(self) -> bool:
        """Whether the monitor has told of what happens now, and so of all that was before."""
        before = self.path.read_text().count("10.255.255.1")
        for action in ("add", "del"):
            self.node.host.ip(f"address {action} 10.255.255.1/32 dev lo")
        try:
            wait_until(lambda: self.path.read_text().count("10.255.255.1") >= before + 2, 1.0, 0.02)
        except AssertionError:
            return False
        return True

    def held(self) -> Held:
        """When the node held which address, the last time perhaps still. Of an IPv6 address that goes a moment after
        it came, the kernel tells only the end: those are left out.
        """
        self.node.until(self._told)
        found: Held = {}
        since = dict.fromkeys(self._before, 0.0)
        for line in self.path.read_text().splitlines():
            if match := LINE.match(line):
                at, address = dt.datetime.fromisoformat(match[1]).timestamp(), match[3]
                if not match[2]:
                    since.setdefault(address, at)
                elif address in since:
                    found.setdefault(address, []).append((since.pop(address), at))
        for address, at in since.items():
            found.setdefault(address, []).append((at, float("inf")))
        return found


def overlaps(one: Held, two: Held) -> list[tuple[str, float]]:
    """How long both held an address, each time that they did."""
    return [
        (address, together)
        for address, times in one.items()
        for begin, end in times
        for other_begin, other_end in two.get(address, [])
        if (together := min(end, other_end) - max(begin, other_begin)) > 0
    ]


@pytest.fixture
def nodes(tmp_path: Path, tool: Callable[[str], str]) -> Iterator[tuple[PushNode, PushNode]]:
    tool("nft")
    with push_pair(tmp_path, SECTION, advbase=1) as made:
        yield made


def test_no_two_masters_at_any_moment(nodes: tuple[PushNode, PushNode]) -> None:
    one, two = nodes
    with Witness(one) as first, Witness(two) as second:
        for key, value in CHANGES:
            mark = {node: node.last_event() for node in nodes}
            text = one.settings.read_text()
            one.settings.write_text(re.sub(rf"(?m)^{key} = .*$", f"{key} = {value}", text, count=1))
            one.ask("reload")
            one.until_event("transition", "-> MASTER", after=mark[one])
            # the lists differ: a backup that did not know the sender would be MASTER beside it, and stay that
            heard = two.counters()["ipackets"]
            two.until(lambda heard=heard: two.counters()["ipackets"] >= heard + 4)  # type: ignore[misc]
            assert [node.state() for node in nodes] == ["MASTER", "BACKUP"]
            assert one.push("vips")["result"] == "applied"
            for node in nodes:
                node.until_event("keys", "every node has the new keys of lan", after=mark[node])
            heard = two.counters()["ipackets"]
            two.until(lambda heard=heard: two.counters()["ipackets"] >= heard + 2)  # type: ignore[misc]
            assert [node.state() for node in nodes] == ["MASTER", "BACKUP"]
        here, there = first.held(), second.held()
    assert {"10.1.0.1", "10.1.0.5", "10.1.0.6"} <= set(here)  # the witness sees what there is to see
    assert here["10.1.0.1"][-1][1] == float("inf")
    assert all(end < float("inf") for times in there.values() for _, end in times)
    assert [each for each in overlaps(here, there) if each[1] >= INTERVAL] == []
    assert [node.vip()["addresses"] for node in nodes] == [["10.1.0.1/16"], ["10.1.0.1/16"]]
    assert (two.directory / "hacore.toml.d/50-synced.toml").exists()
