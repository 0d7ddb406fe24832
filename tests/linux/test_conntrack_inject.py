"""What becomes of a row in a table that has something there already, or that refuses a part of it; and errors for
exactly the rows that fail.
"""

from __future__ import annotations

import errno
import socket
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from hacore._fast import ctnetlink
from hacore.errors import PrivilegeError
from hacore.linux import conntrack
from hacore.states.layout import Rows, empty_rows
from tests.linux.conntrack_world import by_key, listing
from tests.namespaces import Host, Network
from tools import ct_flows, ct_packets
from tools.ct_flows import flow
from tools.ct_packets import ACK, ESP, GRE, ICMP, ICMPV6, PSH, RST, SCTP, TCP, UDP, UDPLITE

SEEN_REPLY, ASSURED, CONFIRMED, SRC_NAT, DST_NAT, SRC_NAT_DONE, DST_NAT_DONE = 2, 4, 8, 16, 32, 128, 256
DYING, FIXED_TIMEOUT, TEMPLATE, UNTRACKED, HELPER, OFFLOAD, HW_OFFLOAD = (
    1 << 9,
    1 << 10,
    1 << 11,
    1 << 12,
    1 << 13,
    1 << 14,
    1 << 15,
)
NAT = SRC_NAT | SRC_NAT_DONE | DST_NAT_DONE
ESTABLISHED = 3


def connections(count: int, *, protocol: int = TCP, public: int = 1, first_port: int = 10_000) -> Rows:
    """`count` established connections of 10.0.0.2 behind 203.0.113.`public`."""
    rows = empty_rows(count)
    rows["family"], rows["protocol"] = 2, protocol
    rows["source"][:, :4] = (10, 0, 0, 2)
    rows["destination"][:, :4] = rows["reply_source"][:, :4] = (198, 51, 100, 1)
    rows["reply_destination"][:, :4] = (203, 0, 113, public)
    rows["source_port"] = rows["reply_destination_port"] = first_port + np.arange(count)
    rows["destination_port"] = rows["reply_source_port"] = 443
    rows["status"] = SEEN_REPLY | ASSURED | CONFIRMED | NAT
    rows["timeout"] = 1000
    if protocol == TCP:
        rows["protocol_state"] = ESTABLISHED
        rows["tcp_flags_original"] = rows["tcp_flags_reply"] = 0x23
        rows["tcp_scale_original"] = rows["tcp_scale_reply"] = 7
    return rows


def operations(count: int, operation: int) -> Any:
    return np.full(count, operation, np.uint8)


@pytest.fixture
def firewall() -> Iterator[Host]:
    """A namespace with NAT and an empty table; the test works inside."""
    with Network() as network:
        host = network.host("fw")
        host.run("nft", "add table inet t; add chain inet t c { type nat hook postrouting priority 0; }")
        with host.entered():
            yield host


@pytest.fixture
def injector(firewall: Host) -> Iterator[conntrack.Injector]:
    with conntrack.Injector() as made:
        yield made


def injected(
    injector: conntrack.Injector, rows: Rows, operation: int = ctnetlink.INSERT
) -> tuple[dict[str, int], list[int]]:
    """The counts that are not zero but for messages and sends, and the errors."""
    errors = np.full(len(rows), -1, np.int32)
    counts = injector.inject(rows, operations(len(rows), operation), errors).as_dict()
    return {
        name: value for name, value in counts.items() if value and name not in ("messages", "sends")
    }, errors.tolist()


def test_an_entry_that_is_there_is_brought_up_to_date_in_place(injector: conntrack.Injector) -> None:
    rows = connections(10)
    injector.inject(rows)
    ids = [event for batch in conntrack.dump() for event in batch.events["id"].tolist()]
    rows["timeout"], rows["mark"], rows["protocol_state"] = 77, 42, 4
    assert injected(injector, rows) == ({"updated": 10, "queries": 10}, [0] * 10)
    now = conntrack.dump_rows()
    assert set(now["mark"]) == {42}
    assert set(now["protocol_state"]) == {4}
    assert set(now["timeout"]) <= {76, 77}
    assert sorted(ids) == sorted(event for batch in conntrack.dump() for event in batch.events["id"].tolist())


