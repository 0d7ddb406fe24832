"""Two real nodes with a node API and replication, paired by the commands or not yet."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.namespaces import wait_until
from tests.running_node import HACORE, PATIENCE, RunningNode, Segment, table, vip


class PairNode:
    """One of them: `running` is the node, `number` the end of its address."""

    def __init__(self, running: RunningNode, number: int) -> None:
        self.running, self.number = running, number
        self.name = running.name
        self.address = f"10.1.0.{number}"
        self.tls = running.state_dir / "tls"

    def configure(self, *others: PairNode, states: bool = True, more: str = "") -> None:
        tables = [vip(advskew=self.number), f'[control]\nlisten = "{self.address}:8117"']
        if states:
            tables.append(f'[states]\nlisten = "{self.address}:8116"\nreconcile_interval = 5.0')
        tables += [
            table("peer", name=other.name, control=f"{other.address}:8117", states=f"{other.address}:8116")
            for other in others
        ]
        self.running.configure(*tables, more)

    def start(self) -> None:
        self.running.start()
        self.until_control()

    def until_control(self) -> None:
        self.running.until(lambda: self.worker("control")["state"] == "running")

    def kill_worker(self, name: str) -> None:
        """SIGKILL, and wait for the next one."""
        old = self.pids()[name]
        os.kill(old, signal.SIGKILL)
        self.running.until(lambda: self.pids()[name] not in (0, old) and self.worker(name)["state"] == "running")

    def worker(self, name: str) -> dict[str, Any]:
        return dict(self.running.status()["node"]["workers"][name])

    def pids(self) -> dict[str, int]:
        return {name: int(one["pid"]) for name, one in self.running.status()["node"]["workers"].items()}

    def hacore(self, *arguments: str, text: str = "", code: int = 0) -> str:
        """Standard output of a command that ends with `code`; with another code than 0, its standard error."""
        command = ["ip", "netns", "exec", self.running.host.name, *HACORE, "-c", str(self.running.settings), *arguments]
        done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=60, check=False)
        said = f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}\n{self.running.written()}"
        assert done.returncode == code, said
        return done.stderr if code else done.stdout

    def invite(self, *arguments: str) -> str:
        return self.hacore("pair", "invite", *arguments).strip()

    def pairs(self) -> dict[str, Any]:
        return dict(json.loads(self.hacore("pair", "list", "--json")))

    def peer(self, name: str) -> dict[str, Any]:
        return next(dict(one) for one in self.pairs()["peers"] if one["name"] == name)

    def certificates(self) -> dict[str, bool]:
        """Those in the status: whether each is the node's own."""
        return {one["name"]: bool(one["own"]) for one in self.running.status()["node"]["certificates"]}

    def renews(self) -> bool:
        """Whether a renewal is under way."""
        return (self.running.state_dir / "pairing/renewal.json").exists()

    def stream(self) -> str:
        """The phase of what comes in."""
        peers = self.running.ask("states", action="show")["peers"]
        return str(peers[0]["receiving"]["phase"])

    def warnings(self) -> list[str]:
        return list(self.running.status()["node"]["warnings"])

    def events(self, kind: str = "pairing") -> list[str]:
        return [event["text"] for event in self.running.events(kind)]


@contextmanager
def nodes(directory: Path, *, states: bool = True, start: bool = True) -> Iterator[tuple[PairNode, PairNode]]:
    """fw1 and fw2, running and not paired."""
    with Segment(directory) as segment:
        both = PairNode(segment.node("fw1", 11), 11), PairNode(segment.node("fw2", 12), 12)
        for one, other in (both, both[::-1]):
            one.configure(other, states=states)
            if start:
                one.start()
        yield both


def pair(one: PairNode, other: PairNode) -> None:
    """As the guide says."""
    other.hacore("pair", "join", one.invite(), "--via", one.address)


def eventually(condition: Any) -> Any:
    return wait_until(condition, PATIENCE, 0.05)
