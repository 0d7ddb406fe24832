"""Services under real commands in a push that is undone: what did not run before does not run after."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hacore.control.config import Configuration
from hacore.node.config_surroundings import Standing
from tests.control.push_pair import PushNode, push_pair
from tests.control.worker_pair import pair
from tests.relay import Relay, relays
from tests.running_node import HACORE, table

NAMES = ["idle", "busy", "last"]


@pytest.fixture
def services(tmp_path: Path) -> Iterator[dict[str, Relay]]:
    """Those of fw2; `idle` does not run."""
    with relays(tmp_path) as make:
        made = {name: make(name) for name in NAMES}
        for name in ("busy", "last"):
            subprocess.run([made[name].script, "start"], check=True)
        yield made


def tables(services: dict[str, Relay]) -> list[str]:
    """With rules that are bad in force, `last` does not start."""
    mark = services["last"].directory / "broken"
    apply = ["sh", "-c", f"if grep -q bad FILES/rules.conf; then touch {mark}; else rm -f {mark}; fi"]
    section = table("section", id="rules", paths=["FILES/rules.conf"], apply=apply, services=NAMES)
    return [section, *(_service(each) for each in services.values())]


def _service(relay: Relay, **more: Any) -> str:
    commands = {step: [str(relay.script), step] for step in ("start", "stop", "status")}
    return table("service", id=relay.name, **commands, **more)


@pytest.fixture
def nodes(
    tmp_path: Path, services: dict[str, Relay], tool: Callable[[str], str]
) -> Iterator[tuple[PushNode, PushNode]]:
    tool("nft")
    with push_pair(tmp_path, *tables(services)) as made:
        made[0].write("rules.conf", "new\n")
        made[1].write("rules.conf", "old\n")
        yield made


def as_before(two: PushNode, services: dict[str, Relay]) -> None:
    assert (two.files / "rules.conf").read_text() == "old\n"
    assert {name: each.runs for name, each in services.items()} == {"idle": False, "busy": True, "last": True}


def test_a_push_that_fails_leaves_a_stopped_service_stopped(
    nodes: tuple[PushNode, PushNode], services: dict[str, Relay]
) -> None:
    one, two = nodes
    one.write("rules.conf", "bad\n")
    outcome = one.push("rules")
    assert (outcome["result"], outcome["undo"]) == ("undone", [])
    as_before(two, services)
    assert services["idle"].calls == ["start idle", "stop idle"]


def test_a_worker_that_dies_after_it_started_one(nodes: tuple[PushNode, PushNode], services: dict[str, Relay]) -> None:
    one, two = nodes
    services["busy"].mark("slow-stop")
    pid = two.control_pid()
    command = [*HACORE, "-c", str(one.settings), "config", "push", "rules", "--json"]
    with one.host.start(*command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as pushing:
        assert pushing.stdout is not None
        assert any('"step": "restart", "text": "busy"' in line for line in pushing.stdout)
        assert services["idle"].runs
        os.kill(pid, signal.SIGKILL)
        pushing.stdout.read()
    two.until_event("config", "was interrupted while restarting, and is undone")
    as_before(two, services)
    assert services["idle"].calls == ["start idle", "stop idle"]


def test_services_are_asked_and_stopped_and_a_follower_is_left_to_its_vip(
    tmp_path: Path, services: dict[str, Relay]
) -> None:
    async def play() -> None:
        async with pair(tmp_path / "nodes") as (one, _two):
            with one.path.open("a") as file:
                file.write(_service(services["idle"]) + _service(services["busy"], run_on="MASTER", vip="lan"))
            await one.worker.reload()
            part = one.worker.part(Configuration).services
            assert part is not None
            assert await part.look(["idle", "busy"]) == [Standing("idle", False), Standing("busy", True)]
            subprocess.run([services["idle"].script, "start"], check=True)
            stopped = await part.stop(["idle", "busy"])
            assert [(each.name, each.ok, each.text[:8]) for each in stopped] == [
                ("busy", True, "skipped:"), ("idle", True, "stopped"),
            ]  # fmt: skip
            assert services["busy"].runs

    asyncio.run(play())
