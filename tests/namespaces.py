"""Network namespaces for tests against the real kernel: hosts, bridges and the cables between them, torn down whatever
happens.

with Network() as network:
    fw, switch = network.host("fw"), network.switch("switch")
    network.cable(fw, "lan", switch)
"""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Self

from hacore.linux import libc

PACKAGES = {"ip": "iproute2", "bridge": "iproute2", "nft": "nftables", "ping": "iputils-ping"}


# Put before a command: root without a single capability.
WITHOUT_CAPABILITIES = ("setpriv", "--bounding-set=-all", "--inh-caps=-all")


def require(*commands: str) -> None:
    """Fails, naming the Debian package, where a command is missing."""
    for command in commands:
        if shutil.which(command, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin") is None:
            raise AssertionError(f"{command} is missing: install the Debian package {PACKAGES.get(command, command)}")


def wait_until(condition: Callable[[], Any], timeout: float = 5.0, pause: float = 0.01) -> Any:
    """The first true result of `condition`, asked again and again; fails after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while True:
        if result := condition():
            return result
        assert time.monotonic() < deadline, f"not within {timeout} s: {condition}"
        time.sleep(pause)


class Host:
    """A network namespace with its loopback up."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._processes: list[subprocess.Popen[Any]] = []
        run("ip", "netns", "add", name)
        self.ip("link set lo up")

    def run(self, *command: str, text: str | None = None, check: bool = True) -> str:
        """Runs a command inside and returns its standard output; fails with its standard error."""
        return run("ip", "netns", "exec", self.name, *command, text=text, check=check)

    def ip(self, arguments: str) -> str:
        return run("ip", "-n", self.name, *arguments.split())

    def start(self, *command: str, **options: Any) -> subprocess.Popen[Any]:
        """Starts a process inside; it is killed when the network is torn down."""
        process = subprocess.Popen(["ip", "netns", "exec", self.name, *command], **options)
        self._processes.append(process)
        return process

    def python(self, *arguments: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
        """Runs this interpreter inside."""
        command = ["ip", "netns", "exec", self.name, sys.executable, *arguments]
        return subprocess.run(command, input=text, capture_output=True, text=True, timeout=60, check=False)

    @contextmanager
    def entered(self) -> Iterator[None]:
        """This thread works inside: sockets made here stay in the namespace."""
        own = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        other = os.open(f"/run/netns/{self.name}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            libc.setns(other, libc.CLONE_NEWNET)
            try:
                yield
            finally:
                libc.setns(own, libc.CLONE_NEWNET)
        finally:
            os.close(own)
            os.close(other)

    def index(self, interface: str) -> int:
        with self.entered():
            return socket.if_nametoindex(interface)

    def mac(self, interface: str) -> str:
        return self.run("cat", f"/sys/class/net/{interface}/address").strip()

    def sysctl(self, key: str, value: str | None = None) -> str:
        """Reads or writes net/KEY, with slashes."""
        with self.entered():
            path = f"/proc/sys/net/{key}"
            if value is not None:
                with open(path, "w", encoding="ascii") as opened:
                    opened.write(value)
            with open(path, encoding="ascii") as opened:
                return opened.read().strip()

    def close(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait()
        subprocess.run(["ip", "netns", "del", self.name], check=False, capture_output=True)


class Switch(Host):
    """A namespace with a bridge `br0`; `bridge_options` as `ip link add type bridge` takes them."""

    def __init__(self, name: str, bridge_options: str = "") -> None:
        super().__init__(name)
        self.ports = 0
        self.ip(f"link add br0 type bridge forward_delay 0 {bridge_options}")
        self.ip("link set br0 up")


class Network:
    """What a test builds; closing it removes everything."""

    def __init__(self) -> None:
        require("ip", "nft")
        self.prefix = f"ht-{secrets.token_hex(3)}"
        self._hosts: list[Host] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for host in reversed(self._hosts):
            host.close()

    def host(self, label: str) -> Host:
        host = Host(f"{self.prefix}-{label}")
        self._hosts.append(host)
        return host

    def switch(self, label: str, bridge_options: str = "") -> Switch:
        switch = Switch(f"{self.prefix}-{label}", bridge_options)
        self._hosts.append(switch)
        return switch

    def cable(self, host: Host, interface: str, other: Host, other_interface: str = "") -> str:
        """Joins two hosts with a veth pair, both ends up; on a switch the other end becomes a port. Returns the other
        end's name.
        """
        if isinstance(other, Switch):
            other.ports += 1
            other_interface = other_interface or f"port{other.ports}"
        run(
            "ip",
            "link",
            "add",
            interface,
            "netns",
            host.name,
            "type",
            "veth",
            "peer",
            "name",
            other_interface,
            "netns",
            other.name,
        )
        if isinstance(other, Switch):
            other.ip(f"link set {other_interface} master br0")
        other.ip(f"link set {other_interface} up")
        host.ip(f"link set {interface} up")
        return other_interface


def run(*command: str, text: str | None = None, check: bool = True) -> str:
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=60, check=False)
    assert not check or done.returncode == 0, f"{' '.join(command)}: {done.stderr.strip()}"
    return done.stdout


class Sniffer:
    """Every frame that passes an interface, both directions; made while inside the host."""

    def __init__(self, host: Host, interface: str) -> None:
        with host.entered():
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
            self._socket.setsockopt(socket.SOL_SOCKET, 33, 8 << 20)
            self._socket.bind((interface, 3))

    def frames(self) -> list[bytes]:
        """Those since the last call."""
        found = []
        try:
            while True:
                found.append(self._socket.recv(65536))
        except BlockingIOError:
            return found

    def close(self) -> None:
        self._socket.close()
