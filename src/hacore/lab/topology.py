"""The network of the lab: who is where, under which address, behind which bridge port, and how it is made.

Five namespaces. `switch` holds the bridges and one port for each cable, so that faults are made there and each node's
forwarding is watched there, outside the node:

    client ── lan-client │ br-lan │ lan-fw1 ── fw1 ── wan-fw1 │ br-wan │ wan-server ── server
                         │        │ lan-fw2 ── fw2 ── wan-fw2 │        │
                                    sync-fw1 ── br-sync ── sync-fw2
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from hacore.errors import PlatformError
from hacore.lab import namespaces

if TYPE_CHECKING:
    from pyroute2 import IPRoute  # type: ignore[import-untyped]

SWITCH = "switch"
CLIENT = "client"
SERVER = "server"
NODES = ("fw1", "fw2")
ROLES = (SWITCH, CLIENT, SERVER, *NODES)

BRIDGES = ("br-lan", "br-wan", "br-sync")
SIDES = ("lan", "wan")

PREFIXES = {4: 16, 6: 64}
VIPS = {
    "lan": {4: "10.1.0.1", 6: "2001:db8:1::1"},
    "wan": {4: "10.2.0.1", 6: "2001:db8:2::1"},
}
VHIDS = {"lan": 1, "wan": 2}
HOSTS = {
    CLIENT: {4: "10.1.0.100", 6: "2001:db8:1::100"},
    SERVER: {4: "10.2.0.100", 6: "2001:db8:2::100"},
}


class Cable(NamedTuple):
    """A veth pair: `interface` in the namespace `role`, the bridge port `port` in the switch."""

    role: str
    interface: str
    bridge: str
    port: str
    addresses: tuple[str, ...]


def _cables() -> tuple[Cable, ...]:
    cables = [
        Cable(CLIENT, "lan", "br-lan", "lan-client", ("10.1.0.100/16", "2001:db8:1::100/64")),
        Cable(SERVER, "wan", "br-wan", "wan-server", ("10.2.0.100/16", "2001:db8:2::100/64")),
    ]
    for number, node in enumerate(NODES, start=1):
        cables.append(
            Cable(node, "lan", "br-lan", f"lan-{node}", (f"10.1.0.1{number}/16", f"2001:db8:1::1{number}/64"))
        )
        cables.append(
            Cable(node, "wan", "br-wan", f"wan-{node}", (f"10.2.0.1{number}/16", f"2001:db8:2::1{number}/64"))
        )
        cables.append(Cable(node, "sync", "br-sync", f"sync-{node}", (f"10.9.0.{number}/24",)))
    return tuple(cables)


CABLES = _cables()


def ports_of(node: str) -> tuple[str, ...]:
    """The bridge ports that the interfaces of `node` hang on."""
    return tuple(cable.port for cable in CABLES if cable.role == node)


def group_of(role: str) -> int:
    """The link group of a node's bridge ports: one request takes a group down as a whole."""
    return 11 + NODES.index(role) if role in NODES else 10


class Vip(NamedTuple):
    """A [[vip]] of the nodes' settings; the addresses with their prefix length."""

    name: str
    interface: str
    vhid: int
    addresses: tuple[str, ...]


def gateways() -> tuple[Vip, ...]:
    """The two VIPs of a lab: what client and server route through."""
    return tuple(
        Vip(side, side, VHIDS[side], tuple(f"{VIPS[side][family]}/{prefix}" for family, prefix in PREFIXES.items()))
        for side in SIDES
    )


_FIRST_VHID = 3
_VHIDS = 255 - 2
SEGMENTS = ("lan", "wan", "lan2", "wan2")
"""The interfaces that can have VIPs; those after the first two are there once `add_segments` made them."""
MOST_VIPS = 2 + len(SIDES) * _VHIDS
"""More would need a VHID twice on an interface, or more segments."""
MOST_VIPS_OF_ALL_SEGMENTS = 2 + len(SEGMENTS) * _VHIDS


def many_vips(
    count: int, families: Sequence[int] = tuple(PREFIXES), segments: Sequence[str] = SIDES
) -> tuple[Vip, ...]:
    """The gateways and as many more VIPs as make `count`, on `segments` in turn; those have an address of each of
    `families`.
    """
    made = list(gateways())[:count]
    for index in range(count - len(made)):
        side, vhid = segments[index % len(segments)], _FIRST_VHID + index // len(segments)
        number = SEGMENTS.index(side) + 1
        written = {4: f"10.{number}.1.{vhid}", 6: f"2001:db8:{number}::1:{vhid:x}"}
        addresses = tuple(f"{written[family]}/{PREFIXES[family]}" for family in families)
        made.append(Vip(f"{side}-{vhid}" if side[-1].isdigit() else f"{side}{vhid}", side, vhid, addresses))
    return tuple(made)


def addresses_of(vips: Iterable[Vip]) -> set[str]:
    """The virtual addresses, without their prefix lengths."""
    return {address.split("/")[0] for vip in vips for address in vip.addresses}


def vip_addresses() -> set[str]:
    """The virtual addresses of the gateways."""
    return addresses_of(gateways())


def namespace_paths(name: str, held_in: Path) -> dict[str, Path]:
    """Where the namespaces of the lab `name` are held, by role."""
    return {role: held_in / f"hacore-{name}-{role}" for role in ROLES}


def make_namespaces(paths: dict[str, Path]) -> None:
    """Make the namespaces. PlatformError where the kernel refuses one."""
    for path in paths.values():
        try:
            namespaces.create(path)
        except OSError as error:
            raise PlatformError(f"cannot make the network namespace {path}: {error}") from error


