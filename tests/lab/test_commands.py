"""`hacore lab` from outside."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from hacore.lab import nodes, topology


def lab(*arguments: str, prefix: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
    """`hacore lab ARGUMENTS`, run by `prefix`."""
    command = [*prefix, sys.executable, "-c", "from hacore.cli import main; main()", "lab", *arguments]
    return subprocess.run(command, check=False, capture_output=True, text=True)


def test_each_command_finds_a_lab_in_a_user_namespace(directory: Path, tool: Callable[[str], str]) -> None:
    name = directory.name
    prefix = [tool("setpriv"), "--bounding-set=-sys_admin", "--inh-caps=-sys_admin"]
    try:
        done = lab("up", "--name", name, prefix=prefix)
        assert done.returncode == 0, done.stderr
        assert "without real time" in done.stdout
        done = lab("status", "--name", name, prefix=prefix)
        assert done.returncode == 0, done.stderr
        assert "MASTER" in done.stdout
        assert lab("exec", "--name", name, "fw1", "true", prefix=prefix).returncode == 0
        done = lab("run", "--name", name, "maintenance", prefix=prefix)
        assert done.returncode == 0, done.stderr
        assert "without real time" in done.stdout
    finally:
        ended = lab("down", "--name", name, prefix=prefix)
    assert ended.returncode == 0, ended.stderr
    assert nodes.marked(directory) == []


def test_up_status_exec_down(directory: Path) -> None:
    name = directory.name
    try:
        done = lab("up", "--name", name)
        assert done.returncode == 0, done.stderr
        shown = json.loads(lab("status", "--name", name, "--json").stdout)
        assert set(shown["states"]) == set(topology.NODES)
        assert lab("up", "--name", name).returncode == 75
        assert f"lab {name}:" in lab("list").stdout
        inside = lab("exec", "--name", name, "client", "ip", "-json", "address", "show", "dev", "lan")
        assert "10.1.0.100" in [entry["local"] for entry in json.loads(inside.stdout)[0]["addr_info"]]
        assert lab("exec", "--name", name, "fw2", "sh", "-c", "exit 3").returncode == 3
        assert lab("exec", "--name", name, "fw2", "no-such-command").returncode == 1
    finally:
        ended = lab("down", "--name", name)
    assert ended.returncode == 0, ended.stderr
    assert not directory.exists()
    assert nodes.marked(directory) == []
    assert lab("down", "--name", name).returncode == 69


def test_run_uses_a_lab_of_its_own_and_tells_everything(directory: Path) -> None:
    done = lab("run", "--name", directory.name, "stop", "--json", "--profile", "fast")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["profile"] == "fast"
    assert [row["phase"] for row in told["rows"]] == ["stop", "return"]
    assert told["rows"][0]["failed_over"] == 1
    assert set(told["addresses"]) == set(topology.NODES)
    assert not directory.exists()


def test_run_in_a_lab_that_is_up_leaves_it_up(directory: Path) -> None:
    assert lab("up", "--name", directory.name).returncode == 0
    try:
        done = lab("run", "--name", directory.name, "stop", "--no-preempt")
        assert done.returncode == 0, done.stderr
        assert "profile fast, preempt off" in lab("status", "--name", directory.name).stdout
    finally:
        lab("down", "--name", directory.name)
    assert not directory.exists()


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("run", "no-such-scenario"), 2, "worker-crash"),
        (("exec", "client", "true"), 69, "hacore lab up"),
        (("status",), 69, "hacore lab up"),
        (("up", "--name", "No_Name"), 1, "no name for a lab"),
    ],
)
def test_what_is_asked_wrongly(base: Path, arguments: tuple[str, ...], code: int, said: str) -> None:
    done = lab(*arguments)
    assert done.returncode == code
    assert said in done.stderr
