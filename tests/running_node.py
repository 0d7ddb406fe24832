"""Real nodes for tests: `hacore run` in a network namespace, with directories of its own, asked through its bus."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

from hacore.errors import NotRunning
from hacore.lab import faults
from hacore.lab.nodes import marked, tree
from hacore.lab.record import MARK
from hacore.node.bus import Client
from tests.namespaces import Host, Network, Switch, run, wait_until

PATIENCE = 30.0  # seconds: for what a busy machine may delay, never a figure of its own

_BESIDE = Path(sys.executable).parent / "hacore"
HACORE = [str(_BESIDE)] if _BESIDE.exists() else [sys.executable, "-c", "from hacore.cli import main; main()"]


def vip(name: str = "lan", **settings: Any) -> str:
    """One `[[vip]]` table; without `settings` vhid 1 on `lan` in both families, with intervals for tests."""
    values: dict[str, Any] = {
        "name": name,
        "interface": "lan",
        "vhid": 1,
        "advbase": 0,
        "advskew": 20,
        "password": "secret",
        "addresses": ["10.1.0.1/16", "2001:db8:1::1/64"],
    }
    return table("vip", **values | settings)


def wan(**settings: Any) -> str:
    """vhid 2 on `wan`."""
    return vip("wan", **{"interface": "wan", "vhid": 2, "addresses": ["10.2.0.1/16", "2001:db8:2::1/64"]} | settings)


def table(kind: str, **values: Any) -> str:
    """One `[[kind]]` table. JSON's strings, numbers, booleans and lists are TOML's."""
    return f"[[{kind}]]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items())


class RunningNode:
    """A node of a test. Made idle: `configure`, then `start`; leaving the context ends every process of it."""

    def __init__(self, host: Host, directory: Path) -> None:
        self.host = host
        self.name = directory.name
        self.directory = directory
        self.runtime_dir = directory / "run"
        self.state_dir = directory / "state"
        self.settings = directory / "hacore.toml"
        self.log = directory / "node.log"
        self.process: subprocess.Popen[Any] | None = None
        directory.mkdir()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    # Its life

    def configure(self, *tables: str, preempt: bool = True, **carp: Any) -> None:
        """Write the settings file."""
        head = [
            "[node]",
            f'name = "{self.name}"',
            f'runtime_dir = "{self.runtime_dir}"',
            f'state_dir = "{self.state_dir}"',
            "[carp]",
            *(f"{key} = {json.dumps(value)}" for key, value in ({"preempt": preempt} | carp).items()),
        ]
        self.settings.write_text("\n".join([*head, *tables]) + "\n")

    def environment(self) -> dict[str, str]:
        return os.environ | {MARK: str(self.directory)}

    def launch(self) -> None:
        """`hacore run`, without waiting for anything."""
        with open(self.log, "ab") as log:
            self.process = self.host.start(
                *HACORE, "run", "-c", str(self.settings),
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=self.environment(),
            )  # fmt: skip

    def start(self) -> None:
        """`hacore run`, until the election worker takes part."""
        self.launch()
        self.until(self.takes_part)

    def takes_part(self) -> bool:
        """Whether the election worker runs and has looked at its interfaces."""
        status = self.status()
        worker = status["node"]["workers"]["election"]["state"]
        return worker == "running" and all(one["reason"] != "starting" for one in status["vips"])

    def stop(self) -> int:
        """SIGTERM; returns the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE)

    def kill(self) -> None:
        """SIGKILL to every process of the node at once, as a crash of the machine would."""
        faults.crash(self.processes())
        if self.process is not None:
            self.process.wait(PATIENCE)
        wait_until(lambda: not marked(self.directory), PATIENCE)

    def processes(self) -> list[int]:
        """All of them, also those whose supervisor is gone."""
        running = self.process is not None and self.process.poll() is None
        found = tree(self.process.pid) if running and self.process is not None else []
        return list(dict.fromkeys([*found, *marked(self.directory)]))

    def signal(self, number: signal.Signals) -> None:
        """To the supervisor alone."""
        assert self.process is not None
        self.process.send_signal(number)

    def worker_pid(self) -> int:
        """The election worker's process."""
        return int(self.status()["node"]["workers"]["election"]["pid"])

    # What it says

    def ask(self, command: str, **arguments: Any) -> dict[str, Any]:
        """One request on the local bus."""
        return Client(self.runtime_dir).request(command, **arguments)

    def status(self) -> dict[str, Any]:
        return self.ask("status")

    def vip(self, name: str = "lan") -> dict[str, Any]:
        return next(dict(one) for one in self.status()["vips"] if one["name"] == name)

    def state(self, name: str = "lan") -> str:
        """ "none" where the node has no such VIP."""
        return next((str(one["state"]) for one in self.status()["vips"] if one["name"] == name), "none")

    def counters(self, name: str = "lan") -> dict[str, int]:
        return dict(self.vip(name)["counters"])

    def events(self, kind: str = "", after: int = 0) -> list[dict[str, Any]]:
        found = self.ask("events", limit=1000, after=after)["events"]
        return [dict(event) for event in found if kind in ("", event["kind"])]

    def last_event(self) -> int:
        """The number of the newest one: what comes is above it."""
        return max((int(event["seq"]) for event in self.events()), default=0)

    def transitions(self, name: str = "lan", after: int = 0) -> list[tuple[str, str]]:
        """(new state, reason) of each."""
        found = (event for event in self.events("transition", after) if event["vip"] == name)
        return [(event["fields"]["new"], event["fields"]["reason"]) for event in found]

    def hacore(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """A command of the command line, on this node."""
        command = ["ip", "netns", "exec", self.host.name, *HACORE, "-c", str(self.settings), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert not check or done.returncode == 0, f"{command}: {done.stderr}"
        return done

    # Waiting

    def until(self, condition: Callable[[], Any]) -> Any:
        """The first true result, asked while the node runs; a refusal to answer counts as not yet."""

        def asked() -> Any:
            assert self.process is not None
            assert self.process.poll() is None, f"{self.name} ended with {self.process.returncode}: {self.written()}"
            try:
                return condition()
            except NotRunning:
                return False

        try:
            return wait_until(asked, PATIENCE, 0.02)
        except AssertionError as error:
            raise AssertionError(f"{self.name}: {error}\n{self.written()}") from None

    def until_state(self, state: str, name: str = "lan") -> None:
        self.until(lambda: self.state(name) == state)

    def until_event(self, kind: str, text: str = "", after: int = 0) -> dict[str, Any]:
        def found() -> dict[str, Any] | None:
            return next((one for one in self.events(kind, after) if text in one["text"]), None)

        return dict(self.until(found))

    def written(self) -> str:
        """The end of what its processes wrote."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-40:]) if self.log.exists() else ""

    # The kernel's side

    def held(self, addresses: Sequence[str] = ("10.1.0.1", "2001:db8:1::1")) -> set[str]:
        """Those of `addresses` that are on this host."""
        found = json.loads(self.host.run("ip", "-j", "address"))
        return {one["local"] for link in found for one in link["addr_info"]} & set(addresses)


class Segment:
    """A LAN: one switch, hosts on it, and nodes on some of them. Leaving the context ends and removes everything.

    A second switch, for interfaces named `wan` (10.2.0.0/16 and 2001:db8:2::/64), is made when it is first needed.
    """

    def __init__(self, directory: Path, bridge_options: str = "mcast_snooping 0") -> None:
        self.directory = directory
        self.network = Network()
        self.nodes: list[RunningNode] = []
        self._options = bridge_options
        self._switches: dict[str, Switch] = {}
        self._ports: dict[tuple[str, str], str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            for node in self.nodes:
                node.kill()
        finally:
            self.network.__exit__()

    def switch(self, side: str = "lan") -> Switch:
        if side not in self._switches:
            switch = self._switches[side] = self.network.switch(f"sw-{side}", self._options)
            with switch.entered():
                for setting in Path("/proc/sys/net/bridge").glob("bridge-nf-call-*"):
                    setting.write_text("0")  # a switch looks at no IP headers; br_netfilter would drop bad ones
        return self._switches[side]

    def host(self, label: str, number: int) -> Host:
        """A host with 10.1.0.`number` and 2001:db8:1::`number` on `lan`, all its addresses usable."""
        host = self.network.host(label)
        for setting in ("accept_dad", "dad_transmits"):
            host.sysctl(f"ipv6/conf/default/{setting}", "0")
        self.connect(host, number)
        return host

    def connect(self, host: Host, number: int, side: str = "lan") -> None:
        """Gives a host its `lan` or `wan`, also again after it was deleted."""
        net = 1 if side == "lan" else 2
        self._ports[host.name, side] = self.network.cable(host, side, self.switch(side))
        host.ip(f"addr add 10.{net}.0.{number}/16 dev {side}")
        host.ip(f"-6 addr add 2001:db8:{net}::{number}/64 dev {side} nodad")
        wait_until(
            lambda: "fe80" in (shown := host.ip(f"-6 addr show dev {side}")) and "tentative" not in shown, PATIENCE
        )

    def cut(self, host: Host, side: str = "lan") -> None:
        """Nothing passes between the host and the switch any more; its link stays up."""
        self.switch(side).ip(f"link set {self._ports[host.name, side]} nomaster")

    def mend(self, host: Host, side: str = "lan") -> None:
        self.switch(side).ip(f"link set {self._ports[host.name, side]} master br0")

    def unplug(self, host: Host, side: str = "lan") -> None:
        """The host's link goes down."""
        self.switch(side).ip(f"link set {self._ports[host.name, side]} down")

    def plug(self, host: Host, side: str = "lan") -> None:
        self.switch(side).ip(f"link set {self._ports[host.name, side]} up")

    def node(self, label: str, number: int) -> RunningNode:
        node = RunningNode(self.host(label, number), self.directory / label)
        self.nodes.append(node)
        return node

    def pair(self, *, preempt: bool = True, rekey: float = 600.0, **settings: Any) -> tuple[RunningNode, RunningNode]:
        """fw1 (.11, advskew 20) and fw2 (.12, advskew 40), both started, fw1 MASTER of the VIP `lan`."""
        first, second = self.node("fw1", 11), self.node("fw2", 12)
        first.configure(vip(**{"advskew": 20} | settings), preempt=preempt, rekey_time=rekey)
        second.configure(vip(**{"advskew": 40} | settings), preempt=preempt, rekey_time=rekey)
        self.start_in_turn(first, second)
        return first, second

    def start_in_turn(self, first: RunningNode, second: RunningNode) -> None:
        """So that the first is MASTER, with and without preempt."""
        first.launch()
        first.until_state("MASTER")
        second.start()
        await_master(first, second)


def await_master(wanted: RunningNode, *others: RunningNode, name: str = "lan") -> None:
    """Until `wanted` is MASTER and every other one BACKUP."""
    right = {wanted: "MASTER"} | dict.fromkeys(others, "BACKUP")
    deadline = time.monotonic() + PATIENCE
    while (states := {node: _state(node, name) for node in right}) != right:
        written = "\n--\n".join(node.written() for node in right)
        assert time.monotonic() < deadline, f"{[*states.values()]}, not {[*right.values()]}\n{written}"
        time.sleep(0.02)


def _state(node: RunningNode, name: str) -> str:
    try:
        return node.state(name)
    except NotRunning:
        return "none"


def kernel_view(host: Host) -> dict[str, Any]:
    """Everything of a host's network that a node could change: links, addresses, routes, rules, settings."""
    links = json.loads(run("ip", "-n", host.name, "-j", "-d", "link"))
    addresses = json.loads(run("ip", "-n", host.name, "-j", "address"))
    with host.entered():
        settings = {
            str(path): path.read_text()
            for family in ("ipv4", "ipv6")
            for path in sorted(Path(f"/proc/sys/net/{family}").glob("conf/*/*"))
            if os.access(path, os.R_OK) and path.name != "stable_secret"
        }
    return {
        "links": {
            link["ifname"]: (link["address"], link["flags"], link.get("group"), link.get("ifalias")) for link in links
        },
        "addresses": {
            (link["ifname"], one["local"], one["prefixlen"]) for link in addresses for one in link["addr_info"]
        },
        "routes": [run("ip", "-n", host.name, family, "route", "show", "table", "all") for family in ("-4", "-6")],
        "rules": host.run("nft", "list", "ruleset"),
        "settings": settings,
    }
