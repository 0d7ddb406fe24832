"""A service under no init system, for tests: three commands in a directory of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from hacore.node.settings import Service

SCRIPT = """\
#!/bin/sh
# A service under no init system: `running` is its process id file, `calls` tells what was asked of it.
cd "$(dirname "$0")" || exit 9
echo "$1 $HACORE_SERVICE" >>calls
case $1 in
  start) [ -e broken ] && { echo "no carrier"; exit 4; }
         [ -e slow ] && sleep 30
         setsid sleep 600 </dev/null >/dev/null 2>&1 & echo $! >new && mv new running ;;
  stop) [ -e slow-stop ] && sleep 1
        [ -e running ] && kill "$(cat running)"; rm -f running ;;
  status) [ -e running ] && kill -0 "$(cat running)" 2>/dev/null || exit 3 ;;
esac
"""


class Relay:
    """A service of its own directory."""

    def __init__(self, directory: Path, name: str) -> None:
        self.directory = directory / name
        self.directory.mkdir()
        self.name = name
        self.script = self.directory / "control"
        self.script.write_text(SCRIPT)
        self.script.chmod(0o755)

    def table(self, **more: Any) -> Service:
        commands: dict[str, Any] = {step: (str(self.script), step) for step in ("start", "stop", "status")}
        return Service(id=self.name, **commands | more)

    @property
    def runs(self) -> bool:
        """Whether its process lives; a start that was ended early may leave the file alone."""
        try:
            pid = (self.directory / "running").read_text().strip()
            return bool(pid) and "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
        except OSError:
            return False

    @property
    def calls(self) -> list[str]:
        place = self.directory / "calls"
        lines = place.read_text().splitlines() if place.exists() else []
        return [line for line in lines if not line.startswith("status")]

    def mark(self, name: str) -> None:
        (self.directory / name).touch()

    def end(self) -> None:
        """Stops it behind everybody's back."""
        place = self.directory / "running"
        if place.exists():
            with suppress(ProcessLookupError):
                os.kill(int(place.read_text()), 9)
            place.unlink()


@contextmanager
def relays(directory: Path) -> Iterator[Any]:
    """Makes relays by name; they end with the context."""
    made: list[Relay] = []

    def make(name: str) -> Relay:
        made.append(Relay(directory, name))
        return made[-1]

    try:
        yield make
    finally:
        for relay in made:
            relay.end()
