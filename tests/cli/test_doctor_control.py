"""What doctor finds about the node API, with real control workers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from hacore.cli.doctor_control import examine_control
from hacore.cli.doctor_findings import Finding
from hacore.node.settings import load
from tests.control.worker_pair import Played, pair, until
from tests.control.wrong_world import World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with World(tmp_path) as made:
        yield made


async def findings(node: Played) -> dict[str, Finding]:
    found = await asyncio.to_thread(lambda: list(examine_control(load(node.path))))
    return {one.name: one for one in found}


def test_a_peer_that_answers_and_one_that_does_not(tmp_path: Path) -> None:
    async def run() -> None:
        async with pair(tmp_path) as (one, two):
            found = await findings(one)
            assert list(found) == ["listens", "peer fw2"]
            assert all(each.ok and not each.remedy for each in found.values()), found
            await two.worker.server.listen(two.worker.settings.control.listen, None)  # type: ignore[union-attr]
            await one.worker.peer("fw2").close()
            found = await findings(one)
            assert not found["peer fw2"].ok
            assert "the connection was refused" in found["peer fw2"].finding
            assert "hacore does not run there" in found["peer fw2"].remedy

    asyncio.run(run())


def test_a_node_that_cannot_listen(world: World) -> None:
    tls = world.node.directory / "state/tls"
    (tls / "node.key").write_text("no key")
    world.run(world.node.worker.trust_changed())
    found = {one.name: one for one in examine_control(world.node.worker.settings)}
    assert not found["listens"].ok
    assert "node.key" in found["listens"].finding


def test_an_address_that_is_not_there(tmp_path: Path) -> None:
    async def run() -> None:
        async with pair(tmp_path) as (one, _two):
            text = one.path.read_text()
            one.path.write_text(text.replace('listen = "127.0.0.1:', 'listen = "192.0.2.1:'))
            await one.worker.reload()
            await until(lambda: "listen" in one.worker.warnings)
            found = await findings(one)
            assert "cannot listen on 192.0.2.1" in found["listens"].finding

    asyncio.run(run())


def test_no_control_worker(tmp_path: Path) -> None:
    with World(tmp_path) as world:
        pass
    (finding,) = examine_control(world.node.worker.settings)
    assert (finding.name, finding.ok, finding.needed) == ("control worker", False, False)
    assert "no control worker runs" in finding.finding
