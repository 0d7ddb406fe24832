"""The election as a capture tells it, from adverts at literal times."""

from __future__ import annotations

import pytest

from hacore.cli.capture_adverts import VALID, Advert
from hacore.cli.capture_timeline import Timeline

ONE, TWO = "192.0.2.11", "192.0.2.12"


def advert(time: float, source: str, advbase: int = 1, advskew: int = 0, family: int = 4, vhid: int = 1) -> Advert:
    return Advert(
        time=time,
        family=family,
        source=source,
        source_mac="00:00:5e:00:01:01",
        destination="224.0.0.18",
        vhid=vhid,
        advbase=advbase,
        advskew=advskew,
        demotion=0,
        verdict=VALID,
    )


def told(adverts: list[Advert], end: float | None = None) -> tuple[list[tuple[float, str, str]], Timeline]:
    timeline = Timeline()
    for one in sorted(adverts, key=lambda one: one.time):
        timeline.receive(one)
    if end is not None:
        timeline.advance(end)
    ordered = sorted(timeline.happenings, key=lambda one: one.time)
    return [(one.time, one.source, one.text) for one in ordered], timeline


def masters(timeline: Timeline) -> list[str]:
    return [hold.source for _, _, hold in timeline.masters()]


def test_one_master_all_along() -> None:
    lines, timeline = told([advert(t, ONE) for t in range(5)])
    assert lines == [(0, ONE, "is MASTER with 1/0")]
    assert masters(timeline) == [ONE]
    assert timeline.overlaps == []


def test_a_crash_and_the_takeover() -> None:
    adverts = [advert(t, ONE) for t in range(5)] + [advert(7.39, TWO, advskew=100), advert(8.78, TWO, advskew=100)]
    lines, timeline = told(adverts)
    assert lines == [
        (0, ONE, "is MASTER with 1/0"),
        (4, ONE, "fell silent, MASTER for 4.0 s"),
        (7.39, TWO, f"is MASTER with 1/100, 3.4 s after {ONE}'s last advert"),
    ]
    assert timeline.overlaps == []


def test_a_crash_at_advbase_0_is_no_preemption() -> None:
    """The successor waits three of its own intervals; a MASTER that missed two is silent, not preempted."""
    adverts = [advert(t / 256, ONE, 0, 1) for t in range(100)]
    adverts += [advert(99 / 256 + 6 / 256 + t / 128, TWO, 0, 2) for t in range(50)]
    lines, timeline = told(adverts)
    assert [text.split(",")[0] for _, _, text in lines] == ["is MASTER with 0/1", "fell silent", "is MASTER with 0/2"]
    assert lines[-1][2].endswith(f"23 ms after {ONE}'s last advert")
    assert timeline.overlaps == []


def test_a_bow_out() -> None:
    adverts = [advert(0, ONE), advert(1, ONE), advert(1.5, ONE, 255, 255), advert(1.502, TWO, advskew=100)]
    lines, timeline = told(adverts)
    assert lines[1:] == [
        (1.5, ONE, "bows out, MASTER for 1.5 s"),
        (1.502, TWO, f"is MASTER with 1/100, 2.0 ms after {ONE}'s bow-out"),
    ]
    assert masters(timeline) == [TWO]


def test_a_bow_out_repeated_is_told_once() -> None:
    lines, _ = told([advert(0, ONE), advert(1, ONE, 255, 255), advert(1.01, ONE, 255, 255)])
    assert [text for _, _, text in lines] == ["is MASTER with 1/0", "bows out, MASTER for 1.0 s"]


def test_preemption_without_two_at_once() -> None:
    adverts = [advert(t, TWO, advskew=100) for t in (0, 1.39, 2.78)] + [advert(t, ONE) for t in (3, 4, 5, 6, 7)]
    lines, timeline = told(adverts)
    assert lines[1:] == [
        (2.78, TWO, f"gave way to {ONE}, MASTER for 2.8 s"),
        (3, ONE, f"is MASTER with 1/0: preempts {TWO} (1/100)"),
    ]
    assert timeline.overlaps == []


def test_two_masters_at_once() -> None:
    """A partition seen from between: both go on; the worse one gives way when it heals."""
    adverts = [advert(t, ONE) for t in range(12)] + [advert(t + 0.5, TWO, advskew=100) for t in (3, 4, 5, 6)]
    lines, timeline = told(adverts)
    (overlap,) = timeline.overlaps
    assert (overlap.begin, overlap.end) == (3.5, 6.5)
    assert set(overlap.sources) == {ONE, TWO}
    assert (3.5, TWO, f"is MASTER with 1/100: speaks beside {ONE} (1/0)") in lines
    assert (6.5, TWO, f"gave way to {ONE}, MASTER for 3.0 s") in lines
    assert masters(timeline) == [ONE]


def test_a_demotion_is_a_change_not_an_end() -> None:
    adverts = [advert(t / 256, ONE, 0, 1) for t in range(6)]
    adverts += [advert(t / 256, ONE, 0, 240) for t in range(6, 300)]
    lines, timeline = told(adverts)
    assert [text for _, _, text in lines] == ["is MASTER with 0/1", "carries 0/240 instead of 0/1"]
    assert masters(timeline) == [ONE]


def test_families_and_vhids_are_elections_of_their_own() -> None:
    lines, timeline = told([advert(0, ONE), advert(0, "fe80::1", family=6), advert(0, TWO, vhid=2)])
    assert len(lines) == 3
    assert timeline.overlaps == []


def test_silence_is_noticed_without_another_advert() -> None:
    timeline = Timeline()
    timeline.receive(advert(0, ONE, advskew=128))
    assert timeline.advance(3.4) == []
    (end,) = timeline.advance(3.6)
    assert (end.time, end.kind) == (0, "end")
    assert masters(timeline) == []


@pytest.mark.parametrize("advbase", [0, 1])
def test_a_master_that_comes_back(advbase: int) -> None:
    adverts = [advert(t, ONE, advbase, 128) for t in (0, 1.5, 3)] + [advert(20, ONE, advbase, 128)]
    lines, _ = told(adverts)
    assert lines[-1][2] == f"is MASTER with {advbase}/128, 17 s after its own last advert"


def test_the_first_adverts_may_come_in_a_bunch() -> None:
    adverts = [advert(t / 1000, ONE, 0, 20) for t in (0, 1, 2, 80, 158, 236, 314, 392)]
    lines, _ = told(adverts)
    assert [text for _, _, text in lines] == ["is MASTER with 0/20"]
