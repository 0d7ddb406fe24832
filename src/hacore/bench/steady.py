"""New connections at a steady rate, the highest rate at which none is lost, and connections that come and go."""

from __future__ import annotations

import time
from typing import NamedTuple

import msgspec
import numpy as np

from hacore.bench.load import LIFE, Done, Load
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
HIGHEST = 200_000  # new flows a second, which no kernel of today takes
LOWEST = 200  # where the search gives up on a machine that is busy with other things
STEP = 1.5
BETTER = 1.03  # a rate that is not higher than the best by this factor is no better
FAILURES = 2
QUIET = 0.3  # seconds after a load in which the processes come to rest


class Play(NamedTuple):
    """What came of one load: how it was sent, the connections that did not arrive, seconds that the last one was late,
    and the CPU seconds of each side.
    """

    done: Done
    missing: int
    behind: float
    used: dict[str, float]

    @property
    def rate(self) -> float:
        """Connections a second as they were really made."""
        return self.done.count / self.done.took

    @property
    def kept_up(self) -> bool:
        """Whether nothing was lost and the receiver was not left behind."""
        return self.missing == 0 and self.behind <= KEEPS_UP


def play(replicator: Replicator, load: Load, lag: Lag | None = None) -> Play:
    """One load of new connections on empty tables, while the replicator runs."""
    site = replicator.site
    sender = site.counters[SENDER]
    before = sender(), replicator.arrived()
    with site.stream(SENDER, load) as stream:
        used = replicator.used()
        stream.begin()
        if replicator.to_the_kernel:
            lag = lag or Lag(sender, site.counters[RECEIVER])
            while stream.running:
                lag.look()
                time.sleep(LOOK)
        done, ended = stream.result(), time.perf_counter()
        if lag is not None and replicator.to_the_kernel:
            while lag.look() < done.count and time.perf_counter() - ended < SETTLING:
                time.sleep(LOOK)
        else:
            # The cache is asked for by a program of its own, which would be in the figures: only at the end.
            while replicator.arrived() - before[1] < done.count and time.perf_counter() - ended < SETTLING:
                time.sleep(QUIET / 3)
        behind = time.perf_counter() - ended
        time.sleep(QUIET)
        spent = {side: seconds - used[side] for side, seconds in replicator.used().items()}
    missing = max(0, done.count - (replicator.arrived() - before[1]))
    return Play(done, missing, behind, spent)


def steady(replicators: list[Replicator], rate: int, duration: float, record: Record) -> None:
    """Every replicator once, by turns with the bare injector, which works beside the same load and a listener."""
    load = Load(kind="packets", count=round(rate * duration), rate=rate)
    for replicator in replicators:
        site = replicator.site
        lag = Lag(site.counters[SENDER], site.counters[RECEIVER])
        with replicator:
            sent = site.wire()
            found = play(replicator, load, lag)
            _note(record, "steady", replicator.name, found, rate)
            octets = (site.wire() - sent) / found.done.count
            record.less("steady: bytes a flow", "B", replicator.name, octets, rate=rate)
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
        record.less(f"{kind}: CPU a flow, {side}", "s", subject, seconds / found.done.count, rate=rate)


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
    other = msgspec.structs.replace(load, kind="injected")
    with site.stream(SENDER, load) as beside, site.stream(RECEIVER, other) as bare:
        beside.begin()
        bare.begin()
        done = bare.result()
        beside.result()
    rate = round(load.rate)
    record.more("steady: rate reached", "flows/s", BARE, done.count / done.took, rate=rate)
    record.less(f"steady: CPU a flow, {RECEIVER}", "s", BARE, done.cpu / done.count, rate=rate)


def highest(replicator: Replicator, first: int, duration: float, record: Record) -> None:
    """Higher and higher rates, until twice in a row nothing is won: something is lost, the receiver is left behind, or
    the machine makes no more connections than before. What counts is the rate that was reached; 0 where there is none.
    """
    best, rate, failures = 0.0, float(first), 0
    points: list[tuple[float, float]] = []
    with replicator:
        while LOWEST < rate <= HIGHEST and (failures < FAILURES or not best):
            if points:
                replicator.clear()
            found = play(replicator, Load(kind="packets", count=round(rate * duration), rate=rate, longest=duration))
            points.append((rate, found.rate))
            if found.kept_up and found.rate > best * BETTER:
                best, failures = found.rate, 0
            else:
                failures += 1
            rate = rate * STEP if found.kept_up else (best + rate) / 2
    record.more("highest loss-free rate", "flows/s", replicator.name, best)
    if not record.has_series(REACHED, replicator.name):
        record.series.append(
            Series(
                name=REACHED, subject=replicator.name, x_name="asked for", x_unit="flows/s",
                unit="flows/s", x=[round(asked) for asked, _ in points], y=[round(reached) for _, reached in points],
            )
        )  # fmt: skip


def churn(replicator: Replicator, rate: int, duration: float, record: Record) -> None:
    """Connections that are new, established, closed and deleted, all within less than a second."""
    load = Load(kind="churn", count=round(rate * duration), rate=rate)
    site = replicator.site
    with replicator, site.stream(SENDER, load) as stream:
        before = site.counters[SENDER](), replicator.arrived()
        sent, used = site.wire(), replicator.used()
        stream.begin()
        done, ended = stream.result(), time.perf_counter()
        left = replicator.arrived() - before[1]
        while left > 0 and time.perf_counter() - ended < SETTLING:
            time.sleep(QUIET / 10 if replicator.to_the_kernel else QUIET / 3)
            left = replicator.arrived() - before[1]
        behind = time.perf_counter() - ended
        time.sleep(QUIET)
        spent = {side: seconds - used[side] for side, seconds in replicator.used().items()}
        octets = site.wire() - sent
    done = msgspec.structs.replace(done, took=done.took - LIFE)
    _note(record, "churn", replicator.name, Play(done, max(0, left), behind, spent), rate)
    record.less("churn: behind at the end", "s", replicator.name, behind, rate=rate)
    record.less("churn: bytes a flow", "B", replicator.name, octets / load.count, rate=rate)
