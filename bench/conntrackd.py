"""conntrackd between two namespaces, as the other thing that replicates connections: FTFW over UDP, caches as large as
the load. Debian package: conntrackd.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

from tests.namespaces import Host, wait_until

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


class Conntrackd:
    """One daemon in `host`, talking to the one at `other`."""

    def __init__(
        self, host: Host, directory: Path, own: str, other: str, *, interface: str = "sync", external_cache: bool = True
    ) -> None:
        found = shutil.which("conntrackd", path="/usr/sbin:/sbin")
        if found is None:
            raise AssertionError("conntrackd is missing: install the Debian package conntrackd")
        directory.mkdir(parents=True, exist_ok=True)
        self._host, self._command = host, found
        self._path = directory / "conntrackd.conf"
        self._path.write_text(
            CONFIGURATION.format(
                directory=directory, own=own, other=other, interface=interface,
                no_external_cache="Off" if external_cache else "On",
            )
        )  # fmt: skip
        self._process: Any = host.start(found, "-C", str(self._path), stdout=subprocess.DEVNULL)
        wait_until(lambda: (directory / "control").exists() and "cache internal" in self.ask("-s"), 10)

    @property
    def pid(self) -> int:
        """Of the daemon."""
        return int(self._process.pid)

    def ask(self, *arguments: str) -> str:
        """What conntrackd says to a request."""
        return self._host.run(self._command, "-C", str(self._path), *arguments, check=False)

    def cached(self, which: str) -> int:
        """How many states its "internal" or "external" cache has."""
        found = re.search(rf"cache {which}:\s*current active connections:\s*(\d+)", self.ask("-s"))
        return int(found[1]) if found else 0

    def close(self) -> None:
        """Ends it."""
        self.ask("-k")
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
