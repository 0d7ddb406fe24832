"""The election table and the judgement of advertisements, rule by rule of FreeBSD's carp(4)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hacore.carp.table import TABLE, Situation, judge, next_outcome
from hacore.carp.terms import State, effective_advskew, frequency, gate_timeout, master_down_interval


def judged(
    state: State, mine: tuple[int, int], his: tuple[int, int], *, preempt: bool = False, yields: bool = True
) -> str:
    return judge(
        state,
        advbase=mine[0],
        advskew=mine[1],
        his_advbase=his[0],
        his_advskew=his[1],
        preempt=preempt,
        yields_to_equal=yields,
    ).name


@pytest.mark.parametrize(
    ("mine", "his", "expected"),
    [
        ((1, 0), (1, 100), "HEARD_WORSE"),
        ((1, 100), (1, 0), "HEARD_FASTER"),
        ((1, 100), (1, 100), "HEARD_EQUAL"),
        ((1, 255), (2, 0), "HEARD_WORSE"),
        ((0, 1), (255, 255), "HEARD_WORSE"),
        ((0, 240), (0, 2), "HEARD_FASTER"),
    ],
)
def test_master(mine: tuple[int, int], his: tuple[int, int], expected: str) -> None:
    assert judged(State.MASTER, mine, his) == expected


def test_master_that_keeps_between_equals() -> None:
    assert judged(State.MASTER, (1, 0), (1, 0), yields=False) == "HEARD_WORSE"


@pytest.mark.parametrize(
    ("mine", "his", "preempt", "expected"),
    [
        ((1, 0), (1, 100), True, "HEARD_SLOWER"),
        ((1, 0), (1, 100), False, "HEARD_MASTER"),
        ((1, 100), (1, 100), True, "HEARD_MASTER"),
        ((1, 100), (255, 255), False, "HEARD_BOW_OUT"),
        ((0, 2), (255, 255), False, "HEARD_BOW_OUT"),
        ((1, 0), (3, 0), False, "HEARD_MASTER"),
        ((1, 0), (3, 1), False, "HEARD_TOO_SLOW"),
        ((1, 100), (3, 100), False, "HEARD_MASTER"),
        ((0, 2), (0, 240), False, "HEARD_MASTER"),
        ((0, 2), (1, 0), False, "HEARD_MASTER"),
    ],
)
def test_backup(mine: tuple[int, int], his: tuple[int, int], preempt: bool, expected: str) -> None:
    assert judged(State.BACKUP, mine, his, preempt=preempt) == expected


@given(
    mine=st.tuples(st.integers(0, 254), st.integers(0, 240)),
    his=st.tuples(st.integers(0, 254), st.integers(0, 240)),
    preempt=st.booleans(),
)
def test_two_masters_never_both_stay_and_never_both_yield(
    mine: tuple[int, int], his: tuple[int, int], preempt: bool
) -> None:
    """With source addresses that differ exactly one of the two yields."""
    ours = judged(State.MASTER, mine, his, preempt=preempt, yields=True)
    theirs = judged(State.MASTER, his, mine, preempt=preempt, yields=False)
    yielding = {"HEARD_FASTER", "HEARD_EQUAL"}
    assert (ours in yielding) != (theirs in yielding)


def test_every_change_has_a_reason_and_init_hears_nobody() -> None:
    for state, row in TABLE.items():
        for situation, outcome in row.items():
            assert outcome.reason
            assert outcome.state is not state, (state, situation)
    assert not any(situation.name.startswith("HEARD") for situation in TABLE[State.INIT])
    assert next_outcome(State.INIT, Situation.TIMED_OUT) is None


def test_times() -> None:
    assert master_down_interval(1, 100, None) == 3 + 100 / 256
    assert master_down_interval(2, 0, 77.0) == 6
    assert master_down_interval(0, 2, None) == 6 / 256
    assert master_down_interval(0, 1, 2 / 256) == 6 / 256
    assert master_down_interval(0, 0, None) == 3 / 256
    assert gate_timeout(0.0234) == 0.1
    assert gate_timeout(3.5) == 3.5


@given(st.integers(0, 254), st.integers(-500, 500))
def test_effective_advskew_stays_in_its_range(advskew: int, demotion: int) -> None:
    assert 0 <= effective_advskew(advskew, demotion) <= 240
    assert frequency(1, effective_advskew(advskew, demotion)) < 512
