"""Real pairs: who fails over, who holds the addresses then. How long it takes is the business of `hacore lab run`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hacore.lab import laboratory, play, report, topology
from hacore.lab.laboratory import Lab
from hacore.lab.scenarios import SCENARIOS
from hacore.lab.stage import Stage
from tests.namespaces import wait_until

EVERY = sorted(topology.vip_addresses())


@pytest.fixture
def pair(directory: Path, tool: Callable[[str], str]) -> Iterator[Lab]:
    tool("nft")
    with laboratory.temporary(directory, profile="fast", preempt=True) as lab:
        yield lab


def played(lab: Lab, scenario: str) -> play.ScenarioRun:
    run = play.play(lab, SCENARIOS[scenario])
    assert run.error is None, (run.error, run.logs)
    assert run.failed_over
    assert run.missed == 0
    return run


@pytest.mark.parametrize("scenario", ["stop", "maintenance", "crash", "worker-crash", "link-down", "power"])
def test_the_other_node_takes_over_and_the_faster_takes_back(pair: Lab, scenario: str) -> None:
    run = played(pair, scenario)
    assert run.phases[0].holders_before == {"fw1": EVERY, "fw2": []}
    assert run.phases[-1].holders_after == {"fw1": EVERY, "fw2": []}
    assert run.phases[-1].states_after == {
        "fw1": {"lan": "MASTER", "wan": "MASTER"},
        "fw2": {"lan": "BACKUP", "wan": "BACKUP"},
    }
    assert all(phase.probe.doubled == 0 for phase in run.phases)


def test_a_planned_stop_goes_on_where_nobody_waits_for_it(pair: Lab) -> None:
    run = played(pair, "stop")
    assert run.phases[0].holders_after == {"fw1": [], "fw2": EVERY}
    assert "fw1 bows out on lan" in [words for _, words in run.phases[0].timeline]


def test_a_frozen_node_loses_its_traffic_and_its_addresses(pair: Lab) -> None:
    run = played(pair, "hang")
    hang, after = run.phases
    assert hang.holders_after == {"fw1": [], "fw2": EVERY}
    assert hang.dead_forwarded is not None
    assert hang.dead_forwarded < hang.length
    assert hang.both_held_alive == 0
    assert after.holders_after == {"fw1": EVERY, "fw2": []}


def test_both_hold_while_they_do_not_hear_each_other(pair: Lab) -> None:
    cut, heal = played(pair, "partition").phases
    assert cut.holders_after == {"fw1": EVERY, "fw2": EVERY}
    assert heal.holders_after == {"fw1": EVERY, "fw2": []}


@pytest.mark.parametrize("family", [4, 6])
def test_without_preempt_the_addresses_stay(directory: Path, family: int) -> None:
    with laboratory.temporary(directory, profile="fast", preempt=False) as lab:
        run = play.play(lab, SCENARIOS["crash"], family=family)
    assert run.failed_over, (run.error, run.logs)
    before, after = run.phases[0].holders_before, run.phases[-1].holders_after
    assert {name for name, held in before.items() if held} != {name for name, held in after.items() if held}


def test_a_pair_that_does_not_fail_over_is_told(pair: Lab) -> None:
    """With fw2 gone for good there is nobody to take over."""
    play.heal(pair)
    other = pair.nodes["fw2"]
    other.command = ("/bin/false",)
    run = play.play(pair, SCENARIOS["stop"]._replace(play=lambda stage: end_both(stage, pair)))
    assert not run.failed_over
    assert set(run.logs) == {"fw1", "fw2"}
    made = report.rows([run])
    assert made[0].failed_over == 0


def end_both(stage: Stage, lab: Lab) -> None:
    with stage.phase("stop", must_move=True):
        fw1, fw2 = lab.nodes["fw1"], lab.nodes["fw2"]
        stage.terminate(fw2)  # the one that could take over
        wait_until(lambda: not fw2.running(), timeout=10.0)
        stage.terminate(fw1)
        stage.observe(0.5)
