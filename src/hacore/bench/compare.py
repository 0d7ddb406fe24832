"""What changed between two runs, by how much, and whether the samples can tell.

The machine changes from one run to the next as well. A figure of hacore that stands beside a baseline of its own run is
compared as its ratio to that, turn by turn. What the baselines did is the machine's, or theirs, and is shown as
"drift"; only hacore's own figures can regress.

The rank-sum test of Mann and Whitney (1947) says how likely a change is without a cause: exactly counted up to `EXACT`
samples, by the normal approximation with ties above. Beyond the noise is what passes when all figures are taken
together (Benjamini and Hochberg 1995), so that of all changes that are called so one in twenty is none. Below `FEWEST`
samples on either side nothing can be said.

The interval of the ratio of medians is that of the percentile bootstrap, 95 %.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Literal, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from hacore.bench.result import LIMIT, OWN, Figure, Parameters, Result

LEVEL = 0.05
FEWEST = 4
"""Samples below which the most distant ones are still likely."""
EXACT = 16
"""Samples of both runs together up to which every order is counted: at most 12,870 of them."""
RESAMPLES = 2000

Verdict = Literal[
    "same", "better", "worse", "regression", "drift", "too few samples", "only before", "only after", "vanished"
]


class Change(msgspec.Struct, kw_only=True, frozen=True):
    """One figure in both runs.

    before, after: medians in `unit`. beside: the baseline that both runs measured it beside, "" where there is none;
    then before_ratio and after_ratio are the medians of the ratios to it, and what follows is of these. ratio: after
    over before, its interval; None where a median is 0, or one is missing. chance: how likely such a difference is
    without a change, for one figure; the verdict takes into account how many there are.
    """

    name: str
    unit: str
    better: str
    subject: str
    parameters: Parameters
    before: float | None
    after: float | None
    beside: str = ""
    before_ratio: float | None = None
    after_ratio: float | None = None
    ratio: float | None
    interval: tuple[float, float] | None
    chance: float
    verdict: Verdict


Key = tuple[object, ...]
Figures = Mapping[Key, Figure]


def key_of(figure: Figure) -> Key:
    """What makes a figure the same in two runs."""
    return (*figure.key, figure.unit, figure.subject)


def compare(before: Result, after: Result, bound: float) -> list[Change]:
    """Every figure of both runs, in the order of the first. bound: a change of hacore's for the worse by more than this
    share, beyond the noise, is a regression; so is a figure of its that the second run lacks.
    """
    olds, news = ({key_of(each): each for each in run.figures if each.samples} for run in (before, after))
    pairs = {key: _Pair.of(key, olds, news) for key in olds if key in news}
    beyond: set[Key] = set()
    for own in (True, False):  # the machine's changes are no reason to look less closely at hacore's
        tested = {key: pair.chance for key, pair in pairs.items() if pair.enough and is_own(pair.old) is own}
        beyond |= beyond_noise(tested)
    changes = []
    for key, figure in olds.items():
        pair = pairs.get(key)
        if pair is None:
            changes.append(_lone(figure, "vanished" if is_own(figure) else "only before"))
        else:
            changes.append(pair.change(key in beyond, bound))
    return changes + [_lone(figure, "only after") for key, figure in news.items() if key not in olds]


def regressions(changes: Sequence[Change]) -> list[Change]:
    """Those that are regressions, a figure that vanished among them."""
    return [change for change in changes if change.verdict in ("regression", "vanished")]


def is_own(figure: Figure) -> bool:
    """Whether it is one of hacore's, and not of what stands beside it."""
    return figure.subject == OWN or figure.subject.startswith(f"{OWN} ")


def beyond_noise(chances: Mapping[Key, float]) -> set[Key]:
    """By the procedure of Benjamini and Hochberg: of many figures some differ by chance alone, so that the r-th least
    likely of n has to pass r / n of the level, and with it all that are less likely.
    """
    ordered = sorted(chances.items(), key=lambda item: item[1])
    passing = [rank for rank, (_, chance) in enumerate(ordered, 1) if chance <= LEVEL * rank / len(ordered)]
    return {key for key, _ in ordered[: max(passing, default=0)]}


class _Pair(NamedTuple):
    """A figure in both runs, and the samples to compare: its own, or their ratios to those of the baseline `beside`."""

    old: Figure
    new: Figure
    beside: str
    before: list[float]
    after: list[float]

    @classmethod
    def of(cls, key: Key, olds: Figures, news: Figures) -> _Pair:
        old, new = olds[key], news[key]
        if is_own(old):
            for other in _baselines(key, olds):
                base_old, base_new = olds[other], news.get(other)
                if base_new and min(*base_old.samples, *base_new.samples) > 0:
                    return cls(old, new, base_old.subject, _ratios(old, base_old), _ratios(new, base_new))
        return cls(old, new, "", old.samples, new.samples)

    @property
    def enough(self) -> bool:
        """Whether there are so many samples that they can say anything."""
        return min(len(self.before), len(self.after)) >= FEWEST

    @property
    def chance(self) -> float:
        """Of such a difference without a cause."""
        return rank_sum(self.before, self.after)

    def change(self, beyond: bool, bound: float) -> Change:
        """`beyond`: whether it is beyond the noise."""
        before, after = statistics.median(self.before), statistics.median(self.after)
        return Change(
            name=self.old.name,
            unit=self.old.unit,
            better=self.old.better,
            subject=self.old.subject,
            parameters=self.old.parameters,
            before=self.old.median,
            after=self.new.median,
            beside=self.beside,
            before_ratio=before if self.beside else None,
            after_ratio=after if self.beside else None,
            ratio=after / before if before else None,
            interval=interval(self.before, self.after),
            chance=self.chance,
            verdict=self._verdict(before, after, beyond, bound),
        )

    def _verdict(self, before: float, after: float, beyond: bool, bound: float) -> Verdict:
        if not self.enough:
            return "same" if before == after else "too few samples"
        if before == after or not beyond:
            return "same"
        if not is_own(self.old):
            return "drift"
        if (after < before) == (self.old.better == "less"):
            return "better"
        past = after > before * (1 + bound) if self.old.better == "less" else after < before * (1 - bound)
        return "regression" if past else "worse"


def _baselines(key: Key, figures: Figures) -> list[Key]:
    """Of hacore's figure `key`: the physical limit first, then the others as they were measured."""
    *same, _ = key
    found = [other for other, figure in figures.items() if list(other[:-1]) == same and not is_own(figure)]
    return sorted(found, key=lambda other: other[-1] != LIMIT)


def _ratios(own: Figure, base: Figure) -> list[float]:
    """Turn by turn, where both had as many turns; else to the baseline's median."""
    if len(own.samples) == len(base.samples):
        return [one / other for one, other in zip(own.samples, base.samples, strict=True)]
    return [one / base.median for one in own.samples]


def _lone(figure: Figure, verdict: Verdict) -> Change:
    return Change(
        name=figure.name,
        unit=figure.unit,
        better=figure.better,
        subject=figure.subject,
        parameters=figure.parameters,
        before=None if verdict == "only after" else figure.median,
        after=figure.median if verdict == "only after" else None,
        ratio=None,
        interval=None,
        chance=1.0,
        verdict=verdict,
    )


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
        if everything or change.verdict not in ("same", "too few samples"):
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
        if (new := after.versions.get(name)) not in (None, old) and name not in ("hacore", "commit"):
            yield f"{name}: {old} before, {new} after"
