"""Conntrack messages against their definition in plain Python, without a kernel."""

from __future__ import annotations

import socket
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hacore._fast import ctnetlink
from hacore._fast.ctnetlink_dtypes import DISPLAY_DTYPE, EVENT_DTYPE, EXPECTATION_DTYPE
from hacore.errors import PlatformError
from hacore.states.layout import ROW_DTYPE, Rows, empty_rows
from tests.oracle import ctnetlink as oracle

VECTORS = Path(__file__).parent.parent / "vectors" / "ctnetlink.bin"
MULTI, CREATE, EXCL = 2, 0x400, 0x200
EXPECTED, SEEN_REPLY, ASSURED, CONFIRMED, SRC_NAT, DST_NAT, SEQ_ADJUST = 1, 2, 4, 8, 16, 32, 64
DYING, TEMPLATE, UNTRACKED, OFFLOAD, HW_OFFLOAD = 1 << 9, 1 << 11, 1 << 12, 1 << 14, 1 << 15


def parse(octets: bytes, room: int = 16, **options: Any) -> tuple[ctnetlink.Received, Rows, Any]:
    rows, events = empty_rows(room), np.zeros(room, EVENT_DTYPE)
    received = ctnetlink.parse(octets, rows, events, **options)
    return received, rows[: received.rows], events[: received.rows]


@st.composite
def rows_of_any_kind(draw: st.DrawFn) -> Rows:
    """One row that the kernel could dump."""

    def bits(size: int) -> int:
        return draw(st.integers(0, (1 << size) - 1))

    row = empty_rows(1)
    one = row[0]
    one["family"] = draw(st.sampled_from([2, 10]))
    size = 4 if one["family"] == 2 else 16
    one["protocol"] = protocol = draw(st.sampled_from([6, 17, 132, 136, 47, 33, 50, 1 if size == 4 else 58]))
    master = draw(st.booleans())
    for name in (
        "source",
        "destination",
        "reply_source",
        "reply_destination",
        *(("master_source", "master_destination") if master else ()),
    ):
        one[name][:size] = list(draw(st.binary(min_size=size, max_size=size)))
    if protocol != 50:
        for name in ("source_port", "destination_port", "reply_source_port", "reply_destination_port"):
            one[name] = bits(16)
    if master:
        one["master_protocol"], one["master_source_port"], one["master_destination_port"] = 6, bits(16), bits(16)
    one["zone"], one["reply_zone"] = draw(st.sampled_from([(0, 0), (7, 7), (7, 0), (0, 7)]))
    adjusted = draw(st.booleans())
    one["status"] = (
        (bits(16) & ~(SEQ_ADJUST | EXPECTED)) | (SEQ_ADJUST if adjusted else 0) | (EXPECTED if master else 0)
    )
    one["timeout"], one["mark"] = bits(32), bits(32)
    if protocol == 6:
        for name in (
            "protocol_state",
            "tcp_scale_original",
            "tcp_scale_reply",
            "tcp_flags_original",
            "tcp_flags_reply",
        ):
            one[name] = bits(8)
    elif protocol == 132:
        one["protocol_state"], one["sctp_tag_original"], one["sctp_tag_reply"] = bits(8), bits(32), bits(32)
    elif protocol == 33:
        one["protocol_state"] = bits(8)
    if adjusted:
        for direction in ("original", "reply"):
            one[f"adjust_position_{direction}"] = bits(32)
            one[f"adjust_before_{direction}"] = bits(32) - (1 << 31)
            one[f"adjust_after_{direction}"] = bits(32) - (1 << 31)
    if draw(st.booleans()):
        one["labels"] = list(draw(st.binary(min_size=16, max_size=16)))
        one["synproxy_isn"], one["synproxy_its"], one["synproxy_tsoff"] = bits(32), bits(32), bits(32)
        one["helper"] = draw(st.from_regex(rb"\A[a-zA-Z0-9.-]{1,15}\Z"))
    return row


