"""Labs of the tests: in a directory and under a name of their own, gone afterwards."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hacore.lab import laboratory, namespaces, topology
from hacore.lab.laboratory import Lab


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the labs of one test are."""
    directory = tmp_path / "labs"
    monkeypatch.setenv("HACORE_LAB_DIRECTORY", str(directory))
    return directory


@pytest.fixture
def directory(base: Path) -> Path:
    """The directory of a lab that is not made yet."""
    return base / f"ht-{secrets.token_hex(4)}"


@pytest.fixture
def network(directory: Path, tool: Callable[[str], str]) -> Iterator[Lab]:
    """A lab without running nodes, in which fw1 has all virtual addresses on its own interfaces."""
    tool("nft")
    with laboratory.temporary(directory, profile="fast", preempt=True, start=False) as lab:
        for side in topology.SIDES:
            set_addresses(lab, "fw1", side, "add")
        yield lab


def set_addresses(lab: Lab, node: str, side: str, what: str) -> None:
    """Add ("add") or remove ("del") the virtual addresses of one side, as single addresses on the interface itself."""
    from pyroute2 import IPRoute  # type: ignore[import-untyped]

    with namespaces.inside(lab.paths[node]), IPRoute() as host:
        index = host.link_lookup(ifname=side)[0]
        for family, address in topology.VIPS[side].items():
            host.addr(what, index=index, address=address, prefixlen=32 if family == 4 else 128)
