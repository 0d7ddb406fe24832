"""The comparison that the guide's test rests on says no where it should."""

from __future__ import annotations

import pytest

from tests.docs.outputs import fits

EXPECTED = """\
fw1  hacore 0.1.0, pid 812, started 6.1 s ago
...
VIP  STATE   FOR    WHY
lan  MASTER  2.6 s  master ... out
"""


def test_times_pids_versions_and_left_out_lines_may_differ() -> None:
    assert fits(
        EXPECTED,
        "fw1  hacore 10.0.2, pid 1, started 1 h 2 min ago\nnot demoted\n\n"
        "VIP  STATE    FOR  WHY\nlan  MASTER  20 ms   master timed out   \n",
    )


def test_events_may_come_in_another_order() -> None:
    one, two = "2026-03-02 10:23:02.518  lan: up", "2026-03-02 10:23:02.519  wan: up"
    assert fits(f"{one}\n{two}\n", "2027-01-01 00:00:00.000  wan: up\n2027-01-01 00:00:00.100  lan: up\n")
    assert not fits(f"{one}\n{two}\n", f"{one}\n{one}\n")


@pytest.mark.parametrize(
    ("old", "new"), [("fw1", "fw2"), ("MASTER", "BACKUP"), ("6.1 s", "later"), ("lan", "wan"), ("out\n", "out\nmore\n")]
)
def test_anything_else_may_not(old: str, new: str) -> None:
    assert fits(EXPECTED, EXPECTED)
    assert not fits(EXPECTED, EXPECTED.replace(old, new, 1))