def build(paths: dict[str, Path]) -> None:
    """Make bridges, cables, addresses and routes in the namespaces. PlatformError where the kernel refuses a part."""
    from pyroute2 import IPRoute
    from pyroute2.netlink.exceptions import NetlinkError  # type: ignore[import-untyped]

    for role, path in paths.items():
        _set_sysctls(role, path)
    try:
        with namespaces.inside(paths[SWITCH]), IPRoute() as switch:
            _build_switch(switch, paths)
        for role in (CLIENT, SERVER, *NODES):
            with namespaces.inside(paths[role]), IPRoute() as host:
                _build_host(role, host)
    except NetlinkError as error:
        raise PlatformError(f"the kernel refused a part of the lab's network: {error}") from error


def add_segments(paths: dict[str, Path]) -> None:
    """Give both nodes the interfaces of `SEGMENTS` that a lab does not have by itself, each on a bridge of its own.

    PlatformError where the kernel refuses one.
    """
    from pyroute2 import IPRoute
    from pyroute2.netlink.exceptions import NetlinkError

    cables = [
        Cable(node, name, f"br-{name}", f"{name}-{node}", (f"10.{number}.0.1{place}/16",))
        for number, name in enumerate(SEGMENTS, start=1)
        if name not in SIDES
        for place, node in enumerate(NODES, start=1)
    ]
    try:
        with namespaces.inside(paths[SWITCH]), IPRoute() as switch:
            _build_bridges(switch, dict.fromkeys(cable.bridge for cable in cables))
            _build_cables(switch, paths, cables)
        for node in NODES:
            with namespaces.inside(paths[node]), IPRoute() as host:
                _build_interfaces(node, host, cables)
    except NetlinkError as error:
        raise PlatformError(f"the kernel refused a part of the lab's network: {error}") from error


def _set_sysctls(role: str, path: Path) -> None:
    forwards = int(role in NODES)
    values = {
        "ipv4/ip_forward": forwards,
        "ipv4/conf/all/rp_filter": 0,
        "ipv4/conf/default/rp_filter": 0,
        "ipv6/conf/all/forwarding": forwards,
        "ipv6/conf/default/forwarding": forwards,
        "ipv6/conf/default/accept_dad": 0,
        "ipv6/conf/default/accept_ra": 0,
        "ipv6/conf/default/disable_ipv6": int(role == SWITCH),
    }
    with namespaces.inside(path):
        for key, value in values.items():
            try:
                Path("/proc/sys/net", key).write_text(str(value), encoding="ascii")
            except OSError as error:
                raise PlatformError(f"cannot set net/{key} in the namespace {path.name}: {error}") from error


def _index(host: IPRoute, name: str) -> int:
    return int(host.link_lookup(ifname=name)[0])


def _build_switch(switch: IPRoute, paths: dict[str, Path]) -> None:
    _build_bridges(switch, BRIDGES)
    _build_cables(switch, paths, CABLES)
    switch.link("set", index=_index(switch, "lo"), state="up")


def _build_bridges(switch: IPRoute, bridges: Iterable[str]) -> None:
    for bridge in bridges:
        switch.link("add", ifname=bridge, kind="bridge", br_forward_delay=0, br_stp_state=0, br_mcast_snooping=0)
        switch.link("set", index=_index(switch, bridge), state="up")


def _build_cables(switch: IPRoute, paths: dict[str, Path], cables: Iterable[Cable]) -> None:
    for cable in cables:
        peer = {"ifname": cable.interface, "net_ns_fd": str(paths[cable.role])}
        switch.link("add", ifname=cable.port, kind="veth", peer=peer)
        index, master = _index(switch, cable.port), _index(switch, cable.bridge)
        switch.link("set", index=index, master=master, group=group_of(cable.role), state="up")


def _build_host(role: str, host: IPRoute) -> None:
    host.link("set", index=1, state="up")
    _build_interfaces(role, host, CABLES)
    if role == CLIENT:
        for family in PREFIXES:
            host.route("add", dst="default", gateway=VIPS["lan"][family])
    if role == SERVER:
        for family, prefix in PREFIXES.items():
            network = ipaddress.ip_interface(f"{HOSTS[CLIENT][family]}/{prefix}").network
            host.route("add", dst=str(network), gateway=VIPS["wan"][family])


def _build_interfaces(role: str, host: IPRoute, cables: Iterable[Cable]) -> None:
    for cable in cables:
        if cable.role != role:
            continue
        index = _index(host, cable.interface)
        host.link("set", index=index, state="up")
        for text in cable.addresses:
            interface = ipaddress.ip_interface(text)
            host.addr("add", index=index, address=str(interface.ip), prefixlen=interface.network.prefixlen)


def remove_virtual_addresses(path: Path) -> None:
    """Take every virtual address away that the kernel has in the namespace at `path`, as a kernel that starts anew has
    none.
    """
    from pyroute2 import IPRoute

    wanted = vip_addresses()
    with namespaces.inside(path), IPRoute() as host:
        for message in host.get_addr():
            if (address := message.get("address")) in wanted:
                host.addr("del", index=message["index"], address=address, prefixlen=message["prefixlen"])


def held_addresses(path: Path) -> set[str]:
    """The virtual addresses that the kernel has in the namespace at `path` now."""
    from pyroute2 import IPRoute

    wanted = vip_addresses()
    with namespaces.inside(path), IPRoute() as host:
        return {address for message in host.get_addr() if (address := message.get("address")) in wanted}