@given(row=rows_of_any_kind(), data=st.data())
def test_a_dumped_entry_is_read_whatever_the_order(row: Rows, data: st.DataObject) -> None:
    attributes = oracle.attributes_of(row[0])
    unknown = [oracle.attribute(99, b"?" * 5), oracle.nest(19, oracle.attribute(1, b"kernel\0")), oracle.number(11, 1)]
    octets = b"".join(data.draw(st.permutations(attributes + unknown)))
    received, rows, events = parse(oracle.message(0, MULTI, int(row["family"][0]), octets, portid=77))
    assert (received.rows, received.malformed, received.more) == (1, 0, False)
    assert rows[0] == row[0]
    assert (events["kind"][0], events["portid"][0]) == (ctnetlink.EVENT_DUMP, 77)


@given(row=rows_of_any_kind())
def test_what_is_built_is_what_the_kernel_reads(row: Rows) -> None:
    """An insert carries all of the row; the reply tuple without NAT and the bindings give the row's reply tuple
    again."""
    (built,) = oracle.messages(ctnetlink.build(row, sequence=5))
    length, kind, flags, sequence, _ = struct.unpack_from("=IHHII", built)
    assert (length, kind, flags, sequence) == (len(built), 0x100, 1 | CREATE | EXCL, 5)
    assert built[16] == row["family"][0]
    sent, one = oracle.taken_apart(built[20:]), row[0]
    definition = oracle.taken_apart(b"".join(oracle.attributes_of(one)))
    for same in (1, 5, 14, 18, 22, 24):
        assert sent.get(same) == definition.get(same), same
    assert sent.get(8, bytes(4)) == definition[8]  # no mark is none
    if one["protocol"] == 6:
        info, was = sent[4][1], definition[4][1]
        assert (info[1], info[2], info[3]) == (was[1], was[2], was[3])
        for direction in (4, 5):
            assert info[direction] == bytes([(was[direction][0] & ~0x20) | 0x08, 0xFF])
    elif one["protocol"] == 132 and one["protocol_state"]:
        assert sent[4] == definition[4]
    kept = ~(EXPECTED | DYING | TEMPLATE | UNTRACKED | OFFLOAD | HW_OFFLOAD)
    assert int.from_bytes(sent[3], "big") == int(one["status"]) & kept | CONFIRMED

    # The reply tuple as the kernel will have it (nf_nat_setup_info).
    reply, icmp = sent[2], one["protocol"] in (1, 58)
    addresses = [1, 2] if one["family"] == 2 else [3, 4]
    minimum = 1 if one["family"] == 2 else 4
    source_half = {1: 4, 58: 7}.get(int(one["protocol"]), 2)
    for nat, address, port in ((6, addresses[1], source_half if icmp else 3), (13, addresses[0], 2)):
        if nat in sent:
            assert minimum + 1 not in sent[nat]  # without an end the range is one address
            reply[1][address] = sent[nat][minimum]
            if 3 in sent[nat] and not (icmp and nat == 13):
                assert 2 not in sent[nat][3]
                reply[2][port] = sent[nat][3][1]
    if not icmp or one["status"] & (SRC_NAT | 128):
        assert reply == definition[2]


def test_an_update_leaves_out_what_only_a_new_entry_may_have() -> None:
    row = empty_rows(1)
    row["family"], row["protocol"], row["status"] = 2, 6, SEEN_REPLY | ASSURED | SRC_NAT | EXPECTED
    row["source"][0, :4], row["reply_destination"][0, :4] = 1, 2
    row["master_protocol"], row["helper"], row["timeout"] = 6, b"ftp", 9
    (message,) = oracle.messages(ctnetlink.build(row, np.array([ctnetlink.UPDATE], np.uint8)))
    assert struct.unpack_from("=H", message, 6)[0] == 1
    sent = oracle.taken_apart(message[20:])
    assert set(sent) == {1, 3, 4, 7, 8}
    assert int.from_bytes(sent[3], "big") == SEEN_REPLY | ASSURED | SRC_NAT | EXPECTED | CONFIRMED


