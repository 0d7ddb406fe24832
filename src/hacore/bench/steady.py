"""New connections at a steady rate, the highest rate at which none is lost, and connections that come and go."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from hacore.bench.load import Done, Load, Stream
from hacore.bench.meters import LOOK, Lag
from hacore.bench.record import Record
from hacore.bench.replicators import BARE, RECEIVER, SENDER, Pair, Replicator, Site
from hacore.bench.result import Series

SETTLING = 5.0
"""Seconds after the load in which everything has to be there."""

KEEPS_UP = 1.0
"""Seconds that the receiver may be behind at the end of a load; one that is further behind fell back all the time."""

LAG, REACHED = "lag of new connections", "reached of what was asked for"
POINTS = 200
STEP, SMALLER_STEP = 1.5, 1.2
QUIET = 0.3  # seconds after a load in which the processes come to rest


class Play(NamedTuple):
    """What came of one load: connections, those that did not arrive, seconds that the last one was late, and the CPU
    seconds of each side.
    """

    count: int
    done: Done
    missing: int
    behind: float
    used: dict[str, float]

    @property
    def rate(self) -> float:
        """Connections a second as they were really made."""
        return self.count / self.done.took

    @property
    def kept_up(self) -> bool:
        """Whether nothing was lost and the receiver was not left behind."""
        return self.missing == 0 and self.behind <= KEEPS_UP


def _await_end(stream: Stream, look: Callable[[], bool]) -> tuple[Done, float]:
    """Looks until the load has ended and all is there, or for `SETTLING` seconds more; how late the last was."""
    while stream.running:
        look()
        time.sleep(LOOK)
    done, ended = stream.result(), time.perf_counter()
    while not look() and time.perf_counter() - ended < SETTLING:
        time.sleep(LOOK)
    return done, time.perf_counter() - ended


def play(replicator: Replicator, load: Load, lag: Lag | None = None) -> Play:
    """One load of new connections on empty tables, while the replicator runs."""
    site = replicator.site
    sender = site.counters[SENDER]
    before = sender(), replicator.arrived()
    with Stream(site.one, load) as stream:
        used = replicator.used()
        stream.begin()
        if replicator.to_the_kernel:
            lag = lag or Lag(sender, site.counters[RECEIVER])
            watched = lag

            def look() -> bool:
                return watched.look() >= load.count

            done, behind = _await_end(stream, look)
        else:
            # The cache is asked for by a program of its own, which would be in the figures: only at the end.
            done = stream.result()
            ended = time.perf_counter()
            while replicator.arrived() - before[1] < load.count and time.perf_counter() - ended < SETTLING:
                time.sleep(QUIET / 3)
            behind = time.perf_counter() - ended
        time.sleep(QUIET)
        spent = {side: seconds - used[side] for side, seconds in replicator.used().items()}
    missing = max(0, sender() - before[0] - (replicator.arrived() - before[1]))
    return Play(load.count, done, missing, behind, spent)


def steady(replicators: list[Replicator], rate: int, duration: float, record: Record) -> None:
    """Every replicator once, by turns with the bare injector, which works beside the same load and a listener."""
    load = Load(count=round(rate * duration), rate=rate)
    for replicator in replicators:
        site = replicator.site
        lag = Lag(site.counters[SENDER], site.counters[RECEIVER])
        with replicator:
            idle, sent = replicator.memory(), site.wire()
            found = play(replicator, load, lag)
            _note(record, "steady", replicator.name, found, rate)
            record.less("steady: bytes a flow", "B", replicator.name, (site.wire() - sent) / load.count, rate=rate)
            for side, octets in replicator.memory().items():
                record.less(
                    f"steady: memory a flow, {side}", "B", replicator.name, (octets - idle[side]) / load.count,
                    rate=rate,
                )  # fmt: skip
            if replicator.to_the_kernel:
                _note_lag(record, replicator.name, lag, rate)
            if isinstance(replicator, Pair):
                replicator.clear()
                replicator.stop_receiver()
                _bare(site, load, record)


def _note(record: Record, kind: str, subject: str, found: Play, rate: int) -> None:
    record.more(f"{kind}: rate reached", "flows/s", subject, found.rate, rate=rate)
    record.less(f"{kind}: missing", "flows", subject, found.missing, rate=rate)
    for side, seconds in found.used.items():
        record.less(f"{kind}: CPU a flow, {side}", "s", subject, seconds / found.count, rate=rate)


def _note_lag(record: Record, subject: str, lag: Lag, rate: int) -> None:
    times, delays = lag.delays()
    if not len(delays):
        return
    for name, share in (("50 %", 50), ("99 %", 99), ("99.9 %", 99.9), ("worst", 100)):
        record.less(f"steady: lag, {name}", "s", subject, float(np.percentile(delays, share)), rate=rate)
    if record.has_series(LAG, subject, rate=rate):
        return
    # Of every span of the plot the worst: a mean would hide what is looked for.
    parts = [part for part in np.array_split(np.arange(len(delays)), POINTS) if len(part)]
    record.series.append(
        Series(
            name=LAG, subject=subject, parameters={"rate": rate},
            x_name="time", x_unit="s", unit="s",
            x=[round(float(times[part[0]]), 4) for part in parts],
            y=[round(float(delays[part].max()), 6) for part in parts],
        )
    )  # fmt: skip


def _bare(site: Site, load: Load, record: Record) -> None:
    other = Load(count=load.count, first=load.count, rate=load.rate)
    with Stream(site.one, load) as beside, Stream(site.two, other) as bare:
        beside.begin()
        bare.begin()
        done = bare.result()
        beside.result()
    rate = round(load.rate)
    record.more("steady: rate reached", "flows/s", BARE, load.count / done.took, rate=rate)
    record.less(f"steady: CPU a flow, {RECEIVER}", "s", BARE, done.cpu / load.count, rate=rate)


def highest(replicator: Replicator, first: int, duration: float, record: Record) -> None:
    """Higher and higher rates until something is lost or the receiver is left behind, then smaller steps from the
    last that went well. A rate that the machine does not reach counts as what was reached, and ends it.
    """
    best, rate, step = 0.0, float(first), STEP
    points: list[tuple[float, Play]] = []
    with replicator:
        while True:
            found = play(replicator, Load(count=round(rate * duration), rate=rate))
            points.append((rate, found))
            better = found.kept_up and found.rate > best * 1.03
            if better:
                best = found.rate
            if better and found.rate > 0.9 * rate:
                rate *= step
            elif step > SMALLER_STEP and found.rate > 0.9 * rate:
                rate, step = rate / step * SMALLER_STEP, SMALLER_STEP
            else:
                break
            replicator.clear()
    record.more("highest loss-free rate", "flows/s", replicator.name, best)
    if not record.has_series(REACHED, replicator.name):
        record.series.append(
            Series(
                name=REACHED, subject=replicator.name, x_name="asked for", x_unit="flows/s",
                unit="flows/s", x=[asked for asked, _ in points], y=[round(found.rate) for _, found in points],
            )
        )  # fmt: skip


def churn(replicator: Replicator, rate: int, duration: float, record: Record) -> None:
    """Connections that are new, established, closed and deleted, all within less than a second."""
    load = Load(kind="churn", count=round(rate * duration), rate=rate)
    site = replicator.site
    with replicator, Stream(site.one, load) as stream:
        before = site.counters[SENDER](), replicator.arrived()
        sent, used = site.wire(), replicator.used()
        stream.begin()
        done = stream.result()
        ended = time.perf_counter()
        left = replicator.arrived() - before[1]
        while left > 0 and time.perf_counter() - ended < SETTLING:
            time.sleep(QUIET / 10 if replicator.to_the_kernel else QUIET / 3)
            left = replicator.arrived() - before[1]
        behind = time.perf_counter() - ended
        time.sleep(QUIET)
        spent = {side: seconds - used[side] for side, seconds in replicator.used().items()}
        octets = site.wire() - sent
    _note(record, "churn", replicator.name, Play(load.count, done, max(0, left), behind, spent), rate)
    record.less("churn: behind at the end", "s", replicator.name, behind, rate=rate)
    record.less("churn: bytes a flow", "B", replicator.name, octets / load.count, rate=rate)
