"""How often an address may try to pair."""

from __future__ import annotations

from hacore.control.attempts import ADDRESSES, BURST, INTERVAL, Attempts


def test_a_burst_passes_and_then_one_at_a_time() -> None:
    attempts = Attempts()
    assert [attempts.wait_time("a", 10.0) for _ in range(BURST)] == [0.0] * BURST
    assert attempts.wait_time("a", 10.0) == INTERVAL
    assert attempts.wait_time("b", 10.0) == 0.0
    assert attempts.wait_time("a", 10.0 + INTERVAL) == 0.0
    assert attempts.wait_time("a", 10.0 + 1.5 * INTERVAL) == INTERVAL / 2
    assert (attempts.made, attempts.held_back) == (BURST + 4, 2)


def test_it_remembers_so_many_addresses_and_no_more() -> None:
    attempts = Attempts()
    for number in range(3 * ADDRESSES):
        assert attempts.wait_time(str(number), 10.0) == 0.0
    assert len(attempts._buckets) == ADDRESSES
