"""What is told when systemd cannot be asked, on a bus of the test's own.

What it answers where it can is tested in tests/hosts, where a whole Debian runs.
"""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from dbus_fast.aio import MessageBus

from hacore.errors import PlatformError, PrivilegeError
from hacore.linux.systemd import Systemd

BUS = """\
<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>system</type>
  <listen>unix:path={path}</listen>
  <policy context="default">
    <allow user="*"/><allow own="*"/><allow receive_type="signal"/><allow send_destination="org.freedesktop.DBus"/>
    <allow receive_sender="org.freedesktop.DBus"/>{policy}
  </policy>
</busconfig>
"""
ALLOWED = '<allow send_destination="*"/><allow receive_sender="*"/>'


@pytest.fixture
def bus(tool: Callable[[str], str], tmp_path: Path) -> Iterator[Callable[[str], str]]:
    """Starts a bus with this policy and returns its address; nobody on it is systemd."""
    started: list[subprocess.Popen[bytes]] = []

    def start(policy: str) -> str:
        path = tmp_path / "bus"
        (tmp_path / "bus.conf").write_text(BUS.format(path=path, policy=policy))
        command = [tool("dbus-daemon"), f"--config-file={tmp_path / 'bus.conf'}", "--nofork", "--print-address"]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE))
        assert started[0].stdout is not None
        assert started[0].stdout.readline()
        return f"unix:path={path}"

    yield start
    for process in started:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def refusal(address: str, *, played: bool = False) -> Exception:
    """What the start of a unit is refused with; `played`: somebody on the bus has the name of systemd."""

    async def ask() -> Exception:
        systemd, other = Systemd(address), MessageBus(address)
        try:
            if played:
                await other.connect()
                await other.request_name("org.freedesktop.systemd1")
            await systemd.run_job("nginx.service", "start", 1.0)
        except (PlatformError, PrivilegeError) as error:
            return error
        finally:
            systemd.close()
            if played:
                other.disconnect()
        raise AssertionError("it was not refused")

    return asyncio.run(ask())


def test_no_bus(tmp_path: Path) -> None:
    error = refusal(f"unix:path={tmp_path / 'nothing'}")
    assert "the system bus does not answer" in str(error)
    assert "install the Debian package dbus" in str(error)


def test_a_bus_without_systemd(bus: Callable[[str], str]) -> None:
    error = refusal(bus(ALLOWED))
    assert isinstance(error, PlatformError)
    assert "org.freedesktop.systemd1" in str(error)


def test_a_bus_that_does_not_let_us(bus: Callable[[str], str]) -> None:
    error = refusal(bus('<deny send_destination="org.freedesktop.systemd1"/>'), played=True)
    assert isinstance(error, PrivilegeError)
    assert "run the node as root" in str(error)
