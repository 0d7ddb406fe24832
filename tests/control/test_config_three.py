"""A node with two backups: each is compared, pushed to and guarded by itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from hacore.control.trial_certificates import make_test_certificates
from tests.control.test_config import SECTION, Node
from tests.control.worker_pair import Played, free_port

NAMES = ("fw1", "fw2", "fw3")
PEER = '[[peer]]\nname = "{name}"\ncontrol = "127.0.0.1:{port}"\n'


@pytest.fixture(autouse=True)
def links(monkeypatch: pytest.MonkeyPatch) -> None:
    """The interfaces of the played machines."""
    monkeypatch.setattr("hacore.control.config._links", lambda: {"lan": True})


@asynccontextmanager
async def trio(directory: Path) -> AsyncIterator[list[Node]]:
    """fw1, MASTER, and two backups of it; all know each other."""
    make_test_certificates(directory / "certificates", list(NAMES))
    ports = {name: free_port() for name in NAMES}
    played = [Played(directory / name, name, "MASTER" if name == "fw1" else "BACKUP") for name in NAMES]
    for number, node in enumerate(played):
        first, second = (name for name in NAMES if name != node.name)
        more = PEER.format(name=second, port=ports[second]) + SECTION.format(tree="/etc", keys="")
        node.write(
            name=node.name, other=first, other_port=ports[first], port=ports[node.name], advskew=20 * number, more=more
        )
        node.trust(directory / "certificates")
    started = []
    try:
        for node in played:
            await node.start()
            started.append(node)
        yield [Node(node) for node in played]
    finally:
        for node in (each for each in started if each.worker.server.listens):
            await node.worker.stop()


def ends(lines: list[dict[str, Any]]) -> dict[str, str]:
    """By peer, how the push to it ended."""
    return {
        line["peer"]: line["problem"]["code"] if "problem" in line else line["outcome"]["result"]
        for line in lines
        if "progress" not in line
    }


def test_a_push_goes_to_each(tmp_path: Path) -> None:
    async def play() -> None:
        async with trio(tmp_path) as (one, two, three):
            one.write("/etc/rules.conf", "accept\n")
            three.write("/etc/rules.conf", "drop\n")
            found = (await one.ask("GET", "/config/differences", sections="rules"))["peers"]
            assert [each["name"] for each in found] == ["fw2", "fw3"]
            assert [each["difference"]["sections"][0]["entries"][0]["what"] for each in found] == ["added", "changed"]
            lines = await one.lines("/config/push", {"sections": ["rules"]})
            assert ends(lines) == {"fw2": "applied", "fw3": "applied"}
            order = [line["peer"] for line in lines]
            assert order == sorted(order)
            for backup in (two, three):
                assert (backup.tree / "etc/rules.conf").read_text() == "accept\n"
            status = await one.ask("GET", "/config", sections="rules")
            assert {each["name"]: each["in_sync"]["rules"] for each in status["peers"]} == {"fw2": True, "fw3": True}
            one.write("/etc/rules.conf", "reject\n")
            lines = await one.lines("/config/push", {"sections": ["rules"], "peer": "fw3"})
            assert ends(lines) == {"fw3": "applied"}
            assert (two.tree / "etc/rules.conf").read_text() == "accept\n"

    asyncio.run(play())


def test_what_becomes_of_one_is_nothing_to_the_other(tmp_path: Path) -> None:
    async def play() -> None:
        async with trio(tmp_path) as (one, two, three):
            one.write("/etc/rules.conf", "accept\n")
            two.played.worker.states["lan"] = "MASTER"
            lines = await one.lines("/config/push", {"sections": ["rules"]})
            assert ends(lines) == {"fw2": "guarded", "fw3": "applied"}
            lines = await one.lines("/config/push", {"sections": ["rules"], "overrides": ["peer-is-master"]})
            assert ends(lines) == {"fw2": "applied", "fw3": "unchanged"}
            one.write("/etc/rules.conf", "reject\n")
            await two.played.worker.stop()
            lines = await one.lines("/config/push", {"sections": ["rules"]})
            assert ends(lines) == {"fw2": "refused", "fw3": "applied"}
            assert (three.tree / "etc/rules.conf").read_text() == "reject\n"
            found = (await one.ask("GET", "/config/differences", sections="rules"))["peers"]
            assert found[0]["problem"]["code"] == "refused"
            assert found[1]["difference"]["sections"][0]["in_sync"]
            one.played.worker.states["lan"] = "BACKUP"
            lines = await one.lines("/config/push", {"sections": ["rules"], "if_master": True})
            assert [line["outcome"]["result"] for line in lines] == ["unchanged"]
            lines = await one.lines("/config/push", {"sections": ["rules"]})
            assert ends(lines) == {"fw2": "refused", "fw3": "guarded"}

    asyncio.run(play())
