"""Real connections: read as conntrack(8) reads them, put into a second kernel, and the same there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from hacore._fast import ctnetlink
from hacore.linux import conntrack
from tests.linux import conntrack_world
from tests.linux.conntrack_world import World, by_key, listing
from tests.oracle import conntrack as judge
from tools import ct_flows
from tools.ct_packets import TCP

EXPECTED, SEEN_REPLY, ASSURED, CONFIRMED, SRC_NAT, DST_NAT, SEQ_ADJUST = 1, 2, 4, 8, 16, 32, 64
SRC_NAT_DONE, DST_NAT_DONE, HELPER = 128, 256, 1 << 13
LIBERAL, MAXACK = 0x08, 0x20


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with conntrack_world.made() as made:
        yield made


def test_the_world_holds_everything_a_row_can(world: World) -> None:
    rows = world.rows
    assert set(rows["protocol"]) == {1, 6, 17, 47, 50, 51, 58, 132, 136}
    assert set(rows["family"]) == {2, 10}
    status = rows["status"]
    for bit in (EXPECTED, SEEN_REPLY, ASSURED, SRC_NAT, DST_NAT, SEQ_ADJUST):
        assert (status & bit).any(), bit
    assert {(0, 0), (7, 7), (9, 0)} <= set(zip(rows["zone"].tolist(), rows["reply_zone"].tolist(), strict=True))
    assert set(rows["protocol_state"][rows["protocol"] == TCP]) == {1, 2, 3, 4, 8}
    assert {b"ftp", b"sip"} <= set(rows["helper"].tolist())
    assert rows["mark"].any()
    assert rows["labels"].any()
    assert rows["master_protocol"].any()
    assert rows["adjust_after_original"].any()
    assert rows["sctp_tag_original"].any()
    assert len(world.expectations) == 4


def test_a_dump_reads_what_conntrack_lists(world: World) -> None:
    printed = listing(world.gateway)
    with world.gateway.entered():
        rows = conntrack.dump_rows()
    ours = {judge.named(entry): entry for entry in map(judge.of_row, rows)}
    assert ours.keys() == printed.keys()
    for name, entry in ours.items():
        theirs = printed[name]
        assert abs(entry.pop("timeout") - theirs.pop("timeout")) <= 2, name
        assert entry == theirs


def test_counters_and_start_times_are_told_for_display(world: World) -> None:
    with world.gateway.entered():
        batches = [
            (batch.rows.copy(), batch.display.copy())
            for batch in conntrack.dump(display=True)
            if batch.display is not None
        ]
    rows, display = (np.concatenate(column) for column in zip(*batches, strict=True))
    established = (rows["protocol"] == TCP) & (rows["protocol_state"] == 3) & (rows["helper"] == b"")
    assert (display["packets_original"][established] >= 1).all()
    assert (display["packets_original"][established] >= 3).sum() > 100
    assert (display["bytes_reply"][established] >= 40).sum() > 100
    assert (display["start_ns"] > 1_600_000_000 * 10**9).all()
    assert not display["stop_ns"].any()


def test_a_dump_of_one_family_or_zone(world: World) -> None:
    with world.gateway.entered():
        whole, v6, seven, none = (
            conntrack.dump_rows(),
            conntrack.dump_rows(10),
            conntrack.dump_rows(zone=7),
            conntrack.dump_rows(zone=0),
        )
    assert len(v6) == (whole["family"] == 10).sum()
    assert len(seven) == (whole["zone"] == 7).sum() > 0
    assert len(none) == ((whole["zone"] == 0) & (whole["reply_zone"] == 0)).sum()


def test_a_second_kernel_holds_the_same(world: World) -> None:
    copy = world.twin("copy")
    errors = np.full(len(world.rows), -1, np.int32)
    with copy.entered(), conntrack.Injector() as injector:
        injected = injector.inject(world.rows, None, errors)
        rows = conntrack.dump_rows()
    assert not errors.any()
    assert injected.inserted == len(world.rows)
    assert injected.no_helper == injected.no_labels == injected.no_master == 0

    here, there = by_key(world.rows), by_key(rows)
    assert here.keys() == there.keys()
    for key, original in here.items():
        copied = there[key].copy()
        assert 0 <= int(original["timeout"]) - int(copied["timeout"]) <= 5
        copied["timeout"] = original["timeout"]
        if original["protocol"] == TCP:
            for direction in ("original", "reply"):
                # Windows are not replicated: the liberal flag stands in, and the kernel must not think that it knows
                # an acknowledgement.
                assert copied[f"tcp_flags_{direction}"] == int(original[f"tcp_flags_{direction}"]) & ~MAXACK | LIBERAL
                copied[f"tcp_flags_{direction}"] = original[f"tcp_flags_{direction}"]
            if not (original["tcp_flags_original"] & original["tcp_flags_reply"] & 1):
                # The kernel takes window scales only when both sides offered them.
                copied["tcp_scale_original"], copied["tcp_scale_reply"] = (
                    original["tcp_scale_original"],
                    original["tcp_scale_reply"],
                )
        if not original["status"] & (SRC_NAT | DST_NAT):
            # "Looked at by NAT and left as it is": the kernel keeps that bit to itself.
            copied["status"] |= original["status"] & (SRC_NAT_DONE | DST_NAT_DONE)
        assert copied == original

    printed, twin = listing(world.gateway), listing(copy)
    for name, entry in twin.items():
        assert abs(entry.pop("timeout") - printed[name].pop("timeout")) <= 5
        assert entry == printed[name]

    with copy.entered(), conntrack.Injector() as injector:
        failed = np.full(len(world.expectations), -1, np.int32)
        injected = injector.inject_expectations(world.expectations, None, failed)
        expectations = conntrack.dump_expectations()
    assert not failed.any()
    assert injected.inserted == len(world.expectations)
    order = ["protocol", "destination_port"]
    here_sorted, there_sorted = np.sort(world.expectations, order=order), np.sort(expectations, order=order)
    assert (here_sorted["timeout"] - there_sorted["timeout"] <= 5).all()
    there_sorted["timeout"] = here_sorted["timeout"]
    assert (there_sorted == here_sorted).all()


def test_expectations_are_listed_alike_and_can_be_brought_up_to_date_and_deleted(world: World) -> None:
    copy = world.twin("expect")
    with copy.entered(), conntrack.Injector() as injector:
        injector.inject(world.rows)
        injector.inject_expectations(world.expectations)

        def said(host_listing: str) -> list[str]:
            return sorted(line.split(" ", 1)[1] for line in host_listing.splitlines())

        assert said(copy.run("conntrack", "-L", "expect")) == said(world.gateway.run("conntrack", "-L", "expect"))
        changed = world.expectations.copy()
        changed["timeout"] = 77
        again = injector.inject_expectations(changed)
        assert again.replaced == len(changed)
        assert set(conntrack.dump_expectations()["timeout"]) <= {76, 77}
        operations = np.full(len(changed), ctnetlink.DELETE, np.uint8)
        gone = injector.inject_expectations(changed, operations)
        assert gone.deleted == len(changed)
        assert injector.inject_expectations(changed, operations).absent == len(changed)
        assert len(conntrack.dump_expectations()) == 0
        errors = np.zeros(len(changed), np.int32)
        conntrack.flush()
        assert injector.inject_expectations(changed, None, errors).failed == len(changed)
        assert set(errors) == {2}  # ENOENT: no master


def test_events_tell_the_life_of_connections(world: World) -> None:
    """What the event socket hears, completed by `complete`, ends in what a dump says."""
    origin, wire = world.network.host("gw2"), world.network.host("wire2")
    with origin.entered():
        conntrack.keep_events()
        events = conntrack.EventSocket(rows=97, display=True)  # odd, so that datagrams wait for the next call
    with events, ct_flows.Gateway(origin.name, wire.name) as play:
        play.talk(ct_flows.mixed_flows(200))
        play.talk([ct_flows.flow(TCP, "10.0.0.2", "198.18.77.1", 5000 + index, 8443) for index in range(4)])
        play.talk(
            [ct_flows.flow(TCP, "10.0.0.5", "198.51.100.7", 7000 + index, 443) for index in range(5)], last="closing"
        )
        ct_flows.ftp_session(play)
        with origin.entered():
            dumped = by_key(conntrack.dump_rows())
            waiting = conntrack.dump_expectations()
        table: dict[bytes, Any] = {}
        expected: list[np.void] = []
        kinds: set[int] = set()
        while True:
            received = events.receive()
            assert not received.overrun
            assert not received.malformed
            if not received.messages and not received.more:
                break
            rows, told = events.rows[: received.rows], events.events[: received.rows]
            assert not told["portid"].any()  # caused by traffic
            for index in range(received.rows):
                key = rows[index : index + 1].tobytes()[:40]
                kinds.add(int(told["kind"][index]))
                known = np.zeros(1, rows.dtype)
                if key in table:
                    known[0] = table[key]
                row = rows[index : index + 1].copy()
                ctnetlink.complete(row, known, told[index : index + 1])
                table[key] = row[0]
            expected += [row.copy() for row in events.expectations[: received.expectations]]
        assert kinds == {ctnetlink.EVENT_NEW, ctnetlink.EVENT_UPDATE}
        assert table.keys() == dumped.keys()
        # An adjusted sequence number sends no event either. The expectation that comes with it says where to look.
        (helped,) = (key for key, row in dumped.items() if row["status"] & SEQ_ADJUST)
        asked = np.zeros(1, rows.dtype)
        asked["family"], asked["protocol"] = expected[0]["family"], expected[0]["master_protocol"]
        for end in ("source", "destination"):
            asked[end], asked[f"{end}_port"] = expected[0][f"master_{end}"], expected[0][f"master_{end}_port"]
        with origin.entered():
            now = conntrack.fetch(asked)
            impossible = np.zeros(1, rows.dtype)  # of ICMP, with a type that the kernel does not know
            impossible["family"], impossible["protocol"], impossible["destination_port"] = 2, 1, 50 << 8
            assert not len(conntrack.fetch(impossible))
        assert asked.tobytes()[:40] == helped
        table[helped] = now[0].copy()
        for key, row in table.items():
            # An active flow is refreshed without an event; so are the TCP flags, and a NAT bit comes after the last
            # event.
            for field in ("timeout", "tcp_flags_original", "tcp_flags_reply"):
                row[field] = dumped[key][field]
            different = [name for name in rows.dtype.names or () if not np.array_equal(row[name], dumped[key][name])]
            assert not different, [(name, row[name], dumped[key][name]) for name in different]
        assert len(expected) == 1
        expected[0]["timeout"] = waiting[0]["timeout"]
        assert expected[0] == waiting[0]

        with origin.entered():
            conntrack.flush()
        ended = 0
        while (received := events.receive()).messages or received.more:
            told = events.events[: received.rows]
            assert (told["kind"] == ctnetlink.EVENT_DESTROY).all()
            assert events.display is not None
            assert (events.display["stop_ns"][: received.rows] >= events.display["start_ns"][: received.rows]).all()
            ended += received.rows
        assert ended == len(dumped)


def test_an_expected_connection_brings_its_master_in_any_order(world: World) -> None:
    copy = world.twin("masters")
    with_master = world.rows[world.rows["master_protocol"] != 0]
    others = world.rows[world.rows["master_protocol"] == 0]
    assert len(with_master) == 1
    with copy.entered(), conntrack.Injector() as injector:
        injected = injector.inject(np.concatenate([with_master, others]))
        assert injected.no_master == 0
        assert injected.failed == 0
        rows = conntrack.dump_rows()
        assert (rows["status"] & EXPECTED).sum() == 1
        conntrack.flush()
        injected = injector.inject(with_master)
        assert (injected.inserted, injected.no_master) == (1, 1)
        (alone,) = conntrack.dump_rows()
        again = injector.inject(with_master)
        assert (again.updated, again.no_master) == (1, 1)  # not begun anew each time
    assert alone["master_protocol"] == 0
    assert not alone["status"] & EXPECTED


def test_a_transfer_announced_here_can_begin_there(world: World) -> None:
    """The data connection of an FTP session that this gateway has tracked, opened through the other one."""
    other, wire = world.network.host("gw3"), world.network.host("wire3")
    with ct_flows.Gateway(other.name, wire.name) as play:
        with other.entered(), conntrack.Injector() as injector:
            injector.inject(world.rows)
            injector.inject_expectations(world.expectations)
        assert len(play.talk([world.data], origin="outside")) == 1
        with other.entered():
            rows = conntrack.dump_rows()
        data = rows[(rows["source_port"] == 20) & (rows["source"][:, 3] == world.data.source[3])]
        assert len(data) == 1
        assert data["master_destination_port"][0] == 21
        assert data["protocol_state"][0] == 3
        assert data["helper"][0] == b""  # plain data: the master's helper is not for it
