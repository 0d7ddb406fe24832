"""A node that runs another program for high availability than hacore, in the same network and the same plays.

What differs from a node of hacore: a shell is the root of its processes, as an init system would be; nobody can be
asked for the state of a VIP, so that it is what the kernel's addresses say.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from hacore.bench.machine import PLACES
from hacore.errors import HacoreError
from hacore.lab import nodes, topology

if TYPE_CHECKING:
    from hacore.node.event import Event


class Pace(NamedTuple):
    """The times of a pair, in seconds."""

    interval: float
    dead_time: float


class PeerNode(nodes.Node):
    """What the other programs have in common. A subclass writes its files in `configure`, and `launch.sh` last."""

    worker: ClassVar[str]
    """A word in the command line of the process that does the election."""

    @property
    def settings(self) -> Path:
        """The script that starts everything and ends it at SIGTERM."""
        return self.directory / "launch.sh"

    def arguments(self) -> list[str]:
        """The command that is the node."""
        return ["/bin/sh", str(self.settings)]

    def environment(self) -> dict[str, str]:
        """With the directories of system programs."""
        inherited = super().environment()
        return inherited | {"PATH": f"{inherited['PATH']}:{PLACES}"}

    def make_directory(self, password: str) -> Path:
        """The node's directory, and the password in it."""
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        key = self.directory / "carp.key"
        key.write_text(password + "\n", encoding="ascii")
        key.chmod(0o600)
        return self.directory

    def write_launcher(self, commands: Sequence[str], *, before: Sequence[str] = (), after: Sequence[str] = ()) -> None:
        """`before`, then all of `commands` at once until SIGTERM ends them, then `after`."""
        lines = ["#!/bin/sh", *before]
        started = []
        for number, command in enumerate(commands):
            lines += [f"{command} &", f"p{number}=$!"]
            started.append(f"$p{number}")
        pids = " ".join(started)
        stop = "; ".join([f"kill -TERM {pids}", f"wait {pids}", *after, "exit 0"])
        lines += [f"trap '{stop}' TERM", f"wait {pids}", f"wait {pids}"]
        self.settings.write_text("\n".join(lines) + "\n", encoding="utf-8")

    @staticmethod
    def acquaint(pair: Sequence[nodes.Node], directory: Path) -> None:
        """They know each other by address."""

    def replicates(self) -> bool:
        """Nothing is replicated."""
        return True

    def election_worker(self) -> int:
        """The id of the process that does the election, the last started of several."""
        pids = self.processes()[1:]
        for pid in reversed(pids):
            if self.worker in nodes.command_line(pid):
                return pid
        raise HacoreError(f"{self.name} runs no {self.worker}")

    def status(self) -> dict[str, Any] | None:
        """Nothing more than that it runs."""
        return {"node": {}} if self.running() else None

    def maintenance(self, enter: bool) -> None:  # noqa: ARG002 - the lab's signature
        """HacoreError: the program has no such thing."""
        raise HacoreError(f"{type(self).__name__} has no maintenance mode")

    def states(self) -> dict[str, str]:
        """The state of each gateway by the addresses that the kernel has."""
        if not self.running():
            return {}
        held = topology.held_addresses(self.namespace)
        return {vip.name: "MASTER" if topology.addresses_of([vip]) <= held else "BACKUP" for vip in topology.gateways()}

    def history(self, limit: int = 200) -> list[Event]:  # noqa: ARG002 - the lab's signature
        """It writes none."""
        return []