def test_an_update_of_what_is_not_there_inserts_it(injector: conntrack.Injector) -> None:
    rows = connections(10)
    injector.inject(rows[:4])
    assert injected(injector, rows, ctnetlink.UPDATE) == ({"updated": 4, "inserted": 6}, [0] * 10)
    assert conntrack.count() == 10


def test_another_nat_binding_replaces_the_entry(injector: conntrack.Injector) -> None:
    before, after = connections(5, public=1), connections(5, public=2)
    injector.inject(before)
    assert injected(injector, after) == ({"replaced": 5, "queries": 5}, [0] * 5)
    assert set(conntrack.dump_rows()["reply_destination"][:, 3]) == {2}
    assert injected(injector, before, ctnetlink.REPLACE) == ({"replaced": 5}, [0] * 5)
    assert set(conntrack.dump_rows()["reply_destination"][:, 3]) == {1}


@pytest.mark.parametrize("operation", [ctnetlink.INSERT, ctnetlink.UPDATE])
def test_a_status_that_would_lose_a_bit_replaces_the_entry(injector: conntrack.Injector, operation: int) -> None:
    """A 5-tuple used again while the old entry is still there."""
    rows = connections(5)
    injector.inject(rows)
    rows["status"] &= ~np.uint32(ASSURED | SEEN_REPLY)
    rows["protocol_state"] = 1
    assert injected(injector, rows, operation) == ({"replaced": 5, "queries": 5}, [0] * 5)
    assert not (conntrack.dump_rows()["status"] & (ASSURED | SEEN_REPLY)).any()


def test_another_connection_has_to_leave_the_reply_tuple(injector: conntrack.Injector) -> None:
    """The NAT port of an ended connection, given to another one, while its end was missed here."""
    old, new = connections(3), connections(3)
    new["source"][:, 3] = 99
    injector.inject(old)
    counts, errors = injected(injector, new)
    assert (counts["replaced"], counts["displaced"], errors) == (3, 3, [0] * 3)
    assert by_key(conntrack.dump_rows()).keys() == by_key(new).keys()


@pytest.mark.parametrize("operation", [ctnetlink.INSERT, ctnetlink.UPDATE, ctnetlink.REPLACE])
def test_a_row_that_yields_leaves_the_reply_tuple_to_another_connection(
    injector: conntrack.Injector, operation: int
) -> None:
    old, new = connections(3), connections(5)
    new["source"][:, 3] = 99
    injector.inject(old)
    counts, errors = injected(injector, new, operation | ctnetlink.YIELD)
    assert (counts["yielded"], counts.get("inserted", 0) + counts.get("replaced", 0)) == (3, 2)
    assert "failed" not in counts
    assert errors == [errno.EEXIST] * 3 + [0] * 2
    assert by_key(conntrack.dump_rows()).keys() == by_key(np.concatenate([old, new[3:]])).keys()
    assert by_key(conntrack.fetch(new[:3], by_reply=True)).keys() == by_key(old).keys()
    assert not len(conntrack.fetch(new[:3]))
    counts, errors = injected(injector, new[3:], operation | ctnetlink.YIELD)
    assert errors == [0] * 2, "its own entry is in nobody's way"


PROTOCOLS = {
    ICMP: ((8 << 8, 0),), ICMPV6: ((128 << 8, 129 << 8),),
    TCP: (), UDP: (), UDPLITE: (), SCTP: (), GRE: (), ESP: (), 33: (),
}  # fmt: skip


