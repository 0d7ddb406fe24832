"""Rules about tuples, against what ipaddress says."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hacore._fast.match import DESTINATION, REPLY_DESTINATION, REPLY_SOURCE, RULE_DTYPE, SOURCE, matching
from hacore.node.states_filter import rule
from hacore.states.layout import empty_rows

ENDS = {
    SOURCE: "source",
    DESTINATION: "destination",
    REPLY_SOURCE: "reply_source",
    REPLY_DESTINATION: "reply_destination",
}
ADDRESSES = st.sampled_from(["10.0.0.1", "10.255.0.1", "192.0.2.7", "2001:db8::1", "2001:db8:0:1::1", "a00:1::"])
NETWORKS = st.sampled_from(["10.0.0.0/8", "10.0.0.1/32", "0.0.0.0/0", "2001:db8::/48", "2001:db8::/128", "::/0"])


@given(
    st.lists(st.tuples(*[ADDRESSES] * 4), min_size=1, max_size=5),
    st.lists(st.tuples(NETWORKS, st.integers(1, 15)), max_size=4),
)
def test_each_end_is_looked_at(quads: list[tuple[str, ...]], rules: list[tuple[str, int]]) -> None:
    rows = empty_rows(len(quads))
    expected = []
    for row, quad in zip(rows, quads, strict=True):
        family = ip_address(quad[0]).version
        ends = [end if ip_address(end).version == family else quad[0] for end in quad]
        row["family"] = 2 if family == 4 else 10
        for (bit, name), end in zip(ENDS.items(), ends, strict=True):
            packed = ip_address(end).packed
            row[name][: len(packed)] = list(packed)
            assert bit
        expected.append(
            any(
                ip_address(end) in ip_network(network)
                for network, bits in rules
                for bit, end in zip(ENDS, ends, strict=True)
                if bits & bit
            )
        )
    made = np.concatenate([np.zeros(0, RULE_DTYPE), *(rule(network=network, ends=bits) for network, bits in rules)])
    assert matching(rows, made).tolist() == expected


def test_every_condition_of_a_rule_has_to_hold() -> None:
    rows = empty_rows(4)
    rows["family"], rows["protocol"] = 2, (6, 6, 17, 6)
    rows["source"][:, 0], rows["source_port"] = 10, (80, 81, 80, 80)
    rows["status"] = (4, 4, 4, 8)
    some = rule(6, "10.0.0.0/8", ends=SOURCE, port=80, status=4)
    assert matching(rows, some).tolist() == [True, False, False, False]
    assert matching(rows, np.zeros(0, RULE_DTYPE)).tolist() == [False] * 4
    assert matching(rows[:0], some).tolist() == []
    assert matching(rows, rule()).tolist() == [True] * 4


@pytest.mark.parametrize("wrong", [np.zeros(3, np.uint8), np.zeros((2, 2), RULE_DTYPE), np.zeros(4, RULE_DTYPE)[::2]])
def test_what_is_no_array_of_rules_is_refused(wrong: np.ndarray[tuple[int, ...], np.dtype[np.void]]) -> None:
    with pytest.raises(ValueError, match=r"Buffer|dimension|contig"):
        matching(empty_rows(1), wrong)
