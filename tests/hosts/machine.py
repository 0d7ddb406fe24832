"""A machine with Debian on it: systemd as process 1 (systemd-nspawn), a disk that outlives its power, and network
interfaces that do not.

What such a container has not: a kernel of its own. `/proc/sys/net` is its own and writable, the rest of `/proc/sys` is
not, and systemd-sysctl is told so. Walled-in units get a /proc with the boot id of the kernel, which outlives this
machine's power; hacore's see one that does not.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
import uuid
from pathlib import Path
from typing import Any

from tests.namespaces import Host, wait_until

BOOT_TIMEOUT = 60.0
HALT_TIMEOUT = 40.0
COMMAND_TIMEOUT = 120.0
COLUMNS = "120"

SYSCTL = """\
[Unit]
ConditionPathIsReadWrite=
ConditionPathIsReadWrite=/proc/sys/net/
[Service]
ExecStart=
ExecStart=/lib/systemd/systemd-sysctl --prefix=/net
"""
BOOT_ID = """\
[Service]
BindReadOnlyPaths=/etc/boot-id:/proc/sys/kernel/random/boot_id
"""


class Machine:
    """Made switched off. `directory` must be on a file system that an overlay can write to (a tmpfs)."""

    def __init__(self, name: str, root: Path, directory: Path) -> None:
        self.name = name
        self.directory = directory
        self.root = directory / "root"
        self.host: Host | None = None  # its network, while it is switched on
        self._nspawn: subprocess.Popen[Any] | None = None
        self.leader = 0
        for part in ("upper", "work", "root"):
            (directory / part).mkdir(parents=True)
        options = f"lowerdir={root},upperdir={directory / 'upper'},workdir={directory / 'work'}"
        subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, self.root], check=True)
        self.write("/etc/hostname", f"{name}\n")
        self.write("/etc/hosts", f"127.0.0.1 localhost\n127.0.1.1 {name}\n")
        self.write("/etc/systemd/system/systemd-sysctl.service.d/container.conf", SYSCTL)
        for unit in ("hacore", "hacore-recover"):
            self.write(f"/etc/systemd/system/{unit}.service.d/container.conf", BOOT_ID)

    def write(self, path: str, text: str) -> None:
        """Puts a file on its disk."""
        place = self.root / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text, encoding="utf-8")

    def read(self, path: str) -> str:
        return (self.root / path.lstrip("/")).read_text(encoding="utf-8")

    @property
    def is_on(self) -> bool:
        return self._nspawn is not None and self._nspawn.poll() is None

    def power_on(self, host: Host) -> None:
        """Boots with this network, until systemd says that it is done."""
        self.host = host
        self.write("/etc/boot-id", f"{uuid.uuid4()}\n")
        with open(self.directory / "console", "ab") as console:
            self._nspawn = subprocess.Popen(
                ["systemd-nspawn", "--quiet", "--keep-unit", "--register=no", f"--directory={self.root}",
                 f"--machine={host.name}", f"--hostname={self.name}",
                 f"--network-namespace-path=/run/netns/{host.name}",
                 "--boot", "--capability=all", "--link-journal=no", "--resolv-conf=off", "--timezone=off",
                 "--console=pipe"],
                stdin=subprocess.DEVNULL, stdout=console, stderr=console,
                env=os.environ | {"SYSTEMD_NSPAWN_API_VFS_WRITABLE": "network"},
            )  # fmt: skip
        try:
            self.leader = wait_until(self._find_leader, BOOT_TIMEOUT, 0.02)
            wait_until(lambda: self._booted(), BOOT_TIMEOUT, 0.1)
        except AssertionError:
            text = (self.directory / "console").read_text(errors="replace")
            raise AssertionError(f"{self.name} does not boot:\n{text[-3000:]}") from None

    def _find_leader(self) -> int:
        assert self._nspawn is not None
        assert self._nspawn.poll() is None, "systemd-nspawn has ended"
        pid = self._nspawn.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
        for child in children:
            try:
                if Path(f"/proc/{child}/comm").read_text(encoding="ascii").strip() == "systemd":
                    return int(child)
            except OSError:
                continue
        return 0

    def _booted(self) -> bool:
        return self.shell("systemctl is-system-running 2>/dev/null || true").stdout.strip() in ("running", "degraded")

    def shell(self, script: str, *, timeout: float = COMMAND_TIMEOUT) -> subprocess.CompletedProcess[str]:
        """Runs the script as root logged in there would; both streams in one."""
        return subprocess.run(
            self._inside("bash", "-c", f"cd\nset -euo pipefail\n{script}"),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=timeout,
            check=False, env=self._environment(),
        )  # fmt: skip

    def run(self, script: str, *, timeout: float = COMMAND_TIMEOUT) -> str:
        """The same; fails with what it wrote where it does not succeed."""
        done = self.shell(script, timeout=timeout)
        assert done.returncode == 0, (
            f"{self.name}: {script}\nexit code {done.returncode}:\n{done.stdout}\n{self.story()}"
        )
        return done.stdout

    def popen(self, script: str, **options: Any) -> subprocess.Popen[Any]:
        """Starts the script; it ends with the machine."""
        return subprocess.Popen(self._inside("bash", "-c", script), env=self._environment(), **options)

    def _inside(self, *command: str) -> list[str]:
        kinds = ("--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup")
        return ["nsenter", f"--target={self.leader}", *kinds, "--root", "--wd", *command]

    def _environment(self) -> dict[str, str]:
        path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        return {"PATH": path, "COLUMNS": COLUMNS, "LC_ALL": "C.UTF-8", "HOME": "/root", "USER": "root"}

    def story(self) -> str:
        """What its node and its services wrote of late, for the message of a failure."""
        if not self.is_on:
            return f"{self.name} is off"
        return self.shell("journalctl --no-pager --quiet --lines=60 --output=short-precise").stdout

    def power_off(self) -> None:
        """The plug is pulled: everything ends at once, and its interfaces with it."""
        if self.is_on:
            os.kill(self.leader, signal.SIGKILL)
        self._ended()

    def shut_down(self) -> None:
        """`systemctl poweroff`."""
        assert self._nspawn is not None
        self.shell("systemctl poweroff")
        self._nspawn.wait(HALT_TIMEOUT)
        self._ended()

    def _ended(self) -> None:
        if self._nspawn is not None:
            try:
                self._nspawn.wait(5)
            except subprocess.TimeoutExpired:
                self._nspawn.kill()
                self._nspawn.wait()
            self._nspawn, self.leader = None, 0
        if self.host is not None:
            self.host.close()
            self.host = None

    def close(self) -> None:
        """Takes it away, disk and all."""
        self.power_off()
        for _ in range(50):
            if subprocess.run(["umount", self.root], capture_output=True, check=False).returncode == 0:
                break
            time.sleep(0.1)
        else:
            subprocess.run(["umount", "--lazy", self.root], check=False)
        shutil.rmtree(self.directory, ignore_errors=True)
