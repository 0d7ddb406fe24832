"""The nftables rules of the lease gate (see `gate`), as text for `nft -f -`, and the commands that install them.

Only short-lived processes import this: the rules are made before a VIP device goes up and do not change with a
transition.
"""

from __future__ import annotations

import ipaddress
import json
import os
import re
import socket
import subprocess
from collections.abc import Collection, Iterable, Sequence
from typing import Final, NamedTuple

from hacore.errors import PlatformError
from hacore.linux.gate import COMMAND_LEASE, COMMAND_RELEASE, COMMAND_TYPE, TABLE, Mode, milliseconds, set_name
from hacore.linux.packet import CARP_PROTOCOL, unicast_priority

_TABLE: Final = f"netdev {TABLE}"
# One element is used; those that expired count until the kernel collects them, about once a second.
_SET_SIZE: Final = 128


class GatedDevice(NamedTuple):
    """One VIP device and what renews its lease."""

    device: str
    ifindex: int
    parent: str
    mac: str
    vhid: int
    timeout: float  # seconds, see lease_timeout()
    held: bool = False  # this node is MASTER: a set that has to be made is made with the lease in it


class Untracked(NamedTuple):
    """A TCP port whose connections stay out of connection tracking: one that this node listens on, or a peer's."""

    address: str  # or a name, which stands for all addresses
    port: int
    local: bool


def _quoted(name: str) -> str:
    if not re.fullmatch(r"[^\s\"\\/:$]{1,15}", name):
        raise PlatformError(f"{name!r}: nftables cannot be told of an interface with this name; rename it")
    return f'"{name}"'


# Before every other chain, so that nobody's rules see what does not pass.
_PRIORITY: Final = -500


def _base_chain(name: str, hook: str, device: str, policy: str) -> list[str]:
    kind = f"type filter hook {hook} device {_quoted(device)} priority {_PRIORITY}; policy {policy};"
    return [f"add chain {_TABLE} {name} {{ {kind} }}", f"flush chain {_TABLE} {name}"]


def _device_rules(one: GatedDevice, mode: Mode) -> list[str]:
    """Both directions of a VIP device; `renew_` is the chain that takes or renews its lease."""
    n, lease = one.ifindex, f"@{set_name(one.ifindex)}"
    command = f"@ll,96,24 0x{COMMAND_TYPE:04x}"
    lines = [
        f"add set {_TABLE} {set_name(n)} {{ type iface_type; flags dynamic,timeout; size {_SET_SIZE}; }}",
        *_base_chain(f"in_{n}", "ingress", one.device, "drop"),
        f"add rule {_TABLE} in_{n} meta iiftype {lease} accept",
    ]
    if mode == "adverts":
        lines += [
            f"add chain {_TABLE} renew_{n}",
            f"flush chain {_TABLE} renew_{n}",
            f"add rule {_TABLE} renew_{n} update {lease} {{ meta oiftype timeout {milliseconds(one.timeout)}ms }}",
            *_base_chain(f"out_{n}", "egress", one.device, "drop"),
            f"add rule {_TABLE} out_{n} {command}{COMMAND_LEASE:02x} jump renew_{n}",
            f"add rule {_TABLE} out_{n} {command}{COMMAND_RELEASE:02x} delete {lease} {{ meta oiftype }}",
            f"add rule {_TABLE} out_{n} @ll,96,16 0x{COMMAND_TYPE:04x} drop",
            f"add rule {_TABLE} out_{n} meta oiftype {lease} accept",
        ]
    return lines


def _parent_rules(name: str, parent: str, devices: Sequence[GatedDevice]) -> list[str]:
    """The egress of a parent: multicast adverts are known by the virtual MAC they come from, unicast ones by their
    priority.
    """
    macs = ", ".join(f"0x{one.mac.replace(':', '')} : jump renew_{one.ifindex}" for one in devices)
    marks = ", ".join(f"0x{unicast_priority(one.vhid):08x} : jump renew_{one.ifindex}" for one in devices)
    lines = _base_chain(name, "egress", parent, "accept")
    for protocol in ("meta protocol ip ip protocol 112", "meta protocol ip6 ip6 nexthdr 112"):
        # The source address as raw payload: `ether saddr` makes nft 1.0.6 add a match on the input interface, which
        # egress does not have.
        lines.append(f"add rule {_TABLE} {name} {protocol} @ll,48,48 vmap {{ {macs} }}")
        lines.append(f"add rule {_TABLE} {name} {protocol} meta priority vmap {{ {marks} }}")
    return lines


def _address_match(direction: str, address: str) -> str:
    """`address` as the source ("saddr") or destination ("daddr"); nothing where it stands for all."""
    try:
        family = ipaddress.ip_address(address)
    except ValueError:
        return ""
    return "" if family.is_unspecified else f"{'ip6' if family.version == 6 else 'ip'} {direction} {address} "


