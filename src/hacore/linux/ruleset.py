"""The nftables rules of the lease gate (see `gate`), as text for `nft -f -`, and the commands that install them.

Only short-lived processes import this: the rules are made before a VIP device goes up and do not change with a transition.
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from hacore.errors import PlatformError
from hacore.linux.gate import LEASE_TYPE, RELEASE_TYPE, TABLE, Mode, milliseconds, set_name
from hacore.linux.packet import unicast_priority


class GatedDevice(NamedTuple):
    """One VIP device and what renews its lease."""

    device: str
    ifindex: int
    parent: str
    mac: str
    vhid: int
    timeout: float  # seconds, see lease_timeout()


def _quoted(name: str) -> str:
    if not re.fullmatch(r"[^\s\"\\/:$]{1,15}", name):
        raise PlatformError(f"{name!r}: nftables cannot be told of an interface with this name; rename it")
    return f'"{name}"'


def _parent_chain(parent: str, number: int, devices: Sequence[GatedDevice]) -> list[str]:
    name = f"parent_{number}"
    macs = ", ".join(f"0x{one.mac.replace(':', '')} : jump renew_{one.ifindex}" for one in devices)
    marks = ", ".join(f"0x{unicast_priority(one.vhid):08x} : jump renew_{one.ifindex}" for one in devices)
    lines = [
        f"add chain netdev {TABLE} {name} {{ type filter hook egress device {_quoted(parent)} priority -500; policy accept; }}",
        f"flush chain netdev {TABLE} {name}",
    ]
    for protocol in ("meta protocol ip ip protocol 112", "meta protocol ip6 ip6 nexthdr 112"):
        # The source address as raw payload: `ether saddr` would make nft 1.0.6 add a match on the input interface, which egress does not have.
        lines.append(f"add rule netdev {TABLE} {name} {protocol} @ll,48,48 vmap {{ {macs} }}")
        lines.append(f"add rule netdev {TABLE} {name} {protocol} meta priority vmap {{ {marks} }}")
    return lines


def ruleset(devices: Sequence[GatedDevice], stale: Iterable[tuple[str, str]] = (), mode: Mode = "adverts") -> str:
    """Input for `nft -f -` that makes the tables or brings them up to date in one transaction; leases that stand are kept.

    `stale` are (kind, name) pairs of what an earlier version of the table holds, see `existing()`; what is not wanted any more is deleted.
    """
    lines = [f"add table netdev {TABLE}"]
    keep: set[str] = set()
    parents: dict[str, list[GatedDevice]] = {}
    for one in devices:
        n, quoted = one.ifindex, _quoted(one.device)
        parents.setdefault(one.parent, []).append(one)
        keep |= {set_name(n), f"in_{n}"}
        lines += [
            f"add set netdev {TABLE} {set_name(n)} {{ type iface_type; flags dynamic,timeout; size 16; }}",
            f"add chain netdev {TABLE} in_{n} {{ type filter hook ingress device {quoted} priority -500; policy drop; }}",
            f"flush chain netdev {TABLE} in_{n}",
            f"add rule netdev {TABLE} in_{n} meta iiftype @{set_name(n)} accept",
        ]
        if mode != "adverts":
            continue
        keep |= {f"renew_{n}", f"out_{n}"}
        lines += [
            f"add chain netdev {TABLE} renew_{n}",
            f"flush chain netdev {TABLE} renew_{n}",
            f"add rule netdev {TABLE} renew_{n} update @{set_name(n)} {{ meta oiftype timeout {milliseconds(one.timeout)}ms }}",
            f"add chain netdev {TABLE} out_{n} {{ type filter hook egress device {quoted} priority -500; policy drop; }}",
            f"flush chain netdev {TABLE} out_{n}",
            f"add rule netdev {TABLE} out_{n} @ll,96,16 0x{LEASE_TYPE:04x} jump renew_{n}",
            f"add rule netdev {TABLE} out_{n} @ll,96,16 0x{LEASE_TYPE:04x} drop",
            f"add rule netdev {TABLE} out_{n} @ll,96,16 0x{RELEASE_TYPE:04x} delete @{set_name(n)} {{ meta oiftype }} drop",
            f"add rule netdev {TABLE} out_{n} meta oiftype @{set_name(n)} accept",
        ]
    if mode == "adverts":
        for parent, below in parents.items():
            number = socket.if_nametoindex(parent)
            keep.add(f"parent_{number}")
            lines += _parent_chain(parent, number, below)
    # Chains that jump go first, then those they jump to, then the sets that they use.
    order = {"in": 0, "out": 0, "parent": 0, "renew": 1, "lease": 2}
    unwanted = [(kind, name) for kind, name in stale if name not in keep]
    lines += [f"flush chain netdev {TABLE} {name}" for kind, name in unwanted if kind == "chain"]
    for kind, name in sorted(unwanted, key=lambda item: order.get(item[1].split("_")[0], 0)):
        lines.append(f"delete {kind} netdev {TABLE} {name}")
    lines += [
        # Adverts over the raw socket stay out of connection tracking: a full table would refuse them. Those over AF_PACKET never meet it.
        f"add table inet {TABLE}",
        f"flush table inet {TABLE}",
        f"add chain inet {TABLE} prerouting {{ type filter hook prerouting priority raw; }}",
        f"add chain inet {TABLE} output {{ type filter hook output priority raw; }}",
        f"add rule inet {TABLE} prerouting meta l4proto 112 notrack",
        f"add rule inet {TABLE} output meta l4proto 112 notrack",
    ]
    return "\n".join(lines) + "\n"


def run_nft(arguments: Sequence[str], text: str = "") -> str:
    """Runs nft and returns what it printed. Raises PlatformError with its complaint."""
    try:
        done = subprocess.run(["nft", *arguments], input=text, capture_output=True, text=True, timeout=60, env=_environment(), check=False)
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


def install(devices: Sequence[GatedDevice], mode: Mode = "adverts") -> None:
    """Makes the tables what `devices` need, atomically; sets and leases of devices that stay are kept. Raises PlatformError."""
    run_nft(["-f", "-"], ruleset(devices, existing(), mode))


def uninstall() -> None:
    """Deletes both tables, if they are there."""
    tables = run_nft(["list", "tables"]).splitlines()
    ours = [f"{family} {TABLE}" for family in ("netdev", "inet") if f"table {family} {TABLE}" in tables]
    if ours:
        run_nft(["-f", "-"], "".join(f"delete table {one}\n" for one in ours))


def supports_egress() -> bool:
    """Whether this kernel has the egress hook (Linux 5.16, CONFIG_NETFILTER_EGRESS); a check that changes nothing."""
    text = "table netdev hacore_probe {\nchain probe {\ntype filter hook egress device \"lo\" priority 0; policy accept;\n}\n}\n"
    try:
        run_nft(["--check", "-f", "-"], text)
    except PlatformError:
        return False
    return True
