"""Connections through the pair that have to survive: TCP, UDP, ICMP and FTP behind source NAT to the WAN's virtual
address, and TCP over IPv6. Each sends and expects numbered data.

The ruleset of both nodes drops what connection tracking calls invalid and new TCP without SYN, and gives every new
connection a random port: on a node that does not know a connection, it dies.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

import msgspec

from hacore.errors import HacoreError
from hacore.lab import namespaces, topology
from hacore.lab.flow_server import FTP_PORT, TCP_PORT, UDP_PORT
from hacore.lab.laboratory import Lab
from hacore.lab.record import MARK
from hacore.linux.ruleset import run_nft

OTHERS = 10
"""Of UDP and ICMP flows there are so many, and of TCP over IPv6."""
STARTING = 30.0
CHECKING = 40.0
REPLICATING = 20.0
AGE = 1.0
"""Seconds that the youngest flow has lived before anything breaks; a birth is told within milliseconds."""

RULESET = f"""
table inet hacore_flows
delete table inet hacore_flows
table inet hacore_flows {{
    ct helper ftp {{ type "ftp" protocol tcp; }}
    chain forward {{ type filter hook forward priority 0;
        ct state invalid drop
        ct state new tcp flags & (fin | syn | rst | ack) != syn drop
    }}
    chain helpers {{ type filter hook prerouting priority -150;
        ip daddr {topology.HOSTS[topology.SERVER][4]} tcp dport {FTP_PORT} ct helper set "ftp"
    }}
    chain translate {{ type nat hook postrouting priority srcnat;
        oifname "wan" ip saddr {topology.HOSTS[topology.CLIENT][4]} ip protocol icmp \\
            snat ip to {topology.VIPS["wan"][4]} fully-random
        oifname "wan" ip saddr {topology.HOSTS[topology.CLIENT][4]} tcp dport {{ {TCP_PORT}, {FTP_PORT} }} \\
            snat ip to {topology.VIPS["wan"][4]}:1024-65535 fully-random
        oifname "wan" ip saddr {topology.HOSTS[topology.CLIENT][4]} udp dport {UDP_PORT} \\
            snat ip to {topology.VIPS["wan"][4]}:1024-65535 fully-random
    }}
}}
"""


class KindFigures(msgspec.Struct, frozen=True):
    """Flows of one kind: how many there were, how many are alive, and what became of the others."""

    total: int
    alive: int
    why: dict[str, int] = {}


class FlowFigures(msgspec.Struct, frozen=True):
    """All flows, by kind: "tcp", "tcp6", "udp", "icmp", "ftp control", "ftp data". `replicated`: the nodes had
    `[states]`.
    """

    replicated: bool
    kinds: dict[str, KindFigures]

    @property
    def as_expected(self) -> bool:
        """All alive where the nodes replicate; where they do not, all dead: TCP is not let in without its SYN, and who
        is translated anew gets another port, or identifier.
        """
        if self.replicated:
            return all(kind.alive == kind.total for kind in self.kinds.values())
        return not any(kind.alive for kind in self.kinds.values())

    def __str__(self) -> str:
        return ", ".join(
            f"{name} {kind.alive} of {kind.total}" + (f" ({_listed(kind.why)})" if kind.why else "")
            for name, kind in self.kinds.items()
        )


def _listed(why: dict[str, int]) -> str:
    return ", ".join(f"{count} {text}" for text, count in why.items())


class Flows:
    """Runs while entered. `check` may be called any number of times; a flow that died stays dead."""

    def __init__(self, lab: Lab, count: int) -> None:
        self._lab = lab
        self._count = count
        self._children: list[subprocess.Popen[bytes]] = []
        self._text: dict[int, bytes] = {}

    def __enter__(self) -> Self:
        try:
            for node in self._lab.nodes.values():
                with namespaces.inside(node.namespace):
                    run_nft(["-f", "-"], RULESET)
            server = self._start(topology.SERVER, "flow_server")
            self._expect(server, STARTING, "ready")
            if self._lab.record.states:
                self.await_replication()
            hosts = topology.HOSTS[topology.SERVER]
            counts = [self._count, OTHERS, OTHERS, OTHERS, 1]
            own = topology.HOSTS[topology.CLIENT][4]
            client = self._start(topology.CLIENT, "flow_client", hosts[4], hosts[6], own, *map(str, counts))
            self._expect(client, STARTING, "ready")
            time.sleep(AGE)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _start(self, role: str, module: str, *arguments: str) -> subprocess.Popen[bytes]:
        with namespaces.inside(self._lab.paths[role]):
            child = subprocess.Popen(
                [sys.executable, "-m", f"hacore.lab.{module}", *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=os.environ | {MARK: str(self._lab.directory)},
            )
        self._children.append(child)
        return child

    def _line(self, child: subprocess.Popen[bytes], patience: float) -> str:
        """The next line that it says. HacoreError where none comes."""
        assert child.stdout is not None
        text = self._text.get(child.pid, b"")
        deadline = time.monotonic() + patience
        while b"\n" not in text:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([child.stdout], [], [], left)[0]:
                raise HacoreError(f"the lab's flows say nothing for {patience:g} s")
            data = os.read(child.stdout.fileno(), 1 << 16)
            if not data:
                raise HacoreError(f"the lab's flows ended with exit code {child.wait()}")
            text += data
        line, _, self._text[child.pid] = text.partition(b"\n")
        return line.decode()

    def _expect(self, child: subprocess.Popen[bytes], patience: float, word: str) -> None:
        said = self._line(child, patience)
        if said != word:
            raise HacoreError(f"the lab's flows: {said}")

    def _ask(self, child: subprocess.Popen[bytes], question: str) -> Any:
        assert child.stdin is not None
        try:
            child.stdin.write(f"{question}\n".encode())
            child.stdin.flush()
        except OSError as error:
            raise HacoreError("the lab's flows ended") from error
        return json.loads(self._line(child, CHECKING))

    def check(self) -> FlowFigures:
        """How many go on: each has to send, and get back, one more record."""
        server, client = self._children
        said: dict[str, Any] = self._ask(client, "check")
        identifiers: dict[str, Sequence[int]] = self._ask(server, "report")["icmp"]
        moved = sum(len(seen) > 1 for seen in identifiers.values())
        if moved and "icmp" in said:
            alive = min(said["icmp"]["alive"], said["icmp"]["total"] - moved)
            said["icmp"] = said["icmp"] | {"alive": alive, "why": {"translated to another identifier": moved}}
        kinds = {name: KindFigures(**found) for name, found in said.items()}
        return FlowFigures(replicated=self._lab.record.states, kinds=kinds)

    def await_replication(self) -> None:
        """Until each node has what the other has. HacoreError where that does not come about."""
        deadline = time.monotonic() + REPLICATING
        while not all(node.replicates() for node in self._lab.nodes.values()):
            if time.monotonic() > deadline:
                raise HacoreError("the nodes of the lab do not replicate their connections to each other")
            time.sleep(0.05)

    def close(self) -> None:
        """End the flows; the ruleset stays with its namespaces."""
        for child in reversed(self._children):
            child.kill()
            child.wait()
            for pipe in (child.stdin, child.stdout):
                if pipe is not None:
                    pipe.close()
        self._children.clear()