def untracked_rules(places: Iterable[Untracked] = ()) -> list[str]:
    """The table that keeps the nodes' own traffic out of connection tracking: a full table would refuse it.

    Adverts go over the raw socket when they are unicast; those over AF_PACKET never meet it.
    """
    lines = [
        f"add table inet {TABLE}",
        f"flush table inet {TABLE}",
        f"add chain inet {TABLE} prerouting {{ type filter hook prerouting priority raw; }}",
        f"add chain inet {TABLE} output {{ type filter hook output priority raw; }}",
        f"add rule inet {TABLE} prerouting meta l4proto {CARP_PROTOCOL} notrack",
        f"add rule inet {TABLE} output meta l4proto {CARP_PROTOCOL} notrack",
    ]
    for address, port, local in places:
        # What comes in has one of this node's addresses as its destination: what it forwards is not its own.
        ends = (("daddr", "dport"), ("saddr", "sport")) if local else (("saddr", "sport"), ("daddr", "dport"))
        for chain, (side, number) in zip(("prerouting", "output"), ends, strict=True):
            to_this_node = "fib daddr type local " if chain == "prerouting" else ""
            match = f"{_address_match(side, address)}{to_this_node}tcp {number} {port}"
            lines.append(f"add rule inet {TABLE} {chain} {match} notrack")
    return lines


def ruleset(
    devices: Sequence[GatedDevice],
    stale: Collection[tuple[str, str]] = (),
    mode: Mode = "adverts",
    untracked: Iterable[Untracked] = (),
) -> str:
    """Input for `nft -f -` that makes the tables or brings them up to date in one transaction; leases that stand are
    kept.

    `stale` are (kind, name) pairs of what an earlier version of the table holds, see `existing()`; what is not wanted
    any more is deleted.
    """
    lines = [f"add table {_TABLE}"]
    parents: dict[str, list[GatedDevice]] = {}
    for one in devices:
        parents.setdefault(one.parent, []).append(one)
        lines += _device_rules(one, mode)
        if one.held and ("set", set_name(one.ifindex)) not in stale:
            timeout = f" timeout {milliseconds(one.timeout)}ms" if mode == "adverts" else ""
            lines.append(f"add element {_TABLE} {set_name(one.ifindex)} {{ ether{timeout} }}")
    if mode == "adverts":
        for parent, below in parents.items():
            lines += _parent_rules(f"parent_{socket.if_nametoindex(parent)}", parent, below)
    made = {line.split()[4] for line in lines if line.startswith(("add set", "add chain"))}
    unwanted = [(kind, name) for kind, name in stale if name not in made]
    # Emptied first, so that nothing jumps to a chain or looks into a set that goes.
    lines += [f"flush chain {_TABLE} {name}" for kind, name in unwanted if kind == "chain"]
    lines += [f"delete {kind} {_TABLE} {name}" for kind, name in sorted(unwanted)]
    lines += untracked_rules(untracked)
    return "\n".join(lines) + "\n"


def run_nft(arguments: Sequence[str], text: str = "") -> str:
    """Runs nft and returns what it printed. Raises PlatformError with its complaint."""
    try:
        done = subprocess.run(
            ["nft", *arguments], input=text, capture_output=True, text=True, timeout=60, env=_environment(), check=False
        )
    except FileNotFoundError:
        raise PlatformError("the command nft is missing: install the package nftables") from None
    except subprocess.TimeoutExpired:
        raise PlatformError("nft did not answer within 60 s") from None
    if done.returncode:
        raise PlatformError(f"nft refused the lease gate: {done.stderr.strip()}")
    return done.stdout


def _environment() -> dict[str, str]:
    path = os.environ.get("PATH", "/usr/bin:/bin")
    return {"PATH": f"{path}:/usr/sbin:/sbin", "LC_ALL": "C.UTF-8"}


def existing() -> list[tuple[str, str]]:
    """(kind, name) of the sets and chains that the table holds now; empty where there is none."""
    if f"table netdev {TABLE}" not in run_nft(["list", "tables"]).splitlines():
        return []
    found: list[tuple[str, str]] = []
    for entry in json.loads(run_nft(["-j", "list", "table", "netdev", TABLE]))["nftables"]:
        found += [(kind, entry[kind]["name"]) for kind in ("set", "chain") if kind in entry]
    return found


def install(devices: Sequence[GatedDevice], mode: Mode = "adverts", untracked: Iterable[Untracked] = ()) -> None:
    """Makes the tables what `devices` need, atomically; sets and leases of devices that stay are kept. Raises
    PlatformError.
    """
    run_nft(["-f", "-"], ruleset(devices, existing(), mode, untracked))


def install_untracked(places: Iterable[Untracked]) -> None:
    """Makes only the table that keeps the nodes' own traffic out of connection tracking. Raises PlatformError."""
    run_nft(["-f", "-"], "\n".join(untracked_rules(places)) + "\n")


def uninstall() -> None:
    """Deletes both tables, if they are there."""
    tables = run_nft(["list", "tables"]).splitlines()
    ours = [f"{family} {TABLE}" for family in ("netdev", "inet") if f"table {family} {TABLE}" in tables]
    if ours:
        run_nft(["-f", "-"], "".join(f"delete table {one}\n" for one in ours))


def supports_egress() -> bool:
    """Whether this kernel has the egress hook (Linux 5.16, CONFIG_NETFILTER_EGRESS); a check that changes nothing."""
    chain = 'type filter hook egress device "lo" priority 0; policy accept;'
    text = f"table netdev hacore_probe {{\nchain probe {{\n{chain}\n}}\n}}\n"
    try:
        run_nft(["--check", "-f", "-"], text)
    except PlatformError:
        return False
    return True
