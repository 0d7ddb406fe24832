"""Addresses and links over rtnetlink."""

from __future__ import annotations

import errno
import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hacore.linux import netlink, rtnl
from hacore.linux.rtnl import AddressChange, LinkChange, LinkMonitor, Overrun, RouteSocket
from tests.linux.conftest import Keep, Lan
from tests.namespaces import Host, wait_until


@pytest.fixture
def route(lan: Lan, keep: Keep) -> RouteSocket:
    with lan.fw.entered():
        return keep(RouteSocket())


@pytest.fixture
def monitor(lan: Lan, keep: Keep) -> LinkMonitor:
    with lan.fw.entered():
        return keep(LinkMonitor())


@pytest.mark.parametrize(("address", "length"), [("10.1.0.1", 32), ("2001:db8:1::1", 128)])
def test_an_address_is_added_renewed_and_deleted(lan: Lan, route: RouteSocket, address: str, length: int) -> None:
    index = lan.fw.index("lan")
    message = rtnl.new_address_message(index, address, length, 3)
    assert route.request([message]) == [0]
    assert route.request([message]) == [0]
    shown = lan.fw.ip("addr show dev lan")
    assert f"{address}/{length}" in shown
    assert "dynamic" in shown
    with lan.fw.entered():
        (found,) = [one for one in rtnl.dump_addresses() if one.address == address]
    assert found.ours
    assert found.flags & rtnl.IFA_F_NOPREFIXROUTE
    assert not found.flags & (rtnl.IFA_F_PERMANENT | rtnl.IFA_F_TENTATIVE)
    delete = rtnl.delete_address_message(index, address, length)
    assert route.request([delete]) == [0]
    assert route.request([delete]) == [errno.EADDRNOTAVAIL]
    assert address + "/" not in lan.fw.ip("addr show dev lan")


@pytest.mark.parametrize(("address", "length"), [("10.1.0.1", 32), ("2001:db8:1::1", 128)])
def test_an_exclusive_message_adds_only_what_is_not_there(
    lan: Lan, route: RouteSocket, address: str, length: int
) -> None:
    message = rtnl.new_address_message(lan.fw.index("lan"), address, length, 3, exclusive=True)
    assert route.request([message, message]) == [0, errno.EEXIST]


@pytest.mark.parametrize(("address", "length"), [("10.1.0.1", 32), ("2001:db8:1::1", 128)])
def test_own_addresses_are_unseen_until_they_leave(
    lan: Lan, route: RouteSocket, keep: Keep, address: str, length: int
) -> None:
    with lan.fw.entered():
        monitor = keep(LinkMonitor(own_addresses=False))
    index = lan.fw.index("lan")
    message = rtnl.new_address_message(index, address, length, 3)
    assert route.request([message, message, message]) == [0, 0, 0]
    lan.fw.ip("addr add 10.1.0.9/32 dev lan")
    lan.fw.ip("addr add 2001:db8:1::9/128 dev lan nodad")
    lan.fw.ip(f"addr del {address}/{length} dev lan")
    lan.fw.ip("link set lan down")
    seen: list[rtnl.Change] = []

    def all_told() -> bool:
        seen.extend(monitor.read())
        return any(isinstance(one, LinkChange) and not one.up for one in seen)

    wait_until(all_told)
    told = [(one.address, one.added) for one in seen if isinstance(one, AddressChange)]
    mine = [each for each in told if each[0] == address]
    assert mine == [(address, False)]
    assert ("10.1.0.9", True) in told
    assert ("2001:db8:1::9", True) in told


def test_a_batch_of_two_hundred_fails_apart(lan: Lan, route: RouteSocket) -> None:
    index = lan.fw.index("lan")
    messages = [rtnl.new_address_message(index, f"10.1.2.{number}", 32, 30) for number in range(200)]
    messages[17] = rtnl.new_address_message(9999, "10.1.3.1", 32, 30)
    messages[199] = rtnl.delete_address_message(index, "10.1.4.1", 32)
    results = route.request(messages)
    assert [(at, number) for at, number in enumerate(results) if number] == [
        (17, errno.ENODEV),
        (199, errno.EADDRNOTAVAIL),
    ]
    with lan.fw.entered():
        assert len([one for one in rtnl.dump_addresses() if one.ours]) == 198


