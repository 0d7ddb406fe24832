"""Two nodes, or three, that replicate their connections to each other, each a gateway with both its sides played from
raw sockets.

wire1 = inside = fw1 = outside = wire1        fw1 -- sync -- fw2        fw1 -- lan (the VIP) -- fw2
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hacore.control.trial_certificates import make_test_certificates
from hacore.errors import HacoreError
from hacore.linux import conntrack
from hacore.node.bus import Client
from hacore.states.layout import Rows, keys_of
from tests.namespaces import Host, Network, wait_until
from tools import ct_flows

PATIENCE = 20.0

SETTINGS = """
[node]
name = "fw{number}"
runtime_dir = "run"
state_dir = "state"
[[vip]]
name = "lan"
interface = "lan"
vhid = 1
advbase = 0
advskew = {advskew}
password = "secret"
addresses = ["10.20.0.1/24"]
{peers}
[states]
listen = "10.9.0.{number}:8116"
bulk_deadline = {bulk_deadline}
reconcile_interval = {reconcile_interval}
{more}
"""

PEER = """
[[peer]]
name = "fw{number}"
states = "10.9.0.{number}:{port}"
"""


class Node:
    """One firewall, of `count`."""

    def __init__(self, host: Host, wire: Host, directory: Path, number: int, count: int = 2) -> None:
        self.host, self.number, self.name = host, number, f"fw{number}"
        self.others = [other for other in range(1, count + 1) if other != number]
        self.directory = directory / self.name
        self.path = self.directory / "hacore.toml"
        self.log = self.directory / "log"
        (self.directory / "state/tls").mkdir(parents=True)
        self.gateway = ct_flows.Gateway(host.name, wire.name)
        self.process: Any = None

    def configure(
        self,
        *,
        bulk_deadline: float = 60.0,
        reconcile_interval: float = 30.0,
        peer_port: int = 8116,
        more: str = "",
    ) -> None:
        self.path.write_text(
            SETTINGS.format(
                number=self.number, advskew=20 * self.number, bulk_deadline=bulk_deadline,
                peers="".join(PEER.format(number=other, port=peer_port) for other in self.others),
                reconcile_interval=reconcile_interval, more=more,
            )
        )  # fmt: skip
        self.path.chmod(0o600)

    def trust(self, certificates: Path, name: str = "") -> None:
        """Gives the node the certificate of `name` in this directory."""
        for file in ("node.crt", "node.key", "peers.pem"):
            (self.directory / "state/tls" / file).write_bytes((certificates / (name or self.name) / file).read_bytes())

    def start(self) -> None:
        with open(self.log, "ab") as log:
            command = "from hacore.cli import main; main()"
            self.process = self.host.start(
                sys.executable, "-c", command, "run", "-c", str(self.path), stdout=log, stderr=log
            )

    def kill(self) -> None:
        """The whole node at once, as when the power goes."""
        for pid in [self.process.pid, *self.pids("hacore.node")]:
            os.kill(pid, signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        os.kill(self.process.pid, signal.SIGTERM)
        self.process.wait(20)

    def pids(self, module: str) -> list[int]:
        """Of this namespace's processes that run a module whose name begins so."""
        found = []
        for pid in self.host.run("ip", "netns", "pids", self.host.name).split():
            try:
                words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if b"-m" in words and words[words.index(b"-m") + 1].decode().startswith(module):
                found.append(int(pid))
        return found

    def worker(self) -> int:
        """The states worker."""
        return int(wait_until(lambda: self.pids("hacore.node.states"), PATIENCE)[0])

    def ask(self, command: str, **arguments: Any) -> dict[str, Any]:
        return Client(self.directory / "run").request(command, **arguments)

    def status(self) -> dict[str, Any]:
        try:
            return self.ask("status")
        except HacoreError:
            return {"node": {"demotion": {"reasons": {}}}, "vips": [{"state": "?"}]}

    def states(self) -> dict[str, Any]:
        """What `hacore states show` is made of; empty while nobody answers."""
        try:
            return self.ask("states", action="show")
        except HacoreError:
            return {}

    @property
    def carp(self) -> str:
        return str(self.status()["vips"][0]["state"])

    @property
    def demotion(self) -> dict[str, int]:
        return dict(self.status()["node"]["demotion"]["reasons"])

    def history(self) -> list[str]:
        return [event["text"] for event in self.ask("events", limit=1000)["events"]]

    def follows(self) -> bool:
        """What the peers own comes in, and is all here."""
        shown = self.states()
        return bool(shown) and all(peer["receiving"]["phase"] == "stream" for peer in shown["peers"])

    def rows(self) -> Rows:
        """What its kernel has, but for the node's own chatter (IGMP)."""
        with self.host.entered():
            rows = conntrack.dump_rows()
        chosen: Rows = rows[rows["protocol"] != 2]
        return chosen

    def keys(self) -> set[bytes]:
        return {key.tobytes() for key in keys_of(self.rows())}

    def hacore(self, *arguments: str) -> Any:
        """A command on this node, finished."""
        return self.host.python("-c", "from hacore.cli import main; main()", "-c", str(self.path), *arguments)


class Pair:
    """`one` is MASTER while all are well. With a `count` of three there is a third node, behind switches."""

    def __init__(self, network: Network, directory: Path, count: int = 2, **settings: Any) -> None:
        self.directory = directory
        self.nodes = [
            Node(network.host(f"fw{number}"), network.host(f"wire{number}"), directory, number, count)
            for number in range(1, count + 1)
        ]
        self.one, self.two = self.nodes[:2]
        for interface, place in (("sync", "10.9.0"), ("lan", "10.20.0")):
            if count == 2:
                network.cable(self.one.host, interface, self.two.host, interface)
            else:
                switch = network.switch(interface)
                for node in self.nodes:
                    network.cable(node.host, interface, switch)
            for node in self.nodes:
                last = node.number if interface == "sync" else 10 + node.number
                node.host.ip(f"addr add {place}.{last}/24 dev {interface}")
        make_test_certificates(directory / "certificates", [node.name for node in self.nodes])
        for node in self.nodes:
            node.configure(**settings)
            node.trust(directory / "certificates")

    def start(self) -> None:
        for node in self.nodes:
            node.start()
        wait_until(
            lambda: [node.carp for node in self.nodes] == ["MASTER", *["BACKUP"] * (len(self.nodes) - 1)], PATIENCE
        )
        self.follow()

    def follow(self) -> None:
        wait_until(lambda: all(node.follows() for node in self.nodes), PATIENCE)

    def alike(self) -> bool:
        """Whether all kernels have the same connections through the gateways."""
        return all(node.keys() == self.one.keys() for node in self.nodes[1:])


@contextmanager
def made(directory: Path, *, start: bool = True, **settings: Any) -> Iterator[Pair]:
    with Network() as network:
        pair = Pair(network, directory, **settings)
        try:
            if start:
                pair.start()
            yield pair
        except BaseException:
            for node in pair.nodes:
                sys.stderr.write(f"--- {node.name}\n{node.log.read_text() if node.log.exists() else ''}\n")
            raise
        finally:
            for node in pair.nodes:
                node.gateway.close()
                for pid in node.pids("hacore.node"):
                    os.kill(pid, signal.SIGKILL)


Condition = Callable[[], Any]


def eventually(condition: Condition) -> Any:
    return wait_until(condition, PATIENCE, 0.05)
