"""The devices that carry VIPs: a macvlan with the virtual MAC for each, made once and never taken up or down in a
transition.

A device of ours is recognised by its alias "hacore" together with its kind and its name `carp{vhid}.{parent}`. It comes
up only after its settings and its gate stand, so it never says a word that a BACKUP must not say.

Uses pyroute2, which is too large for a process that stays: only short-lived ones import this module.
"""

from __future__ import annotations

import base64
import errno
import ipaddress
import itertools
import os
import socket
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from pyroute2 import IPRoute  # type: ignore[import-untyped]
from pyroute2.netlink.exceptions import NetlinkError  # type: ignore[import-untyped]

from hacore.errors import HacoreError, PlatformError, PrivilegeError
from hacore.linux import gate, libc, rtnl, ruleset, sysctl

ALIAS: Final = "hacore"
_NAME_LIMIT: Final = 15
_ARPHRD_ETHER: Final = 1
_FIRST_GROUP: Final = 0x70000000
_CHANGES_FILE: Final = "sysctl.json"


class DesiredVip(NamedTuple):
    """What the settings want. `held`: this node is its MASTER now, so its addresses and its lease are left alone."""

    name: str
    interface: str
    vhid: int
    virtual_mac: bool
    addresses: tuple[str, ...]  # "10.1.0.1/16"
    dead_time: float
    held: bool = False


class VipAddress(NamedTuple):
    """How an address is to be added: the prefix length on the device, and whether it brings no route."""

    address: str
    prefix_length: int
    noprefixroute: bool


class PreparedVip(NamedTuple):
    """Where a VIP's addresses go. `mac` answers for them; `ifindex` is the parent's own without a virtual MAC."""

    name: str
    device: str
    ifindex: int
    parent_ifindex: int
    mac: str
    parent_mac: str
    addresses: tuple[VipAddress, ...]
    gate: gate.Mode


class Prepared(NamedTuple):
    """The outcome: each VIP made, or why not; what an administrator should hear of."""

    vips: dict[str, PreparedVip | HacoreError]
    warnings: list[str]


class _Link(NamedTuple):
    ifindex: int
    name: str
    mac: str
    parent: int
    kind: str
    alias: str
    mode: str
    mtu: int
    group: int
    is_ethernet: bool

    def is_ours(self) -> bool:
        return self.alias == ALIAS and self.kind == "macvlan" and self.name.startswith("carp")


def virtual_mac(vhid: int) -> str:
    """00:00:5e:00:01:VHID, for both families."""
    return f"00:00:5e:00:01:{vhid:02x}"


def device_name(vhid: int, parent: str) -> str:
    """`carp{vhid}.{parent}`, in at most 15 characters: where that is too long the end is a checksum of the parent's
    name.
    """
    name = f"carp{vhid}.{parent}"
    if len(name.encode()) <= _NAME_LIMIT:
        return name
    checksum = base64.b32encode(zlib.crc32(parent.encode()).to_bytes(4, "big")).decode().lower()
    return f"carp{vhid}.{checksum}"[:_NAME_LIMIT]


def prepare(
    vips: Sequence[DesiredVip],
    runtime_dir: Path,
    mode: gate.Mode | None = None,
    untracked: Sequence[ruleset.Untracked] = (),
) -> Prepared:
    """Brings devices, settings and gate to what `vips` need, and clears everything of ours beside that; may be called
    at any time, again and again.

    `mode` forces a mode of the gate. Raises PrivilegeError or PlatformError for what concerns all VIPs.
    """
    _require_privileges()
    sysctl.require_writable()
    warnings: list[str] = []
    if mode is None:
        mode = _choose_mode(warnings) if any(vip.virtual_mac for vip in vips) else "none"
    made: dict[str, PreparedVip | HacoreError] = {}
    with IPRoute() as route:
        work = _Preparation(route, vips, sysctl.Changes(runtime_dir / _CHANGES_FILE), mode)
        for vip in vips:
            try:
                made[vip.name] = work.prepare(vip)
            except HacoreError as error:
                made[vip.name] = error
            except (NetlinkError, OSError) as error:
                made[vip.name] = PlatformError(f"{vip.name}: the kernel refused the device on {vip.interface}: {error}")
        warnings += work.changes.restore(frozenset(work.changed))
        warnings += _clear_addresses([(vip, found) for vip in vips if isinstance(found := made[vip.name], PreparedVip)])
        gated = [(vip, found) for vip in vips if isinstance(found := made[vip.name], PreparedVip) and vip.virtual_mac]
        if mode != "none":
            _install_gate(gated, mode, untracked)
        elif untracked:
            try:
                ruleset.install_untracked(untracked)
            except PlatformError as error:
                warnings.append(f"connections between the nodes are tracked: {error}")
    answers = _request([rtnl.set_up_message(found.ifindex) for _, found in gated])
    for (vip, found), number in zip(gated, answers, strict=True):
        if number:
            made[vip.name] = PlatformError(f"{vip.name}: {found.device} does not come up: {os.strerror(number)}")
    return Prepared(made, warnings)