def test_a_replacement_is_a_delete_and_an_insert() -> None:
    row = empty_rows(1)
    row["family"], row["protocol"] = 10, 17
    gone, new = oracle.messages(ctnetlink.build(row, np.array([ctnetlink.REPLACE], np.uint8)))
    assert (gone[4], new[4]) == (2, 0)
    assert set(oracle.taken_apart(gone[20:])) == {1}
    (asked,) = oracle.messages(ctnetlink.build(row, np.array([ctnetlink.GET], np.uint8)))
    assert (asked[4], asked[20:]) == (1, gone[20:])


def test_a_row_that_no_message_can_tell() -> None:
    row = empty_rows(2)
    row["family"] = 2, 3
    with pytest.raises(ValueError, match="row 1 cannot be told"):
        ctnetlink.build(row)
    row["family"], row["zone"], row["reply_zone"] = 2, 1, 2
    with pytest.raises(ValueError, match="row 0 cannot be told"):
        ctnetlink.build(row)


V4 = empty_rows(1)
V4["family"], V4["protocol"], V4["status"], V4["timeout"] = 2, 6, SEEN_REPLY | CONFIRMED, 100
ORIGINAL, REPLY, *REST = oracle.attributes_of(V4[0])
ADDRESSES = oracle.nest(1, oracle.attribute(1, b"1234"), oracle.attribute(2, b"5678"))


@pytest.mark.parametrize(
    ("rung", "attributes"),
    [
        ("tuple", ORIGINAL),
        ("tuple", REPLY),
        ("tuple", ORIGINAL + oracle.nest(2, ADDRESSES, oracle.nest(2, oracle.number(1, 17, 1)))),  # two protocols
        ("tuple", REPLY + oracle.nest(1, ADDRESSES)),
        (
            "tuple",
            REPLY
            + oracle.nest(1, oracle.nest(1, oracle.attribute(1, b"1234")), oracle.nest(2, oracle.number(1, 6, 1))),
        ),
        ("tuple", REPLY + oracle.nest(1, ADDRESSES, oracle.nest(2, oracle.number(2, 6, 2)))),
        (
            "length",
            REPLY
            + oracle.nest(1, oracle.nest(1, oracle.attribute(1, b"12345")), oracle.nest(2, oracle.number(1, 6, 1))),
        ),
        ("length", ORIGINAL + REPLY + oracle.attribute(3, b"123")),
        ("length", ORIGINAL + REPLY + oracle.attribute(22, b"1" * 20)),
        ("length", ORIGINAL + REPLY + oracle.attribute(22, b"1" * 3)),
        ("length", ORIGINAL + REPLY + oracle.nest(9, oracle.number(1, 5, 4))),
        ("length", ORIGINAL + REPLY + oracle.nest(4, oracle.nest(1, oracle.number(4, 5, 4)))),
        ("value", ORIGINAL + REPLY + oracle.nest(5, oracle.attribute(1, b"sixteen-letters!"))),
        ("value", ORIGINAL + REPLY + oracle.nest(4, oracle.nest(2, oracle.number(1, 200, 1)))),
        ("attribute", ORIGINAL + REPLY + b"\3\0\1\0"),
        ("attribute", ORIGINAL + REPLY + b"\x09\0\1\0"),
        ("attribute", ORIGINAL + REPLY + b"\0\0"),
        ("attribute", ORIGINAL + REPLY + oracle.attribute(15 | oracle.NESTED, b"\xff\xff\1\0")),
    ],
)
def test_a_malformed_message_is_one_error_and_the_next_is_read(rung: str, attributes: bytes) -> None:
    good = oracle.message(0, MULTI, 2, ORIGINAL + REPLY)
    bad = oracle.message(0, MULTI, 2, attributes)
    bad += b"\0" * (-len(bad) % 4)
    received, rows, _ = parse(good + bad + good)
    assert (received.rows, received.malformed, received.first_malformed, received.messages) == (2, 1, len(good), 3)
    assert (rows[0] == rows[1]).all()
    reader = ctnetlink.Reader(empty_rows(4), np.zeros(4, EVENT_DTYPE))
    assert received_by(reader, bad).malformed == 1
    assert reader.malformed == dict.fromkeys(ctnetlink.RUNGS, 0) | {rung: 1}