def translated(family: int, protocol: int, bindings: int) -> Rows:
    """Connections with source NAT (bit 0) and destination NAT (bit 1), of addresses and ports."""
    rows = empty_rows(4)
    size = 4 if family == 2 else 16
    for number, name in enumerate(("source", "destination", "reply_source", "reply_destination")):
        rows[name][:, :size] = 10 + number
    if not bindings & 1:
        rows["reply_destination"] = rows["source"]
    if not bindings & 2:
        rows["reply_source"] = rows["destination"]
    rows["family"], rows["protocol"] = family, protocol
    number_ = np.arange(4)
    if protocol in (ICMP, ICMPV6):
        ((asked, answered),) = PROTOCOLS[protocol]
        rows["source_port"], rows["destination_port"] = 500 + number_, asked
        rows["reply_source_port"] = rows["source_port"] + (1000 if bindings & 1 else 0)
        rows["reply_destination_port"] = answered
    elif protocol == GRE:
        rows["source_port"] = rows["reply_destination_port"] = 7 + number_
        rows["destination_port"] = rows["reply_source_port"] = 9
    elif protocol in (TCP, UDP, UDPLITE, SCTP):
        rows["source_port"], rows["destination_port"] = 40_000 + number_, 443
        rows["reply_destination_port"] = rows["source_port"] + (1000 if bindings & 1 else 0)
        rows["reply_source_port"] = 8443 if bindings & 2 else 443
    else:  # nothing to tell them apart
        rows = rows[:1]
    done = SRC_NAT_DONE | DST_NAT_DONE if bindings else 0
    rows["status"] = (
        SEEN_REPLY | ASSURED | CONFIRMED | done | (SRC_NAT if bindings & 1 else 0) | (DST_NAT if bindings & 2 else 0)
    )
    rows["timeout"] = 1000
    if protocol == TCP:
        rows["protocol_state"], rows["tcp_flags_original"], rows["tcp_flags_reply"] = ESTABLISHED, 8, 8
    elif protocol == SCTP:
        rows["protocol_state"], rows["sctp_tag_original"], rows["sctp_tag_reply"] = 4, 0x01020304, 0xFFFFFFFF
    return rows


@pytest.mark.parametrize("bindings", [0, 1, 2, 3], ids=["no NAT", "source", "destination", "both"])
@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("family", [2, 10], ids=["IPv4", "IPv6"])
def test_every_protocol_with_every_nat_binding(
    injector: conntrack.Injector, family: int, protocol: int, bindings: int
) -> None:
    if (protocol, family) in ((ICMP, 10), (ICMPV6, 2)):
        protocol = ICMPV6 if family == 10 else ICMP
    rows = translated(family, protocol, bindings)
    assert injected(injector, rows) == ({"inserted": len(rows)}, [0] * len(rows))
    back = by_key(conntrack.dump_rows())
    for key, row in by_key(rows).items():
        copied = back[key].copy()
        assert 990 <= copied["timeout"] <= 1000
        copied["timeout"] = row["timeout"]
        assert copied == row
    assert injected(injector, rows, ctnetlink.UPDATE)[0] == {"updated": len(rows)}
    assert injected(injector, rows)[0] == {"updated": len(rows), "queries": len(rows)}
    assert injected(injector, rows, ctnetlink.DELETE)[0] == {"deleted": len(rows)}


def test_deletes_and_what_is_not_there_to_delete(injector: conntrack.Injector) -> None:
    rows = connections(6)
    injector.inject(rows[:4])
    assert injected(injector, rows[2:], ctnetlink.DELETE) == ({"deleted": 4, "absent": 2}, [0] * 4)
    assert conntrack.count() == 2


def test_errors_for_exactly_the_rows_that_fail(injector: conntrack.Injector) -> None:
    rows = connections(3000)
    bad = [0, 7, 512, 513, 1999, 2999]
    rows["protocol_state"][bad] = 77  # no TCP state of the kernel's (ERANGE)
    rows["family"][100] = 7
    rows["zone"][200], rows["reply_zone"][200] = 1, 2
    errors = np.full(3000, -1, np.int32)
    counts = injector.inject(rows, None, errors)
    assert np.flatnonzero(errors).tolist() == sorted([*bad, 100, 200])
    assert set(errors[bad]) == {errno.ERANGE}
    assert errors[100] == errors[200] == errno.EINVAL
    assert (counts.inserted, counts.failed, counts.full) == (2992, 8, 0)
    assert conntrack.count() == 2992


