"""`hacore status`: what it shows, and that it never shows as well what nobody vouches for."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from io import StringIO
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rich.console import Console

from hacore.carp.counters import Counters
from hacore.cli.status_view import Seen, view
from hacore.node.snapshot import (
    CheckStatus,
    Demotion,
    Master,
    NodeStatus,
    PeerHeard,
    Realtime,
    Snapshot,
    VipStatus,
    Worker,
)
from tests.cli.conftest import FakeNode, Run

NOW = 1_800_000_000.0


def snapshot(now: float = NOW, **changes: Any) -> Snapshot:
    node: dict[str, Any] = {
        "name": "fw1",
        "version": "0.1.0",
        "pid": 42,
        "started": now - 90_000,
        "generated": now,
        "reported": now - 0.002,
        "demotion": Demotion(total=240, reasons={"check upstream": 240}),
        "peers": [PeerHeard(interface="eth2", source="198.51.100.2", vhids=[2], heard=now - 0.5)],
        "realtime": Realtime(obtained=True),
        "workers": {"election": Worker(state="running", pid=43)},
        "checks": [CheckStatus(name="upstream", state="down", since=now - 60, finding="exit code 1", demotion=240)],
    }
    lan = VipStatus(
        name="lan",
        interface="eth1",
        vhid=1,
        state="MASTER",
        since=now - 4000,
        reason="master timed out",
        advbase=1,
        advskew=0,
        effective_advskew=240,
        addresses=["192.0.2.1/24", "2001:db8::1/64"],
        counters=Counters(),
    )
    master = Master(source="198.51.100.2", advbase=1, advskew=100, heard=now - 0.5)
    wan = msgspec.structs.replace(lan, name="wan", vhid=2, interface="eth2", state="BACKUP", master=master)
    return Snapshot(node=NodeStatus(**node | changes), vips=[lan, wan])


def shown(seen: Seen, width: int, now: float = NOW) -> str:
    out = Console(file=StringIO(), width=width, color_system=None, highlight=False)
    out.print(view(seen, now, width))
    file = out.file
    assert isinstance(file, StringIO)
    return file.getvalue()


@pytest.mark.parametrize("width", [40, 60, 80, 100, 160])
def test_everything_is_there_at_every_width(width: int) -> None:
    text = shown(Seen(snapshot(), NOW), width)
    flat = " ".join(text.split())
    for word in ("lan", "MASTER", "1 h 6 min", "192.0.2.1/24", "2001:db8::1/64", "eth2", "BACKUP", "1/0, now 240"):
        assert word in flat, word
    assert "demoted by 240: check upstream 240" in flat
    assert "upstream down for 1 min 0 s, demotes by 240: exit code 1" in flat
    assert "198.51.100.2 on eth2, vhid 2, 500 ms ago" in flat
    assert "NOT KNOWN" not in flat
    assert max(len(line) for line in text.splitlines()) <= width


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"workers": {"election": Worker(state="failed")}}, "the election worker is not running: failed"),
        ({"workers": {"election": Worker(state="starting", pid=7)}}, "the election worker is not running: starting"),
        ({"workers": {}}, "the node says nothing of its election worker"),
        ({"reported": NOW - 14}, "the election worker does not answer, since 14 s"),
        ({"reported": 0.0}, "the election worker has not reported yet"),
    ],
)
@pytest.mark.parametrize("width", [60, 120])
def test_a_dead_or_silent_worker_is_never_shown_as_well(changes: dict[str, Any], why: str, width: int) -> None:
    text = shown(Seen(snapshot(**changes), NOW), width)
    assert f"NOT KNOWN: {why}" in text
    assert text.count("? (last ") == 2
    assert "What follows is from " in text


def test_a_node_out_of_reach_is_never_shown_as_well() -> None:
    text = shown(Seen(snapshot(), NOW, "no node runs on /run/hacore"), 80, NOW + 30)
    assert "NOT KNOWN: no node runs on /run/hacore" in text
    assert "30 s ago" in text
    assert "? (last MASTER)" in text
    assert "worker election: ? (last running)" in text


def test_maintenance_disabled_and_warnings_stand_out() -> None:
    changes: dict[str, Any] = {
        "maintenance": True,
        "carp_enabled": False,
        "warnings": ["eth1: no IPv6"],
        "realtime": Realtime(),
    }
    text = shown(Seen(snapshot(**changes), NOW), 80)
    assert "in maintenance: takes no address (hacore maintenance leave)" in text
    assert "carp is disabled: holds no address (hacore carp enable)" in text
    assert "warning: eth1: no IPv6" in text
    assert "no real time: not obtained yet" in text


def answer(**changes: Any) -> dict[str, Any]:
    return dict(msgspec.to_builtins(snapshot(time.time(), **changes)))


def test_the_command(run: Run, node: FakeNode) -> None:
    node.answers["status"] = answer()
    result = run("status", width=60)
    assert result.exit_code == 0
    assert "lan  MASTER  for 1 h 6 min" in result.output
    assert "\x1b" not in result.output  # no colours for a pipe


def test_json_is_the_snapshot_itself(run: Run, node: FakeNode) -> None:
    node.answers["status"] = answer()
    whole = json.loads(run("status", "--json").output)
    assert whole == node.answers["status"]
    assert set(whole) == {field.name for field in msgspec.structs.fields(Snapshot)}


def test_the_exit_code_tells_of_a_dead_election(run: Run, node: FakeNode) -> None:
    node.answers["status"] = answer(workers={"election": Worker(state="failed")})
    result = run("status")
    assert result.exit_code == 1
    assert "Error: the election worker is not running: failed" in result.stderr


def test_an_answer_of_another_version(run: Run, node: FakeNode) -> None:
    node.answers["status"] = {"node": 1}
    result = run("status")
    assert result.exit_code == 71
    assert "another version of hacore" in result.stderr


def test_it_works_while_the_settings_are_wrong(run: Run, node: FakeNode, settings_path: Path) -> None:
    node.answers["status"] = answer()
    settings_path.write_text(settings_path.read_text() + "vhdi = 3\n")
    assert run("status").exit_code == 0


@pytest.mark.parametrize("terminal", [True, False])
def test_watching_until_the_node_is_gone(node: FakeNode, settings_path: Path, terminal: bool) -> None:
    node.answers["status"] = answer()
    ours, theirs = os.openpty() if terminal else os.pipe()
    program = "from hacore.cli import main; main()"
    command = [sys.executable, "-c", program, "-c", str(settings_path), "status", "--watch"]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=theirs, stderr=subprocess.PIPE) as process:
        os.close(theirs)
        seen = b""
        try:
            while b"BACKUP" not in seen:
                seen += os.read(ours, 65536)
            assert b"NOT KNOWN" not in seen
            node.close()
            while b"NOT KNOWN" not in seen:
                seen += os.read(ours, 65536)
            process.send_signal(signal.SIGINT)
            with suppress(OSError):  # the end of a terminal
                while more := os.read(ours, 65536):
                    seen += more
            assert process.stderr is not None
            assert process.stderr.read() == b""
            assert process.wait() == 0
        finally:
            process.kill()
            os.close(ours)
    assert (b"\x1b[" in seen) == terminal
