"""Control workers in the process of the test: the real server, client, TLS and settings; only the supervisor is played.

async with pair(tmp_path) as (one, two):
    answer = await one.worker.peer("fw2").ask("GET", "/node", response=NodeAnswer)
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from hacore.control.local import LocalClient
from hacore.control.trial_certificates import make_test_certificates
from hacore.control.worker import ControlWorker
from hacore.node.event import Value
from hacore.node.settings import load

SETTINGS = """
[node]
name = "{name}"
runtime_dir = "run"
state_dir = "state"
[[vip]]
name = "lan"
interface = "lan"
vhid = 1
advskew = {advskew}
password = "secret"
addresses = ["10.1.0.1/16"]
[[peer]]
name = "{other}"
control = "127.0.0.1:{other_port}"
{peer}
[control]
listen = "127.0.0.1:{port}"
{more}
"""


class PlayedBus:
    """A supervisor whose VIPs are as `states` says; `change` is a transition."""

    def __init__(self, name: str, states: dict[str, str]) -> None:
        self.name, self.states = name, dict(states)
        self.requests: list[tuple[str, dict[str, Any]]] = []
        self._events: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.on_reload: Any = None

    async def request(self, command: str, **arguments: Any) -> dict[str, Any]:
        self.requests.append((command, arguments))
        if command == "reload":
            if self.on_reload is not None:
                await self.on_reload()
            return {"later": []}
        node = {"name": self.name, "version": "0", "pid": 1, "started": 0.0, "generated": 0.0, "demotion": {}}
        vips = [
            {
                "name": name, "interface": name, "vhid": 1, "state": state, "since": 0.0, "reason": "", "advbase": 1,
                "advskew": 0, "effective_advskew": 0, "addresses": [], "counters": {},
            }
            for name, state in self.states.items()
        ]  # fmt: skip
        return {"node": node, "vips": vips}

    def change(self, vip: str, state: str, epoch: int) -> None:
        self.states[vip] = state
        self._events.put_nowait({"kind": "transition", "vip": vip, "fields": {"new": state, "epoch": epoch}})

    async def follow(self) -> AsyncIterator[dict[str, Any]]:
        yield {}
        while True:
            yield await self._events.get()


class Played:
    """One node of a test: its worker, its bus, what it told the history."""

    def __init__(self, directory: Path, name: str, state: str) -> None:
        self.directory, self.name = directory, name
        self.path = directory / "hacore.toml"
        self.bus = PlayedBus(name, {"lan": state})
        self.events: list[tuple[str, str, dict[str, Value]]] = []
        (directory / "run").mkdir(parents=True, exist_ok=True)

    def write(self, **values: Any) -> None:
        """The settings file."""
        self.path.write_text(SETTINGS.format(**{"peer": "", "more": ""} | values))
        self.path.chmod(0o600)

    def trust(self, certificates: Path, name: str = "") -> None:
        tls = self.directory / "state/tls"
        tls.mkdir(parents=True, exist_ok=True)
        for file in ("node.crt", "node.key", "peers.pem"):
            (tls / file).write_bytes((certificates / (name or self.name) / file).read_bytes())

    async def start(self) -> None:
        self.worker = ControlWorker(load(self.path), self.bus, self._told)
        self.bus.on_reload = self.worker.reload
        await self.worker.start()
        await until(lambda: self.worker.states and (self.worker.server.listens or "tls" in self.worker.warnings))

    def _told(self, kind: str, text: str, vip: str, fields: Mapping[str, Value]) -> None:
        self.events.append((kind, text, dict(fields)))

    def refusals(self) -> list[str]:
        return [text for kind, text, _ in self.events if kind == "refused"]

    @property
    def local(self) -> LocalClient:
        """Waits; call it by `asyncio.to_thread`."""
        return LocalClient(self.directory / "run")


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


async def until(condition: Any, timeout: float = 20.0) -> Any:
    async with asyncio.timeout(timeout):
        while not (found := condition()):
            await asyncio.sleep(0.01)
    return found


@asynccontextmanager
async def pair(directory: Path, **settings: Any) -> AsyncIterator[tuple[Played, Played]]:
    """fw1, MASTER of its VIP, and fw2, BACKUP, that trust each other. `settings`: more text for both."""
    make_test_certificates(directory / "certificates", ["fw1", "fw2"])
    ports = [free_port(), free_port()]
    nodes = (Played(directory / "fw1", "fw1", "MASTER"), Played(directory / "fw2", "fw2", "BACKUP"))
    for number, node in enumerate(nodes):
        node.write(
            name=node.name, other=nodes[1 - number].name, advskew=20 * number, port=ports[number],
            other_port=ports[1 - number], **settings,
        )  # fmt: skip
        node.trust(directory / "certificates")
    started = []
    try:
        for node in nodes:
            await node.start()
            started.append(node)
        yield nodes
    finally:
        for node in started:
            await node.worker.stop()
