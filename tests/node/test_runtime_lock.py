"""One node to a directory: the lock, and the socket that belongs to whoever has it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from hacore.errors import AlreadyRunning, LocalProtocolError, NotRunning, PlatformError
from hacore.node.bus import SOCKET, Client
from hacore.node.bus_server import Server
from hacore.node.loop import Loop
from hacore.node.runtime_lock import RuntimeLock
from tests.node.bus_node import Node

HOLD = """
import sys, time
from hacore.node.runtime_lock import RuntimeLock
lock = RuntimeLock(sys.argv[1])
print("held", flush=True)
time.sleep(1000)
"""


def test_one_node_to_a_directory(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(AlreadyRunning, match=rf"{tmp_path} already: pid {holder.pid}$"):
            RuntimeLock(tmp_path)
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    lock = RuntimeLock(tmp_path)
    assert (tmp_path / "hacore.lock").read_text() == f"{os.getpid()}\n"
    with pytest.raises(AlreadyRunning):
        RuntimeLock(tmp_path)
    lock.release()
    lock.release()
    RuntimeLock(tmp_path).release()


def test_a_stale_socket_is_replaced_only_with_the_lock(tmp_path: Path) -> None:
    for name in (SOCKET, f"{SOCKET}.new"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as left:
            left.bind(str(tmp_path / name))
    with pytest.raises(NotRunning):
        Client(tmp_path).request("echo")
    lock = RuntimeLock(tmp_path)
    lock.release()
    with pytest.raises(LocalProtocolError):
        Server(Loop(lambda where, error: None), lock, {}, lambda where, error: None)
    node = Node(tmp_path)
    assert Client(tmp_path).request("echo") == {"arguments": {}}
    node.close()


def test_a_directory_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(PlatformError, match="as runtime directory"):
        RuntimeLock(tmp_path / "file")
    program = f"""
import os
os.setgid(65534); os.setuid(65534)
from hacore.node.runtime_lock import RuntimeLock
from hacore.errors import PrivilegeError
try:
    RuntimeLock("/etc/{tmp_path.name}")
except PrivilegeError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", "import hacore.node.runtime_lock" + program], capture_output=True, text=True, check=True
    )
    assert "run as root" in done.stdout
