"""conntrackd on a node of the lab, as the other thing that replicates connections: FTFW over UDP, caches as large as
the load. Debian package: conntrackd.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Self

from hacore.bench.machine import program
from hacore.bench.meters import wait
from hacore.lab import namespaces
from hacore.lab.nodes import Node

_CONFIGURATION = """
Sync {{
    Mode FTFW {{
        ResendQueueSize 131072
        PurgeTimeout 60
        ACKWindowSize 300
        DisableExternalCache {no_external_cache}
    }}
    UDP {{
        IPv4_address {own}
        IPv4_Destination_Address {other}
        Port 3780
        Interface {interface}
        SndSocketBuffer 67108864
        RcvSocketBuffer 67108864
        Checksum on
    }}
}}
General {{
    HashSize 1048576
    HashLimit 4194304
    LogFile {directory}/log
    Syslog off
    LockFile {directory}/lock
    UNIX {{
        Path {directory}/control
    }}
    NetlinkBufferSize {event_buffer_bytes}
    NetlinkBufferSizeMaxGrowth {event_buffer_bytes}
    NetlinkOverrunResync On
    Filter From Userspace {{
        Address Ignore {{
            IPv4_address 127.0.0.1
            IPv4_address {own}
            IPv4_address {other}
        }}
    }}
}}
"""
PATIENCE = 10.0
EVENT_BUFFER_BYTES = 256 << 20
"""Of the socket that the kernel's events come in by, from the start, with hacore as well as with conntrackd."""


def configuration(directory: Path, own: str, other: str, interface: str, *, external_cache: bool = True) -> str:
    """Its file, on the node that has the address `own` on the wire; what it makes is in `directory`."""
    return _CONFIGURATION.format(
        directory=directory, own=own, other=other, interface=interface, event_buffer_bytes=EVENT_BUFFER_BYTES,
        no_external_cache="Off" if external_cache else "On",
    )  # fmt: skip


def ask(namespace: Path, configuration: Path, *arguments: str) -> str:
    """What the daemon of that configuration says to a request."""
    command = [program("conntrackd"), "-C", str(configuration), *arguments]
    with namespaces.inside(namespace):
        asked = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False
        )
    return asked.stdout


def cached(answer: str, which: str) -> int | None:
    """How many states the "internal" or "external" cache has, of an answer to `-s`; None where it says nothing."""
    found = re.search(rf"cache {which}:\s*current active connections:\s*(\d+)", answer)
    return int(found[1]) if found else None


class Conntrackd:
    """The daemon of one node, with its files in `directory`; its own address on the wire and the other's."""

    def __init__(
        self,
        node: Node,
        directory: Path,
        own: str,
        other: str,
        *,
        interface: str = "sync",
        external_cache: bool = True,
    ) -> None:
        self._node = node
        directory.mkdir(parents=True, exist_ok=True)
        self.configuration = directory / "conntrackd.conf"
        text = configuration(directory, own, other, interface, external_cache=external_cache)
        self.configuration.write_text(text, encoding="ascii")
        with namespaces.inside(node.namespace), open(directory / "output", "ab") as output:
            self._process = subprocess.Popen(
                [program("conntrackd"), "-C", str(self.configuration)],
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=node.environment(),
            )  # fmt: skip
        control = directory / "control"
        try:
            wait(
                lambda: control.exists() and cached(self.ask("-s"), "internal") is not None,
                PATIENCE,
                "conntrackd answers",
            )
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """Of the daemon."""
        return self._process.pid

    def ask(self, *arguments: str) -> str:
        """What conntrackd says to a request."""
        return ask(self._node.namespace, self.configuration, *arguments)

    def answers(self) -> bool:
        """Whether it does."""
        return cached(self.ask("-s"), "internal") is not None

    def cached(self, which: str) -> int:
        """How many states its "internal" or "external" cache has."""
        return cached(self.ask("-s"), which) or 0

    def cached_to(self, port: int) -> int:
        """How many states of its external cache go to that port of their server."""
        found = (re.search(r"\bdport=(\d+)", line) for line in self.ask("-e").splitlines())
        return sum(each is not None and int(each[1]) == port for each in found)

    def close(self) -> None:
        """Ends it."""
        if self._process.poll() is None:
            self.ask("-k")
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
