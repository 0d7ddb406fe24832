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


@pytest.mark.parametrize(
    ("old", "new"), [("fw1", "fw2"), ("MASTER", "BACKUP"), ("6.1 s", "later"), ("lan", "wan"), ("out\n", "out\nmore\n")]
)
def test_anything_else_may_not(old: str, new: str) -> None:
    assert fits(EXPECTED, EXPECTED)
    assert not fits(EXPECTED, EXPECTED.replace(old, new, 1))
