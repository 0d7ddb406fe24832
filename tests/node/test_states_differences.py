"""What `states diff` takes for a difference between two kernels."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from hacore._fast import ctnetlink
from hacore.cli.states_diff import Found, counted
from hacore.linux import conntrack
from hacore.node.states_differences import OFFLOAD, differences, expectation_differences
from tests.node.states_pair import Node, eventually, made
from tests.states.simulation import row
from tests.states.test_expectations import expectation
from tools.ct_flows import ftp_session


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


@pytest.mark.parametrize("name", ["has_nat", "nat_source", "nat_source_port", "flags", "class", "helper", "function"])
def test_a_field_of_an_expectation_that_differs_is_named(name: str) -> None:
    here, there = expectation(20), expectation(20)
    there.view(np.uint8)[here.dtype.fields[name][1]] ^= 1  # type: ignore[index]
    (found,) = expectation_differences(here, there).values()
    assert found.fields == (name,)


def test_the_timeout_of_an_expectation_is_left_out() -> None:
    here, there = expectation(20), expectation(20)
    there["timeout"] += 60
    assert not expectation_differences(here, there)


@pytest.mark.parametrize("name", ["destination_port", "mask_source_port", "master_source", "master_source_port"])
def test_what_is_expected_and_by_whom_makes_another_expectation(name: str) -> None:
    here, there = expectation(20), expectation(20)
    there.view(np.uint8)[here.dtype.fields[name][1]] ^= 1  # type: ignore[index]
    found = expectation_differences(here, there).values()
    assert sorted((each.here is None, each.there is None) for each in found) == [(False, True), (True, False)]


def test_names_from_the_peer_say_nothing_to_the_terminal() -> None:
    there = expectation(20)
    there["helper"] = b"\x1b[2Jftp"
    found = [Found("expectation", each) for each in expectation_differences(expectation(20)[:0], there).values()]
    assert counted(found) == "1 expectation"
    assert str(found[0]).startswith("only there  expectation")
    assert "helper=\N{REPLACEMENT CHARACTER}[2Jftp" in str(found[0])


def expected(node: Node) -> conntrack.Records:
    with node.host.entered():
        return conntrack.dump_expectations()


def test_expectations_of_two_kernels_are_compared(tmp_path: Path) -> None:
    with made(tmp_path) as pair:
        _control, data = ftp_session(pair.one.gateway)
        eventually(lambda: len(expected(pair.one)) == len(expected(pair.two)) == 1)
        alike = pair.one.hacore("states", "diff")
        assert alike.returncode == 0, alike.stdout
        copy = expected(pair.two)
        with pair.two.host.entered(), conntrack.Injector() as injector:
            injector.inject_expectations(copy, np.full(1, ctnetlink.DELETE, np.uint8))
        told = pair.one.hacore("states", "diff")
        assert told.returncode == 1
        assert told.stdout.startswith("fw2: only here   expectation  tcp")
        assert f":{data.destination_port} " in told.stdout
        assert "helper=ftp" in told.stdout
        assert "1 expectation differs" in told.stderr
        there = json.loads(pair.two.hacore("states", "diff", "--json", "--settle", "0").stdout)
        (only,) = there["fw1"]
        assert (only["kind"], only["here"], only["fields"]) == ("expectation", None, [])
        assert only["there"]["destination_port"] == data.destination_port
        assert only["there"]["helper"] == "ftp"

        copy["flags"] |= 1  # NF_CT_EXPECT_PERMANENT
        with pair.two.host.entered(), conntrack.Injector() as injector:
            assert injector.inject_expectations(copy).inserted == 1
        told = pair.one.hacore("states", "diff")
        assert told.returncode == 1
        assert "differs     expectation  tcp" in told.stdout
        assert told.stdout.rstrip().endswith("flags 0 here, 1 there")
