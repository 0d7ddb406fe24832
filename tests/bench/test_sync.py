"""`hacore bench sync` at a small size: everything is really measured, and nothing is left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hacore.bench import result, steady
from hacore.bench.record import Record
from hacore.bench.replicators import RECEIVER, SENDER, Replicator, site
from hacore.bench.result import Result
from hacore.lab import namespaces, nodes
from hacore.linux import conntrack
from tests.bench.conftest import Bench

LIMITS = [Path("/proc/sys/net/netfilter") / name for name in ("nf_conntrack_max", "nf_conntrack_buckets")]
EVERYBODY = {"hacore", "bare injector", "conntrackd", "conntrackd, no external cache"}
SMALL = ("--states", "2k", "--rate", "500", "--churn-rate", "500", "--first-rate", "20k", "--duration", "0.5")


def limits() -> list[str]:
    return [path.read_text() for path in LIMITS]


def value(found: Result, name: str, subject: str) -> float:
    (figure,) = (one for one in found.figures if (one.name, one.subject) == (name, subject))
    return figure.median


def subjects(found: Result, name: str) -> set[str]:
    return {one.subject for one in found.figures if one.name == name}


def test_everything(bench: Bench, directory: Path, tmp_path: Path, tool: Callable[[str], str]) -> None:
    tool("conntrackd")
    before, written = limits(), tmp_path / "run.json"
    parts = ("bulk", "steady", "churn", "--repeat", "1")
    done = bench("sync", *parts, "--name", directory.name, *SMALL, "--output", str(written))
    assert done.returncode == 0, done.stderr
    assert "hacore" in done.stdout
    assert "bulk update" in done.stdout
    found = result.load(written)
    assert found.command == "sync"
    assert {"hacore", "python", "numpy", "openssl", "conntrackd"} <= set(found.versions)
    assert found.machine.hash_buckets == int(before[1])
    assert found.settings["states"] == [2000]
    assert found.machine.cores > 0
    assert found.machine.memory_bytes > 1 << 20

    assert subjects(found, "bulk update: rate") == EVERYBODY
    assert 2 < value(found, "bulk update: bytes a state", "hacore") < 60
    assert value(found, "bulk update: bytes a state", "conntrackd") > 60
    assert subjects(found, "steady: CPU a flow, receiver") == EVERYBODY
    replicators = EVERYBODY - {"bare injector"}
    for name in ("steady: missing", "churn: never arrived", "churn: left behind"):
        assert {value(found, name, subject) for subject in EVERYBODY} == {0.0}, name
    assert subjects(found, "steady: memory, receiver") == replicators
    assert subjects(found, "steady: lag, 99 %") == {"hacore", "conntrackd, no external cache"}
    for subject in replicators:
        assert value(found, "churn: CPU a flow, sender", subject) > 0
        assert value(found, "churn: bytes a flow", subject) > 0
    for name in ("churn: CPU a flow, receiver", "churn: rate reached"):
        assert min(value(found, name, subject) for subject in EVERYBODY) > 0, name
    for series in found.series:
        assert len(series.x) == len(series.y) > 0

    assert limits() == before
    assert not directory.exists()
    assert nodes.marked(directory) == []


def test_the_highest_rate_beside_that_of_the_bare_injector(bench: Bench, directory: Path) -> None:
    without = ("--without", "conntrackd")
    done = bench("sync", "highest", "--name", directory.name, "--repeat", "1", *SMALL, *without, "--json")
    assert done.returncode == 0, done.stderr
    found = result.decode(done.stdout.encode(), "the output")
    assert subjects(found, "highest loss-free rate") == {"hacore", "bare injector"}


class Nothing(Replicator):
    """Replicates nothing."""

    name = "nothing"

    def start(self) -> None:
        """Nothing."""

    def stop(self) -> None:
        """Nothing."""

    def clear(self) -> None:
        """Nothing."""

    def pids(self) -> dict[str, int]:
        """This process, for both."""
        return dict.fromkeys((SENDER, RECEIVER), os.getpid())


def test_who_replicates_nothing_does_not_pass(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steady, "SETTLING", 0.1)
    record = Record()
    with site(directory) as where:
        for name in ("nf_conntrack_udp_timeout", "nf_conntrack_udp_timeout_stream"):
            with namespaces.inside(where.one.namespace):
                assert conntrack.sysctl(name) > 3600  # as long as the longest load
        steady.churn(Nothing(where), 500, 0.5, record)
        steady.steady([Nothing(where)], 500, 0.5, record)
    figures = {figure.name: figure.median for figure in record.figures()}
    assert figures["churn: never arrived"] == 25
    assert figures["steady: missing"] == 250


def test_a_part_without_conntrackd_as_json(bench: Bench, directory: Path) -> None:
    without = ("--without", "conntrackd")
    done = bench("sync", "bulk", "--name", directory.name, "--repeat", "2", *SMALL, *without, "--json")
    assert done.returncode == 0, done.stderr
    found = result.decode(done.stdout.encode(), "the output")
    assert found.left_out == ["conntrackd"]
    assert {figure.subject for figure in found.figures} == {"hacore", "bare injector"}
    assert {len(figure.samples) for figure in found.figures} == {2}
    assert json.loads(done.stdout)["format"] == result.FORMAT


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("at", ["the limits", "a node"])
def test_interrupted_leaves_nothing(directory: Path, number: signal.Signals, at: str) -> None:
    """Between two labs as well as in one."""
    before = limits()
    command = [sys.executable, "-c", "from hacore.cli import main; main()", "bench", "sync", "bulk", "--states", "300k"]
    running = subprocess.Popen([*command, "--name", directory.name], stderr=subprocess.PIPE)
    try:
        deadline = time.monotonic() + 60
        while not (limits() != before if at == "the limits" else (directory / "fw1/node.log").exists()):
            assert running.poll() is None, running.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.0001)
        running.send_signal(number)
        running.communicate(timeout=60)
    finally:
        running.kill()
        running.communicate()
    assert running.returncode != 0
    assert not directory.exists()
    assert nodes.marked(directory) == []
    assert limits() == before


@pytest.mark.parametrize(
    "wrong",
    [
        ("sync", "--states", "many"),
        ("sync", "--states", "0"),
        ("sync", "--states", "11M"),
        ("sync", "--rate", "1.5"),
        ("sync", "--repeat", "0"),
        ("sync", "--duration", "0"),
        ("sync", "--without", "hacore"),
        ("sync", "all"),
        ("sync", "--rate", "1M", "--duration", "60"),
        ("sync", "bulk", "--states", "5M"),
        ("sync", "--output", "/"),
    ],
)
def test_wrong_arguments(bench: Bench, wrong: tuple[str, ...]) -> None:
    done = bench(*wrong)
    assert done.returncode == 2, done.stderr
    assert "Error: " in done.stderr
    assert "Traceback" not in done.stderr


def test_without_conntrackd_installed_nothing_starts(bench: Bench, directory: Path) -> None:
    environment = dict(os.environ)
    hidden = "hacore.bench.machine.PLACES = ''"
    command = [sys.executable, "-c", f"import hacore.bench.machine; {hidden}; from hacore.cli import main; main()"]
    done = subprocess.run(
        [*command, "bench", "sync", "--name", directory.name], check=False, capture_output=True, text=True,
        env=environment,
    )  # fmt: skip
    assert done.returncode == 69
    assert "install the Debian package conntrackd" in done.stderr
    assert not directory.exists()


def test_without_root(bench: Bench, directory: Path, tool: Callable[[str], str]) -> None:
    prefix = (tool("setpriv"), "--bounding-set=-sys_admin", "--inh-caps=-sys_admin")
    done = bench("sync", "--name", directory.name, prefix=prefix)
    assert done.returncode == 77
    assert "root" in done.stderr
    assert not directory.exists()


def test_an_output_that_cannot_be_written_is_told_first(bench: Bench, directory: Path, tmp_path: Path) -> None:
    done = bench("sync", "--name", directory.name, "--output", str(tmp_path / "none" / "run.json"))
    assert done.returncode == 2
    assert "none" in done.stderr
    assert not directory.exists()