def test_an_operation_that_does_not_exist_fails_its_row(injector: conntrack.Injector) -> None:
    rows = connections(3)
    errors = np.zeros(3, np.int32)
    counts = injector.inject(rows, np.array([ctnetlink.INSERT, 9, ctnetlink.GET], np.uint8), errors)
    assert (counts.inserted, counts.failed, errors.tolist()) == (1, 2, [0, errno.EINVAL, errno.EINVAL])


def test_arrays_of_other_lengths_are_refused(injector: conntrack.Injector) -> None:
    rows = connections(3)
    with pytest.raises(ValueError, match="expected 3 operations"):
        injector.inject(rows, operations(2, ctnetlink.INSERT))
    with pytest.raises(ValueError, match="room for 3 errors"):
        injector.inject(rows, None, np.zeros(4, np.int32))
    assert injector.inject(rows[:0]).as_dict() == dict.fromkeys(ctnetlink.INJECTED_FIELDS, 0)


def test_a_helper_and_labels_that_the_kernel_refuses_are_left_out(injector: conntrack.Injector) -> None:
    rows = connections(4)
    rows["helper"][:2] = b"no-such-helper"
    rows["status"][:2] |= HELPER
    rows["helper"][2] = b"ftp"
    rows["status"][2] |= HELPER
    assert injected(injector, rows) == ({"inserted": 4, "no_helper": 2}, [0] * 4)
    now = by_key(conntrack.dump_rows())
    assert [now[key]["helper"] for key in by_key(rows)] == [b"", b"", b"ftp", b""]
    rows["labels"][3, 0] = 4
    rows["mark"] = 5
    assert injected(injector, rows, ctnetlink.UPDATE) == ({"updated": 4, "no_labels": 1}, [0] * 4)
    assert set(conntrack.dump_rows()["mark"]) == {5}


def test_labels_are_set_and_cleared_where_the_ruleset_has_some(firewall: Host, injector: conntrack.Injector) -> None:
    firewall.run("nft", "add chain inet t l { type filter hook forward priority 0; ct label set 3; }")
    rows = connections(3)
    rows["labels"][:, 0] = 8
    rows["labels"][:, 15] = 128
    assert injected(injector, rows)[0] == {"inserted": 3}
    assert (conntrack.dump_rows()["labels"] == rows["labels"]).all()
    rows["labels"] = 0
    assert injected(injector, rows, ctnetlink.UPDATE)[0] == {"updated": 3}
    assert conntrack.dump_rows()["labels"].any()
    assert injected(injector, rows, ctnetlink.UPDATE | ctnetlink.WITH_LABELS)[0] == {"updated": 3}
    assert not conntrack.dump_rows()["labels"].any()
    rows["labels"][:, 0] = 8
    injector.inject(rows)
    assert conntrack.dump_rows()["labels"].any()
    rows["labels"] = 0
    assert injected(injector, rows)[0] == {"updated": 3, "queries": 3}, "asked for, so that it is known"
    assert not conntrack.dump_rows()["labels"].any()


def test_status_bits_that_cannot_be_set_are_masked(injector: conntrack.Injector) -> None:
    rows = connections(1)
    rows["status"] |= DYING | TEMPLATE | UNTRACKED | OFFLOAD | HW_OFFLOAD
    rows["status"] &= ~np.uint32(CONFIRMED)
    assert injected(injector, rows)[0] == {"inserted": 1}
    assert injected(injector, rows, ctnetlink.UPDATE)[0] == {"updated": 1}
    (row,) = conntrack.dump_rows()
    assert row["status"] == SEEN_REPLY | ASSURED | CONFIRMED | NAT


def test_an_offloaded_connection_gets_the_timeout_it_would_have_without(injector: conntrack.Injector) -> None:
    """In a flow table an entry's timer is frozen, and a dump does not tell it."""
    rows = np.concatenate([connections(1), connections(1, protocol=17)])
    rows["status"] |= OFFLOAD
    rows["timeout"] = 0
    injector.inject(rows)
    timeouts = {int(row["protocol"]): int(row["timeout"]) for row in conntrack.dump_rows()}
    assert abs(timeouts[6] - conntrack.sysctl("nf_conntrack_tcp_timeout_established")) <= 2
    assert abs(timeouts[17] - conntrack.sysctl("nf_conntrack_udp_timeout_stream")) <= 2


