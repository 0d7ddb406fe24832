"""Adverts on a machine that is busy with something else: do they stay on time, does anything fail over?

While every core has other work, the adverts of the MASTER are timed by the kernel where they leave the node, beside a
bare timer on each core, under the same real-time priority and with the same interval (`bare_timer`). What the machine
itself is late by, the timers show; the rest is the node's.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import msgspec
import numpy as np

from hacore.errors import HacoreError
from hacore.lab import burden, capture, figures, play, timeline
from hacore.lab.figures import Lateness, ProbeFigures
from hacore.lab.laboratory import Lab
from hacore.lab.nodes import Node
from hacore.lab.observers import Observations, Recording
from hacore.lab.record import MARK
from hacore.lab.stage import Stage
from hacore.node.election import PRIORITY

SECONDS = 60.0
_POLL = 0.25


class BusyFigures(msgspec.Struct, kw_only=True):
    """seconds: how long; burden: processes that kept the cores busy; failovers: how often a node took an address;
    adverts: their lateness at the wire, over all VHIDs and families; timer: that of the bare timers; probe: the
    client's side; events: what the nodes wrote down meanwhile, in seconds since the beginning.
    """

    seconds: float
    burden: int
    failovers: int
    adverts: Lateness
    timer: Lateness
    probe: ProbeFigures
    missed: int
    events: list[tuple[float, str]]

    @property
    def beyond_timer(self) -> float:
        """How much later the latest advert was than the latest waking of the timer, in seconds."""
        return self.adverts.worst - self.timer.worst


@contextlib.contextmanager
def _timers(interval: float, lab: Lab) -> Iterator[list[bytes]]:
    """A bare timer on each core, for the length of a `with`; their output is in the list afterwards."""
    output: list[bytes] = []
    with contextlib.ExitStack() as stack:
        for core in sorted(os.sched_getaffinity(0)):
            child = subprocess.Popen(
                [sys.executable, "-m", "hacore.lab.bare_timer", str(PRIORITY), repr(interval), str(core)],
                stdout=subprocess.PIPE,
                env=os.environ | {MARK: str(lab.directory)},
            )
            stack.enter_context(child)
            stack.callback(_end, child, output)
        yield output


def _end(child: subprocess.Popen[bytes], output: list[bytes]) -> None:
    child.terminate()
    assert child.stdout is not None
    output.append(child.stdout.read())


def measure(
    lab: Lab, *, seconds: float = SECONDS, family: int = 4, watch: Callable[[Recording], None] | None = None
) -> BusyFigures:
    """Keep every core busy for `seconds`. HacoreError where the pair does not settle before."""
    play.heal(lab)
    with Recording(lab.paths, family=family, mark=lab.directory, watch=watch) as recording:
        stage = Stage(lab, recording)
        stage.settle(lab.preferred if lab.record.preempt else None)
        master = stage.master()
        interval = lab.profile.interval_of(master.name)
        with burden.on_every_core(lab.directory) as count, _timers(interval, lab) as output:
            began = time.monotonic()
            while (left := began + seconds - time.monotonic()) > 0:
                time.sleep(min(_POLL, left))
                recording.poll()
            ended = time.monotonic()
        stage.wait(0.5)
        seen = recording.observations()
    timer = np.frombuffer(b"".join(output), dtype=np.float64)
    if not len(timer):
        raise HacoreError("the bare timer did not run")
    return BusyFigures(
        seconds=ended - began,
        burden=count,
        failovers=_failovers(seen, began, ended),
        adverts=_advert_lateness(seen, master, interval, began, ended),
        timer=figures.lateness_figures(timer),
        probe=figures.probe_figures(seen.client, began, ended),
        missed=seen.missed,
        events=timeline.told(lab.nodes.values(), began, ended),
    )


def _failovers(seen: Observations, began: float, ended: float) -> int:
    taken: dict[str, int] = {}
    for change in seen.changes:
        if change.held and began <= change.time < ended:
            taken[change.address] = taken.get(change.address, 0) + 1
    return max(taken.values(), default=0)


def _advert_lateness(seen: Observations, master: Node, interval: float, began: float, ended: float) -> Lateness:
    """Over the MASTER's streams of adverts: one for each side, VHID and family."""
    parts = [np.zeros(0)]
    for (node, _), rows in seen.ports.items():
        if node != master.name:
            continue
        # A second more at the front, in which the grid is found.
        adverts = rows[(rows["kind"] == capture.ADVERT) & (rows["time"] >= began - 1.0) & (rows["time"] < ended)]
        for stream in np.unique(adverts[["vhid", "family"]]):
            times = adverts["time"][(adverts["vhid"] == stream["vhid"]) & (adverts["family"] == stream["family"])]
            parts.append(figures.lateness(times, interval))
    return figures.lateness_figures(np.concatenate(parts))
