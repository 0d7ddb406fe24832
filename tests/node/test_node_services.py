"""A service that follows a VIP, on two real nodes: their elections, supervisors and control workers."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.namespaces import wait_until
from tests.relay import Relay, relays
from tests.running_node import PATIENCE, RunningNode, Segment, await_master, table, vip


class Two(NamedTuple):
    one: RunningNode
    other: RunningNode
    line: Relay  # of the first
    other_line: Relay


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Two]:
    """fw1 is MASTER; each has a service `line` that follows the VIP lan, and `relay`, that follows nothing."""
    with Segment(tmp_path) as segment, relays(tmp_path) as make:
        nodes, lines = [], []
        for number, name in enumerate(("fw1", "fw2")):
            node = segment.node(name, 11 + number)
            line, relay = make(f"{name}-line"), make(f"{name}-relay")
            node.configure(
                vip(advskew=20 + 20 * number),
                f'[control]\nlisten = "10.1.0.{11 + number}:8117"',
                service("line", line, run_on="MASTER", vip="lan"),
                service("relay", relay),
            )
            nodes.append(node)
            lines.append(line)
        segment.start_in_turn(*nodes)
        yield Two(nodes[0], nodes[1], lines[0], lines[1])


def service(name: str, relay: Relay, **more: Any) -> str:
    commands = {step: [str(relay.script), step] for step in ("start", "stop", "status")}
    return table("service", id=name, **commands, **more)


def control_pid(node: RunningNode) -> int:
    """Of the control worker that runs; 0 where none does."""
    worker = node.status()["node"]["workers"]["control"]
    return int(worker["pid"]) if worker["state"] == "running" else 0


def until_runs(here: Relay, elsewhere: Relay) -> None:
    wait_until(lambda: here.runs and not elsewhere.runs, PATIENCE)


def test_it_moves_with_the_vip(two: Two) -> None:
    until_runs(two.line, two.other_line)
    two.one.hacore("maintenance", "enter")
    await_master(two.other, two.one)
    until_runs(two.other_line, two.line)
    two.one.hacore("maintenance", "leave")
    await_master(two.one, two.other)
    until_runs(two.line, two.other_line)
    two.one.until_event("service", "line started: this node holds lan")
    two.other.until_event("service", "line stopped: this node does not hold lan")


def test_it_starts_elsewhere_when_its_node_is_gone(two: Two) -> None:
    until_runs(two.line, two.other_line)
    two.one.kill()
    wait_until(lambda: two.other_line.runs, PATIENCE)


def test_a_new_control_worker_takes_it_up(two: Two) -> None:
    until_runs(two.line, two.other_line)
    worker = two.one.status()["node"]["workers"]["control"]["pid"]
    os.kill(worker, signal.SIGKILL)
    two.one.until(lambda: two.one.hacore("services", "list", check=False).returncode == 0)
    listed = json.loads(two.one.hacore("services", "list", "--json").stdout)["services"]
    assert listed[0]["state"] == "running"
    assert two.line.calls == ["start line"]
    two.one.hacore("maintenance", "enter")
    until_runs(two.other_line, two.line)


def test_a_new_control_worker_follows_what_it_missed(two: Two) -> None:
    """The VIP goes, and comes, while no control worker of this node runs."""
    until_runs(two.line, two.other_line)
    for command, here, elsewhere in (("enter", two.other_line, two.line), ("leave", two.line, two.other_line)):
        since = two.one.last_event()
        worker = two.one.until(lambda: control_pid(two.one))
        os.kill(worker, signal.SIGSTOP)  # it learns of nothing any more, and the supervisor ends it
        two.one.ask("maintenance", enter=command == "enter")
        two.one.until_event("transition", after=since)
        two.one.until(lambda worker=worker: control_pid(two.one) not in (0, worker))  # type: ignore[misc]
        until_runs(here, elsewhere)


def test_it_stops_with_its_node_and_others_do_not(two: Two) -> None:
    until_runs(two.line, two.other_line)
    two.one.hacore("services", "start", "relay")
    assert two.one.stop() == 0
    assert not two.line.runs
    assert (two.one.directory.parent / "fw1-relay/running").exists()
    wait_until(lambda: two.other_line.runs, PATIENCE)


def test_commands_without_a_control_worker_say_so(two: Two) -> None:
    two.one.stop()
    done = two.one.hacore("services", "list", check=False)
    assert done.returncode == 69
    assert "no control worker runs" in done.stderr