def test_a_fixed_timeout_stays(injector: conntrack.Injector) -> None:
    rows = connections(2)
    rows["status"] |= FIXED_TIMEOUT
    injector.inject(rows)
    rows["timeout"], rows["mark"] = 5, 6
    assert injected(injector, rows, ctnetlink.UPDATE) == ({"updated": 2, "no_timeout": 2}, [0, 0])
    now = conntrack.dump_rows()
    assert set(now["mark"]) == {6}
    assert (now["timeout"] > 900).all()


def test_copies_live_longer_by_the_extra_timeout(injector: conntrack.Injector) -> None:
    injector.extra_timeout = 120
    rows = connections(2)
    rows["timeout"] = (10, 0xFFFFFFFF)
    injector.inject(rows)
    assert injector.extra_timeout == 120
    timeouts = sorted(conntrack.dump_rows()["timeout"].tolist())
    assert timeouts[0] in (129, 130)
    assert timeouts[1] > 10**6  # the kernel's longest, not wrapped around


@pytest.mark.parametrize(("zone", "reply_zone"), [(5, 5), (5, 0), (0, 5)])
def test_zones_of_both_and_of_one_direction(injector: conntrack.Injector, zone: int, reply_zone: int) -> None:
    rows = connections(2)
    plain = rows.copy()
    rows["zone"], rows["reply_zone"] = zone, reply_zone
    assert injected(injector, rows)[0] == {"inserted": 2}
    now = conntrack.dump_rows()
    assert set(now["zone"]) == {zone}
    assert set(now["reply_zone"]) == {reply_zone}
    rows["mark"] = 9
    assert injected(injector, rows, ctnetlink.UPDATE)[0] == {"updated": 2}
    if zone and reply_zone:
        assert injected(injector, plain)[0] == {"inserted": 2}  # the same tuples, another zone
    assert injected(injector, rows, ctnetlink.DELETE)[0] == {"deleted": 2}


def test_a_full_table_is_told_with_its_number(injector: conntrack.Injector) -> None:
    limit = conntrack.limit()
    assert limit == conntrack.sysctl("nf_conntrack_max")
    left, inserted, step = limit + 500, 0, 50_000
    address = 0
    while left:
        rows = connections(min(step, left), protocol=17, first_port=1)
        address += 1
        rows["source"][:, 1], rows["source"][:, 2] = address >> 8, address & 255
        rows["reply_destination"][:, :4] = rows["source"][:, :4]
        rows["status"] &= ~np.uint32(NAT)
        errors = np.zeros(len(rows), np.int32)
        counts = injector.inject(rows, None, errors)
        inserted += counts.inserted
        left -= len(rows)
        assert counts.full == counts.failed == (errors == errno.ENOMEM).sum()
    # The kernel lets in one more than its limit, or finds the one or other of a full table's entries dispensable.
    assert 490 <= limit + 500 - inserted <= 500
    assert limit - 1 <= conntrack.count() <= limit + 1
    conntrack.flush()
    assert conntrack.count() == 0


def test_own_changes_come_back_with_the_injectors_port_id(firewall: Host, injector: conntrack.Injector) -> None:
    conntrack.keep_events()  # else those born while nobody listens would be silent for ever
    with conntrack.EventSocket() as events:
        rows = connections(20)
        injector.inject(rows)
        injector.inject(rows, operations(20, ctnetlink.UPDATE))
        injector.inject(rows, operations(20, ctnetlink.DELETE))
        received = events.receive()
        told = events.events[: received.rows]
        assert set(told["portid"]) == {injector.portid}
        kinds = [ctnetlink.EVENT_NEW] * 20 + [ctnetlink.EVENT_UPDATE] * 20 + [ctnetlink.EVENT_DESTROY] * 20
        assert told["kind"].tolist() == kinds
        events.mute()
        injector.inject(rows)
        assert events.receive().messages == 0
        events.listen()
        injector.inject(rows, operations(20, ctnetlink.DELETE))
        assert events.receive().rows == 20


