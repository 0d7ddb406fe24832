"""Services over the node API: this node's and a peer's, from the command line to the process."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from hacore.cli import main
from hacore.control.config import Configuration
from hacore.control.problems import ApiError
from hacore.control.services import ServiceList
from hacore.services.service import State
from tests.control.worker_pair import Played, pair, until
from tests.relay import Relay, relays

Story = Callable[[Played, Played, dict[str, Relay]], Awaitable[None]]


@pytest.fixture
def play(tmp_path: Path) -> Iterator[Callable[..., None]]:
    """Two nodes with two services each, `relay`, and `line`, which follows the VIP lan; relays by `NODE/SERVICE`."""
    with relays(tmp_path) as make:
        made = {f"{node}/{name}": make(f"{node}-{name}") for node in ("fw1", "fw2") for name in ("relay", "line")}

        def played(story: Story, **settings: Any) -> None:
            async def run() -> None:
                async with pair(tmp_path, **settings) as (one, two):
                    for node in (one, two):
                        with node.path.open("a") as file:
                            file.write(_table("relay", made[f"{node.name}/relay"], 'description = "Relays"'))
                            file.write(_table("line", made[f"{node.name}/line"], 'run_on = "MASTER"\nvip = "lan"'))
                        await node.worker.reload()
                    await story(one, two, made)

            asyncio.run(run())

        yield played


def _table(name: str, relay: Relay, more: str) -> str:
    commands = "\n".join(f'{step} = ["{relay.script}", "{step}"]' for step in ("start", "stop", "status"))
    return f'\n[[service]]\nid = "{name}"\n{commands}\n{more}\n'


async def hacore(node: Played, *arguments: str) -> Result:
    return await asyncio.to_thread(CliRunner().invoke, main, ["-c", str(node.path), *arguments])


def test_list_start_restart_stop(play: Callable[..., None]) -> None:
    async def story(one: Played, two: Played, services: dict[str, Relay]) -> None:
        done = await hacore(two, "services", "start", "relay")
        assert (done.exit_code, done.output[:18]) == (0, "relay: started in "), done.output
        listed = await hacore(two, "services", "list", "--json")
        first = json.loads(listed.output)["services"][0]
        assert (first["id"], first["state"]) == ("relay", "running")
        table = (await hacore(two, "services", "list")).output
        assert "Relays" in table
        assert "lan (elsewhere)" in table
        assert (await hacore(two, "services", "restart", "relay")).exit_code == 0
        assert (await hacore(two, "services", "stop", "relay")).exit_code == 0
        assert services["fw2/relay"].calls == ["start relay", "stop relay", "start relay", "stop relay"]
        assert [text for kind, text, _ in two.events if kind == "service" and "relay" in text][-1] == (
            "relay stopped (asked by the local command line)"
        )

    play(story)


def test_on_the_peer(play: Callable[..., None]) -> None:
    async def story(one: Played, two: Played, services: dict[str, Relay]) -> None:
        done = await hacore(one, "services", "start", "relay", "--peer", "fw2")
        assert done.exit_code == 0, done.output
        listed = await one.worker.peer("fw2").ask("GET", "/services", response=ServiceList)
        assert (listed.node, listed.services[0].state) == ("fw2", State.RUNNING)
        assert "fw2" in (await hacore(one, "services", "list", "--peer", "fw2")).output
        assert any(text.startswith("relay started (asked by fw1") for _, text, _ in two.events)
        assert (await hacore(one, "services", "list", "--peer", "fw9")).exit_code == 64
        shown = await hacore(one, "services", "list", "--peer", "--json")
        assert json.loads(shown.output)["node"] == "fw2"

    play(story)


def test_what_is_not_in_the_settings_is_not_touched(play: Callable[..., None]) -> None:
    async def story(one: Played, two: Played, services: dict[str, Relay]) -> None:
        for arguments in (
            ("stop", "ssh"),
            ("stop", "ssh", "--peer", "fw2"),
            ("start", "relay.service"),
            ("start", ".."),
        ):
            done = await hacore(one, "services", *arguments)
            assert done.exit_code == 64, done.output
            assert "no [[service]]" in done.output
        with pytest.raises(ApiError) as caught:
            await one.worker.peer("fw2").ask("POST", "/services/relay/reload", response=object)
        assert caught.value.code == "bad-request"
        assert not any(each.calls for name, each in services.items() if name.endswith("relay"))
        assert len(two.refusals()) == 2

    play(story)


def test_a_peer_without_the_right_is_refused(play: Callable[..., None]) -> None:
    async def story(one: Played, two: Played, services: dict[str, Relay]) -> None:
        done = await hacore(one, "services", "restart", "relay", "--peer", "fw2")
        assert (done.exit_code, services["fw2/relay"].calls) == (77, [])
        assert 'the right "services"' in done.output

    play(story, peer='allow = ["status"]')


def test_a_failure_ends_with_1_and_says_why(play: Callable[..., None]) -> None:
    async def story(one: Played, two: Played, services: dict[str, Relay]) -> None:
        services["fw2/relay"].mark("broken")
        done = await hacore(one, "services", "start", "relay", "--peer", "fw2")
        assert done.exit_code == 1
        assert "relay: not started: start: exit code 4" in done.output
        assert "no carrier" in done.output

    play(story)


def test_restart_all_tells_each_as_it_is_done(play: Callable[..., None]) -> None:
    async def story(one: Played, two: Played, services: dict[str, Relay]) -> None:
        done = await hacore(one, "services", "restart-all", "--peer", "fw2")
        first, second = done.output.splitlines()
        assert first.startswith("relay: restarted in ")
        assert second.startswith('line: skipped: line follows the VIP "lan"')
        services["fw2/relay"].mark("broken")
        done = await hacore(one, "services", "restart-all", "--peer", "fw2")
        assert done.exit_code == 1
        assert "Error: 1 service failed" in done.output

    play(story)


def test_a_follower_starts_with_the_vip_and_stops_with_it(play: Callable[..., None]) -> None:
    async def story(one: Played, two: Played, services: dict[str, Relay]) -> None:
        await until(lambda: services["fw1/line"].runs)
        done = await hacore(one, "services", "stop", "line")
        assert (done.exit_code, services["fw1/line"].runs) == (1, True)
        assert "which this node holds" in done.output
        one.bus.change("lan", "BACKUP", 2)
        await until(lambda: not services["fw1/line"].runs)

    play(story)


def test_a_push_restarts_and_is_told_of_each(play: Callable[..., None]) -> None:
    async def story(one: Played, two: Played, services: dict[str, Relay]) -> None:
        part = two.worker.part(Configuration).services
        assert part is not None
        found = await part.restart(["line", "relay"])
        assert [(each.name, each.ok, each.text[:9]) for each in found] == [
            ("relay", True, "restarted"), ("line", True, "skipped: "),
        ]  # fmt: skip
        services["fw2/relay"].mark("broken")
        (each,) = await part.restart(["relay"])
        assert (each.ok, each.text) == (False, "not restarted: start: exit code 4\nno carrier")

    play(story)
