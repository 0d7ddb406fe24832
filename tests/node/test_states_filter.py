"""Which connections are replicated, against the plain definition of ipaddress."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from hypothesis import given
from hypothesis import strategies as st

from hacore.node.messages import IgnoredStates
from hacore.node.states_filter import Filter
from hacore.states.layout import empty_rows

FOUR = st.sampled_from(["10.0.0.1", "10.0.0.255", "10.1.0.1", "127.0.0.1", "192.0.2.7", "0.0.0.0"]).map(ip_address)
SIX = st.sampled_from(["::1", "2001:db8::1", "2001:db8:0:1::1", "fe80::1", "a00:1::"]).map(ip_address)
PAIRS = st.one_of(st.tuples(FOUR, FOUR), st.tuples(SIX, SIX))
PROTOCOLS = st.sampled_from([1, 6, 17, 112])
PORTS = st.sampled_from([0, 443, 8116, 8117])
NETWORKS = st.sampled_from(["", "10.0.0.0/8", "10.0.0.0/24", "0.0.0.0/0", "192.0.2.7/32", "2001:db8::/32", "::/0"])
RULES = st.lists(st.tuples(st.sampled_from([-1, 1, 6, 17]), NETWORKS), max_size=3)
PLACES = st.lists(st.tuples(st.sampled_from(["10.0.0.1", "2001:db8::1", "a.name"]), PORTS), max_size=2)
OWN = st.lists(st.one_of(FOUR, SIX), max_size=3)

Row = tuple[tuple[IPv4Address | IPv6Address, IPv4Address | IPv6Address], int, int, int]


def is_wanted(
    row: Row,
    rules: list[tuple[int, str]],
    places: list[tuple[str, int]],
    own: list[IPv4Address | IPv6Address],
) -> bool:
    ends, protocol, source_port, destination_port = row
    if protocol == 112 or ends[0].is_loopback or set(ends) & set(own):
        return False
    if protocol == 6 and {
        (str(ends[0]), source_port),
        (str(ends[1]), destination_port),
    } & set(places):
        return False
    for number, network in rules:
        hit = number in (-1, protocol)
        if hit and (not network or any(end in ip_network(network) for end in ends)):
            return False
    return True


@given(st.lists(st.tuples(PAIRS, PROTOCOLS, PORTS, PORTS), max_size=8), RULES, PLACES, OWN)
def test_the_masks_are_what_ipaddress_says(
    wanted: list[Row],
    rules: list[tuple[int, str]],
    places: list[tuple[str, int]],
    own: list[IPv4Address | IPv6Address],
) -> None:
    rows = empty_rows(len(wanted))
    for row, ((source, destination), protocol, source_port, destination_port) in zip(rows, wanted, strict=True):
        row["family"], row["protocol"] = 2 if source.version == 4 else 10, protocol
        row["source"][: len(source.packed)] = list(source.packed)
        row["destination"][: len(destination.packed)] = list(destination.packed)
        row["source_port"], row["destination_port"] = source_port, destination_port
    rules = [(number, network) for number, network in rules if number >= 0 or network]
    made = Filter([IgnoredStates(protocol=number, network=network) for number, network in rules], places)
    made.set_own_addresses(str(address) for address in own)
    assert made.wanted(rows).tolist() == [is_wanted(row, rules, places, own) for row in wanted]


def test_what_is_no_connection_yet_stays_here() -> None:
    rows = empty_rows(2)
    rows["family"], rows["protocol"], rows["source"][:, 0] = 2, 6, 10
    rows["status"][1] = 1 << 11
    assert Filter().wanted(rows).tolist() == [True, False]
