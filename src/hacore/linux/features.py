"""What this machine allows: the probes behind `hacore doctor`. Each leaves everything as it was.

A probe that would have to change something does so in a child process with a network namespace of its own.
"""

from __future__ import annotations

import platform
import resource
import subprocess
import sys
from collections.abc import Callable
from typing import Final, NamedTuple

from hacore.errors import PlatformError
from hacore.linux import libc, ruleset, sysctl

_MACVLAN_PROBE: Final = """
from hacore.linux import libc
libc.unshare(libc.CLONE_NEWNET)
from pyroute2 import IPRoute
with IPRoute() as route:
    route.link("add", ifname="probe0", kind="veth", peer="probe1")
    parent = route.link_lookup(ifname="probe0")[0]
    route.link("add", ifname="probe2", kind="macvlan", link=parent, macvlan_mode="private")
"""


class Feature(NamedTuple):
    """One finding. `remedy` says what to do where `ok` is False, and is empty otherwise."""

    name: str
    ok: bool
    finding: str
    remedy: str


def _feature(name: str, ok: bool, finding: str, remedy: str) -> Feature:
    return Feature(name, ok, finding, "" if ok else remedy)


def capability(name: str, number: int) -> Feature:
    """Whether this process has a capability in its effective set."""
    ok = bool(libc.effective_capabilities() >> number & 1)
    remedy = f"run as root, or give it with AmbientCapabilities={name} in the unit file"
    return _feature(name, ok, "present" if ok else "missing", remedy)


def kernel() -> Feature:
    """5.16 is where the nftables egress hook came in."""
    release = platform.release()
    numbers = [int(part) if part.isdigit() else 0 for part in release.split("-")[0].split(".")[:2]]
    return _feature("kernel", numbers >= [5, 16], f"Linux {release}", "use Linux 5.16 or newer")


def nftables() -> Feature:
    """Whether the command is there."""
    try:
        finding = ruleset.run_nft(["--version"]).split("(")[0].strip()
    except PlatformError as error:
        return Feature("nftables", False, str(error), "install the package nftables")
    return Feature("nftables", True, finding, "")


def egress_hook() -> Feature:
    """Whether a node that hangs stops forwarding within one dead time."""
    ok = ruleset.supports_egress()
    finding = "present" if ok else "missing: a node that hangs goes on forwarding until its addresses expire"
    return _feature("egress hook", ok, finding, "use Linux 5.16 or newer with CONFIG_NETFILTER_EGRESS, as root")


def macvlan() -> Feature:
    """Makes one in a network namespace of a child process."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", _MACVLAN_PROBE], capture_output=True, text=True, timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return Feature("macvlan", False, str(error), "see why a child process cannot be run")
    complaint = (done.stderr.strip().splitlines() or ["failed"])[-1]
    remedy = "load the module macvlan (modprobe macvlan), run as root, or set virtual_mac = false"
    return _feature("macvlan", done.returncode == 0, "present" if done.returncode == 0 else complaint, remedy)


def proc_sys() -> Feature:
    """Whether the VIP devices can be given their settings."""
    ok = sysctl.writable()
    remedy = "mount -o remount,rw /proc/sys; in a container, let it be writable"
    return _feature("/proc/sys", ok, "writable" if ok else "read-only", remedy)


def realtime() -> Feature:
    """Whether a process of this user may run under SCHED_RR; tried in a child."""
    child = "import os; os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))"
    done = subprocess.run([sys.executable, "-S", "-c", child], capture_output=True, check=False)
    ok = done.returncode == 0
    remedy = "give CAP_SYS_NICE, or LimitRTPRIO=99 in the unit file; a user namespace cannot have it"
    return _feature("SCHED_RR", ok, "allowed" if ok else "refused: adverts are late when the machine is busy", remedy)


def memory_lock() -> Feature:
    """Whether the election's memory can be locked: by capability, or by the limit."""
    limit = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
    enough = limit == resource.RLIM_INFINITY or limit >= 256 << 20
    ok = enough or bool(libc.effective_capabilities() >> libc.CAP_IPC_LOCK & 1)
    shown = "unlimited" if limit == resource.RLIM_INFINITY else f"{limit >> 10} KiB"
    finding = f"allowed (limit {shown})" if ok else f"refused (limit {shown})"
    return _feature("memory lock", ok, finding, "give CAP_IPC_LOCK, or LimitMEMLOCK=infinity in the unit file")


def clock() -> Feature:
    """Whether something keeps the clock right (chrony, systemd-timesyncd, a hypervisor), as the kernel sees it."""
    source = "unknown"
    try:
        with open("/sys/devices/system/clocksource/clocksource0/current_clocksource", encoding="ascii") as opened:
            source = opened.read().strip()
    except OSError:
        pass
    status = libc.clock_status()
    finding = f"clock source {source}, "
    finding += f"synchronised within {status.maximum_error:.3f} s" if status.synchronised else "not synchronised"
    return _feature("clock", status.synchronised, finding, "install chrony or enable systemd-timesyncd")


PROBES: Final[tuple[Callable[[], Feature], ...]] = (
    lambda: capability("CAP_NET_ADMIN", libc.CAP_NET_ADMIN),
    lambda: capability("CAP_NET_RAW", libc.CAP_NET_RAW),
    lambda: capability("CAP_SYS_NICE", libc.CAP_SYS_NICE),
    lambda: capability("CAP_IPC_LOCK", libc.CAP_IPC_LOCK),
    kernel,
    nftables,
    egress_hook,
    macvlan,
    proc_sys,
    realtime,
    memory_lock,
    clock,
)


def probe_all() -> list[Feature]:
    """Every probe, in the order they are shown; takes about half a second."""
    return [probe() for probe in PROBES]
