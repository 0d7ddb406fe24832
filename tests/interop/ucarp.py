"""ucarp in a namespace: CARP as somebody else wrote it. IPv4, one address, multicast."""

from __future__ import annotations

import re
import signal
import subprocess
from pathlib import Path
from typing import Any

from tests.namespaces import Host, wait_until
from tests.running_node import PATIENCE

_STATES = re.compile(r"Switching to state: (\w+)")


class Ucarp:
    """One ucarp process, started at once; it is killed with its host's network.

    Its scripts put the address on the interface and take it away, as an administrator would have them do.
    """

    def __init__(
        self,
        host: Host,
        directory: Path,
        path: str,
        *,
        source: str,
        advskew: int,
        preempt: bool = False,
        password: str = "secret",
        address: str = "10.1.0.1",
    ) -> None:
        self.host = host
        self.address = address
        directory.mkdir(exist_ok=True)
        for script, change in (("up", "add"), ("down", "del")):
            (directory / script).write_text(f"#!/bin/sh\nexec ip address {change} {address}/32 dev lan\n")
            (directory / script).chmod(0o755)
        self._log = directory / "ucarp.log"
        arguments = [
            "--interface=lan", f"--srcip={source}", "--vhid=1", f"--pass={password}", f"--addr={address}",
            "--advbase=1", f"--advskew={advskew}", "--shutdown",
            f"--upscript={directory / 'up'}", f"--downscript={directory / 'down'}",
            *(["--preempt"] if preempt else []),
        ]  # fmt: skip
        with open(self._log, "wb") as log:
            self.process: subprocess.Popen[Any] = host.start(path, *arguments, stdout=log, stderr=log)

    def written(self) -> str:
        return self._log.read_text(errors="replace")

    def state(self) -> str:
        found = _STATES.findall(self.written())
        return found[-1] if found else "INIT"

    def states(self) -> list[str]:
        """Every state it went through."""
        return _STATES.findall(self.written())

    def holds(self) -> bool:
        return f" {self.address}/" in self.host.ip("-4 -o address show dev lan")

    def until_state(self, state: str) -> None:
        def reached() -> bool:
            assert self.process.poll() is None, self.written()
            return self.state() == state

        try:
            wait_until(reached, PATIENCE, 0.02)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.written()}") from None

    def demote(self) -> None:
        """Tells it to be BACKUP for a while."""
        self.process.send_signal(signal.SIGUSR2)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(PATIENCE)