def test_lost_events_are_told_and_the_socket_goes_on(injector: conntrack.Injector) -> None:
    with conntrack.EventSocket(buffer_bytes=1 << 16) as events:
        injector.inject(connections(5000))
        overruns = rows = 0
        while (received := events.receive()).messages or received.overrun:
            overruns += received.overrun
            rows += received.rows
        assert overruns == events.overruns == 1
        assert 0 < rows < 5000
        injector.inject(connections(10), operations(10, ctnetlink.DELETE))
        assert events.receive().rows == 10


def test_answers_that_the_kernel_had_to_drop_are_made_up_for(firewall: Host) -> None:
    """More errors in one send than the receive buffer holds: the rows without an answer are asked for."""
    rows = connections(2000)
    with conntrack.Injector(batch_bytes=1 << 19) as injector:
        injector.inject(rows[::2])
        injector._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        changed = rows.copy()
        changed["mark"] = 3
        errors = np.zeros(2000, np.int32)
        counts = injector.inject(changed, None, errors)
    assert counts.lost > 0
    assert not errors.any()
    now = conntrack.dump_rows()
    assert len(now) == 2000
    assert set(now["mark"]) == {3}


def test_no_privilege_no_injector(firewall: Host) -> None:
    program = (
        "from hacore.linux import conntrack\n"
        "for make in (conntrack.Injector, conntrack.count, conntrack.dump_rows):\n"
        "    try: make()\n"
        "    except Exception as error: print(type(error).__name__, error)\n"
    )
    said = firewall.run("setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin", sys.executable, "-c", program)
    assert said.count(PrivilegeError.__name__) == said.count("CAP_NET_ADMIN") == 3, said


def test_sysctls_and_helpers(firewall: Host) -> None:
    conntrack.set_sysctl("nf_conntrack_events", 2)
    assert conntrack.keep_events() == 2
    assert conntrack.keep_events() == 1
    assert {"ftp", "sip", "tftp"} <= set(conntrack.helpers())
    assert conntrack.count() == 0


def test_a_taken_over_connection_passes_whatever_comes_first() -> None:
    """Behind `ct state invalid drop`, with sequence numbers in both halves of their space; a reset must get through as
    well."""
    ruleset = ct_flows.RULESET.replace("priority 0;", "priority 0; ct state invalid drop;")
    with Network() as network:
        gateway, wire = network.host("gw"), network.host("wire")
        with ct_flows.Gateway(gateway.name, wire.name, ruleset) as play:
            cases = [
                (first, own, other)
                for first in range(4)
                for own in (1 << 28, 15 << 28)
                for other in (1 << 28, 15 << 28)
            ]
            rows = connections(len(cases))
            with gateway.entered(), conntrack.Injector() as injector:
                assert injector.inject(rows).inserted == len(cases)
            for index, (first, own, other) in enumerate(cases):
                way = flow(TCP, "10.0.0.2", "198.51.100.1", 10_000 + index, 443)
                back = flow(TCP, "198.51.100.1", "203.0.113.1", 443, 10_000 + index)
                data, reset = ACK | PSH, RST | ACK
                if first % 2:
                    play.send("inside", way, ct_packets.tcp(way, data, own, other, b"more"))
                    assert len(play.expect("outside", 1)) == 1, cases[index]
                    own += 4
                if first // 2:
                    play.send("outside", back, ct_packets.tcp(back, data, other, own, b"answer"))
                    assert len(play.expect("inside", 1)) == 1, cases[index]
                    other += 6
                play.send("inside", way, ct_packets.tcp(way, reset, own, other))
                assert len(play.expect("outside", 1)) == 1, cases[index]
            assert {entry["state"] for entry in listing(gateway).values()} == {"CLOSE"}
