"""`hacore doctor`: every finding, and whether a node can run."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hacore.linux import features
from hacore.linux.features import Feature
from hacore.node import maintenance
from hacore.node.snapshot import Realtime, Worker
from tests.cli.conftest import SETTINGS, FakeNode, Run
from tests.cli.test_status import snapshot

WELL = {"CAP_NET_ADMIN", "CAP_NET_RAW", "SCHED_RR", "kernel", "nftables", "macvlan", "clock"}


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> dict[str, Feature]:
    """What the probes answer; by name, all well."""
    found = {name: Feature(name, True, "present", "") for name in WELL}
    monkeypatch.setattr(features, "PROBES", tuple((lambda name=name: found[name]) for name in sorted(found)))
    return found


def lacks(name: str) -> Feature:
    return Feature(name, False, "missing", "get it")


def test_this_machine(run: Run) -> None:
    """The real probes, as root: whatever they find, every topic is there and the exit code follows from it."""
    result = run("doctor", "--json")
    whole = json.loads(result.stdout)
    assert list(whole["findings"]) == ["Privileges", "Kernel and clock", "Settings", "Node"]
    names = {one["name"] for findings in whole["findings"].values() for one in findings}
    assert names >= {
        "CAP_NET_ADMIN",
        "CAP_NET_RAW",
        "kernel",
        "egress hook",
        "macvlan",
        "clock",
        "hacore.toml",
        "running",
    }
    assert result.exit_code == (0 if whole["ok"] else 1)
    needed = [one for findings in whole["findings"].values() for one in findings if one["needed"] and not one["ok"]]
    assert whole["ok"] == (not needed)


def test_all_is_well(run: Run, machine: dict[str, Feature], node: FakeNode) -> None:
    node.answers["status"] = msgspec.to_builtins(snapshot(time.time()))
    result = run("doctor")
    assert result.exit_code == 0
    assert "  ok  CAP_NET_ADMIN: present" in result.output
    assert "  ok  election: lan MASTER, wan BACKUP" in result.output
    assert "  !   demotion: check upstream 240" in result.output


def test_what_is_needed_decides_the_exit_code(run: Run, machine: dict[str, Feature]) -> None:
    machine["clock"] = lacks("clock")
    machine["SCHED_RR"] = lacks("SCHED_RR")
    result = run("doctor")
    assert result.exit_code == 0
    assert "  !   clock: missing\n        -> get it\n" in result.output
    machine["CAP_NET_RAW"] = lacks("CAP_NET_RAW")
    result = run("doctor")
    assert result.exit_code == 1
    assert "  NO  CAP_NET_RAW: missing\n        -> get it\n" in result.stdout
    assert result.stderr == "Error: not fit to run: CAP_NET_RAW\n"


def test_settings_decide_what_is_needed(run: Run, machine: dict[str, Feature], settings_path: Path) -> None:
    machine["SCHED_RR"] = lacks("SCHED_RR")
    machine["macvlan"] = lacks("macvlan")
    assert "not fit to run: macvlan\n" in run("doctor").stderr
    settings_path.write_text(SETTINGS.replace("[[vip]]", "realtime = 'require'\n[[vip]]") + "virtual_mac = false\n")
    assert "not fit to run: SCHED_RR\n" in run("doctor").stderr


def test_wrong_settings(run: Run, machine: dict[str, Feature], settings_path: Path) -> None:
    settings_path.write_text(SETTINGS.replace("vhid = 1", "vhid = 0"))
    settings_path.chmod(0o644)
    result = run("doctor")
    assert result.exit_code == 1
    assert '  NO  vip "lan": vhid: must be a whole number from 1 to 255, not 0' in result.output
    assert '  !   vip "lan": password: stands in a file that everybody can read' in result.output
    settings_path.unlink()
    assert "  NO  hacore.toml: does not exist" in run("doctor").output


def test_a_probe_that_fails_is_a_finding(
    run: Run, machine: dict[str, Feature], monkeypatch: pytest.MonkeyPatch
) -> None:
    def nftables() -> Feature:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(features, "PROBES", (nftables,))
    result = run("doctor")
    assert result.exit_code == 1
    assert "  NO  nftables: cannot be examined: [Errno 13] Permission denied" in result.output


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        (
            {"workers": {"election": Worker(state="failed")}},
            "  NO  election: the election worker is not running: failed",
        ),
        ({"realtime": Realtime(problem="SCHED_RR refused")}, "  !   real time: SCHED_RR refused"),
        ({"carp_enabled": False}, "  !   carp: disabled: this node holds no address"),
        ({"warnings": ["eth1: no IPv6"]}, "  !   warning: eth1: no IPv6"),
    ],
)
def test_the_running_node(
    run: Run, machine: dict[str, Feature], node: FakeNode, changes: dict[str, Any], line: str
) -> None:
    node.answers["status"] = msgspec.to_builtins(snapshot(time.time(), **changes))
    result = run("doctor")
    assert line in result.output
    assert result.exit_code == (1 if "NO" in line else 0)


def test_no_node_and_maintenance(run: Run, machine: dict[str, Feature], tmp_path: Path) -> None:
    maintenance.enter(tmp_path / "state")
    result = run("doctor", width=60)
    assert result.exit_code == 0
    assert (
        "  !   maintenance: entered: this node takes no address\n        -> hacore maintenance leave" in result.output
    )
    assert "! running: no node runs on " in " ".join(result.output.split())
    assert max(len(line) for line in result.output.splitlines()) <= 60
