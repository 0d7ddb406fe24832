"""Everything that can be done to the pair: signals to a node's processes, ports that go down, frames that are dropped
on the bridges.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from hacore.errors import PlatformError
from hacore.lab import namespaces, topology

_TABLE = "lab"
_EMPTY = f"table bridge {_TABLE}\ndelete table bridge {_TABLE}\n"


def signal_all(pids: Iterable[int], number: signal.Signals) -> None:
    """Send `number` to each process; those that are gone are passed over."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Run ahead of everything else where that is allowed, so that a fault of several steps is one."""
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(90))
    except PermissionError:
        yield
        return
    try:
        yield
    finally:
        os.sched_setscheduler(0, policy, parameters)


def crash(pids: Sequence[int]) -> float:
    """End all of them at once, so that none sees another end. Returns the moment of the first signal."""
    with _undisturbed():
        began = time.monotonic()
        signal_all(pids, signal.SIGSTOP)
        signal_all(pids, signal.SIGKILL)
    return began


def freeze(pids: Sequence[int]) -> float:
    """SIGSTOP to all at once. Returns the moment of the first signal."""
    with _undisturbed():
        began = time.monotonic()
        signal_all(pids, signal.SIGSTOP)
    return began


def thaw(pids: Sequence[int]) -> float:
    """SIGCONT to all, children first, so that none finds its parent awake before itself.

    Returns the moment of the first signal.
    """
    with _undisturbed():
        began = time.monotonic()
        signal_all(reversed(pids), signal.SIGCONT)
    return began


class Faults:
    """Faults of the network, made in the switch's namespace at `switch`."""

    def __init__(self, switch: Path) -> None:
        self.switch = switch

    def set_ports(self, ports: Iterable[str], state: str) -> float:
        """Set bridge ports "up" or "down".

        The node at the other end loses or gets its carrier. Returns the moment it began.
        """
        from pyroute2 import IPRoute  # type: ignore[import-untyped]

        with namespaces.inside(self.switch), IPRoute() as switch:
            indexes = [switch.link_lookup(ifname=port)[0] for port in ports]
            with _undisturbed():
                began = time.monotonic()
                for index in indexes:
                    switch.link("set", index=index, state=state)
        return began

    def power_off(self, node: str, pids: Sequence[int]) -> float:
        """All ports of `node` down in one request, and its processes ended before they can act on it.

        Returns the moment it began.
        """
        from pyroute2 import IPRoute

        with namespaces.inside(self.switch), IPRoute() as switch, _undisturbed():
            began = time.monotonic()
            switch.link("set", group=topology.group_of(node), state="down")
            signal_all(pids, signal.SIGSTOP)
            signal_all(pids, signal.SIGKILL)
        return began

    def ruleset(self, text: str) -> None:
        """Load nftables rules in the switch. PlatformError where nft refuses them."""
        with namespaces.inside(self.switch):
            try:
                done = subprocess.run(["nft", "-f", "-"], input=text, text=True, capture_output=True, check=False)
            except FileNotFoundError as error:
                raise PlatformError("the command nft is missing: apt-get install nftables") from error
        if done.returncode != 0:
            raise PlatformError(f"nft refused the lab's rules: {done.stderr.strip()}")

    def drop(self, rules: Iterable[str]) -> float:
        """Drop forwarded frames that match any of the nft expressions, instead of those dropped so far.

        Returns the moment it began.
        """
        lines = "\n".join(f"{rule} counter drop" for rule in rules)
        chain = f"chain forward {{\ntype filter hook forward priority 0; policy accept;\n{lines}\n}}\n"
        began = time.monotonic()
        self.ruleset(f"{_EMPTY}table bridge {_TABLE} {{\n{chain}}}\n")
        return began

    def drop_nothing(self) -> float:
        """Let everything through again. Returns the moment it began."""
        began = time.monotonic()
        self.ruleset(_EMPTY)
        return began

    def partition(self) -> float:
        """Nothing passes between the two nodes on any bridge.

        Client and server reach both. Returns the moment it began.
        """
        one, two = (", ".join(f'"{port}"' for port in topology.ports_of(node)) for node in topology.NODES)
        return self.drop([f"iifname {{ {one} }} oifname {{ {two} }}", f"iifname {{ {two} }} oifname {{ {one} }}"])


def forget_connections(namespace: Path) -> None:
    """Empty the connection table of a node, as a kernel that starts anew has it."""
    from hacore.linux import conntrack

    with namespaces.inside(namespace):
        conntrack.flush()
