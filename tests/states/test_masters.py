"""Connections that others expected come after those, however long the chain; circles, which no kernel has, end."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hacore.states.gather import keys
from hacore.states.layout import Rows
from hacore.states.masters import generations, masters_first, masters_of
from tests.states.simulation import rows


def family(masters: Mapping[int, int], count: int) -> Rows:
    """Connections 0 to `count` - 1, of which some have another one of them (or one that is not there) as master."""
    made = rows(range(count))
    everyone = rows(range(count + 1))
    for number, master in masters.items():
        made["master_protocol"][number] = everyone["protocol"][master]
        for name in ("source", "destination", "source_port", "destination_port"):
            made[f"master_{name}"][number] = everyone[name][master]
    return made


def above(masters: Mapping[int, int], count: int, number: int) -> int | None:
    """How many stand above that one; None: it is in a circle, or below one."""
    found = 0
    while (number := masters.get(number, count)) < count:
        found += 1
        if found > count:
            return None
    return found


FAMILIES = st.integers(1, 20).flatmap(
    lambda count: st.tuples(
        st.dictionaries(st.integers(0, count - 1), st.integers(0, count)), st.permutations(range(count))
    )
)


@given(FAMILIES)
def test_a_master_comes_before_those_that_it_expected(drawn: tuple[dict[int, int], list[int]]) -> None:
    masters, shuffled = drawn
    count = len(shuffled)
    made = family(masters, count)[shuffled]
    order = masters_first(made)
    if order is None:
        assert not masters
        return
    assert sorted(order.tolist()) == list(range(count))
    place = {shuffled[at]: number for number, at in enumerate(order.tolist())}
    for child, master in masters.items():
        if master < count and above(masters, count, child) is not None:
            assert place[master] < place[child]
    expected = made[made["master_protocol"] != 0]
    found = generations(keys(expected), keys(masters_of(expected)))
    assert len(found) == len(expected)


def test_rows_without_masters_stay_as_they_are() -> None:
    assert masters_first(rows(range(5))) is None
    assert masters_first(rows([])) is None
    some = family({2: 0}, 5)
    order = masters_first(some)
    assert order is not None
    assert order.tolist() == [0, 1, 3, 4, 2]


def test_as_long_a_chain_as_there_are_rows_takes_a_moment() -> None:
    count = 30_000
    made = np.repeat(rows([1]), count)
    made["source"][:, :4] = np.arange(count, dtype=">u4").view(np.uint8).reshape(count, 4)
    made["master_protocol"] = 6
    for name in ("source", "destination", "source_port", "destination_port"):
        made[f"master_{name}"] = np.roll(made[name], 1, axis=0)
    made["master_protocol"][0] = 0
    shuffled = np.random.default_rng(5).permutation(count)
    order = masters_first(made[shuffled])
    assert order is not None
    assert shuffled[order].tolist() == list(range(count))
