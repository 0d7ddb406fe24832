"""Small real runs of `bench failover` and `bench scale`, and what is said before one begins."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from hacore.bench import machine, subjects
from hacore.bench import result as results
from hacore.cli import bench_failover, bench_scale
from hacore.cli.group import main
from hacore.lab import topology
from hacore.lab.scenarios import SCENARIOS


@pytest.fixture(autouse=True)
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the labs of one test are."""
    monkeypatch.setenv("HACORE_LAB_DIRECTORY", str(tmp_path / "labs"))
    return tmp_path / "labs"


def bench(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["bench", *arguments])


def measured(tmp_path: Path, *arguments: str) -> dict[tuple[str, str, str], results.Figure]:
    """The figures of a run, by subject, phase and name."""
    done = bench(*arguments, "--output", str(tmp_path / "run.json"))
    assert done.exit_code == 0, done.output
    found = results.load(tmp_path / "run.json")
    assert found.notes == []
    return {
        (each.subject, str(each.parameters.get("phase", each.parameters.get("vhids", ""))), each.name): each
        for each in found.figures
    }


@pytest.mark.parametrize(
    ("subject", "scenario", "programs"),
    [
        ("hacore", "crash", ()),
        ("keepalived 0.01", "crash", ("keepalived", "conntrackd")),
        ("keepalived 0.01", "maintenance", ("keepalived", "conntrackd")),
        ("ucarp", "stop", ("ucarp",)),
    ],
)
def test_a_subject_fails_over(
    tmp_path: Path, base: Path, tool: Callable[[str], str], subject: str, scenario: str, programs: tuple[str, ...]
) -> None:
    for name in ("nft", *programs):
        tool(name)
    figures = measured(tmp_path, "failover", scenario, "--subject", subject, "--repeat", "1", "--load", "none")
    phase = "enter" if scenario == "maintenance" else scenario
    assert figures[subject, phase, "failed over"].samples == [1.0]
    assert figures[subject, phase, "takeover"].samples[0] > 0
    assert len(figures[subject, phase, "outage"].samples) == 1
    assert [path for path in base.iterdir() if path.is_dir()] == []


@pytest.mark.parametrize("subject", ["hacore", "keepalived 0.1"])
def test_flows_and_connections_are_carried_over(tmp_path: Path, tool: Callable[[str], str], subject: str) -> None:
    for name in ("nft", "keepalived", "conntrackd"):
        tool(name)
    load = ("--load", "full", "--flows", "20", "--fill", "2000")
    figures = measured(tmp_path, "failover", "stop", "--subject", subject, "--repeat", "1", *load)
    assert figures[subject, "stop", "failed over"].samples == [1.0]
    flows = figures[subject, "stop", "flows lost"]
    assert flows.parameters == {"scenario": "stop", "phase": "stop", "flows": 20, "fill": 2000}
    if subject == "hacore":
        assert flows.samples == [0.0]


def test_a_pair_of_three_vhids(tmp_path: Path, tool: Callable[[str], str]) -> None:
    for name in ("nft", "keepalived", "conntrackd"):
        tool(name)
    figures = measured(tmp_path, "scale", "3", "--seconds", "5", "--repeat", "1", "--no-whole")
    for subject in ("hacore", "keepalived"):
        for name in ("from start to the last MASTER", "planned failover", "failover after a crash"):
            assert figures[subject, "3", name].samples[0] > 0
        assert figures[subject, "3", "memory, MASTER"].samples[0] > 1e6
        assert figures[subject, "3", "advert late, worst"].samples[0] >= 0


def test_segments_that_a_lab_does_not_have_by_itself_hold_a_thousand_vhids() -> None:
    vips = topology.many_vips(1000, (4,), topology.SEGMENTS)
    assert len({(vip.interface, vip.vhid) for vip in vips}) == len(vips) == 1000
    assert len({vip.name for vip in vips}) == 1000
    assert max(vip.vhid for vip in vips) <= 255
    assert len(topology.addresses_of(vips)) == 1000 + 2


def test_the_command_knows_what_there_is() -> None:
    assert tuple(SCENARIOS) == bench_failover.SCENARIOS
    assert tuple(subject.name for subject in subjects.SUBJECTS) == bench_failover.SUBJECTS
    assert topology.MOST_VIPS_OF_ALL_SEGMENTS == bench_scale.MOST


@pytest.mark.parametrize("command", ["failover", "scale"])
def test_a_missing_program_ends_it_before_anything_starts(
    monkeypatch: pytest.MonkeyPatch, base: Path, command: str
) -> None:
    monkeypatch.setattr(machine, "PLACES", "/nowhere")
    done = bench(command)
    assert done.exit_code == 69
    assert "Debian package keepalived" in done.output
    assert "--without keepalived" in done.output
    assert not base.exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ("failover", "earthquake"),
        ("failover", "--repeat", "0"),
        ("failover", "--subject", "heartbeat"),
        ("failover", "--without", "hacore"),
        ("scale", "0"),
        ("scale", "1015"),
        ("scale", "--seconds", "1"),
    ],
)
def test_a_wrong_use(arguments: tuple[str, ...]) -> None:
    assert bench(*arguments).exit_code == 2


def test_nothing_left_to_measure() -> None:
    done = bench("failover", "--subject", "ucarp", "--without", "ucarp")
    assert done.exit_code == 1
    assert "no subject" in done.output
