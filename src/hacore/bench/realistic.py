"""A connection table as a busy firewall has it, made from a seed: what the codec, the table and bulk updates are
measured with.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from hacore.states.layout import KEY_BYTES, ROW_BYTES, ROW_DTYPE, Rows, keys_of

Integers = npt.NDArray[np.int64]

ICMP, TCP, UDP, GRE, ICMPV6, SCTP = 1, 6, 17, 47, 58, 132
INNER, OUTER, PREFIXES = 20_000, 50_000, 5_000
TRANSLATED: Final = np.array([[203, 0, 113, octet] for octet in (1, 2, 3, 4)], dtype=np.uint8)

LASTS: Final = 40_000

SEEN_REPLY, ASSURED, CONFIRMED, SRC_NAT, NAT_DONE = 2, 4, 8, 16, 128 | 256

# TCP_CONNTRACK_*: state, share of all TCP rows, nf_conntrack_tcp_timeout_*, mean age (seconds)
TCP_STATES: Final = (
    (1, 0.015, 120, 20),  # SYN_SENT
    (2, 0.010, 60, 10),  # SYN_RECV
    (3, 0.800, 432_000, 600),  # ESTABLISHED
    (4, 0.020, 120, 40),  # FIN_WAIT
    (5, 0.015, 60, 20),  # CLOSE_WAIT
    (6, 0.010, 30, 10),  # LAST_ACK
    (7, 0.120, 120, 60),  # TIME_WAIT
    (8, 0.010, 10, 3),  # CLOSE
)


def _zipf(random: np.random.Generator, exponent: float, ranks: int, count: int) -> Integers:
    """`count` ranks from 0, rank r with a weight of (r + 1) ** -exponent."""
    weights = np.cumsum(np.arange(1, ranks + 1, dtype=np.float64) ** -exponent)
    ranked: Integers = np.searchsorted(weights, random.random(count) * weights[-1]).astype(np.int64)
    return ranked


def _ipv4(numbers: Integers) -> npt.NDArray[np.uint8]:
    octets = np.zeros((len(numbers), 16), dtype=np.uint8)
    octets[:, :4] = numbers.astype(">u4").view(np.uint8).reshape(-1, 4)
    return octets


def _pools(random: np.random.Generator) -> dict[str, npt.NDArray[np.uint8]]:
    inner = (10 << 24) + random.choice(1 << 24, INNER, replace=False)
    outer = random.choice(np.arange(20 << 24, 200 << 24, 97), OUTER, replace=False)
    prefixes = np.zeros((PREFIXES, 16), dtype=np.uint8)
    prefixes[:, :4] = (0x20, 0x01, 0x0D, 0xB8)
    prefixes[:, 4:8] = random.choice(1 << 32, PREFIXES, replace=False).astype(">u4").view(np.uint8).reshape(-1, 4)
    servers = np.zeros((OUTER, 16), dtype=np.uint8)
    servers[:, 0] = 0x2A
    servers[:, 1:8] = random.integers(0, 256, (OUTER, 7))
    servers[:, 14:] = random.integers(0, 256, (OUTER, 2))
    return {"inner": _ipv4(inner), "outer": _ipv4(outer), "prefixes": prefixes, "servers": servers}


def _outer_ports(random: np.random.Generator, protocol: Integers) -> Integers:
    """443 60 %, 80 8 %, 53 10 % (UDP only), 22 2 %, the rest by Zipf over 1024 to 49151, of all TCP and UDP rows."""
    count = len(protocol)
    ports = 1024 + _zipf(random, 1.1, 48_128, count)
    chance = random.random(count)
    tcp, udp = protocol == TCP, protocol == UDP
    share_of_tcp = 70 / 95
    of_tcp = np.cumsum([0.08 / share_of_tcp, 0.02 / share_of_tcp, 0.75 * (1 - 0.10 / share_of_tcp)])
    of_udp = np.cumsum([0.10 / (1 - share_of_tcp), 0.75 * (1 - 0.10 / (1 - share_of_tcp))])
    for low, high, port in ((0.0, of_tcp[0], 80), (of_tcp[0], of_tcp[1], 22), (of_tcp[1], of_tcp[2], 443)):
        ports[tcp & (chance >= low) & (chance < high)] = port
    for low, high, port in ((0.0, of_udp[0], 53), (of_udp[0], of_udp[1], 443)):
        ports[udp & (chance >= low) & (chance < high)] = port
    return ports


def _batch(random: np.random.Generator, pools: dict[str, npt.NDArray[np.uint8]], count: int) -> Rows:
    rows = np.zeros(count, dtype=ROW_DTYPE)
    protocol = random.choice([TCP, UDP, ICMP, SCTP, GRE], count, p=[0.70, 0.25, 0.03, 0.01, 0.01]).astype(np.int64)
    ipv6 = random.random(count) < 0.20
    icmp = protocol == ICMP
    rows["family"] = np.where(ipv6, 10, 2)
    rows["protocol"] = np.where(icmp & ipv6, ICMPV6, protocol)
    rows["zone"] = np.where(random.random(count) < 0.95, 0, random.integers(1, 9, count))
    rows["reply_zone"] = rows["zone"]

    clients = pools["prefixes"][_zipf(random, 1.1, PREFIXES, count)]
    clients[:, 8:] = random.integers(0, 256, (count, 8))
    outer = _zipf(random, 1.2, OUTER, count)
    rows["source"] = np.where(ipv6[:, None], clients, pools["inner"][_zipf(random, 1.1, INNER, count)])
    rows["destination"] = np.where(ipv6[:, None], pools["servers"][outer], pools["outer"][outer])

    inner_port = random.integers(32_768, 61_000, count)
    outer_port = _outer_ports(random, protocol)
    gre = protocol == GRE
    keys = random.integers(1, 65_536, (2, count))
    request, answer = np.where(ipv6, 128 << 8, 8 << 8), np.where(ipv6, 129 << 8, 0)
    rows["source_port"] = np.where(icmp, keys[0], np.where(gre, keys[0], inner_port))
    rows["destination_port"] = np.where(icmp, request, np.where(gre, keys[1], outer_port))
    rows["reply_source_port"] = np.where(icmp, answer, rows["destination_port"])
    rows["reply_destination_port"] = rows["source_port"]
    rows["reply_source"], rows["reply_destination"] = rows["destination"], rows["source"]

    # Source NAT is for IPv4: 60 % of the table is 75 % of its IPv4 rows.
    translated = ~ipv6 & (random.random(count) < 0.75)
    addresses = np.zeros((count, 16), dtype=np.uint8)
    addresses[:, :4] = TRANSLATED[random.integers(0, 4, count)]
    rows["reply_destination"] = np.where(translated[:, None], addresses, rows["reply_destination"])
    rows["reply_destination_port"] = np.where(
        translated & ~gre, random.integers(1024, 65_536, count), rows["reply_destination_port"]
    )

    status = np.full(count, CONFIRMED) | np.where(translated, SRC_NAT | NAT_DONE, np.where(ipv6, 0, NAT_DONE))
    tcp = protocol == TCP
    numbers, shares, lives, ages = (np.array(column) for column in zip(*TCP_STATES, strict=True))
    chosen = random.choice(len(TCP_STATES), count, p=shares)
    rows["protocol_state"] = np.where(tcp, numbers[chosen], 0)
    age = random.exponential(1.0, count) * ages[chosen]
    timeout = np.maximum(lives[chosen] - age, 0).astype(np.int64)
    talked = np.where(tcp, chosen > 0, random.random(count) < 0.9)
    assured = np.where(tcp, chosen > 1, talked & (random.random(count) < 0.5))
    timeout = np.where(protocol == UDP, random.integers(0, np.where(assured, 121, 31)), timeout)
    timeout = np.where(icmp, random.integers(0, 31, count), timeout)
    timeout = np.where(gre, random.integers(0, np.where(assured, 181, 31)), timeout)
    sctp = protocol == SCTP
    rows["timeout"] = np.where(sctp, random.integers(0, 211, count), timeout)
    rows["protocol_state"][sctp] = 4  # SCTP_CONNTRACK_ESTABLISHED
    assured, talked = assured | sctp, talked | sctp
    rows["status"] = status | np.where(talked, SEEN_REPLY, 0) | np.where(assured, ASSURED, 0)

    for direction in ("original", "reply"):
        rows[f"tcp_scale_{direction}"] = np.where(tcp, random.integers(6, 11, count), 0)
        rows[f"tcp_flags_{direction}"] = np.where(tcp, 0x03, 0)  # window scaling, SACK
        rows[f"sctp_tag_{direction}"] = np.where(sctp, random.integers(0, 1 << 32, count), 0)
    values = random.integers(1, 1 << 32, 16)
    rows["mark"] = np.where(random.random(count) < 0.90, 0, values[random.integers(0, 16, count)])
    return rows


def realistic_table(n: int, seed: int) -> Rows:
    """`n` rows with `n` different keys in no order, the same for the same `seed`.

    20,000 inner addresses by a Zipf law (1.1) in 10.0.0.0/8 and 50,000 outer ones (1.2); 70 % TCP, 25 % UDP, 3 % ICMP,
    1 % SCTP, 1 % GRE; 60 % behind source NAT on 4 addresses; 20 % IPv6, each client's interface id drawn anew from 64
    random bits in one of 5,000 prefixes (the harder reading: no interface id comes twice).
    """
    random = np.random.default_rng(seed)
    pools = _pools(random)
    rows = _batch(random, pools, n)
    while True:
        _, first = np.unique(keys_of(rows).view("V40"), return_index=True)
        if len(first) == n:
            return rows
        again = np.setdiff1d(np.arange(n), first, assume_unique=True)
        rows[again] = _batch(random, pools, len(again))


def kernel_table(n: int, seed: int, *, without: Sequence[int] = ()) -> Rows:
    """`n` rows of such a table as a kernel takes them.

    No two have one reply tuple; ICMP, which lives for half a minute, and the protocols in `without` are left out; and
    all live `LASTS` seconds longer, so that none ends while something is measured.
    """
    more = n + n // 10 + 100
    while True:
        rows = realistic_table(more, seed)
        rows = rows[~np.isin(rows["protocol"], (ICMP, ICMPV6, *without))]
        octets = rows.view(np.uint8).reshape(len(rows), ROW_BYTES)
        replies = np.ascontiguousarray(octets[:, np.r_[1, KEY_BYTES : KEY_BYTES + 36]])
        _, first = np.unique(replies.view("V37"), return_index=True)
        if len(first) >= n:
            rows = rows[np.sort(first)[:n]]
            rows["timeout"] += LASTS
            return rows
        more += more // 10
