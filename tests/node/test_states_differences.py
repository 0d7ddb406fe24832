"""What `states diff` takes for a difference between two kernels."""

from __future__ import annotations

import numpy as np
import pytest

from hacore.node.states_rows import OFFLOAD, differences
from tests.states.simulation import row


@pytest.mark.parametrize(
    "name",
    [
        "reply_source_port", "protocol_state", "mark", "tcp_scale_reply", "sctp_tag_original", "sctp_tag_reply",
        "labels", "adjust_before_original", "adjust_after_reply", "synproxy_isn", "synproxy_its", "synproxy_tsoff",
        "master_protocol", "master_source", "master_destination_port", "helper",
    ],
)  # fmt: skip
def test_a_field_that_differs_is_named(name: str) -> None:
    here, there = row(1), row(1)
    octets = there.view(np.uint8)
    octets[here.dtype.fields[name][1]] ^= 1  # type: ignore[index]
    (found,) = differences(here, there).values()
    assert found.fields == (name,)


def test_timeouts_and_what_an_injector_adds_are_left_out() -> None:
    here, there = row(1), row(1, timeout=5, tcp_flags_original=0x08)
    assert not differences(here, there)


def test_the_state_of_a_flow_in_a_flow_table_is_not_told() -> None:
    here, there = row(1, tcp_scale_original=7, tcp_flags_reply=1), row(1, status=0x18E | OFFLOAD, protocol_state=0)
    assert not differences(here, there)
    there["mark"] = 1
    (found,) = differences(here, there).values()
    assert found.fields == ("mark",)


def test_entries_of_one_kernel_only() -> None:
    here, there = row(1), row(2)
    found = differences(here, there).values()
    assert [(each.here is None, each.there is None) for each in found] == [(False, True), (True, False)]