def received_by(reader: ctnetlink.Reader, *datagrams: bytes) -> ctnetlink.Received:
    """What it makes of datagrams that wait for it."""
    far, near = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with far, near:
        for datagram in datagrams:
            far.send(datagram)
        return reader.receive(near.fileno())


def test_many_datagrams_in_one_call_and_more_than_there_is_room_for() -> None:
    good = oracle.message(0, MULTI, 2, ORIGINAL + REPLY)
    rows, events = empty_rows(10), np.zeros(10, EVENT_DTYPE)
    reader = ctnetlink.Reader(rows, events, datagrams=8, datagram_bytes=1024)
    received = received_by(reader, good, good * 3, b"", good * 7)
    assert (received.rows, received.messages, received.more) == (10, 10, True)
    received = received_by(reader, good)
    assert (received.rows, received.more) == (1, False)  # the one that waited; the socket was not asked
    assert received_by(reader, good).rows == 1
    assert received_by(reader).messages == 0


def test_a_datagram_longer_than_its_slot_counts_as_lost_events() -> None:
    good = oracle.message(0, MULTI, 2, ORIGINAL + REPLY)
    reader = ctnetlink.Reader(empty_rows(10), np.zeros(10, EVENT_DTYPE), datagram_bytes=256)
    received = received_by(reader, good * 10, good)
    assert (received.rows, received.overrun, received.malformed) == (1, True, 1)
    assert (reader.malformed["truncated"], reader.overruns) == (1, 1)


def test_a_socket_that_is_none() -> None:
    reader = ctnetlink.Reader(empty_rows(10), np.zeros(10, EVENT_DTYPE))
    with pytest.raises(PlatformError, match="Bad file descriptor"):
        reader.receive(-1)
    with pytest.raises(PlatformError, match="Bad file descriptor"):
        ctnetlink.Injector(-1)


@pytest.mark.parametrize("cut", [1, 15, 19, 40])
def test_a_length_that_cannot_be_right_ends_the_buffer(cut: int) -> None:
    good = oracle.message(0, MULTI, 2, ORIGINAL + REPLY)
    received, _, _ = parse(good + good[:cut])
    assert (received.rows, received.malformed, received.consumed, received.more) == (1, 1, len(good) + cut, False)


def test_other_families_and_short_headers() -> None:
    assert parse(oracle.message(0, MULTI, 3, ORIGINAL + REPLY))[0].malformed == 1
    assert parse(struct.pack("=IHHII", 16, 0x100, 0, 0, 0))[0].malformed == 1
    assert parse(b"")[0].messages == 0


def test_control_messages_and_what_is_of_no_interest() -> None:
    done = struct.pack("=IHHIIi", 20, 3, MULTI, 1, 2, 0)
    received = parse(done)[0]
    assert (received.done, received.error, received.messages) == (True, 0, 1)
    assert parse(struct.pack("=IHHIIi", 20, 2, 0, 1, 2, -17))[0].error == 17
    assert parse(struct.pack("=IHHII", 16, 4, 0, 1, 2))[0].overrun
    assert parse(struct.pack("=IHHII", 16, 1, 0, 1, 2))[0].skipped == 1
    assert parse(oracle.message(0, 0, 2, ORIGINAL + REPLY, subsystem=9))[0].skipped == 1
    assert parse(oracle.message(4, 0, 2, b""))[0].skipped == 1
    assert parse(oracle.message(0, MULTI | 0x10, 2, ORIGINAL + REPLY))[0].interrupted


