"""What `hacore bench scale` makes of its subjects."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest

from hacore.bench import machine, scale
from hacore.bench.machine import MissingProgram
from hacore.bench.running import Running
from hacore.bench.samples import Samples


@pytest.fixture
def running() -> Running:
    return Running("scale", [], Samples())


def plan(*, whole: bool) -> scale.Plan:
    return scale.Plan(scale.SUBJECTS[:1], [3], 1, 5.0, whole)


def test_a_pair_that_does_not_settle_leaves_the_run_incomplete(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measure(*_: Any) -> None:
        raise scale.Unsettled("fw1 holds 2 of 3 addresses")

    monkeypatch.setattr(scale, "_measure", measure)
    running.carry_out(list(scale.parts(plan(whole=False), running)), lambda _: None)
    (lack,) = running.result(settings={}).missing
    assert (lack.part, lack.why) == ("hacore: 3 VHIDs", "fw1 holds 2 of 3 addresses")
    assert running.failure(None) is None


def test_conntrackd_is_wanted_for_a_whole_node_only(monkeypatch: pytest.MonkeyPatch) -> None:
    real = machine.program

    def program(name: str) -> str:
        if name == "conntrackd":
            raise MissingProgram(name)
        return real(name)

    monkeypatch.setattr(machine, "program", program)
    assert [each.name for each in scale.chosen((), whole=False)] == ["hacore", "keepalived"]
    with pytest.raises(MissingProgram):
        scale.chosen((), whole=True)


def test_an_idle_node_with_all_its_workers(running: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HACORE_LAB_DIRECTORY", str(tmp_path))
    seen: list[int] = []

    def usage(pair: Any, seconds: float, real: Any = scale._usage) -> Any:
        seen.extend(len(node.processes()) for node in pair)
        assert seconds >= 10
        return real(pair, 0.2)

    monkeypatch.setattr(scale, "_usage", usage)
    part = functools.partial(scale._measure_whole, scale.WHOLE[0], 5.0, running.into)
    part(lambda _: None)
    assert seen == [4, 4]  # supervisor, election, states, control
    found = {figure.name: figure for figure in running.into.figures()}
    assert {figure.subject for figure in found.values()} == {"hacore"}
    for role in ("MASTER", "BACKUP"):
        resident, alone = found[f"memory, {role}"].median, found[f"memory without what is shared, {role}"].median
        assert 50e6 < alone < resident < 1e9
        assert 0 <= found[f"processor, {role}"].median < 2
