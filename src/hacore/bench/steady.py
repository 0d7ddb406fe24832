"""New connections at a steady rate, the highest rate at which none is lost, and connections that come and go."""

from __future__ import annotations

import time
from typing import NamedTuple

import msgspec
import numpy as np

from hacore.bench.load import LASTING_PORT, LIFE, Done, Load, lasts
from hacore.bench.meters import Lag
from hacore.bench.record import Record
from hacore.bench.replicators import RECEIVER, SENDER, Bare, Replicator
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
    if isinstance(replicator, Bare):
        return beside(replicator, load, msgspec.structs.replace(load, kind="injected", longest=load.longest + KEEPS_UP))
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
                time.sleep(replicator.pause)
        done, ended = stream.result(), time.perf_counter()
        if lag is not None and replicator.to_the_kernel:
            while lag.look() < done.count and time.perf_counter() - ended < SETTLING:
                time.sleep(replicator.pause)
        else:
            # The cache is asked for by a program of its own, which would be in the figures: only at the end.
            while replicator.arrived() - before[1] < done.count and time.perf_counter() - ended < SETTLING:
                time.sleep(replicator.pause)
        behind = time.perf_counter() - ended
        time.sleep(QUIET)
        spent = {side: seconds - used[side] for side, seconds in replicator.used().items()}
    missing = max(0, done.count - (replicator.arrived() - before[1]))
    return Play(done, missing, behind, spent)


def beside(bare: Bare, load: Load, injected: Load) -> Play:
    """A load on the sender, which listens, and at once with it the injector of what the receiver would get."""
    site, before = bare.site, bare.arrived()
    with site.stream(SENDER, load) as stream, site.stream(RECEIVER, injected) as injector:
        stream.begin()
        injector.begin()
        done, ended = stream.result(), time.perf_counter()
        spent = injector.result()
        behind = time.perf_counter() - ended
    missing = max(0, done.count - (bare.arrived() - before))
    return Play(done, missing, behind, {RECEIVER: spent.cpu})


def steady(replicators: list[Replicator], rate: int, duration: float, record: Record) -> None:
    """Every replicator once, by turns; the bare injector works beside the same load and a listener."""
    load = Load(kind="packets", count=round(rate * duration), rate=rate)
    for replicator in replicators:
        site = replicator.site
        lag = Lag(site.counters[SENDER], site.counters[RECEIVER])
        with replicator:
            sent = site.wire()
            found = play(replicator, load, lag)
            octets = (site.wire() - sent) / found.done.count
            _note(record, "steady", replicator.name, found, rate)
            record.less("steady: missing", "flows", replicator.name, found.missing, rate=rate)
            if isinstance(replicator, Bare):
                continue
            record.less("steady: bytes a flow", "B", replicator.name, octets, rate=rate)
            for side, resident in replicator.memory().items():
                record.less(f"steady: memory, {side}", "B", replicator.name, resident, rate=rate)
            if replicator.to_the_kernel:
                _note_lag(record, replicator.name, lag, rate)


def _note(record: Record, kind: str, subject: str, found: Play, rate: int) -> None:
    record.more(f"{kind}: rate reached", "flows/s", subject, found.rate, rate=rate)
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


def highest(replicator: Replicator, first: int, most: int, duration: float, record: Record) -> None:
    """Higher and higher rates, until twice in a row nothing is won: something is lost, the receiver is left behind, or
    the machine makes no more connections than before. What counts is the rate that was reached; 0 where there is none.
    `most`: flows that the tables take.
    """
    best, rate, failures = 0.0, float(first), 0
    points: list[tuple[float, float]] = []
    with replicator:
        while LOWEST < rate <= min(HIGHEST, most / duration) and (failures < FAILURES or not best):
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
    """Connections that are new, established, closed and deleted, all within less than a second, but for some that stay
    established: those have to be with the receiver in the end, and nothing else.
    """
    load = Load(kind="churn", count=round(rate * duration), rate=rate)
    lasting = int(np.count_nonzero(lasts(np.arange(load.count))))
    site = replicator.site
    with replicator:
        before, sent = replicator.arrived(), site.wire()
        found = _churned(replicator, load, lasting)
        octets = site.wire() - sent
        arrived, all_of_it = replicator.arrived_at(LASTING_PORT), replicator.arrived() - before
    found = found._replace(done=msgspec.structs.replace(found.done, took=found.done.took - LIFE))
    _note(record, "churn", replicator.name, found, rate)
    record.less("churn: never arrived", "flows", replicator.name, max(0, lasting - arrived), rate=rate)
    record.less("churn: left behind", "flows", replicator.name, max(0, all_of_it - arrived), rate=rate)
    record.less("churn: behind at the end", "s", replicator.name, found.behind, rate=rate)
    if not isinstance(replicator, Bare):
        record.less("churn: bytes a flow", "B", replicator.name, octets / load.count, rate=rate)


def _churned(replicator: Replicator, load: Load, lasting: int) -> Play:
    if isinstance(replicator, Bare):
        return beside(replicator, load, load)
    with replicator.site.stream(SENDER, load) as stream:
        before, used = replicator.arrived(), replicator.used()
        stream.begin()
        done, ended = stream.result(), time.perf_counter()
        while replicator.arrived() - before != lasting and time.perf_counter() - ended < SETTLING:
            time.sleep(replicator.pause)
        behind = time.perf_counter() - ended
        time.sleep(QUIET)
        spent = {side: seconds - used[side] for side, seconds in replicator.used().items()}
    return Play(done, 0, behind, spent)
