"""The devices that carry VIPs: a macvlan with the virtual MAC for each, made once and never taken up or down in a
transition.

A device of ours is recognised by its alias "hacore" together with its kind and its name `carp{vhid}.{parent}`. It comes
up only after its settings and its gate stand, so it never says a word that a BACKUP must not say.

Uses pyroute2, which is too large for a process that stays: only short-lived ones import this module.
"""

from __future__ import annotations

import base64
import ipaddress
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


def prepare(vips: Sequence[DesiredVip], runtime_dir: Path, mode: gate.Mode | None = None) -> Prepared:
    """Brings devices, settings and gate to what `vips` need, and clears everything of ours beside that; may be called
    at any time, again and again.

    `mode` forces a mode of the gate. Raises PrivilegeError or PlatformError for what concerns all VIPs.
    """
    _require_privileges()
    sysctl.require_writable()
    warnings: list[str] = []
    made: dict[str, PreparedVip | HacoreError] = {}
    with IPRoute() as route:
        links = _links(route)
        links = _delete_unwanted(route, links, vips)
        changes = sysctl.Changes(runtime_dir / _CHANGES_FILE)
        changed: set[str] = set()
        chosen = _choose_mode(mode, warnings) if any(vip.virtual_mac for vip in vips) else "none"
        for vip in vips:
            try:
                made[vip.name] = _prepare_one(route, links, vip, chosen, changes, changed)
            except HacoreError as error:
                made[vip.name] = error
            except NetlinkError as error:
                made[vip.name] = PlatformError(f"{vip.name}: the kernel refused the device on {vip.interface}: {error}")
        warnings += changes.restore(frozenset(changed))
        _clear_addresses(vips, made)
        _install_gate(vips, made, chosen)
        for vip in vips:
            found = made[vip.name]
            if isinstance(found, PreparedVip) and vip.virtual_mac:
                try:
                    route.link("set", index=found.ifindex, state="up")
                except NetlinkError as error:
                    made[vip.name] = PlatformError(f"{vip.name}: {found.device} does not come up: {error}")
    return Prepared(made, warnings)


def remove(runtime_dir: Path) -> list[str]:
    """Takes away every device, address, table and setting of ours; returns what could not be put back."""
    _require_privileges()
    with IPRoute() as route:
        _delete_unwanted(route, _links(route), ())
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


def _delete_unwanted(route: IPRoute, links: dict[str, _Link], vips: Sequence[DesiredVip]) -> dict[str, _Link]:
    """Deletes every device of ours that no VIP can use as it is; returns the links that remain."""
    usable = set()
    for vip in vips:
        link, parent = links.get(device_name(vip.vhid, vip.interface)), links.get(vip.interface)
        if vip.virtual_mac and link and parent and _fits(link, vip, parent):
            usable.add(link.name)
    remaining = {}
    for name, link in links.items():
        if link.is_ours() and name not in usable:
            try:
                route.link("del", index=link.ifindex)
            except NetlinkError as error:
                raise PlatformError(f"cannot delete the left-over device {name}: {error}") from error
        else:
            remaining[name] = link
    return remaining


def _choose_mode(forced: gate.Mode | None, warnings: list[str]) -> gate.Mode:
    if forced is not None:
        return forced
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


def _prepare_one(
    route: IPRoute,
    links: dict[str, _Link],
    vip: DesiredVip,
    mode: gate.Mode,
    changes: sysctl.Changes,
    changed: set[str],
) -> PreparedVip:
    parent = links.get(vip.interface)
    if parent is None:
        raise PlatformError(
            f"{vip.name}: there is no interface {vip.interface}; was it renamed, or is it not there yet?"
        )
    if len(parent.mac) != 17:
        raise PlatformError(f"{vip.name}: {vip.interface} is no Ethernet interface, it cannot carry CARP")
    wanted = {f"ipv4/conf/{parent.name}/arp_ignore": 1, f"ipv4/conf/{parent.name}/arp_announce": 2}
    if not vip.virtual_mac:
        wanted = {f"ipv4/conf/{parent.name}/promote_secondaries": 1}
    for key, value in wanted.items():
        changed.add(key)
        changes.raise_to(key, value)
    addresses = _placed(vip, parent.ifindex)
    if not vip.virtual_mac:
        return PreparedVip(
            vip.name, parent.name, parent.ifindex, parent.ifindex, parent.mac, parent.mac, addresses, "none"
        )
    link = _make_device(route, links, vip, parent)
    _settle(link.name, parent.name, ipv6=any(":" in one for one in vip.addresses))
    return PreparedVip(vip.name, link.name, link.ifindex, parent.ifindex, link.mac, parent.mac, addresses, mode)


