"""The two nodes of a lab: their settings files, their processes, and what they say of themselves."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from hacore.errors import HacoreError
from hacore.lab import namespaces, topology
from hacore.lab.record import MARK, Process

if TYPE_CHECKING:
    from hacore.node.event import Event

LEASE = 3.0
"""Seconds after which the kernel takes an address away that nobody renews."""


class Profile(NamedTuple):
    """One choice of intervals for the pair: advbase in seconds, and the advskew of fw1 and of fw2 in 1/256 s."""

    advbase: int
    advskews: tuple[int, int]

    @property
    def interval(self) -> float:
        """The longer of the two advertisement intervals."""
        return self.advbase + max(self.advskews) / 256

    def interval_of(self, node: str) -> float:
        """The advertisement interval of one node."""
        return self.advbase + self.advskews[topology.NODES.index(node)] / 256

    @property
    def dead_time(self) -> float:
        """The longest master-down interval of the pair."""
        return 3 * self.advbase + max(self.advskews) / 256 if self.advbase else 3 * self.interval


PROFILES = {"classic": Profile(1, (0, 100)), "fast": Profile(0, (1, 2))}


def settings_text(node: str, directory: Path, profile: Profile, preempt: bool, vips: Sequence[topology.Vip]) -> str:
    """The settings file of `node`."""
    number = topology.NODES.index(node)
    peer = topology.NODES[1 - number]
    lines = [
        "[node]",
        f'name = "{node}"',
        f'runtime_dir = "{directory / "run"}"',
        f'state_dir = "{directory / "state"}"',
        "",
        "[carp]",
        f"preempt = {str(preempt).lower()}",
        "",
        "[[peer]]",
        f'name = "{peer}"',
        f'control = "10.9.0.{2 - number}:8117"',
        f'states = "10.9.0.{2 - number}:8116"',
    ]
    for vip in vips:
        addresses = ", ".join(f'"{address}"' for address in vip.addresses)
        lines += [
            "",
            "[[vip]]",
            f'name = "{vip.name}"',
            f'interface = "{vip.interface}"',
            f"vhid = {vip.vhid}",
            f"advbase = {profile.advbase}",
            f"advskew = {profile.advskews[number]}",
            'password_file = "carp.key"',
            f"addresses = [{addresses}]",
        ]
    return "\n".join(lines) + "\n"


def states_text(node: str) -> str:
    """What the settings file of a node has in addition where the pair replicates its connections."""
    return f'\n[states]\nlisten = "10.9.0.{topology.NODES.index(node) + 1}:8116"\nreconcile_interval = 5.0\n'


def _default_command() -> tuple[str, ...]:
    beside = Path(sys.executable).parent / "hacore"
    return (str(beside),) if beside.exists() else (sys.executable, "-c", "from hacore.cli import main; main()")


class Node:
    """One firewall: its namespace, its directory and, while it runs, its processes.

    `command` is what is run with `run --settings FILE` after it; None: the hacore of this installation.
    """

    def __init__(self, name: str, directory: Path, namespace: Path, command: Sequence[str] | None = None) -> None:
        self.name = name
        self.directory = directory
        self.namespace = namespace
        self.command = tuple(command) if command is not None else _default_command()
        self.supervisor: Process | None = None
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def settings(self) -> Path:
        """The node's settings file."""
        return self.directory / "hacore.toml"

    @property
    def runtime_directory(self) -> Path:
        """Where the node's local bus is."""
        return self.directory / "run"

    @property
    def log(self) -> Path:
        """What the node's processes wrote, of all its starts."""
        return self.directory / "node.log"

    def configure(
        self, profile: Profile, preempt: bool, password: str, vips: Sequence[topology.Vip], *, states: bool = False
    ) -> None:
        """Write the settings file and what it needs, but for certificates (`give_certificates`)."""
        for made in (self.directory, self.runtime_directory, self.directory / "state"):
            made.mkdir(parents=True, exist_ok=True, mode=0o700)
        key = self.directory / "carp.key"
        key.write_text(password + "\n", encoding="ascii")
        key.chmod(0o600)
        text = settings_text(self.name, self.directory, profile, preempt, vips)
        self.settings.write_text(text + (states_text(self.name) if states else ""), encoding="utf-8")

    def replicates(self) -> bool:
        """Whether what the peer has comes in, and all of it is in this node's kernel."""
        from hacore.node.bus import Client

        try:
            peers = Client(self.runtime_directory).request("states", action="show")["peers"]
        except (HacoreError, OSError):
            return False
        return bool(peers) and all(peer["receiving"]["phase"] == "stream" for peer in peers)

    def environment(self) -> dict[str, str]:
        """What a process on this node finds in its environment: `hacore` without options means this node."""
        path = f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}"
        return os.environ | {
            MARK: str(self.directory.parent),
            "PATH": path,
            "PYTHONUNBUFFERED": "1",
            "HACORE_SETTINGS": str(self.settings),
        }

    def start(self) -> Process:
        """Start `hacore run` in the namespace; returns at once."""
        self.reap()
        with open(self.log, "ab") as log, namespaces.inside(self.namespace):
            self._child = subprocess.Popen(
                [*self.command, "run", "--settings", str(self.settings)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.directory,
                env=self.environment(),
                start_new_session=True,
            )
        self.supervisor = Process.of(self._child.pid, self.name)
        return self.supervisor

    def running(self) -> bool:
        """Whether the supervisor is alive (a frozen one is)."""
        return self.supervisor is not None and self.supervisor.alive()

    def reap(self) -> None:
        """Wait for the end of a supervisor that does not run any more; one that runs is left alone."""
        if self._child is not None and not self.running():
            self._child.wait()
            self._child = None

    def processes(self) -> list[int]:
        """The ids of all processes of this node, the supervisor first."""
        return tree(self.supervisor.pid) if self.supervisor is not None and self.running() else []

    def election_worker(self) -> int:
        """The id of the election worker. HacoreError where none runs."""
        for pid in self.processes()[1:]:
            if "hacore.node.election" in _command_line(pid):
                return pid
        raise HacoreError(f"{self.name} has no election worker running")

    def status(self) -> dict[str, Any] | None:
        """What `hacore status --json` says on this node; None where it does not answer."""
        from hacore.node.bus import Client

        try:
            return dict(Client(self.runtime_directory).request("status"))
        except (HacoreError, OSError):
            return None

    def maintenance(self, enter: bool) -> None:
        """`hacore maintenance enter` or `leave` on this node."""
        from hacore.node.bus import Client

        Client(self.runtime_directory).request("maintenance", enter=enter)

    def states(self) -> dict[str, str]:
        """The state of each VIP by its name, as the node tells it; empty where it does not answer."""
        status = self.status() or {}
        return {vip["name"]: vip["state"] for vip in status.get("vips", [])}

    def history(self, limit: int = 200) -> list[Event]:
        """The latest events that the node wrote down, oldest first; it need not run."""
        from hacore.node.history_file import read_events

        return read_events(self.directory / "state", limit)

    def log_tail(self, lines: int = 15) -> str:
        """The end of what the node wrote."""
        try:
            return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])
        except FileNotFoundError:
            return ""