def remove(runtime_dir: Path) -> list[str]:
    """Takes away every device, address, table and setting of ours; returns what could not be put back."""
    _require_privileges()
    with IPRoute() as route:
        _delete_unwanted(_links(route), ())
    _delete_addresses(address for address in rtnl.dump_addresses() if address.ours)
    warnings = sysctl.Changes(runtime_dir / _CHANGES_FILE).restore()
    try:
        ruleset.uninstall()
    except PlatformError as error:
        warnings.append(str(error))
    return warnings


def _require_privileges() -> None:
    held = libc.effective_capabilities()
    for name, number in (("CAP_NET_ADMIN", libc.CAP_NET_ADMIN), ("CAP_NET_RAW", libc.CAP_NET_RAW)):
        if not held >> number & 1:
            raise PrivilegeError(
                f"{name} is missing: run as root, or give it with AmbientCapabilities={name} in the unit"
            )


def _links(route: IPRoute) -> dict[str, _Link]:
    found = {}
    for message in route.get_links():
        info: Any = message.get_attr("IFLA_LINKINFO")
        data: Any = info.get_attr("IFLA_INFO_DATA") if info else None
        kind = info.get_attr("IFLA_INFO_KIND") if info else ""
        mode = data.get_attr("IFLA_MACVLAN_MODE") if data is not None and kind == "macvlan" else ""
        link = _Link(
            ifindex=message["index"],
            name=message.get_attr("IFLA_IFNAME"),
            mac=message.get_attr("IFLA_ADDRESS") or "",
            parent=message.get_attr("IFLA_LINK") or 0,
            kind=kind or "",
            alias=message.get_attr("IFLA_IFALIAS") or "",
            mode=str(mode or ""),
            mtu=message.get_attr("IFLA_MTU") or 0,
            group=message.get_attr("IFLA_GROUP") or 0,
            is_ethernet=message["ifi_type"] == _ARPHRD_ETHER,
        )
        found[link.name] = link
    return found


def _fits(link: _Link, vip: DesiredVip, parent: _Link) -> bool:
    return (
        link.is_ours()
        and link.parent == parent.ifindex
        and link.mac == virtual_mac(vip.vhid)
        and link.mode == "private"
    )


def _delete_unwanted(links: dict[str, _Link], vips: Sequence[DesiredVip]) -> dict[str, _Link]:
    """Deletes every device of ours that no VIP can use as it is; returns the links that remain."""
    usable = set()
    for vip in vips:
        link, parent = links.get(device_name(vip.vhid, vip.interface)), links.get(vip.interface)
        if vip.virtual_mac and link and parent and _fits(link, vip, parent):
            usable.add(link.name)
    unwanted = [link for name, link in links.items() if link.is_ours() and name not in usable]
    _delete_devices(unwanted, {link.group for link in links.values()})
    return {name: link for name, link in links.items() if link not in unwanted}


def _delete_devices(unwanted: Sequence[_Link], groups: set[int]) -> None:
    """All in one go, by way of an interface group that nobody else uses."""
    if not unwanted:
        return
    group = next(number for number in itertools.count(_FIRST_GROUP) if number not in groups)
    messages = [rtnl.set_group_message(link.ifindex, group) for link in unwanted]
    results = _request([*messages, rtnl.delete_group_message(group)])
    # A device that went with its parent meanwhile answers ENODEV; the last answer is that of the deletion.
    if results[-1] not in (0, errno.ENODEV):
        names = ", ".join(link.name for link in unwanted)
        raise PlatformError(f"cannot delete the left-over devices {names}: {os.strerror(results[-1])}")


