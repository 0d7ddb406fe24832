"""The election as its adverts tell it: who was MASTER of each VHID when, how each change came about, two at once.

Nothing here reads a clock: `receive` takes adverts in the order of their times, `advance` says that time has passed.
IPv4 and IPv6 of one VHID are elections of their own here, because nothing on the wire ties their sources together.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from msgspec import Struct

from hacore.carp.terms import DEAD_RATIO, SKEW_UNIT, advert_interval, frequency, master_down_interval
from hacore.cli.capture_adverts import Advert
from hacore.cli.terminal import duration

#: Intervals after which their mean is better than what the advert says.
TRUSTED_GAPS = 4


class Happening(Struct, frozen=True, kw_only=True):
    """One line of the timeline; `kind` is "master", "end", "beside" or "change"."""

    time: float
    vhid: int
    family: int
    source: str
    kind: str
    text: str


class Overlap(Struct, kw_only=True):
    """Two sources advertised the same VHID at once, from the later one's first advert to the earlier one's last."""

    vhid: int
    family: int
    sources: tuple[str, str]
    begin: float
    end: float


@dataclass(slots=True)
class Hold:
    """A source that advertises: since when, what it last said, and how often it speaks."""

    source: str
    begin: float
    last: float
    advbase: int
    advskew: int
    interval: float = 0.0
    gaps: int = 0
    overlaps: dict[str, Overlap] = field(default_factory=dict)

    @property
    def usual_interval(self) -> float:
        """Seconds between its adverts: at advbase 0 as measured, for a demoted node sends more often than it says."""
        claimed = advert_interval(self.advbase, self.advskew)
        if self.advbase:
            return claimed
        # The first gaps may be anything: adverts that waited together, a repeated announcement.
        return max(SKEW_UNIT, self.interval) if self.gaps >= TRUSTED_GAPS else max(claimed, self.interval)

    @property
    def dead_time(self) -> float:
        """How long a BACKUP would wait for its next advert."""
        if self.advbase:
            return master_down_interval(self.advbase, self.advskew, None)
        return DEAD_RATIO * self.usual_interval

    def hear(self, advert: Advert) -> None:
        """Takes its next advert."""
        gap = advert.time - self.last
        self.interval += (gap - self.interval) / min(self.gaps + 1, TRUSTED_GAPS)
        self.gaps += 1
        self.last, self.advbase, self.advskew = advert.time, advert.advbase, advert.advskew


@dataclass(slots=True)
class Ended:
    """The last MASTER that was: who, when it spoke last, and whether it had bowed out."""

    source: str
    at: float
    bowed_out: bool


class Timeline:
    """One for all VHIDs of a capture. `happenings` grows in the order in which things become known."""

    def __init__(self) -> None:
        self.happenings: list[Happening] = []
        self.overlaps: list[Overlap] = []
        self._holds: dict[tuple[int, int], dict[str, Hold]] = {}
        self._ended: dict[tuple[int, int], Ended] = {}

    def receive(self, advert: Advert) -> list[Happening]:
        """Takes an advert that counts; what became known by it."""
        known = len(self.happenings)
        place = (advert.vhid, advert.family)
        holds = self._holds.setdefault(place, {})
        self._expire(place, advert.time)
        hold = holds.get(advert.source)
        if hold is None and not advert.bows_out:
            self._expire(place, advert.time, misses=2)
        if advert.bows_out:
            if hold is not None:
                held = duration(advert.time - hold.begin)
                self._end(place, hold, advert.time, f"bows out, MASTER for {held}", bowed_out=True)
            elif (ended := self._ended.get(place)) is None or ended.source != advert.source:
                self._tell(advert.time, place, advert.source, "change", "bows out, was not seen as MASTER")
        elif hold is None:
            self._begin(place, advert)
        else:
            if (hold.advbase, hold.advskew) != (advert.advbase, advert.advskew):
                text = f"carries {advert.advbase}/{advert.advskew} instead of {hold.advbase}/{hold.advskew}"
                self._tell(advert.time, place, advert.source, "change", text)
            hold.hear(advert)
            self._overlap(place, hold)
        return self.happenings[known:]

    def advance(self, now: float) -> list[Happening]:
        """Time has passed without an advert; what became known by that."""
        known = len(self.happenings)
        for place in self._holds:
            self._expire(place, now)
        return self.happenings[known:]

    def masters(self) -> list[tuple[int, int, Hold]]:
        """Who is MASTER now: VHID, family, hold."""
        return [(*place, hold) for place, holds in sorted(self._holds.items()) for hold in holds.values()]

    def _begin(self, place: tuple[int, int], advert: Advert) -> None:
        holds = self._holds[place]
        hold = Hold(advert.source, advert.time, advert.time, advert.advbase, advert.advskew)
        others = [other for other in holds.values() if other.source != advert.source]
        text = f"is MASTER with {advert.advbase}/{advert.advskew}"
        ended = self._ended.get(place)
        if others:
            other = others[-1]
            faster = frequency(advert.advbase, advert.advskew) < frequency(other.advbase, other.advskew)
            how = "preempts" if faster else "speaks beside"
            text += f": {how} {other.source} ({other.advbase}/{other.advskew})"
        elif ended is not None:
            gap = duration(advert.time - ended.at)
            what = "bow-out" if ended.bowed_out else "last advert"
            whose = "its own" if ended.source == advert.source else f"{ended.source}'s"
            text += f", {gap} after {whose} {what}"
        holds[advert.source] = hold
        self._tell(advert.time, place, advert.source, "master", text)

    def _overlap(self, place: tuple[int, int], hold: Hold) -> None:
        """`hold` has just spoken: it overlaps with each that began since it last did, or before, and still speaks."""
        for other in self._holds[place].values():
            if other is hold:
                continue
            known = hold.overlaps.get(other.source)
            begin = max(hold.begin, other.begin)
            if min(hold.last, other.last) < begin:
                continue
            if known is None:
                known = Overlap(
                    vhid=place[0], family=place[1], sources=(other.source, hold.source), begin=begin, end=begin
                )
                hold.overlaps[other.source] = other.overlaps[hold.source] = known
                self.overlaps.append(known)
                self._tell(hold.last, place, hold.source, "beside", f"still advertises beside {other.source}")
            known.end = min(hold.last, other.last)

    def _expire(self, place: tuple[int, int], now: float, misses: int = 0) -> None:
        """Ends who has been silent for the dead time or, where somebody else begins, for `misses` intervals."""
        for hold in list(self._holds[place].values()):
            limit = misses * hold.usual_interval if misses else hold.dead_time
            if now - hold.last > limit:
                own = frequency(hold.advbase, hold.advskew)
                others = [other for other in self._holds[place].values() if other is not hold]
                better = next((other for other in others if frequency(other.advbase, other.advskew) <= own), None)
                how = f"gave way to {better.source}" if better else "fell silent"
                text = f"{how}, MASTER for {duration(hold.last - hold.begin)}"
                self._end(place, hold, hold.last, text, bowed_out=False)

    def _end(self, place: tuple[int, int], hold: Hold, at: float, text: str, *, bowed_out: bool) -> None:
        del self._holds[place][hold.source]
        for overlap in hold.overlaps.values():
            other = next(source for source in overlap.sources if source != hold.source)
            if other in self._holds[place]:
                self._holds[place][other].overlaps.pop(hold.source, None)
        self._ended[place] = Ended(hold.source, at, bowed_out)
        self._tell(at, place, hold.source, "end", text)

    def _tell(self, time: float, place: tuple[int, int], source: str, kind: str, text: str) -> None:
        self.happenings.append(
            Happening(time=time, vhid=place[0], family=place[1], source=source, kind=kind, text=text)
        )
