"""VIP devices in real namespaces: silent as a BACKUP, answering as a MASTER, nothing left when they go."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import pytest
from pyroute2 import IPRoute  # type: ignore[import-untyped]

from hacore.errors import PlatformError
from hacore.linux import devices, gate, rtnl
from tests.linux.conftest import Keep, Lan
from tests.linux.frames import arp_request, mac_bytes, neighbour_solicitation
from tests.namespaces import Host, Sniffer, wait_until

VIRTUAL = "00:00:5e:00:01:01"
PARENT_SETTINGS = ("ipv4/conf/lan/arp_ignore", "ipv4/conf/lan/arp_announce", "ipv4/conf/lan/promote_secondaries")


def vip(name: str = "lan", **options: object) -> devices.DesiredVip:
    values = {"interface": "lan", "vhid": 1, "virtual_mac": True, "addresses": ("10.1.0.1/16", "2001:db8:1::1/64")}
    return devices.DesiredVip(name, **{**values, "dead_time": 5.0, **options})  # type: ignore[arg-type]


def prepare(fw: Host, runtime_dir: Path, *vips: devices.DesiredVip, mode: gate.Mode | None = None) -> devices.Prepared:
    with fw.entered():
        return devices.prepare(vips or (vip(),), runtime_dir, mode)


def prepared(outcome: devices.Prepared, name: str = "lan") -> devices.PreparedVip:
    found = outcome.vips[name]
    assert isinstance(found, devices.PreparedVip), found
    return found


def refusal(outcome: devices.Prepared, name: str = "lan") -> str:
    found = outcome.vips[name]
    assert isinstance(found, PlatformError), found
    return str(found)


class Holder:
    """Takes and gives up a prepared VIP as the election does."""

    def __init__(self, fw: Host, made: devices.PreparedVip) -> None:
        self.made = made
        with fw.entered():
            self.route, self.leases = rtnl.RouteSocket(), gate.LeaseSocket()

    def hold(self, lifetime: int | None = None) -> None:
        messages = [
            rtnl.new_address_message(self.made.ifindex, one.address, one.prefix_length, lifetime, one.noprefixroute)
            for one in self.made.addresses
        ]
        if self.made.gate == "adverts":
            assert self.leases.lease(self.made.device) == 0
        assert self.route.request(messages) == [0] * len(messages)

    def release(self) -> None:
        addresses = self.made.addresses
        messages = [rtnl.delete_address_message(self.made.ifindex, one.address, one.prefix_length) for one in addresses]
        assert self.leases.release(self.made.device) == 0
        assert self.route.request(messages) == [0] * len(messages)

    def close(self) -> None:
        self.route.close()
        self.leases.close()


class Asker:
    """Asks for a VIP from the client and tells which MACs answer."""

    def __init__(self, lan: Lan, keep: Keep) -> None:
        self.client = lan.client
        self.mac = lan.client.mac("lan")
        self.sniffer = keep(Sniffer(lan.client, "lan"))
        with lan.client.entered():
            self.socket = keep(socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0))
            self.socket.bind(("lan", 0))

    def answers(self) -> tuple[set[bytes], set[bytes]]:
        """(sources of ARP replies, sources of neighbour advertisements)."""
        self.sniffer.frames()
        self.socket.send(arp_request(self.mac, "10.1.0.100", "10.1.0.1"))
        self.socket.send(neighbour_solicitation(self.mac, "2001:db8:1::100", "2001:db8:1::1"))
        time.sleep(0.2)
        frames = self.sniffer.frames()
        arp = {one[6:12] for one in frames if one[12:14] == b"\x08\x06" and one[20:22] == b"\0\x02"}
        return arp, {one[6:12] for one in frames if one[12:14] == b"\x86\xdd" and one[20] == 58 and one[54] == 136}


def test_a_backup_says_nothing_at_all(lan: Lan, keep: Keep, tmp_path: Path) -> None:
    for key in ("ipv4/ip_forward", "ipv6/conf/all/forwarding"):
        lan.fw.sysctl(key, "1")
    wire = keep(Sniffer(lan.switch, "port1"))
    made = prepared(prepare(lan.fw, tmp_path))
    holder = keep(Holder(lan.fw, made))
    asker = Asker(lan, keep)
    assert asker.answers() == (set(), set())
    lan.fw.ip("link set lan down")
    lan.fw.ip("link set lan up")
    time.sleep(2.5)
    lan.fw.run("ping", "-c1", "-W1", "10.1.0.100")
    assert asker.answers() == (set(), set())
    own, virtual = mac_bytes(lan.fw.mac("lan")), mac_bytes(VIRTUAL)
    frames = wire.frames()
    assert any(frame[6:12] == own for frame in frames)
    assert [frame for frame in frames if frame[6:12] == virtual] == []
    holder.hold()
    assert asker.answers() == ({virtual}, {virtual})
    holder.release()
    assert asker.answers() == (set(), set())


def test_only_the_device_answers_and_only_while_held(lan: Lan, keep: Keep, tmp_path: Path) -> None:
    holder = keep(Holder(lan.fw, prepared(prepare(lan.fw, tmp_path))))
    lan.client.run("ping", "-c1", "-W2", "10.1.0.11")
    holder.hold()
    lan.client.run("ping", "-c2", "-i0.2", "-W2", "10.1.0.1")
    lan.client.run("ping", "-c2", "-i0.2", "-W2", "2001:db8:1::1")
    neighbours = lan.client.ip("neigh show")
    assert neighbours.count(f"lladdr {VIRTUAL}") == 2
    assert f"10.1.0.11 dev lan lladdr {lan.fw.mac('lan')}" in neighbours
    assert "/32 " in lan.fw.ip("-4 addr show dev carp1.lan")
    assert "carp1" not in lan.fw.ip("route show")
    assert "2001" not in lan.fw.ip("-6 route show dev carp1.lan")


def test_the_node_reaches_its_own_segment_from_its_own_address(lan: Lan, keep: Keep, tmp_path: Path) -> None:
    keep(Holder(lan.fw, prepared(prepare(lan.fw, tmp_path)))).hold()
    assert "src 10.1.0.11 " in lan.fw.ip("route get 10.1.0.100")
    assert "src 2001:db8:1::11 " in lan.fw.ip("-6 route get 2001:db8:1::100")
    lan.fw.run("ping", "-c1", "-W2", "10.1.0.100")
    lan.fw.run("ping", "-c1", "-W2", "2001:db8:1::100")


def test_addresses_expire_by_themselves(lan: Lan, keep: Keep, tmp_path: Path) -> None:
    holder = keep(Holder(lan.fw, prepared(prepare(lan.fw, tmp_path))))
    holder.hold(lifetime=2)
    assert "10.1.0.1/32" in lan.fw.ip("addr show dev carp1.lan")
    wait_until(lambda: "inet" not in lan.fw.ip("addr show dev carp1.lan"), timeout=10.0)
    assert "10.1.0.11/16" in lan.fw.ip("addr show dev lan")


def test_without_the_parents_subnet_a_vip_brings_its_own(lan: Lan, keep: Keep, tmp_path: Path) -> None:
    made = prepared(prepare(lan.fw, tmp_path, vip(addresses=("172.16.5.1/24", "10.1.0.1/16", "fe80::1/64"))))
    assert made.addresses == (
        devices.VipAddress("172.16.5.1", 24, False),
        devices.VipAddress("10.1.0.1", 32, True),
        devices.VipAddress("fe80::1", 128, True),
    )
    keep(Holder(lan.fw, made)).hold()
    assert "172.16.5.0/24 dev carp1.lan" in lan.fw.ip("route show")
    lan.client.ip("addr add 172.16.5.9/24 dev lan")
    lan.client.run("ping", "-c1", "-W2", "172.16.5.1")


def test_on_the_interface_itself(lan: Lan, keep: Keep, tmp_path: Path) -> None:
    made = prepared(prepare(lan.fw, tmp_path, vip(virtual_mac=False)))
    assert (made.device, made.gate, made.mac) == ("lan", "none", lan.fw.mac("lan"))
    holder = keep(Holder(lan.fw, made))
    holder.hold()
    own = mac_bytes(lan.fw.mac("lan"))
    assert Asker(lan, keep).answers() == ({own}, {own})
    assert "src 10.1.0.11 " in lan.fw.ip("route get 10.1.0.100")
    assert "src 2001:db8:1::11 " in lan.fw.ip("-6 route get 2001:db8:1::100")
    # The next start clears what this one left, and nothing else.
    prepare(lan.fw, tmp_path, vip(virtual_mac=False))
    shown = lan.fw.ip("addr show dev lan")
    assert "10.1.0.1/" not in shown
    assert "2001:db8:1::1/" not in shown
    assert "10.1.0.11/16" in shown
    assert "2001:db8:1::11/64" in shown


def test_again_and_again_changes_nothing(lan: Lan, keep: Keep, tmp_path: Path) -> None:
    first = prepare(lan.fw, tmp_path)
    holder = keep(Holder(lan.fw, prepared(first)))
    holder.hold()
    monitor = keep(_monitor(lan.fw))
    assert prepare(lan.fw, tmp_path, vip(held=True)) == first
    removed = [change for change in monitor.read() if isinstance(change, rtnl.AddressChange) and not change.added]
    assert removed == []
    assert Asker(lan, keep).answers()[0] == {mac_bytes(VIRTUAL)}


def _monitor(host: Host) -> rtnl.LinkMonitor:
    with host.entered():
        return rtnl.LinkMonitor()


def test_leftovers_of_an_earlier_run_are_cleared(lan: Lan, keep: Keep, tmp_path: Path) -> None:
    outcome = prepare(lan.fw, tmp_path, vip(), vip("second", vhid=2, addresses=("10.1.0.2/16",)))
    for name in ("lan", "second"):
        keep(Holder(lan.fw, prepared(outcome, name))).hold()
    lan.fw.ip("link add link lan name carp9.lan type macvlan mode private")  # somebody else's
    prepare(lan.fw, tmp_path)
    assert "inet" not in lan.fw.ip("addr show dev carp1.lan")
    assert "carp2.lan" not in lan.fw.ip("link show")
    assert "carp9.lan" in lan.fw.ip("link show")
    assert "elements" not in lan.fw.run("nft", "list", "table", "netdev", "hacore")
    assert Asker(lan, keep).answers() == (set(), set())


def test_remove_takes_everything_away_and_restores(lan: Lan, keep: Keep, tmp_path: Path) -> None:
    lan.fw.sysctl("ipv4/conf/lan/arp_announce", "1")
    before = [lan.fw.sysctl(key) for key in PARENT_SETTINGS]
    shown = lan.fw.ip("addr show")
    third = vip("third", vhid=3, virtual_mac=False, addresses=("10.1.0.3/16",))
    outcome = prepare(lan.fw, tmp_path, vip(), third)
    assert [lan.fw.sysctl(key) for key in PARENT_SETTINGS] == ["1", "2", "1"]
    prepare(lan.fw, tmp_path, vip(), third)
    keep(Holder(lan.fw, prepared(outcome, "third"))).hold()
    with lan.fw.entered():
        assert devices.remove(tmp_path) == []
    assert [lan.fw.sysctl(key) for key in PARENT_SETTINGS] == before
    assert lan.fw.ip("addr show") == shown
    assert lan.fw.run("nft", "list", "ruleset") == ""
    assert list(tmp_path.iterdir()) == []
    with lan.fw.entered():
        assert devices.remove(tmp_path) == []


def test_settings_are_restored_after_a_crash_and_when_no_longer_needed(lan: Lan, tmp_path: Path) -> None:
    prepare(lan.fw, tmp_path, vip(virtual_mac=False))
    assert lan.fw.sysctl("ipv4/conf/lan/promote_secondaries") == "1"
    prepare(lan.fw, tmp_path, vip())
    assert [lan.fw.sysctl(key) for key in PARENT_SETTINGS] == ["1", "2", "0"]
    lan.fw.sysctl("ipv4/conf/lan/arp_ignore", "2")  # the administrator's own change stays
    with lan.fw.entered():
        devices.remove(tmp_path)
    assert [lan.fw.sysctl(key) for key in PARENT_SETTINGS] == ["2", "0", "0"]


def test_a_parent_that_is_made_anew(lan: Lan, keep: Keep, tmp_path: Path) -> None:
    prepare(lan.fw, tmp_path)
    lan.fw.ip("link del lan")
    outcome = prepare(lan.fw, tmp_path)
    assert "there is no interface lan" in refusal(outcome)
    lan.network.cable(lan.fw, "lan", lan.switch)
    lan.fw.ip("addr add 10.1.0.11/16 dev lan")
    keep(Holder(lan.fw, prepared(prepare(lan.fw, tmp_path)))).hold()
    assert lan.fw.sysctl("ipv4/conf/lan/arp_ignore") == "1"
    lan.client.run("ping", "-c1", "-W2", "10.1.0.1")


def test_a_device_that_does_not_fit_is_made_anew(lan: Lan, tmp_path: Path) -> None:
    old = prepared(prepare(lan.fw, tmp_path))
    lan.fw.ip("link set carp1.lan down")
    lan.fw.ip("link set carp1.lan address 02:00:00:00:00:01")
    new = prepared(prepare(lan.fw, tmp_path))
    assert new.ifindex != old.ifindex
    assert lan.fw.mac("carp1.lan") == VIRTUAL
    assert f"lease_{old.ifindex} " not in lan.fw.run("nft", "list", "table", "netdev", "hacore")


def test_one_vip_that_cannot_be_made_does_not_stop_the_others(lan: Lan, tmp_path: Path) -> None:
    lan.fw.ip("link add link lan name carp2.lan type macvlan mode private")
    outcome = prepare(
        lan.fw, tmp_path, vip(), vip("a", vhid=2), vip("b", interface="dmz", vhid=3), vip("c", interface="lo", vhid=4)
    )
    prepared(outcome)
    assert "is not hacore's" in refusal(outcome, "a")
    assert "dmz" in refusal(outcome, "b")
    assert "carry CARP" in refusal(outcome, "c")


def test_a_vip_that_is_configured_for_good_is_told(lan: Lan, tmp_path: Path) -> None:
    lan.fw.ip("addr add 10.1.0.1/16 dev lan")
    outcome = prepare(lan.fw, tmp_path)
    assert ["10.1.0.1" in warning for warning in outcome.warnings] == [True]
    assert "10.1.0.1/16" in lan.fw.ip("addr show dev lan")


def test_sysctls_of_a_vip_device(lan: Lan, tmp_path: Path) -> None:
    lan.fw.sysctl("ipv4/ip_forward", "1")
    prepare(lan.fw, tmp_path, vip(), vip("four", vhid=4, addresses=("10.1.0.4/16",)))
    expected = {
        "ipv4/conf/carp1.lan/rp_filter": "2",
        "ipv4/conf/carp1.lan/arp_ignore": "1",
        "ipv4/conf/carp1.lan/forwarding": "1",
    }
    expected |= {"ipv6/conf/carp1.lan/accept_ra": "0", "ipv6/conf/carp1.lan/addr_gen_mode": "1"}
    expected |= {"ipv6/conf/carp1.lan/disable_ipv6": "0", "ipv6/conf/carp4.lan/disable_ipv6": "1"}
    assert {key: lan.fw.sysctl(key) for key in expected} == expected
    assert "inet6" not in lan.fw.ip("addr show dev carp1.lan")


def test_read_only_settings_say_what_to_do(lan: Lan, tmp_path: Path) -> None:
    request = json.dumps({"runtime_dir": str(tmp_path), "action": "prepare", "vips": []})
    answer = lan.fw.python("-c", _READ_ONLY, text=request)
    assert answer.returncode == PlatformError.exit_code, answer.stderr
    assert "remount" in json.loads(answer.stdout)["error"]["message"]


_READ_ONLY = """
import os, runpy, subprocess
from hacore.linux import libc
libc.unshare(libc.CLONE_NEWNS)
subprocess.run(["mount", "--make-rprivate", "/"], check=True)
subprocess.run(["mount", "-o", "bind", "/proc/sys", "/proc/sys"], check=True)
subprocess.run(["mount", "-o", "remount,bind,ro", "/proc/sys"], check=True)
runpy.run_module("hacore.node.prepare", run_name="__main__")
"""


@pytest.mark.parametrize("parent", ["lan", "enp0s31f6", "enp0s31f7", "br-guest-lan", "wlx001122334455"])
def test_names_fit_and_differ(parent: str) -> None:
    names = {devices.device_name(vhid, parent) for vhid in range(1, 256)}
    assert len(names) == 255
    assert max(len(name) for name in names) <= 15
    assert not names & {devices.device_name(vhid, parent + "x") for vhid in range(1, 256)}


def test_a_device_is_made_with_one_request_of_the_slow_library(
    lan: Lan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thousand VIPs are made before the election starts."""
    asked: list[str] = []

    class Counting:
        def __init__(self, real: Callable[[], Any] = IPRoute) -> None:
            self._real = real()

        def __enter__(self) -> Self:
            return self

        def __exit__(self, *_: object) -> None:
            self._real.close()

        def __getattr__(self, name: str) -> Any:
            asked.append(name)
            return getattr(self._real, name)

    monkeypatch.setattr(devices, "IPRoute", Counting)
    outcome = prepare(
        lan.fw, tmp_path, *(vip(f"v{number}", vhid=number, addresses=(f"10.1.0.{number}/16",)) for number in (1, 2, 3))
    )
    assert {prepared(outcome, name).device for name in outcome.vips} == {f"carp{number}.lan" for number in (1, 2, 3)}
    assert asked == ["get_links", *["link"] * 3]