def _request(messages: Sequence[bytes]) -> list[int]:
    """The errno of each, 0 where it worked. A prebuilt message takes a tenth of what pyroute2 takes for one."""
    if not messages:
        return []
    opened = rtnl.RouteSocket()
    try:
        return opened.request(messages)
    finally:
        opened.close()


def _choose_mode(warnings: list[str]) -> gate.Mode:
    try:
        ruleset.run_nft(["--version"])
    except PlatformError as error:
        warnings.append(f"{error}; VIPs are guarded by address lifetimes alone")
        return "none"
    if ruleset.supports_egress():
        return "adverts"
    warnings.append(
        "this kernel has no nftables egress hook (Linux 5.16 has it): "
        "a node that hangs goes on forwarding until its addresses expire"
    )
    return "static"


class _Preparation:
    """What preparing one VIP after the other needs and finds out."""

    def __init__(self, route: IPRoute, vips: Sequence[DesiredVip], changes: sysctl.Changes, mode: gate.Mode) -> None:
        self.changes = changes
        self.changed: set[str] = set()
        self._route = route
        self._mode = mode
        self._links = _delete_unwanted(_links(route), vips)
        self._subnets = _subnets({text.split("/")[0] for vip in vips for text in vip.addresses})

    def prepare(self, vip: DesiredVip) -> PreparedVip:
        """Device and settings of one VIP; the device stays down if it is new."""
        parent = self._links.get(vip.interface)
        if parent is None:
            raise PlatformError(
                f"{vip.name}: there is no interface {vip.interface}; was it renamed, or is it not there yet?"
            )
        if not parent.is_ethernet:
            raise PlatformError(f"{vip.name}: {vip.interface} is no Ethernet interface, it cannot carry CARP")
        wanted = {"arp_ignore": 1, "arp_announce": 2} if vip.virtual_mac else {"promote_secondaries": 1}
        for key, value in wanted.items():
            path = f"ipv4/conf/{parent.name}/{key}"
            self.changed.add(path)
            self.changes.raise_to(path, value)
        addresses = _placed(vip, self._subnets.get(parent.ifindex, []))
        if not vip.virtual_mac:
            return PreparedVip(
                vip.name, parent.name, parent.ifindex, parent.ifindex, parent.mac, parent.mac, addresses, "none"
            )
        link = self._device(vip, parent)
        _settle(link.name, parent.name, ipv6=any(":" in one for one in vip.addresses))
        return PreparedVip(
            vip.name, link.name, link.ifindex, parent.ifindex, link.mac, parent.mac, addresses, self._mode
        )

    def _device(self, vip: DesiredVip, parent: _Link) -> _Link:
        name, mac = device_name(vip.vhid, parent.name), virtual_mac(vip.vhid)
        present = self._links.get(name)
        if present is not None and not present.is_ours():
            raise PlatformError(
                f"{vip.name}: an interface named {name} is there already and is not hacore's: rename or delete it"
            )
        if present is not None:
            if present.mtu != parent.mtu:
                self._route.link("set", index=present.ifindex, mtu=parent.mtu)
            return present
        try:
            self._route.link(
                "add", ifname=name, kind="macvlan", link=parent.ifindex, macvlan_mode="private", address=mac
            )
        except NetlinkError as error:
            if error.code == errno.EOPNOTSUPP:
                raise PlatformError(
                    f"{vip.name}: this kernel has no macvlan: load the module, or set virtual_mac = false"
                ) from error
            raise
        index = socket.if_nametoindex(name)
        (number,) = _request([rtnl.set_alias_message(index, ALIAS)])
        if number:
            raise PlatformError(f"{vip.name}: {name} cannot be given an alias: {os.strerror(number)}")
        self._links[name] = _Link(index, name, mac, parent.ifindex, "macvlan", ALIAS, "private", parent.mtu, 0, True)
        return self._links[name]