def _make_device(route: IPRoute, links: dict[str, _Link], vip: DesiredVip, parent: _Link) -> _Link:
    name = device_name(vip.vhid, parent.name)
    present = links.get(name)
    if present is not None and not present.is_ours():
        raise PlatformError(
            f"{vip.name}: an interface named {name} is there already and is not hacore's: rename or delete it"
        )
    if present is not None:
        if present.mtu != parent.mtu:
            route.link("set", index=present.ifindex, mtu=parent.mtu)
        return present
    try:
        route.link(
            "add",
            ifname=name,
            kind="macvlan",
            link=parent.ifindex,
            macvlan_mode="private",
            address=virtual_mac(vip.vhid),
            ifalias=ALIAS,
        )
    except NetlinkError as error:
        if error.code == 95:
            raise PlatformError(
                f"{vip.name}: this kernel has no macvlan: load the module, or set virtual_mac = false"
            ) from error
        raise
    (index,) = route.link_lookup(ifname=name)
    # The alias is set apart: older kernels take it on an existing link only.
    route.link("set", index=index, ifalias=ALIAS)
    links[name] = _Link(index, name, virtual_mac(vip.vhid), parent.ifindex, "macvlan", ALIAS, "private", parent.mtu)
    return links[name]


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


def _placed(vip: DesiredVip, parent: int) -> tuple[VipAddress, ...]:
    """/32 and /128 without routes where the parent has the subnet already, else the configured prefix with its route.
    """
    subnets = [
        ipaddress.ip_interface(f"{found.address}/{found.prefix_length}").network
        for found in rtnl.dump_addresses()
        if found.ifindex == parent and not found.ours
    ]
    placed = []
    for text in vip.addresses:
        interface = ipaddress.ip_interface(text)
        covered = any(interface.ip in subnet for subnet in subnets if subnet.prefixlen < subnet.max_prefixlen)
        length = interface.max_prefixlen if covered else interface.network.prefixlen
        placed.append(VipAddress(str(interface.ip), length, covered))
    return tuple(placed)


def _clear_addresses(vips: Sequence[DesiredVip], made: dict[str, PreparedVip | HacoreError]) -> None:
    """Removes what an earlier run left: every address on a VIP device, and on other interfaces those that carry our
    mark or are a VIP with a lifetime.
    """
    devices, held, configured = set(), set(), set()
    for vip in vips:
        found = made[vip.name]
        if not isinstance(found, PreparedVip):
            continue
        if vip.virtual_mac and not vip.held:
            devices.add(found.ifindex)
        for one in found.addresses:
            configured.add((found.ifindex, one.address))
            if vip.held:
                held.add((found.ifindex, one.address))
        if vip.held and vip.virtual_mac:
            held |= {(found.ifindex, one.address) for one in rtnl.dump_addresses() if one.ifindex == found.ifindex}
    unwanted = []
    for address in rtnl.dump_addresses():
        place = (address.ifindex, address.address)
        timed_vip = place in configured and not address.flags & rtnl.IFA_F_PERMANENT
        if place not in held and (address.ifindex in devices or address.ours or timed_vip):
            unwanted.append(address)
    _delete_addresses(unwanted)


def _delete_addresses(addresses: Iterable[rtnl.AddressChange]) -> None:
    messages = [rtnl.delete_address_message(one.ifindex, one.address, one.prefix_length) for one in addresses]
    if messages:
        opened = rtnl.RouteSocket()
        # An address that expired meanwhile answers EADDRNOTAVAIL: gone is gone.
        opened.request(messages)
        opened.close()


def _install_gate(vips: Sequence[DesiredVip], made: dict[str, PreparedVip | HacoreError], mode: gate.Mode) -> None:
    devices = [
        ruleset.GatedDevice(
            found.device, found.ifindex, vip.interface, found.mac, vip.vhid, gate.lease_timeout(vip.dead_time)
        )
        for vip in vips
        if isinstance(found := made[vip.name], PreparedVip) and vip.virtual_mac
    ]
    if mode == "none":
        return
    ruleset.install(devices, mode)
    released = [
        found.ifindex
        for vip in vips
        if isinstance(found := made[vip.name], PreparedVip) and vip.virtual_mac and not vip.held
    ]
    if released:
        opened = gate.NftSocket()
        failures = [
            number for number in opened.request([gate.release_message(ifindex) for ifindex in released]) if number
        ]
        opened.close()
        if failures:
            raise PlatformError(f"cannot clear the leases of an earlier run (errno {failures[0]})")
