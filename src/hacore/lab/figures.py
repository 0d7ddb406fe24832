"""From what was seen to figures: plain arithmetic over arrays of times, nothing is measured here.

Seconds, CLOCK_MONOTONIC.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from hacore.lab import capture
from hacore.lab.observers import AddressChange, Observations

Times = npt.NDArray[np.float64]

JOIN = 0.01
"""Two probe datagrams of one node this close together (ten intervals) are one stretch of forwarding."""


class ProbeFigures(msgspec.Struct, frozen=True):
    """What the client saw between two moments.

    sent: requests; lost: requests whose reply never came; doubled: replies beyond the first; reordered: replies that
    came after a later one; gap: longest time between two consecutive replies; pace: longest time between two
    consecutive requests, which should be one interval; wait: longest time from a request to the next reply to anything,
    which is the gap without what the probe itself was late.
    """

    sent: int
    lost: int
    doubled: int
    reordered: int
    gap: float
    pace: float
    wait: float


def probe_figures(client: npt.NDArray[np.void], start: float, end: float) -> ProbeFigures:
    """Figures of the requests sent from `start` to `end`, and of the replies that came then.

    No reply at all makes the gap the whole time.
    """
    probes = client[client["kind"] == capture.PROBE]
    requests, replies = probes[probes["outgoing"]], probes[~probes["outgoing"]]
    asked = requests[(requests["time"] >= start) & (requests["time"] < end)]
    numbers = np.unique(asked["number"])
    answered, times_answered = np.unique(replies["number"], return_counts=True)
    known = np.isin(answered, numbers, assume_unique=True)
    came = np.sort(replies, order="time", kind="stable")
    _, first = np.unique(came["number"], return_index=True)
    once = came[np.sort(first)]
    highest = np.maximum.accumulate(once["number"]) if len(once) else once["number"]
    late = once[once["number"] < highest]
    return ProbeFigures(
        sent=len(numbers),
        lost=int(len(numbers) - np.count_nonzero(known)),
        doubled=int((times_answered[known] - 1).sum()),
        reordered=int(np.count_nonzero((late["time"] >= start) & (late["time"] < end))),
        gap=_longest_step(came["time"], start, end),
        pace=_longest_step(np.sort(requests["time"]), start, end),
        wait=_longest_wait(asked["time"], came["time"], end),
    )


def _longest_wait(asked: Times, came: Times, end: float) -> float:
    """The longest time from one of `asked` to the next of `came` (ascending), or to `end` where none comes before."""
    if not len(asked):
        return 0.0
    answered = np.append(came[came < end], end)
    return float((answered[np.searchsorted(answered[:-1], asked, side="right")] - asked).max())


def _longest_step(times: Times, start: float, end: float) -> float:
    """The longest step that ends after `start` and begins before `end`.

    One that is still open at `end` counts until there.
    """
    first, last = np.searchsorted(times, [start, end])
    before = times[first - 1] if first else start
    return float(np.diff(np.concatenate([[before], times[first:last], [end]])).max())


def spans(times: Times, join: float) -> Times:
    """Stretches (n, 2) of `times` (ascending) in which no step is longer than `join`."""
    if not len(times):
        return np.zeros((0, 2))
    breaks = np.flatnonzero(np.diff(times) > join)
    return np.column_stack(
        [times[np.concatenate([[0], breaks + 1])], times[np.concatenate([breaks, [len(times) - 1]])]]
    )


def overlap(one: Times, two: Times, start: float, end: float) -> float:
    """How long both had a stretch, between `start` and `end`: the sum over all pairs of stretches (n, 2) of one and
    two.
    """
    if not len(one) or not len(two):
        return 0.0
    begin = np.maximum(np.maximum(one[:, None, 0], two[None, :, 0]), start)
    finish = np.minimum(np.minimum(one[:, None, 1], two[None, :, 1]), end)
    return float(np.clip(finish - begin, 0, None).sum())


def without(some: Times, taken: Iterable[tuple[float, float]]) -> Times:
    """The stretches of `some` less those in `taken`."""
    left = [(float(begin), float(finish)) for begin, finish in some]
    for away, back in taken:
        left = [
            part
            for begin, finish in left
            for part in ((begin, min(finish, away)), (max(begin, back), finish))
            if part[0] < part[1]
        ]
    return np.array(left, dtype=np.float64).reshape(-1, 2)


def held_spans(changes: Sequence[AddressChange], node: str, address: str, end: float) -> Times:
    """When `node` held `address`, as stretches (n, 2)."""
    stretches: list[tuple[float, float]] = []
    since: float | None = None
    for change in changes:
        if change.node != node or change.address != address:
            continue
        if change.held and since is None:
            since = change.time
        elif not change.held and since is not None:
            stretches.append((since, change.time))
            since = None
    if since is not None:
        stretches.append((since, end))
    return np.array(stretches, dtype=np.float64).reshape(-1, 2)


def sent_by(seen: Observations, node: str, kind: int) -> Times:
    """When `node` sent frames of `kind` out of either side, ascending."""
    parts = [rows["time"][rows["kind"] == kind] for (name, _), rows in seen.ports.items() if name == node]
    return np.sort(np.concatenate(parts)) if parts else np.zeros(0)


class Lateness(msgspec.Struct, frozen=True):
    """How late things on a schedule were: the middle, the 99th and the 99.9th percentile, the worst, in seconds."""

    count: int
    median: float
    p99: float
    p999: float
    worst: float


def lateness_figures(lateness: Times) -> Lateness:
    """The percentiles of `lateness`; zeros where there is none."""
    if not len(lateness):
        return Lateness(0, 0.0, 0.0, 0.0, 0.0)
    median, p99, p999, worst = (float(value) for value in np.percentile(lateness, [50, 99, 99.9, 100]))
    return Lateness(len(lateness), median, p99, p999, worst)


def lateness(times: Times, interval: float) -> Times:
    """How late each of `times` (ascending) is on a grid of `interval` seconds that the earliest of them mark.

    One that is late by a whole interval starts a new grid, as a sender does that does not make up for what it missed.
    The first second serves only to find the grid.
    """
    learned = max(2, round(1 / interval))
    if len(times) <= learned:
        return np.zeros(0)
    steps = interval * np.arange(learned)
    due = float((times[:learned] - steps).min()) + interval * learned
    found = np.zeros(len(times) - learned)
    for index, moment in enumerate(times[learned:].tolist()):
        late = max(0.0, moment - due)
        found[index] = late
        due = moment if late >= interval else min(due, moment)
        due += interval
    return found


def last_after(times: Times, start: float, end: float) -> float:
    """The last of `times` from `start` to `end`, counted from `start`; 0 where there is none."""
    inside = times[(times >= start) & (times < end)]
    return float(inside.max() - start) if len(inside) else 0.0
