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

CONFIGURATION = """
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
    NetlinkBufferSize 67108864
    NetlinkBufferSizeMaxGrowth 268435456
    NetlinkOverrunResync Off
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
        self._node, self._command = node, program("conntrackd")
        directory.mkdir(parents=True, exist_ok=True)
        self.configuration = directory / "conntrackd.conf"
        self.configuration.write_text(
            CONFIGURATION.format(
                directory=directory, own=own, other=other, interface=interface,
                no_external_cache="Off" if external_cache else "On",
            ),
            encoding="ascii",
        )  # fmt: skip
        with namespaces.inside(node.namespace), open(directory / "output", "ab") as output:
            self._process = subprocess.Popen(
                [self._command, "-C", str(self.configuration)],
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=node.environment(),
            )  # fmt: skip
        control = directory / "control"
        try:
            wait(lambda: control.exists() and "cache internal" in self.ask("-s"), PATIENCE, "conntrackd answers")
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
        command = [self._command, "-C", str(self.configuration), *arguments]
        with namespaces.inside(self._node.namespace):
            asked = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False
            )
        return asked.stdout

    def cached(self, which: str) -> int:
        """How many states its "internal" or "external" cache has."""
        found = re.search(rf"cache {which}:\s*current active connections:\s*(\d+)", self.ask("-s"))
        return int(found[1]) if found else 0

    def close(self) -> None:
        """Ends it."""
        if self._process.poll() is None:
            self.ask("-k")
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
