"""The load: what is sent, when, and that no connection comes twice."""

from __future__ import annotations

import io
import struct
from ipaddress import IPv4Address

import numpy as np
import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether
from scapy.utils import checksum

from hacore._fast import ctnetlink
from hacore.bench.datagrams import frames_of, rows_of
from hacore.bench.load import LIFE, Load, churn_messages, connections, parts_of, slice_of
from hacore.bench.meters import Lag
from hacore.states.layout import keys_of

NEW, DELETE = 0, 2  # IPCTNL_MSG_CT_*


def rows_in(octets: bytes) -> int:
    return ctnetlink.count_messages(octets)


def test_connections_differ_in_both_directions() -> None:
    rows = connections(1_000_000)
    assert len(np.unique(keys_of(rows).view("V40"))) == len(rows)
    assert (connections(1000, 999_000) == rows[-1000:]).all()
    addresses = [rows[f"reply_{side}"][:, :4].copy().view(np.uint32)[:, 0] for side in ("source", "destination")]
    replies = np.column_stack([*addresses, rows["reply_destination_port"].astype(np.uint32)])
    assert len(np.unique(replies, axis=0)) == len(rows)


@pytest.mark.parametrize(("rate", "count"), [(1, 3), (700, 350), (1_000, 1_000), (30_000, 45_001), (33_333, 9_999)])
def test_each_connection_is_sent_once_at_its_time(rate: int, count: int) -> None:
    parts = parts_of(Load(kind="packets", count=count, rate=rate))
    assert [number for start, end in parts for number in range(start, end)] == list(range(count))
    times = np.arange(len(parts)) * slice_of(rate)
    ends = np.array([end for _, end in parts])
    assert (np.abs(ends - np.minimum((times + slice_of(rate)) * rate, count)) <= 1).all()


def test_frames_are_those_of_the_rows() -> None:
    rows, frames = rows_of(70_000), frames_of(70_000, bytes(6))
    assert len(np.unique(keys_of(rows).view("V40"))) == len(rows)
    for number in (0, 249, 59_999, 60_000, 69_999):
        packet = Ether(frames[number].tobytes())
        row = rows[number]
        addresses = tuple(str(IPv4Address(row[name][:4].tobytes())) for name in ("source", "destination"))
        assert (packet[IP].src, packet[IP].dst) == addresses
        assert (packet[UDP].sport, packet[UDP].dport) == (row["source_port"], row["destination_port"])
        assert checksum(bytes(packet[IP])[:20]) == 0


def test_churn_is_four_messages_a_connection_or_two_of_those_that_stay_and_ends_with_deletion() -> None:
    load = Load(kind="churn", count=505, rate=1000)
    lasting = 51
    parts = list(churn_messages(load))
    assert len(parts) == round((0.505 + LIFE) / slice_of(load.rate))
    octets = b"".join(parts)
    assert rows_in(octets) == 4 * load.count - 2 * lasting
    kinds = []
    while octets:
        size, kind = struct.unpack_from("=IH", octets)
        kinds.append(kind & 0xFF)
        octets = octets[(size + 3) & ~3 :]
    assert (kinds.count(NEW), kinds.count(DELETE)) == (3 * load.count - lasting, load.count - lasting)
    assert kinds[0] == NEW
    assert kinds[-1] == DELETE


def test_lag_is_the_time_between_the_same_number_in_both() -> None:
    one, two = iter([0, 0, 2, 4, 4, 4]), iter([0, 0, 0, 1, 3, 4])
    lag = Lag(lambda: next(one), lambda: next(two))
    assert [lag.look() for _ in range(5)] == [0, 0, 1, 3, 4]
    lag._times = [0.0, 1.0, 2.0, 3.0, 4.0]
    times, delays = lag.delays()
    assert times.tolist() == [1.0, 1.0, 2.0, 2.0]
    assert delays.tolist() == [1.0, 2.0, 1.0, 2.0]


def test_nothing_seen_is_no_lag() -> None:
    lag = Lag(lambda: 0, lambda: 0)
    lag.look()
    assert len(lag.delays()[1]) == 0


def test_a_load_that_nobody_begins_ends() -> None:
    from hacore.bench import load

    told = io.StringIO()
    load.run(Load(kind="churn", count=1, rate=1), told, io.StringIO(""))
    assert told.getvalue() == "ready\n"
