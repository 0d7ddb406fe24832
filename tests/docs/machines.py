"""Machines that stand for those of the guide: each a network namespace with files of its own under /etc, /run, /var/lib
and /usr/local, so that the guide's commands run as they are written.

What a namespace has not is stood in for by the commands in `STAND_INS`, found first in PATH:

* `systemctl`: no systemd runs there. It starts `hacore run`, waits until the node answers (what Type=notify does), and
  signals it as the unit file says; for nftables.service it loads /etc/nftables.conf.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.namespaces import Host, Network, require

SYSTEMCTL = """\
#!/bin/bash
pid() { cat /run/test-hacore.pid 2>/dev/null; }
lives() { [[ -n $(pid) ]] && kill -0 "$(pid)" 2>/dev/null && ! grep -q '^State:.Z' "/proc/$(pid)/status"; }
case "$*" in
  "daemon-reload") ;;
  "enable --now nftables" | "reload nftables") nft -f /etc/nftables.conf ;;
  "start hacore" | "enable --now hacore")
    lives && exit 0
    setsid --fork bash -c 'echo $$ >/run/test-hacore.pid; exec hacore run' </dev/null >>/var/lib/test-hacore.log 2>&1
    for _ in {1..200}; do hacore status >/dev/null 2>&1 && exit 0; sleep 0.1; lives || break; done
    echo "Job for hacore.service failed:" >&2; tail -3 /var/lib/test-hacore.log >&2; exit 1 ;;
  "stop hacore") lives || exit 0; kill -TERM "$(pid)"; while lives; do sleep 0.05; done ;;
  "reload hacore") kill -HUP "$(pid)" ;;
  "is-active hacore") lives && echo active || { echo inactive; exit 3; } ;;
  *) echo "the guide's test knows no systemctl $*" >&2; exit 64 ;;
esac
"""
STAND_INS = {"systemctl": SYSTEMCTL}
#: What each machine has for itself; the first is copied, the others begin empty.
OWN_DIRECTORIES = ("/etc", "/run", "/var/lib", "/usr/local/sbin")
COLUMNS = "120"


class Machine(Host):
    """A host with its own files. `directory` is where they are kept meanwhile."""

    def __init__(self, name: str, directory: Path) -> None:
        require("nsenter", "unshare")
        super().__init__(name)
        self.directory = directory
        directory.mkdir()
        mounts = []
        for place in OWN_DIRECTORIES:
            own = directory / place.strip("/").replace("/", "-")
            if place == "/etc":
                shutil.copytree(place, own, symlinks=True)
            else:
                own.mkdir()
            mounts.append(f"mount --bind {own} {place}")
        for command, text in STAND_INS.items():
            path = directory / "usr-local-sbin" / command
            path.write_text(text, encoding="ascii")
            path.chmod(0o755)
        script = "\n".join(["set -e", *mounts, "echo ready", "exec sleep infinity"])
        self._keeper = subprocess.Popen(
            ["ip", "netns", "exec", name, "unshare", "--mount", "--propagation", "private", "sh", "-c", script],
            stdout=subprocess.PIPE,
        )
        assert self._keeper.stdout is not None
        assert self._keeper.stdout.readline() == b"ready\n"

    def _command(self, script: str) -> list[str]:
        inside = ["nsenter", "--target", str(self._keeper.pid), "--mount", "--net", "--wd=/"]
        return [*inside, "bash", "-c", f"set -euo pipefail\n{script}"]

    def _environment(self) -> dict[str, str]:
        path = f"/usr/local/sbin:{Path(sys.executable).parent}:/usr/sbin:/usr/bin:/sbin:/bin"
        kept = {key: os.environ[key] for key in ("PYTHONPATH", "PYTHONUNBUFFERED") if key in os.environ}
        return kept | {"PATH": path, "COLUMNS": COLUMNS, "LC_ALL": "C.UTF-8", "HOME": "/root"}

    def shell(self, script: str) -> subprocess.CompletedProcess[str]:
        """Runs the script and returns what it wrote, both streams in one."""
        return subprocess.run(
            self._command(script),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
            check=False,
            env=self._environment(),
        )

    def background(self, script: str, log: Path) -> subprocess.Popen[bytes]:
        """Starts the script; it ends with the machine."""
        with open(log, "wb") as opened:
            process = subprocess.Popen(
                self._command(f"exec {script}"),
                stdin=subprocess.DEVNULL,
                stdout=opened,
                stderr=opened,
                env=self._environment(),
            )
        self._processes.append(process)
        return process

    def processes(self) -> list[int]:
        """The ids of everything that runs in the namespace, but the keeper."""
        own = os.stat(f"/run/netns/{self.name}").st_ino
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != self._keeper.pid:
                try:
                    inside = (entry / "ns/net").stat().st_ino == own
                except OSError:
                    continue
                if inside:
                    found.append(int(entry.name))
        return found

    def kill_everything(self) -> None:
        """As a loss of power does: all at once, with nobody left to notice; what is under /run is gone too."""
        self._kill()
        # Emptied and not replaced: the machine has this very directory mounted.
        for entry in (self.directory / "run").iterdir():
            if entry.is_dir():
                shutil.rmtree(entry)
            else:
                entry.unlink()

    def _kill(self) -> None:
        self._signal(signal.SIGSTOP)
        while self._signal(signal.SIGKILL):
            time.sleep(0.01)

    def _signal(self, number: signal.Signals) -> int:
        pids = self.processes()
        for pid in pids:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue
        return len(pids)

    def close(self) -> None:
        """Ends everything inside, also where the directory is gone already."""
        self._kill()
        self._keeper.kill()
        self._keeper.wait()
        if self._keeper.stdout is not None:
            self._keeper.stdout.close()
        super().close()


class Machines(Network):
    """A network with machines in it."""

    def machine(self, label: str, directory: Path) -> Machine:
        machine = Machine(f"{self.prefix}-{label}", directory)
        self._hosts.append(machine)
        return machine