def test_batches_larger_than_one_send(lan: Lan, route: RouteSocket) -> None:
    message = rtnl.new_address_message(lan.fw.index("lan"), "10.1.0.1", 32, 30)
    count = 2 * (256 * 1024 // len(message)) + 3
    assert route.request([message] * count) == [0] * count
    assert route.request([]) == []


def test_a_lifetime_of_none_is_for_ever(lan: Lan, route: RouteSocket) -> None:
    assert route.request([rtnl.new_address_message(lan.fw.index("lan"), "10.1.0.1", 32)]) == [0]
    with lan.fw.entered():
        (found,) = [one for one in rtnl.dump_addresses() if one.address == "10.1.0.1"]
    assert found.flags & rtnl.IFA_F_PERMANENT


@pytest.mark.parametrize("address", ["10.1.0", "10.1.0.1/16", "fe80::1%lan", "x"])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises((OSError, ValueError)):
        rtnl.new_address_message(1, address, 24)


def seen(monitor: LinkMonitor, wanted: object) -> object:
    """Waits for a change that `wanted` (a predicate) accepts."""
    changes: list[rtnl.Change] = []

    def look() -> rtnl.Change | None:
        changes.extend(monitor.read())
        return next((one for one in changes if wanted(one)), None)  # type: ignore[operator]

    return wait_until(look)


def test_loss_and_return_of_the_carrier(lan: Lan, monitor: LinkMonitor) -> None:
    index = lan.fw.index("lan")
    lan.switch.ip("link set port1 down")
    seen(monitor, lambda one: isinstance(one, LinkChange) and one.ifindex == index and not one.up and one.present)
    lan.switch.ip("link set port1 up")
    change = seen(monitor, lambda one: isinstance(one, LinkChange) and one.ifindex == index and one.up)
    assert isinstance(change, LinkChange)
    assert (change.name, change.mac.hex(":")) == ("lan", lan.fw.mac("lan"))
    lan.fw.ip("link set lan down")
    seen(monitor, lambda one: isinstance(one, LinkChange) and one.ifindex == index and not one.up and one.present)


def test_deletion_return_and_renaming(lan: Lan, monitor: LinkMonitor) -> None:
    index = lan.fw.index("lan")
    lan.fw.ip("link del lan")
    seen(monitor, lambda one: isinstance(one, LinkChange) and one.ifindex == index and not one.present)
    lan.network.cable(lan.fw, "lan", lan.switch)
    seen(monitor, lambda one: isinstance(one, LinkChange) and one.name == "lan" and one.up and one.ifindex != index)
    lan.fw.ip("link set lan down")
    lan.fw.ip("link set lan name other")
    seen(monitor, lambda one: isinstance(one, LinkChange) and one.name == "other")


def test_a_port_that_leaves_a_bridge_is_no_deletion(lan: Lan, keep: Keep) -> None:
    with lan.switch.entered():
        monitor = keep(LinkMonitor())
        index = socket.if_nametoindex("port1")
    lan.switch.ip("link set port1 nomaster")
    lan.switch.ip("link set port1 down")
    changes: list[rtnl.Change] = []

    def down() -> bool:
        changes.extend(monitor.read())
        return any(isinstance(one, LinkChange) and one.ifindex == index and not one.up for one in changes)

    wait_until(down)
    assert all(one.present for one in changes if isinstance(one, LinkChange))


def test_addresses_of_others_come_and_go(lan: Lan, route: RouteSocket, monitor: LinkMonitor) -> None:
    index = lan.fw.index("lan")
    assert route.request([rtnl.new_address_message(index, "10.1.0.1", 32, 30)]) == [0]
    change = seen(monitor, lambda one: isinstance(one, AddressChange) and one.added and one.address == "10.1.0.1")
    assert isinstance(change, AddressChange)
    assert (change.ifindex, change.prefix_length, change.ours) == (index, 32, True)
    lan.fw.ip("addr del 10.1.0.1/32 dev lan")
    seen(monitor, lambda one: isinstance(one, AddressChange) and not one.added and one.address == "10.1.0.1")
    lan.fw.ip("-6 addr add 2001:db8:1::77/64 dev lan nodad")
    change = seen(monitor, lambda one: isinstance(one, AddressChange) and one.address == "2001:db8:1::77")
    assert isinstance(change, AddressChange)
    assert not change.ours


def test_an_overrun_is_told(lan: Lan, route: RouteSocket, keep: Keep) -> None:
    with lan.fw.entered():
        monitor = keep(LinkMonitor(buffer_size=4096))
    message = rtnl.new_address_message(lan.fw.index("lan"), "10.1.0.1", 32, 30)
    assert set(route.request([message] * 200)) == {0}
    assert Overrun() in monitor.read()
    assert Overrun() not in monitor.read()


def test_the_dumps_agree_with_ip(lan: Lan) -> None:
    for number in range(120):
        lan.fw.ip(f"addr add 10.1.5.{number}/32 dev lan")
    with lan.fw.entered():
        links, addresses = rtnl.dump_links(), rtnl.dump_addresses()
    assert {one.name: one.ifindex for one in links} == {name: lan.fw.index(name) for name in ("lo", "lan")}
    (own,) = [one for one in links if one.name == "lan"]
    assert own.up
    found = {f"{one.address}/{one.prefix_length}" for one in addresses if one.ifindex == own.ifindex}
    lines = lan.fw.ip("-o addr show dev lan").splitlines()
    assert found == {line.split()[3] for line in lines}
    assert len(found) == 123


def test_links_that_are_down_are_seen_as_such(network_pair: tuple[Host, Host]) -> None:
    host, other = network_pair
    other.ip("link set far down")
    with host.entered():
        (near,) = [one for one in rtnl.dump_links() if one.name == "near"]
    assert not near.up


@pytest.fixture
def network_pair(network: object) -> tuple[Host, Host]:
    host, other = network.host("a"), network.host("b")  # type: ignore[attr-defined]
    network.cable(host, "near", other, "far")  # type: ignore[attr-defined]
    return host, other


@given(st.binary(max_size=200))
def test_any_bytes_are_read_without_complaint(data: bytes) -> None:
    list(rtnl.parse_changes(data))


@given(
    st.sampled_from([16, 17, 20, 21, 3, 99]),
    st.binary(max_size=80),
    st.lists(st.tuples(st.integers(0, 0xFFFF), st.binary(max_size=40))),
)
def test_any_attributes_are_read_without_complaint(kind: int, head: bytes, attributes: list[tuple[int, bytes]]) -> None:
    body = head + b"".join(netlink.attribute(number, value) for number, value in attributes)
    for change in rtnl.parse_changes(netlink.message(kind, 0, body)):
        assert isinstance(change, LinkChange | AddressChange)


@given(st.integers(0, 31), st.integers(0, 255))
def test_a_spoilt_message_is_read_without_complaint(at: int, value: int) -> None:
    message = bytearray(rtnl.new_address_message(2, "10.1.0.1", 32, 3))
    message[at] = value
    list(rtnl.parse_changes(bytes(message) + struct.pack("=I", value)))