def _settle(device: str, parent: str, *, ipv6: bool) -> None:
    """The settings of a VIP device, all before it goes up."""
    ipv4, own6, parent6 = f"ipv4/conf/{device}", f"ipv6/conf/{device}", f"ipv6/conf/{parent}"
    for key, value in {
        # Loose: routes back to the clients go over the parent. The kernel takes the larger of this and `all`.
        "rp_filter": "2",
        "arp_ignore": "1",
        "arp_announce": "2",
        "arp_notify": "0",
        "promote_secondaries": "1",
        "forwarding": sysctl.read(f"ipv4/conf/{parent}/forwarding") or "0",
    }.items():
        sysctl.write(f"{ipv4}/{key}", value)
    if sysctl.read(f"{own6}/disable_ipv6") is None:
        if ipv6:
            raise PlatformError("this kernel runs without IPv6, but a VIP has IPv6 addresses")
        return
    if not ipv6:
        sysctl.write(f"{own6}/disable_ipv6", "1")
        return
    for key, value in {
        "addr_gen_mode": "1",
        "accept_ra": "0",
        "autoconf": "0",
        "use_tempaddr": "0",
        "accept_dad": "0",
        "dad_transmits": "0",
        "ndisc_notify": "0",
        "forwarding": sysctl.read(f"{parent6}/forwarding") or "0",
        "disable_ipv6": "0",
    }.items():
        if sysctl.read(f"{own6}/{key}") != value:
            sysctl.write(f"{own6}/{key}", value)


_Subnet = ipaddress.IPv4Network | ipaddress.IPv6Network


def _subnets(without: set[str]) -> dict[int, list[_Subnet]]:
    """By interface, the networks it is in by addresses of its own, which are not ours and not those in `without`."""
    found: dict[int, list[_Subnet]] = {}
    for one in rtnl.dump_addresses():
        network = ipaddress.ip_interface(f"{one.address}/{one.prefix_length}").network
        if not one.ours and one.address not in without and network.prefixlen < network.max_prefixlen:
            found.setdefault(one.ifindex, []).append(network)
    return found


def _placed(vip: DesiredVip, subnets: Sequence[_Subnet]) -> tuple[VipAddress, ...]:
    """/32 and /128 without routes where the parent has the subnet, else the configured prefix with its route."""
    placed = []
    for text in vip.addresses:
        interface = ipaddress.ip_interface(text)
        covered = any(interface.ip in subnet for subnet in subnets)
        length = interface.max_prefixlen if covered else interface.network.prefixlen
        placed.append(VipAddress(str(interface.ip), length, covered))
    return tuple(placed)


def _clear_addresses(vips: Sequence[tuple[DesiredVip, PreparedVip]]) -> list[str]:
    """Removes what an earlier run left: every address on a VIP device, and on other interfaces those that carry our
    mark or are a VIP with a lifetime. Returns warnings of VIPs that somebody configured for good.
    """
    emptied = {made.ifindex for vip, made in vips if vip.virtual_mac and not vip.held}
    untouched = {made.ifindex for vip, made in vips if vip.virtual_mac and vip.held}
    held = {(made.ifindex, one.address) for vip, made in vips if vip.held for one in made.addresses}
    places = {(made.ifindex, one.address) for _, made in vips for one in made.addresses}
    configured = {address for _, address in places}
    unwanted, warnings = [], []
    for one in rtnl.dump_addresses():
        place = (one.ifindex, one.address)
        permanent = bool(one.flags & rtnl.IFA_F_PERMANENT)
        if one.ifindex in untouched or place in held:
            continue
        if one.ifindex in emptied or one.ours or (place in places and not permanent):
            unwanted.append(one)
        elif one.address in configured and permanent:
            warnings.append(f"{one.address} is a VIP, but is also configured on an interface for good: remove it there")
    _delete_addresses(unwanted)
    return warnings


def _delete_addresses(addresses: Iterable[rtnl.AddressChange]) -> None:
    messages = [rtnl.delete_address_message(one.ifindex, one.address, one.prefix_length) for one in addresses]
    # An address that expired meanwhile answers EADDRNOTAVAIL: gone is gone.
    _request(messages)


def _install_gate(
    vips: Sequence[tuple[DesiredVip, PreparedVip]], mode: gate.Mode, untracked: Sequence[ruleset.Untracked]
) -> None:
    ruleset.install(
        [
            ruleset.GatedDevice(
                made.device,
                made.ifindex,
                vip.interface,
                made.mac,
                vip.vhid,
                gate.lease_timeout(vip.dead_time),
                vip.held,
            )
            for vip, made in vips
        ],
        mode,
        untracked,
    )
    released = [gate.release_message(made.ifindex) for vip, made in vips if not vip.held]
    opened = gate.NftSocket()
    failures = [number for number in opened.request(released) if number]
    opened.close()
    if failures:
        raise PlatformError(f"cannot clear the leases of an earlier run: {os.strerror(failures[0])}")
