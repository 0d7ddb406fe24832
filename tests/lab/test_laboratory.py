"""A lab is built, entered and taken away, and nothing of it stays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hacore.errors import AlreadyRunning, HacoreError, NotRunning, PlatformError
from hacore.lab import faults, laboratory, namespaces, nodes, record, topology
from hacore.lab.record import Process
from hacore.linux.process import start_ticks

STANDING_STILL = ["/bin/sh", "-c", "sleep 1000 & sleep 1000"]


def left_of(directory: Path) -> list[object]:
    held = [path for path in topology.namespace_paths(directory.name, Path("/run/netns")).values() if path.exists()]
    return [*held, *nodes.marked(directory), *([directory] if directory.exists() else [])]


def test_client_and_server_reach_each_node_in_both_families(network: laboratory.Lab) -> None:
    targets = {
        "client": ["10.1.0.11", "10.1.0.12", "2001:db8:1::11", "2001:db8:1::12", "10.2.0.100", "2001:db8:2::100"],
        "server": ["10.2.0.11", "10.2.0.12", "2001:db8:2::11", "2001:db8:2::12"],
        "fw1": ["10.9.0.2"],
    }
    for role, addresses in targets.items():
        for address in addresses:
            with namespaces.inside(network.paths[role]):
                subprocess.run(["ping", "-c", "1", "-W", "5", address], check=True, stdout=subprocess.DEVNULL)


def test_nothing_stays_of_a_lab_that_ended(directory: Path) -> None:
    with laboratory.temporary(directory, profile="fast", preempt=True, node_command=STANDING_STILL) as lab:
        assert all(node.running() for node in lab.nodes.values())
        assert left_of(directory)
    assert left_of(directory) == []


def test_nothing_stays_after_an_exception(directory: Path) -> None:
    with (
        pytest.raises(HacoreError, match="broken"),
        laboratory.temporary(directory, profile="fast", preempt=True, node_command=STANDING_STILL),
    ):
        raise HacoreError("broken")
    assert left_of(directory) == []


def test_an_end_that_fails_does_not_hide_what_failed_before(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    destroy = laboratory.destroy

    def destroy_in_part(*arguments: Any) -> None:
        destroy(*arguments)
        raise HacoreError("a process did not end")

    monkeypatch.setattr(laboratory, "destroy", destroy_in_part)
    made = {"profile": "fast", "preempt": True, "node_command": STANDING_STILL}
    with pytest.raises(HacoreError, match="broken"), laboratory.temporary(directory, **made):  # type: ignore[arg-type]
        raise HacoreError("broken")
    with pytest.raises(HacoreError, match="did not end"), laboratory.temporary(directory, **made):  # type: ignore[arg-type]
        pass


def test_nothing_stays_when_a_part_cannot_be_made(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PlatformError("no cables")

    monkeypatch.setattr(topology, "_build_host", refuse)
    with pytest.raises(PlatformError), laboratory.temporary(directory, profile="fast", preempt=True):
        pass
    assert left_of(directory) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_nothing_stays_after_a_signal(directory: Path, number: signal.Signals) -> None:
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(directory)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    with owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "up\n"
        owner.send_signal(number)
    assert owner.returncode != 0
    assert left_of(directory) == []


OWNER = """
import pathlib, sys, time
from hacore.lab import laboratory
command = ["/bin/sh", "-c", "sleep 1000 & sleep 1000"]
with laboratory.temporary(pathlib.Path(sys.argv[1]), profile="fast", preempt=True, node_command=command):
    print("up", flush=True)
    time.sleep(1000)
"""


def test_a_lab_whose_owner_was_killed_is_cleaned_up_by_the_next(directory: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", OWNER, str(directory)], stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "up\n"
        owner.kill()
    assert left_of(directory)
    assert laboratory.stale(directory.parent) == [directory]
    assert laboratory.clean(directory.parent) == [directory.name]
    assert left_of(directory) == []


def test_two_labs_stand_beside_each_other(network: laboratory.Lab, directory: Path) -> None:
    second = directory.with_name(directory.name + "-b")
    with laboratory.temporary(second, profile="classic", preempt=False, start=False) as other:
        assert not set(other.paths.values()) & set(network.paths.values())
        assert record.labs(directory.parent) == [directory, second]
    assert network.holders() == {"fw1": set(topology.vip_addresses()), "fw2": set()}


def test_a_lab_in_use_is_refused(network: laboratory.Lab, directory: Path) -> None:
    with pytest.raises(AlreadyRunning), laboratory.temporary(directory, profile="fast", preempt=True):
        pass
    with pytest.raises(AlreadyRunning):
        laboratory.create(directory, profile="fast", preempt=True, owned=True)
    assert network.holders()["fw1"]


def test_an_absent_lab_cannot_be_entered(directory: Path) -> None:
    with pytest.raises(NotRunning):
        laboratory.attach(directory)


@pytest.mark.parametrize("name", ["", "Upper", "a/b", "-a", "a" * 25, "a b"])
def test_names_that_no_namespace_can_have(base: Path, name: str) -> None:
    with pytest.raises(HacoreError):
        record.directory_of(name, base)


def test_a_process_id_that_was_used_again_is_not_the_recorded_process() -> None:
    here = Process.of(os.getpid(), "test")
    assert here.alive()
    assert not Process(here.pid, here.start_ticks + 1, "test").alive()


def test_a_crash_ends_every_process_of_a_node(directory: Path) -> None:
    with laboratory.temporary(directory, profile="fast", preempt=True, node_command=STANDING_STILL) as lab:
        victim, other = lab.nodes["fw1"], lab.nodes["fw2"]
        while len(victim.processes()) < 3:
            pass
        pids = victim.processes()
        faults.crash(pids)
        while victim.running():
            pass
        assert not [pid for pid in pids if start_ticks(pid) and victim.running()]
        assert other.running()
