"""Named demotion: sums, counts, and what a reset lets go of."""

from __future__ import annotations

import pytest

from hacore.carp.demotion import LINK_DOWN, MAINTENANCE, SEND_ERRORS, Demotion


def test_counts_are_per_name() -> None:
    demotion = Demotion()
    assert demotion.add("a", 100) == 100
    assert demotion.add("a", 100) == 100
    assert demotion.add("b", -30) == -30
    assert (demotion.total, demotion.reasons) == (170, {"a": 200, "b": -30})
    assert demotion.remove("a") == -100
    assert demotion.remove("a") == -100
    assert "a" not in demotion
    assert demotion.total == -30


def test_unknown_name_is_an_error() -> None:
    with pytest.raises(KeyError):
        Demotion().remove("nothing")


def test_set_replaces() -> None:
    demotion = Demotion()
    demotion.set(LINK_DOWN, 480)
    assert demotion.set(LINK_DOWN, 240) == -240
    assert demotion.set(LINK_DOWN, 240) == 0
    assert demotion.set(LINK_DOWN, 0) == -240
    assert demotion.reasons == {}


def test_reset_keeps_what_is_a_fact() -> None:
    demotion = Demotion()
    demotion.set(MAINTENANCE, 240)
    demotion.set(LINK_DOWN, 240)
    demotion.set(SEND_ERRORS, 240)
    demotion.set("tests", 10, administrative=True)
    assert sorted(demotion.reset()) == [SEND_ERRORS, "tests"]
    assert demotion.reasons == {MAINTENANCE: 240, LINK_DOWN: 240}
