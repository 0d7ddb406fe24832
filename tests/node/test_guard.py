"""The pulse page and the guard's judgement of it. What a guard does to a dead worker is tested with real nodes."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from hacore.node.guard import LATE_SHARE, SHORTEST_SILENCE, SILENT_SHARE, Guard
from hacore.node.messages import Device, LastWords, VipLastWords
from hacore.node.pulse import Pulse


def words(*dead_times: float) -> LastWords:
    device = Device(
        name="d", device="none", ifindex=0, parent_ifindex=0, mac="", parent_mac="", noprefixroute=[], gate="none"
    )
    return LastWords(
        vips=[
            VipLastWords(
                name=f"vip{number}", interface="none", dead_time=dead, bow_out=[b""], addresses=[], device=device
            )
            for number, dead in enumerate(dead_times)
        ]
    )


@pytest.fixture
def guard() -> Iterator[Guard]:
    made = Guard()
    yield made
    made.close()


def worker_side(guard: Guard) -> Pulse:
    return Pulse(os.dup(guard.pulse_fd))


def test_flags_and_beats_are_shared(guard: Guard) -> None:
    pulse = worker_side(guard)
    guard.take(words(3.0, 3.0, 3.0))
    pulse.set_held(0, True)
    pulse.set_held(2, True)
    pulse.beat(12.5)
    assert [vip.name for vip in guard.held] == ["vip0", "vip2"]
    pulse.set_held(0, False)
    assert [vip.name for vip in guard.held] == ["vip2"]


def test_silence_counts_only_while_something_is_held(guard: Guard) -> None:
    guard.renew(0.0)
    guard.take(words(3.0))
    assert guard.silence_allowed() is None
    for _ in range(40):
        assert not guard.is_silent(guard.next_look(10.0))
    worker_side(guard).set_held(0, True)
    assert guard.silence_allowed() == 3.0
    assert guard.is_silent(guard.next_look(10.0))


@pytest.mark.parametrize(("dead", "allowed"), [(0.02, SHORTEST_SILENCE), (3.4, 3.4)])
def test_the_next_look_is_when_the_pulse_may_have_rested_for_too_long(
    guard: Guard, dead: float, allowed: float
) -> None:
    guard.take(words(10.0, dead))
    pulse = worker_side(guard)
    pulse.beat(100.0)
    assert guard.next_look(100.0) == pytest.approx(100.0 + SILENT_SHARE * allowed, abs=0.01)
    assert guard.next_look(100.5) == pytest.approx(100.0 + SILENT_SHARE * allowed, abs=0.01)
    look = guard.next_look(101.0 + SILENT_SHARE * allowed)
    assert look == 101.0 + SILENT_SHARE * allowed + LATE_SHARE * allowed, "silence while nothing is held is no alarm"
    pulse.set_held(1, True)
    assert guard.is_silent(look), "held between two looks, and silent since"
    pulse.beat(look)
    assert not guard.is_silent(look)


def test_living_worker_is_not_silent(guard: Guard) -> None:
    guard.renew(0.0)
    guard.take(words(0.02, 3.0))
    pulse = worker_side(guard)
    pulse.set_held(0, True)
    assert guard.silence_allowed() == SHORTEST_SILENCE
    for step in range(100):
        pulse.beat(step * 0.1)
        guard.next_look(step * 0.1)
        assert not guard.is_silent(step * 0.1 + 0.05)


def test_a_guard_that_was_stalled_itself_looks_again_first(guard: Guard) -> None:
    guard.renew(0.0)
    guard.take(words(3.0))
    worker_side(guard).set_held(0, True)
    assert not guard.is_silent(60.0), "both were stalled: the worker has not had its turn yet"
    look = guard.next_look(60.0)
    assert look == 60.0 + LATE_SHARE * 3.0
    assert guard.is_silent(look)


def test_giving_up_clears_the_flags(guard: Guard) -> None:
    guard.take(words(3.0, 3.0))
    worker_side(guard).set_held(1, True)
    assert guard.give_up(1.0) == ["vip1"]
    assert guard.give_up(1.0) == []
