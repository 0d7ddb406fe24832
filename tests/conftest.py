"""What all tests share: where the package under test comes from, and the tools that have to be installed."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable

import pytest
from hypothesis import settings

import hacore

# The Debian package that brings a command, where it is not named as the command is.
DEBIAN_PACKAGES = {
    "ip": "iproute2",
    "bridge": "iproute2",
    "nft": "nftables",
    "ping": "iputils-ping",
    "ps": "procps",
    "setpriv": "util-linux",
    "perf": "linux-perf",
    "systemd-analyze": "systemd",
    "dbus-daemon": "dbus-daemon",
}

# A shell starts what it puts into the background with SIGINT ignored, and everything started from there inherits that.
signal.signal(signal.SIGINT, signal.default_int_handler)

# No deadline: a busy machine is no fault of the code under test. The same examples each time, so that a run judges the
# change at hand; new ones are tried by the soak.
settings.register_profile("default", deadline=None, derandomize=True)
settings.register_profile("soak", deadline=None, max_examples=20_000)
settings.load_profile("default")


def pytest_report_header() -> str:
    place = os.path.dirname(hacore.__file__)
    return f"hacore {hacore.__version__} from {place}, Linux {os.uname().release}, uid {os.getuid()}"


@pytest.fixture(scope="session")
def tool() -> Callable[[str], str]:
    """Finds a command that a test cannot do without: `tool("ucarp")` is its path; a missing one fails the test."""

    def find(command: str) -> str:
        path = shutil.which(command, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")
        if path is None:
            pytest.fail(f"{command} is missing; install the Debian package {DEBIAN_PACKAGES.get(command, command)}")
        return path

    return find