def test_full_arrays_are_gone_on_with() -> None:
    octets = oracle.message(0, MULTI, 2, ORIGINAL + REPLY) * 10
    received, _, _ = parse(octets, room=4)
    assert (received.rows, received.more, received.consumed) == (4, True, len(octets) * 4 // 10)
    received, _, _ = parse(octets, room=8, offset=received.consumed)
    assert (received.rows, received.more, received.consumed) == (6, False, len(octets))
    assert ctnetlink.count_messages(octets) == 10
    with pytest.raises(ValueError, match="beyond"):
        parse(octets, offset=len(octets) + 1)


@pytest.mark.parametrize(
    ("message", "flags", "kind"),
    [
        (0, MULTI, ctnetlink.EVENT_DUMP),
        (0, CREATE | EXCL, ctnetlink.EVENT_NEW),
        (0, 0, ctnetlink.EVENT_UPDATE),
        (2, 0, ctnetlink.EVENT_DESTROY),
    ],
)
def test_kinds_of_messages_and_what_each_tells(message: int, flags: int, kind: int) -> None:
    _, _, events = parse(
        oracle.message(message, flags, 2, ORIGINAL + REPLY + oracle.number(3, CONFIRMED) + oracle.number(12, 99))
    )
    assert (events["kind"][0], events["id"][0]) == (kind, 99)
    present = int(events["present"][0])
    assert present & ctnetlink.HAS_STATUS
    assert present & ctnetlink.HAS_MASTER  # its absence is told by the status
    assert bool(present & ctnetlink.HAS_MARK) == (kind != ctnetlink.EVENT_DESTROY)
    assert bool(present & ctnetlink.HAS_STATE) == (kind == ctnetlink.EVENT_NEW)
    assert bool(present & ctnetlink.HAS_LABELS) == (kind in (ctnetlink.EVENT_DUMP, ctnetlink.EVENT_NEW))


@given(known=rows_of_any_kind(), row=rows_of_any_kind(), present=st.integers(0, 511))
def test_an_event_is_completed_from_what_was_known(known: Rows, row: Rows, present: int) -> None:
    parts = {
        ctnetlink.HAS_STATUS: ("status",),
        ctnetlink.HAS_TIMEOUT: ("timeout",),
        ctnetlink.HAS_MARK: ("mark",),
        ctnetlink.HAS_HELPER: ("helper",),
        ctnetlink.HAS_LABELS: ("labels",),
        ctnetlink.HAS_STATE: ("protocol_state", "tcp_", "sctp_"),
        ctnetlink.HAS_ADJUST: ("adjust_",),
        ctnetlink.HAS_MASTER: ("master_",),
        ctnetlink.HAS_SYNPROXY: ("synproxy_",),
    }
    expected = row.copy()
    for bit, prefixes in parts.items():
        for name in ROW_DTYPE.names or ():
            if name.startswith(prefixes) and not present & bit:
                expected[name] = known[name]
    events = np.zeros(1, EVENT_DTYPE)
    events["present"] = present
    ctnetlink.complete(row, known, events)
    assert row[0] == expected[0]


def test_an_offloaded_tcp_connection_is_established() -> None:
    """The kernel dumps neither state nor timeout of a flow in a flow table."""
    _, rows, events = parse(
        oracle.message(0, MULTI, 2, ORIGINAL + REPLY + oracle.number(3, CONFIRMED | ASSURED | 1 << 14))
    )
    assert rows["protocol_state"][0] == 3
    assert not events["present"][0] & (ctnetlink.HAS_STATE | ctnetlink.HAS_TIMEOUT)


def expectation() -> Any:
    one = np.zeros(1, EXPECTATION_DTYPE)
    one["family"], one["protocol"], one["master_protocol"], one["nat_protocol"], one["has_nat"] = 2, 6, 6, 6, 1
    for index, name in enumerate(
        ("source", "destination", "master_source", "master_destination", "mask_source", "nat_source")
    ):
        one[name][0, :4] = (10, 0, 0, index)
    one["destination_port"], one["master_source_port"], one["master_destination_port"], one["nat_source_port"] = (
        4000,
        3999,
        21,
        51210,
    )
    one["timeout"], one["class"], one["flags"], one["helper"], one["function"] = 30, 1, 1, b"ftp", b"nat-follow-master"
    return one


def test_an_expectation_there_and_back() -> None:
    one = expectation()
    octets = ctnetlink.build_expectations(one, sequence=9)
    rows, events = empty_rows(1), np.zeros(1, EVENT_DTYPE)
    back, told = np.zeros(2, EXPECTATION_DTYPE), np.zeros(2, EVENT_DTYPE)
    received = ctnetlink.parse(octets, rows, events, expectations=back, expectation_events=told)
    assert (received.expectations, received.rows, received.malformed) == (1, 0, 0)
    one["helper"] = b""  # of the master: it is not said, else the data connection would get it
    assert back[0] == one[0]
    assert told["kind"][0] == ctnetlink.EVENT_NEW
    deleted = ctnetlink.build_expectations(one, delete=True)
    assert deleted[4:6] == b"\2\2"
    assert ctnetlink.parse(octets, rows, events).skipped == 1  # nobody asked for expectations


@pytest.mark.parametrize(
    ("helper", "protocol", "policy", "function", "given"),
    [
        (b"sip", 17, 0, b"sip", b"sip\0"),
        (b"sip-5062", 17, 0, b"sip", b"sip-5062\0"),
        (b"sip", 17, 1, b"sip", None),
        (b"RAS", 6, 0, b"", b"Q.931\0"),
        (b"RAS", 17, 0, b"", b"RAS\0"),
        (b"Q.931", 6, 0, b"", b"H.245\0"),
        (b"Q.931", 6, 0, b"callforwarding", b"Q.931\0"),
        (b"H.245", 17, 0, b"", None),
        (b"ftp", 6, 0, b"nat-follow-master", None),
    ],
)
def test_the_helper_of_the_expected_connection(
    helper: bytes, protocol: int, policy: int, function: bytes, given: bytes | None
) -> None:
    one = expectation()
    one["helper"], one["protocol"], one["class"], one["function"] = helper, protocol, policy, function
    (message,) = oracle.messages(ctnetlink.build_expectations(one))
    assert oracle.taken_apart(message[20:]).get(6) == given


def test_real_messages_are_all_read() -> None:
    octets = VECTORS.read_bytes()
    rows, events, display = empty_rows(200), np.zeros(200, EVENT_DTYPE), np.zeros(200, DISPLAY_DTYPE)
    expectations, told = np.zeros(50, EXPECTATION_DTYPE), np.zeros(50, EVENT_DTYPE)
    received = ctnetlink.parse(
        octets, rows, events, display=display, expectations=expectations, expectation_events=told
    )
    assert received.malformed == received.skipped == 0
    assert received.messages == ctnetlink.count_messages(octets) == len(oracle.messages(octets)) > 40
    assert received.rows > 40
    assert received.expectations >= 4
    assert display["packets_original"].any()
    assert display["start_ns"].any()
    assert set(events["kind"][: received.rows]) == {0, 1, 2, 3}
    for index, message in enumerate(message for message in oracle.messages(octets) if message[5] == 1):
        attributes, row = oracle.taken_apart(message[20:]), rows[index]
        assert {
            kind: value
            for kind, value in oracle.taken_apart(b"".join(oracle.attributes_of(row))).items()
            if kind in (1, 2, 18, 14)
        } == {kind: value for kind, value in attributes.items() if kind in (1, 2, 18, 14)}
        assert row["status"] == int.from_bytes(attributes[3], "big")


def test_arrays_of_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="as many as rows"):
        ctnetlink.parse(b"", empty_rows(2), np.zeros(3, EVENT_DTYPE))
    with pytest.raises(ValueError, match="mismatch"):
        ctnetlink.parse(b"", np.zeros(2, EVENT_DTYPE), np.zeros(2, EVENT_DTYPE))
    read_only = empty_rows(2)
    read_only.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        ctnetlink.parse(b"", read_only, np.zeros(2, EVENT_DTYPE))
    with pytest.raises(ValueError, match="datagrams"):
        ctnetlink.Reader(empty_rows(2), np.zeros(2, EVENT_DTYPE), datagrams=0)
    with pytest.raises(TypeError):
        ctnetlink.Received()
    with pytest.raises(TypeError, match="never made"):
        ctnetlink.Reader.__new__(ctnetlink.Reader).receive(0)
    with pytest.raises(TypeError, match="never made"):
        ctnetlink.Injector.__new__(ctnetlink.Injector).inject(empty_rows(1))
