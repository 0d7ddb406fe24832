"""Two control workers that trust each other: what they answer, and how each failure is told."""

from __future__ import annotations

import asyncio
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from hacore.control.certificates import Place
from hacore.control.client import PeerClient
from hacore.control.problems import ApiError
from hacore.control.schemas import NodeAnswer
from hacore.control.trial_certificates import make_test_certificates
from hacore.errors import NotRunning
from hacore.node.settings_values import Endpoint
from hacore.node.snapshot import Snapshot
from tests.control.worker_pair import Played, free_port, pair, until


def play(directory: Path, story: Callable[[Played, Played], Awaitable[None]], **settings: Any) -> None:
    async def run() -> None:
        async with pair(directory, **settings) as (one, two):
            await story(one, two)

    asyncio.run(run())


async def refusal(peer: PeerClient, path: str = "/node") -> ApiError:
    with pytest.raises(ApiError) as caught:
        await peer.ask("GET", path, response=object)
    return caught.value


def test_nodes_know_each_other(tmp_path: Path) -> None:
    async def story(one: Played, two: Played) -> None:
        answer = await one.worker.peer("fw2").ask("GET", "/node", response=NodeAnswer)
        assert (answer.name, answer.you, answer.api) == ("fw2", "fw1", 1)
        assert [(vip.name, vip.state) for vip in answer.vips] == [("lan", "BACKUP")]
        status = await two.worker.peer().ask("GET", "/status", response=Snapshot)
        assert status.vips[0].state == "MASTER"
        assert not one.refusals()

    play(tmp_path, story)


def test_local_command_line(tmp_path: Path) -> None:
    async def story(one: Played, two: Played) -> None:
        socket = tmp_path / "fw1/run/control.sock"
        assert stat.S_IMODE(socket.stat().st_mode) == 0o600
        peers = await asyncio.to_thread(one.local.ask, "GET", "/peers")
        assert [(peer["name"], peer["node"]["vips"][0]["state"]) for peer in peers] == [("fw2", "BACKUP")]
        with pytest.raises(ApiError) as caught:
            await asyncio.to_thread(one.local.ask, "GET", "/nothing")
        assert (caught.value.code, caught.value.exit_code) == ("not-found", 64)

    play(tmp_path, story)
    with pytest.raises(NotRunning, match="no control worker runs"):
        Played(tmp_path / "fw1", "fw1", "INIT").local.ask("GET", "/node")


def test_rights(tmp_path: Path) -> None:
    async def story(one: Played, two: Played) -> None:
        peer = one.worker.peer("fw2")
        assert (await peer.ask("GET", "/node", response=NodeAnswer)).name == "fw2"
        error = await refusal(peer, "/status")
        assert (error.code, error.exit_code) == ("not-allowed", 77)
        assert 'fw2 does not give fw1 the right "status"' in str(error)
        assert len(two.refusals()) == 1
        assert "fw1 (127.0.0.1)" in two.refusals()[0]

    play(tmp_path, story, peer='allow = ["services"]')


def test_who_is_not_paired_is_refused(tmp_path: Path) -> None:
    async def story(one: Played, two: Played) -> None:
        make_test_certificates(tmp_path / "stranger", ["fw1", "fw2"])
        place = one.worker.peer("fw2").place
        trusted = one.worker.peer("fw2").trusted
        files = tmp_path / "stranger/fw1"
        stranger = PeerClient("fw2", place, Place(files / "node.crt", files / "node.key"), trusted)
        error = await refusal(stranger)
        await stranger.close()
        assert (error.code, error.exit_code) == ("certificate-unknown", 77)
        assert "does not trust our certificate" in str(error)
        await until(two.refusals)
        assert "not trusted here" in two.refusals()[0]

    play(tmp_path, story)


def test_a_node_that_shows_another_certificate_is_not_asked(tmp_path: Path) -> None:
    async def story(one: Played, two: Played) -> None:
        make_test_certificates(tmp_path / "others", ["fw1", "fw2"])
        two.trust(tmp_path / "others")
        await two.worker.trust_changed()
        error = await refusal(one.worker.peer("fw2"))
        assert error.code == "certificate-unknown"
        assert "another certificate than the one" in str(error)

    play(tmp_path, story)


def test_revoked_while_connected(tmp_path: Path) -> None:
    async def story(one: Played, two: Played) -> None:
        peer = one.worker.peer("fw2")
        await peer.ask("GET", "/node", response=NodeAnswer)
        (tmp_path / "fw2/state/tls/peers.pem").write_text("")
        await two.worker.trust_changed()
        error = await refusal(peer)
        assert error.code == "certificate-revoked"

    play(tmp_path, story)


@pytest.mark.parametrize(
    ("place", "code", "exit_code"),
    [
        (Endpoint(host="127.0.0.1", port=free_port()), "refused", 69),
        (Endpoint(host="no-such-node.invalid", port=8117), "name-not-found", 68),
    ],
)
def test_unreachable(tmp_path: Path, place: Endpoint, code: str, exit_code: int) -> None:
    async def story(one: Played, two: Played) -> None:
        tls = tmp_path / "fw1/state/tls"
        peer = PeerClient("fw2", place, Place(tls / "node.crt", tls / "node.key"), one.worker.peer("fw2").trusted)
        error = await refusal(peer)
        await peer.close()
        assert (error.code, error.exit_code) == (code, exit_code)
        assert "fw2" in str(error)

    play(tmp_path, story)


def test_transitions_reach_the_parts(tmp_path: Path) -> None:
    async def story(one: Played, two: Played) -> None:
        seen: list[tuple[str, str, str, int]] = []
        two.worker.on_transition(lambda *change: seen.append(change))
        two.bus.change("lan", "MASTER", 7)
        await until(lambda: seen)
        assert seen == [("lan", "BACKUP", "MASTER", 7)]
        assert two.worker.masters == ["lan"]

    play(tmp_path, story)
