"""Plays a scenario in a lab: heals whatever an earlier one left, lets the pair settle, records, and hands back the
figures.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable

import msgspec

from hacore.errors import HacoreError
from hacore.lab import rights, topology
from hacore.lab.fill import fill as fill_table
from hacore.lab.flows import FlowFigures, Flows
from hacore.lab.laboratory import Lab
from hacore.lab.observers import Recording
from hacore.lab.scenarios import Scenario
from hacore.lab.stage import PhaseFigures, Stage

_STARTING = 15.0


class ScenarioRun(msgspec.Struct, kw_only=True):
    """One play: its phases, or as many as there were before `error`.

    Missed: frames the observers had no room for, 0 in a sound run.
    """

    scenario: str
    phases: list[PhaseFigures]
    missed: int
    error: str | None = None
    flows: FlowFigures | None = None
    """At the end."""
    flows_after_moves: list[FlowFigures] = []
    """At the end of each phase that is about a failover, while the other node is MASTER."""
    logs: dict[str, str] = {}

    @property
    def problem(self) -> str:
        """What was wrong, where nothing broke off."""
        if self.flows is not None and not self.flows.as_expected:
            return "connections died" if self.flows.replicated else "connections lived without replication"
        return "did not fail over"

    @property
    def failed_over(self) -> bool:
        """Whether every phase that is about a failover had one, and nothing else went wrong."""
        moved = self.error is None and all(phase.moved for phase in self.phases if phase.must_move)
        return moved and (self.flows is None or self.flows.as_expected)


def heal(lab: Lab) -> None:
    """Undo every fault: ports up, nothing dropped, both nodes started and out of maintenance."""
    lab.faults.drop_nothing()
    lab.faults.set_ports([port for node in topology.NODES for port in topology.ports_of(node)], "up")
    for node in lab.nodes.values():
        if not node.running():
            lab.start(node)
    deadline = time.monotonic() + _STARTING
    for node in lab.nodes.values():
        while (status := node.status()) is None:
            if not node.running() or time.monotonic() > deadline:
                raise HacoreError(f"{node.name} does not run:\n{node.log_tail()}")
            time.sleep(0.05)
        if status.get("node", {}).get("maintenance"):
            node.maintenance(False)


def wait_for_master(lab: Lab) -> None:
    """Wait until one node is MASTER of everything and the other BACKUP. HacoreError where that does not come about."""
    deadline = time.monotonic() + _STARTING + 2 * lab.intervals.dead_time
    while True:
        states = {name: set(node.states().values()) for name, node in lab.nodes.items()}
        if sorted(states.values(), key=sorted) == [{"BACKUP"}, {"MASTER"}]:
            return
        if time.monotonic() > deadline:
            raise HacoreError(f"the pair did not settle: {states}")
        time.sleep(0.05)


def use_profile(lab: Lab, profile: str, preempt: bool, states: bool = False) -> None:
    """Have both nodes run with `profile`; they are stopped and started only where something changes."""
    if (lab.record.profile, lab.record.preempt, lab.record.states) != (profile, preempt, states):
        lab.stop_nodes()
        lab.configure(profile, preempt, states=states)
    heal(lab)


def play(
    lab: Lab,
    scenario: Scenario,
    *,
    family: int = 4,
    flows: int = 0,
    fill: int = 0,
    watch: Callable[[Recording], None] | None = None,
) -> ScenarioRun:
    """Play `scenario` once, `watch` being called now and then; with so many TCP connections through the pair, and so
    many idle ones in the tables.

    What goes wrong is told in `error`; only what makes the lab useless is raised.
    """
    heal(lab)
    survived: FlowFigures | None = None
    after_moves: list[FlowFigures] = []
    with contextlib.ExitStack() as stack:
        going: Flows | None = None
        recording = stack.enter_context(Recording(lab.paths, family=family, mark=lab.directory, watch=watch))
        stage = Stage(lab, recording)
        error: str | None = None
        try:
            stage.settle(lab.preferred if lab.record.preempt else None)
            if fill:
                fill_table(lab, stage.master(), fill)
            if flows:
                going = stack.enter_context(Flows(lab, flows))
                check = going.check
                stage.after_move = lambda: after_moves.append(check())
            scenario.play(stage)
            if going is not None:
                survived = going.check()
        except HacoreError as problem:
            error = str(problem)
        phases = stage.results()
        missed = recording.observations().missed
    run = ScenarioRun(scenario=scenario.name, phases=phases, missed=missed, error=error, flows=survived)
    run.flows_after_moves = after_moves
    if not run.failed_over:
        run.logs = {node.name: node.log_tail() for node in lab.nodes.values()}
    return run


def realtime(lab: Lab) -> bool:
    """Whether the nodes of this lab may run under SCHED_RR."""
    return lab.record.rights == rights.ROOT and rights.real_time()
