"""The control worker of real nodes: it is there, it is restarted, and the election does not care."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hacore.control.local import LocalClient
from hacore.control.trial_certificates import make_test_certificates
from tests.running_node import RunningNode, Segment, await_master, table, vip


@pytest.fixture
def nodes(tmp_path: Path, tool: Callable[[str], str]) -> Iterator[tuple[RunningNode, RunningNode]]:
    tool("nft")
    make_test_certificates(tmp_path / "certificates", ["fw1", "fw2"])
    with Segment(tmp_path) as segment:
        one, two = segment.node("fw1", 11), segment.node("fw2", 12)
        for node, other, number in ((one, two, 11), (two, one, 12)):
            node.configure(
                vip(advskew=20 if node is one else 40),
                table(
                    "peer", name=other.name, control=f"10.1.0.{23 - number}:8117", states=f"10.1.0.{23 - number}:8116"
                ),
                f'[control]\nlisten = "10.1.0.{number}:8117"\n[states]\nlisten = "10.1.0.{number}:8116"',
            )
            (node.state_dir / "tls").mkdir(parents=True)
            for file in ("node.crt", "node.key", "peers.pem"):
                (node.state_dir / "tls" / file).write_bytes((tmp_path / "certificates" / node.name / file).read_bytes())
        segment.start_in_turn(one, two)
        for node in (one, two):
            until_control_runs(node)
        yield one, two


def until_control_runs(node: RunningNode) -> None:
    node.until(lambda: control(node)["state"] == "running")


def control(node: RunningNode) -> dict[str, object]:
    return dict(node.status()["node"]["workers"].get("control", {"state": "absent"}))


def resident_kb(pid: object) -> int:
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(next(line for line in text.splitlines() if line.startswith("Rss")).split()[1])


def test_all_workers_together_are_small(nodes: tuple[RunningNode, RunningNode]) -> None:
    """After each worker has done what it is for: the node is MASTER, asked, and streams."""
    one, _two = nodes
    one.until(lambda: all(worker["state"] == "running" for worker in one.status()["node"]["workers"].values()))
    one.until(lambda: LocalClient(one.runtime_dir).ask("GET", "/peers")[0]["node"] is not None)
    pids = {name: worker["pid"] for name, worker in one.status()["node"]["workers"].items()}
    pids["supervisor"] = one.status()["node"]["pid"]
    sizes = {name: resident_kb(pid) / 1024 for name, pid in pids.items()}
    assert set(sizes) == {"supervisor", "election", "states", "control"}
    assert sum(sizes.values()) < 160, sizes


def test_asks_its_peer(nodes: tuple[RunningNode, RunningNode]) -> None:
    one, _two = nodes

    def answered() -> bool:
        (peer,) = LocalClient(one.runtime_dir).ask("GET", "/peers")
        return bool(peer["node"]) and [vip["state"] for vip in peer["node"]["vips"]] == ["BACKUP"]

    one.until(answered)
    assert resident_kb(control(one)["pid"]) < 100_000


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_its_death_moves_nothing(nodes: tuple[RunningNode, RunningNode], number: signal.Signals) -> None:
    one, two = nodes
    before = {node: node.last_event() for node in nodes}
    pid = int(str(control(one)["pid"]))
    os.kill(pid, number)
    one.until(lambda: control(one)["state"] == "running" and control(one)["pid"] != pid)
    one.until(lambda: LocalClient(one.runtime_dir).ask("GET", "/node")["name"] == "fw1")
    for node in nodes:
        assert node.transitions(after=before[node]) == []
    assert one.until_event("worker", "control worker")
    await_master(one, two)


def test_ends_with_the_node(nodes: tuple[RunningNode, RunningNode]) -> None:
    one, _ = nodes
    pid = int(str(control(one)["pid"]))
    assert one.stop() == 0
    assert not Path(f"/proc/{pid}").exists()


ASK = """
import http.client, ssl, sys
context = ssl._create_unverified_context()
connection = http.client.HTTPSConnection("10.1.0.12", 8117, context=context, timeout=20)
for path in sys.argv[1:]:
    connection.request("GET", path)
    print(connection.getresponse().read().decode())
"""


def test_each_refusal_is_in_the_event_history(nodes: tuple[RunningNode, RunningNode]) -> None:
    one, two = nodes
    before = two.last_event()
    paths = ["/v1/status", "/v1/node", "/v1/../etc/passwd", "/v1/openapi.json"]
    answers = one.host.run(sys.executable, "-c", ASK, *paths).splitlines()
    assert all('"error"' in answer for answer in answers)
    two.until(lambda: len(two.events("refused", after=before)) >= len(paths))
    found = two.events("refused", after=before)
    assert [event["fields"]["code"] for event in found] == [
        "no-certificate",
        "no-certificate",
        "not-found",
        "no-certificate",
    ]
    assert all(path in event["text"] and "10.1.0.11" in event["text"] for path, event in zip(paths, found, strict=True))
