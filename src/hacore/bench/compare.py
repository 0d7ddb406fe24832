"""What changed between two runs, by how much, and whether the samples can tell.

A change is beyond the noise where the rank-sum test of Mann and Whitney (1947) would show its like in less than one of
a hundred pairs of runs without a change: exactly counted up to `EXACT` samples, by the normal approximation with ties
above. Where there are too few samples for that ever to be, it is where every sample of one run lies beyond every sample
of the other. The interval of the ratio of medians is that of the percentile bootstrap, 95 %.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt

from hacore.bench.result import Figure, Parameters, Result

LEVEL = 0.01
EXACT = 10
"""Samples of both runs together up to which every order is counted: at most 252 of them."""
RESAMPLES = 2000

Verdict = Literal["same", "better", "worse", "regression", "only before", "only after"]


class Change(msgspec.Struct, kw_only=True, frozen=True):
    """One figure in both runs. `ratio`: median after over before; interval: of it; None where a median is 0, or one is
    missing. chance: how likely such a difference is without a change.
    """

    name: str
    unit: str
    better: str
    subject: str
    parameters: Parameters
    before: float | None
    after: float | None
    ratio: float | None
    interval: tuple[float, float] | None
    chance: float
    verdict: Verdict


def key_of(figure: Figure) -> tuple[object, ...]:
    """What makes a figure the same in two runs."""
    return (*figure.key, figure.unit, figure.subject)


def compare(before: Result, after: Result, bound: float) -> list[Change]:
    """Every figure of both runs, in the order of the first. bound: a change for the worse by more than this share,
    beyond the noise, is a regression.
    """
    news = {key_of(figure): figure for figure in after.figures}
    olds = {key_of(figure): figure for figure in before.figures}
    changes = [_change(figure, news.get(key), bound) for key, figure in olds.items()]
    return changes + [_lone(figure, "only after") for key, figure in news.items() if key not in olds]


def regressions(changes: Sequence[Change]) -> list[Change]:
    """Those that are regressions."""
    return [change for change in changes if change.verdict == "regression"]


def _lone(figure: Figure, verdict: Verdict) -> Change:
    median = float(np.median(figure.samples)) if figure.samples else None
    return Change(
        name=figure.name,
        unit=figure.unit,
        better=figure.better,
        subject=figure.subject,
        parameters=figure.parameters,
        before=median if verdict == "only before" else None,
        after=median if verdict == "only after" else None,
        ratio=None,
        interval=None,
        chance=1.0,
        verdict=verdict,
    )


def _change(old: Figure, new: Figure | None, bound: float) -> Change:
    if new is None or not new.samples or not old.samples:
        return _lone(old, "only before")
    before, after = float(np.median(old.samples)), float(np.median(new.samples))
    chance = rank_sum(old.samples, new.samples)
    return Change(
        name=old.name,
        unit=old.unit,
        better=old.better,
        subject=old.subject,
        parameters=old.parameters,
        before=before,
        after=after,
        ratio=after / before if before else None,
        interval=interval(old.samples, new.samples),
        chance=chance,
        verdict=_verdict(old, new, before, after, chance, bound),
    )


def _verdict(old: Figure, new: Figure, before: float, after: float, chance: float, bound: float) -> Verdict:
    if before == after or not _beyond_noise(old.samples, new.samples, chance):
        return "same"
    if (after < before) == (old.better == "less"):
        return "better"
    past = (after > before * (1 + bound)) if old.better == "less" else (after < before * (1 - bound))
    return "regression" if past else "worse"


def _beyond_noise(old: Sequence[float], new: Sequence[float], chance: float) -> bool:
    if 2 / math.comb(len(old) + len(new), len(old)) > LEVEL:
        return max(old) < min(new) or max(new) < min(old)
    return chance <= LEVEL


def rank_sum(one: Sequence[float], two: Sequence[float]) -> float:
    """How likely a difference of ranks as large as this is where there is no difference, two-sided."""
    ranks = _ranks(np.array([*one, *two]))
    count, total = len(one), len(one) + len(two)
    middle = count * (total + 1) / 2
    distance = abs(float(ranks[:count].sum()) - middle)
    if total <= EXACT:
        sums = np.array([ranks[list(chosen)].sum() for chosen in combinations(range(total), count)])
        return float(np.mean(np.abs(sums - middle) >= distance - 1e-9))
    _, ties = np.unique(ranks, return_counts=True)
    spread = count * (total - count) / 12 * (total + 1 - float((ties**3 - ties).sum()) / (total * (total - 1)))
    if spread <= 0:
        return 1.0
    return math.erfc(max(0.0, distance - 0.5) / math.sqrt(2 * spread))


def _ranks(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Ranks from 1, equal values sharing the middle of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return ((last - counts + 1 + last) / 2)[inverse.reshape(-1)]


def interval(one: Sequence[float], two: Sequence[float]) -> tuple[float, float] | None:
    """Where the ratio of medians, two over one, lies with 95 %; None where a median can be 0, or there is 1 sample."""
    if min(len(one), len(two)) < 2 or min(*one, *two) <= 0:
        return None
    random = np.random.default_rng(1)
    medians = [
        np.median(random.choice(np.asarray(samples), (RESAMPLES, len(samples))), axis=1) for samples in (one, two)
    ]
    low, high = np.percentile(medians[1] / medians[0], [2.5, 97.5])
    return float(low), float(high)


def shown(changes: Sequence[Change], everything: bool) -> Iterator[Change]:
    """What is worth a line: all that is not the same, or everything."""
    for change in changes:
        if everything or change.verdict != "same":
            yield change


def different_places(before: Result, after: Result) -> Iterator[str]:
    """What makes the runs two things: other machines, other settings, other peers."""
    for name in ("processor", "cores", "kernel"):
        old, new = getattr(before.machine, name), getattr(after.machine, name)
        if old != new:
            yield f"{name}: {old} before, {new} after"
    for name, run in (("before", before), ("after", after)):
        if run.missing:
            yield f"the run {name} is incomplete"
    if before.settings != after.settings:
        yield "the settings differ"
    for name, old in before.versions.items():
        if (new := after.versions.get(name)) not in (None, old) and name != "hacore":
            yield f"{name}: {old} before, {new} after"