def give_certificates(nodes: Sequence[Node], directory: Path) -> None:
    """A certificate for each node, where its settings have it."""
    from hacore.control.trial_certificates import make_test_certificates

    for made in make_test_certificates(directory / "certificates", [node.name for node in nodes]):
        node = next(node for node in nodes if node.name == made.parent.name)
        place = node.directory / "state" / "tls"
        place.mkdir(exist_ok=True, mode=0o700)
        made.rename(place / made.name)


def new_password() -> str:
    """A password for the VIPs of one lab, of the length that CARP takes."""
    return secrets.token_hex(8)


def _command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""


def tree(root: int) -> list[int]:
    """`root` and all its descendants that are alive, parents before children."""
    children: dict[int, list[int]] = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                fields = (
                    Path(entry.path, "stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
                )
            except (FileNotFoundError, ProcessLookupError):
                continue
            if fields[0] not in "ZX":
                children.setdefault(int(fields[1]), []).append(int(entry.name))
    found = [root]
    for pid in found:
        found += children.get(pid, [])
    return found


def marked(directory: Path) -> list[int]:
    """The ids of all processes that were started for the lab in `directory`, by the mark in their environment."""
    wanted = f"{MARK}={directory}".encode()
    found = []
    for entry in os.scandir("/proc"):
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                environment = Path(entry.path, "environ").read_bytes().split(b"\0")
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                continue
            if wanted in environment:
                found.append(int(entry.name))
    return found
