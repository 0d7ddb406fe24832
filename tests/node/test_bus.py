"""The local bus over real sockets: a server in a thread with its loop, clients as the command line uses them."""

from __future__ import annotations

import json
import os
import secrets
import select
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hacore.errors import (
    AlreadyRunning,
    LocalProtocolError,
    NotRunning,
    PlatformError,
    Problem,
    SettingsError,
)
from hacore.node import bus_server
from hacore.node.bus import SOCKET, BadRequest, Client, Refused
from hacore.node.bus_server import Deferred, Follow, Handler, Request, Server, serve_events
from hacore.node.history import History
from hacore.node.loop import Loop
from hacore.node.runtime_lock import RuntimeLock

LIMIT = 30.0


class Node:
    """A server with some commands, turning in a thread of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.errors: list[tuple[str, Exception]] = []
        self.deferred: list[Deferred] = []
        self.loop = Loop(lambda where, error: self.errors.append((where, error)))
        self.lock = RuntimeLock(directory)
        self.history = History(directory / "state", "fw1")
        self.handlers: dict[str, Handler] = {
            "echo": lambda request: {"arguments": request.arguments},
            "peer": lambda request: request.peer._asdict(),
            "big": lambda request: {"text": "x" * request.argument("size", int)},
            "broken": self._broken,
            "refuse": self._refuse,
            "settings": self._settings,
            "unencodable": lambda request: {"socket": self.loop},
            "later": self._later,
            "at-once": self._at_once,
        }
        self.server = Server(
            self.loop, self.lock, self.handlers, lambda where, error: self.errors.append((where, error))
        )
        serve_events(self.server, self.handlers, self.history)
        self._calls: list[Callable[[], object]] = []
        self._wake_read, self._wake_write = os.pipe()
        self.loop.register(self._wake_read, self._called)
        self._thread = threading.Thread(target=self.loop.run)
        self._thread.start()

    def call(self, function: Callable[[], object]) -> None:
        """Runs it in the loop's thread."""
        self._calls.append(function)
        os.write(self._wake_write, b"x")

    def _called(self, _events: int, _now: float) -> None:
        os.read(self._wake_read, 1)
        self._calls.pop(0)()

    def close(self) -> None:
        self.call(self.server.close)
        self.call(self.loop.stop)
        self._thread.join(LIMIT)
        self.history.close()
        self.loop.unregister(self._wake_read)
        self.loop.close()
        self.lock.release()
        os.close(self._wake_read)
        os.close(self._wake_write)

    def _broken(self, _request: Request) -> dict[str, Any]:
        raise ZeroDivisionError("in a handler")

    def _refuse(self, request: Request) -> dict[str, Any]:
        raise PlatformError("no such device")

    def _settings(self, _request: Request) -> dict[str, Any]:
        raise SettingsError([Problem("a.toml", "vip", "missing"), Problem("a.toml", "", "broken")])

    def _later(self, _request: Request) -> Deferred:
        self.deferred.append(Deferred())
        return self.deferred[-1]

    def _at_once(self, _request: Request) -> Deferred:
        deferred = Deferred()
        deferred.resolve({"answer": 1})
        deferred.resolve({"answer": 2})
        return deferred


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    node = Node(tmp_path / "run")
    yield node
    node.close()


@pytest.fixture
def client(node: Node) -> Client:
    return Client(node.directory)


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def connect(node: Node) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(LIMIT)
    connection.connect(str(node.directory / SOCKET))
    return connection


def read_all(connection: socket.socket) -> bytes:
    data = b""
    while True:
        try:
            more = connection.recv(65536)
        except ConnectionResetError:
            return data
        if not more:
            return data
        data += more


def test_requests_and_answers(client: Client) -> None:
    assert client.request("echo") == {"arguments": {}}
    arguments = {"name": "a\nb", "value": 3, "deep": [{"x": None}]}
    assert client.request("echo", **arguments) == {"arguments": arguments}


def test_who_asks_is_known(client: Client) -> None:
    assert client.request("peer") == {"pid": os.getpid(), "uid": os.getuid(), "gid": os.getgid()}


def test_the_socket_is_for_its_owner_alone(node: Node) -> None:
    mode = os.stat(node.directory / SOCKET).st_mode
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o600
    assert set(os.listdir(node.directory)) - {"state"} == {"hacore.lock", "hacore.sock"}


def test_others_are_told_which_privilege_is_missing(node: Node) -> None:
    for directory in [node.directory, *node.directory.parents][:-2]:
        directory.chmod(0o755)
    program = f"""
import os, sys
os.setgid(65534); os.setuid(65534)
from hacore.errors import PrivilegeError
try:
    Client({str(node.directory)!r}).request("echo")
except PrivilegeError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", "from hacore.node.bus import Client" + program],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "root" in done.stdout


@pytest.mark.parametrize("size", [10, 300_000, 5_000_000])
def test_large_answers_arrive_whole(client: Client, size: int) -> None:
    assert client.request("big", size=size)["text"] == "x" * size


def test_errors_keep_their_class(client: Client) -> None:
    with pytest.raises(PlatformError, match="no such device"):
        client.request("refuse")
    with pytest.raises(SettingsError) as caught:
        client.request("settings")
    assert caught.value.problems == (Problem("a.toml", "vip", "missing"), Problem("a.toml", "", "broken"))


def test_a_fault_of_the_node_is_told_to_both(node: Node, client: Client) -> None:
    with pytest.raises(Refused, match="ZeroDivisionError: in a handler") as caught:
        client.request("broken")
    assert caught.value.exit_code == LocalProtocolError.exit_code
    with pytest.raises(Refused, match="TypeError"):
        client.request("unencodable")
    assert [where for where, _ in node.errors] == ["command broken", "an answer that is not JSON"]
    assert client.request("echo") == {"arguments": {}}
    node.errors.clear()


def test_bad_requests(client: Client) -> None:
    with pytest.raises(BadRequest, match="no such command: 'nonsense'; there are at-once, big"):
        client.request("nonsense")
    with pytest.raises(BadRequest, match="big needs the argument size"):
        client.request("big")
    for wrong in ("3", True, 1.5):
        with pytest.raises(BadRequest, match="the argument size is to be int"):
            client.request("big", size=wrong)


def test_answers_may_come_later(node: Node, client: Client) -> None:
    assert client.request("at-once") == {"answer": 1}
    answers: list[dict[str, Any]] = []
    asking = threading.Thread(target=lambda: answers.append(client.request("later")))
    asking.start()
    until(lambda: node.deferred)
    assert client.request("echo") == {"arguments": {}}, "others do not wait"
    assert answers == []
    node.call(lambda: node.deferred[0].resolve({"late": True}))
    asking.join(LIMIT)
    assert answers == [{"late": True}]
    node.call(lambda: node.deferred[0].fail(PlatformError("too late")))


def test_an_answer_that_never_comes_is_an_error(node: Node, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bus_server, "REPLY_TIMEOUT", 0.05)
    with pytest.raises(Refused, match=r"no answer within 0\.05 s") as caught:
        client.request("later")
    assert caught.value.exit_code == 75


def test_a_client_that_left_gets_no_late_answer(node: Node) -> None:
    with connect(node) as connection:
        connection.sendall(b'{"command": "later"}\n')
        until(lambda: node.deferred)
    until(lambda: not node.server._connections)
    node.call(lambda: node.deferred[0].resolve({}))
    assert Client(node.directory).request("echo") == {"arguments": {}}
    assert node.errors == []


def test_one_connection_is_answered_in_order(node: Node) -> None:
    with connect(node) as connection:
        for number in range(200):
            connection.sendall(b'{"command": "echo", "number": %d}\n' % number)
        connection.sendall(b'{"command": "later"}\n{"command": "echo", "number": "last"}\n')
        connection.shutdown(socket.SHUT_WR)
        until(lambda: node.deferred)
        node.call(lambda: node.deferred[0].resolve({"arguments": {"number": "later"}}))
        numbers = [json.loads(line)["arguments"]["number"] for line in read_all(connection).splitlines()]
    assert numbers == [*range(200), "later", "last"]


def test_events_and_those_that_follow(node: Node, client: Client) -> None:
    for number in range(5):
        node.call(partial(node.history.record, "test", str(number)))
    until(lambda: node.history.seq == 5)
    assert [event["text"] for event in client.request("events", limit=2)["events"]] == ["3", "4"]
    assert [event["seq"] for event in client.request("events", after=3)["events"]] == [4, 5]
    events = client.follow(limit=1)
    assert next(events)["text"] == "4"
    for number in range(5, 1000):
        node.call(partial(node.history.record, "test", str(number)))
    assert [next(events)["text"] for _ in range(5, 1000)] == [str(number) for number in range(5, 1000)]
    events.close()  # type: ignore[attr-defined]
    until(lambda: not node.server._connections)


def test_a_follower_learns_that_the_node_ended(tmp_path: Path) -> None:
    node = Node(tmp_path)
    events = Client(node.directory).follow()
    node.call(lambda: node.history.record("test", "one"))
    thread = threading.Timer(0.2, node.close)
    thread.start()
    seen = []
    with pytest.raises(NotRunning, match="closed the connection"):
        seen += [event["text"] for event in events]
    thread.join(LIMIT)
    assert not (tmp_path / SOCKET).exists()


def test_a_follower_that_does_not_read_is_dropped(node: Node) -> None:
    with connect(node) as connection:
        connection.sendall(b'{"command": "events", "follow": true}\n')
        assert connection.recv(100).startswith(b'{"ok":true,"events":[]')
        for _ in range(2000):
            node.call(lambda: node.history.record("test", "x" * 1000))
        until(lambda: node.history.seq == 2000)
        until(lambda: node.server.dropped == 1)
    assert Client(node.directory).request("echo") == {"arguments": {}}


def test_a_client_that_takes_no_answer_is_dropped(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bus_server, "STALL_TIMEOUT", 0.1)
    monkeypatch.setattr(bus_server, "SWEEP_INTERVAL", 0.05)
    node.call(lambda: node.server._sweep_connections(node.loop.now()))
    with connect(node) as connection:
        connection.sendall(b'{"command": "big", "size": 5000000}\n' * 3)
        until(lambda: node.server.dropped == 1)
        assert b"\n" not in read_all(connection)


def test_an_idle_client_is_closed_and_a_follower_is_not(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bus_server, "IDLE_TIMEOUT", 0.1)
    monkeypatch.setattr(bus_server, "SWEEP_INTERVAL", 0.05)
    with connect(node) as idle, connect(node) as follower:
        follower.sendall(b'{"command": "events", "follow": true}\n')
        follower.recv(1000)
        idle.sendall(b'{"command": "ec')
        node.call(lambda: node.server._sweep_connections(node.loop.now()))
        assert read_all(idle) == b""
        node.call(lambda: node.history.record("test", "still there"))
        assert b"still there" in follower.recv(1000)


def test_too_many_clients_are_told_so(node: Node) -> None:
    connections = [connect(node) for _ in range(bus_server.CLIENTS)]
    until(lambda: len(node.server._connections) == bus_server.CLIENTS)
    with pytest.raises(Refused, match="32 clients already") as caught:
        Client(node.directory).request("echo")
    assert caught.value.exit_code == 75
    connections[0].close()
    until(lambda: len(node.server._connections) < bus_server.CLIENTS)
    assert Client(node.directory).request("echo") == {"arguments": {}}
    for connection in connections:
        connection.close()


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"not json",
        b"[]",
        b"3",
        b'"status"',
        b"{}",
        b'{"command": 3}',
        b'{"command": ["a"]}',
        b"\xff\xfe",
        b'{"command": "\xff"}',
        b'{"command": "echo", "x": ' + b"[" * 60000,
        b"[" * 60000,
    ],
)
def test_lines_that_are_no_request(node: Node, line: bytes) -> None:
    with connect(node) as connection:
        connection.sendall(line + b'\n{"command": "echo"}\n')
        connection.shutdown(socket.SHUT_WR)
        first, second = read_all(connection).splitlines()
    error = json.loads(first)["error"]
    assert (error["type"], error["exit_code"]) == ("BadRequest", 64)
    assert json.loads(second)["ok"] is True


def test_a_request_without_end_is_refused(node: Node) -> None:
    with connect(node) as connection:
        try:
            for _ in range(100):
                connection.sendall(b"x" * 10_000)
        except (BrokenPipeError, ConnectionResetError):
            pass
        assert b"a request has at most 65536 bytes" in read_all(connection)
    until(lambda: not node.server._connections)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    pieces=st.lists(
        st.binary(max_size=200)
        | st.sampled_from(
            [
                b"\n",
                b'{"command":"echo"}\n',
                b'{"command":"events","follow":true}\n',
                b'{"command":"big","size":300000}\n',
            ]
        ),
        max_size=12,
    ),
    leave=st.sampled_from(["read", "close", "half"]),
)
def test_any_bytes_are_answered_or_refused(node: Node, pieces: list[bytes], leave: str) -> None:
    connection = connect(node)
    try:
        for piece in pieces:
            connection.sendall(piece)
    except (BrokenPipeError, ConnectionResetError):
        pass
    if leave != "close":
        connection.shutdown(socket.SHUT_WR)
    if leave == "read":
        while select.select([connection], [], [], 0.02)[0] and (data := connection.recv(65536)):
            assert data
    connection.close()
    assert Client(node.directory).request("echo", still="there") == {"arguments": {"still": "there"}}
    assert node.errors == []


def test_random_bytes_from_many_clients_at_once(node: Node) -> None:
    connections = [connect(node) for _ in range(20)]
    for connection in connections:
        connection.setblocking(False)
    for _ in range(2000):
        connection = connections[secrets.randbelow(len(connections))]
        try:
            connection.send(secrets.token_bytes(secrets.randbelow(3000)))
            if secrets.randbelow(3) == 0:
                connection.recv(10_000)
        except BlockingIOError:
            pass
        except OSError:
            connection.close()
            connections.remove(connection)
            connections.append(connect(node))
            connections[-1].setblocking(False)
    for connection in connections:
        connection.close()
    until(lambda: not node.server._connections)
    assert Client(node.directory).request("echo") == {"arguments": {}}
    assert node.errors == []


def test_no_node(tmp_path: Path) -> None:
    for directory in (tmp_path, tmp_path / "missing"):
        with pytest.raises(NotRunning, match="no node runs on"):
            Client(directory).request("status")
    (tmp_path / SOCKET).touch()
    with pytest.raises(NotRunning):
        Client(tmp_path).request("status")


def test_a_node_that_is_stopped(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(tmp_path / SOCKET))
        listener.listen(0)
        with pytest.raises(NotRunning, match=r"did not answer within 0\.05 s"):
            Client(tmp_path, timeout=0.05).request("status")
        client = Client(tmp_path, timeout=0.05)
        for _ in range(3):
            with pytest.raises(NotRunning, match=r"takes no connections|did not answer"):
                client.request("status")


def test_something_else_on_the_socket(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(tmp_path / SOCKET))
        listener.listen()

        def serve() -> None:
            with listener.accept()[0] as connection:
                connection.sendall(b"220 mail server\n")
                connection.recv(1000)

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(PlatformError, match="does not speak the node's language"):
            Client(tmp_path).request("status")
        thread.join(LIMIT)


def test_directories_with_names_longer_than_an_address(tmp_path: Path) -> None:
    node = Node(tmp_path / ("long-" * 20) / ("name-" * 20))
    assert Client(node.directory).request("echo") == {"arguments": {}}
    node.close()
    with pytest.raises(NotRunning):
        Client(node.directory).request("echo")


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


def test_without_descriptors_nobody_is_accepted_and_the_loop_rests(node: Node) -> None:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(LIMIT)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        connection.connect(str(node.directory / SOCKET))
        until(lambda: node.errors)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    connection.sendall(b'{"command": "echo"}\n')
    assert b'"ok":true' in connection.recv(1000)
    connection.close()
    assert all("Too many open files" in str(error) for _, error in node.errors)


def test_the_answer_of_follow_may_be_larger_than_what_waits_later(node: Node) -> None:
    node.handlers["wide"] = lambda request: Follow({"text": "x" * (2 * bus_server.FOLLOWER_BYTES)})
    with connect(node) as connection:
        connection.sendall(b'{"command": "wide"}\n')
        until(lambda: any(other._following for other in node.server._connections))
        node.call(lambda: node.history.record("test", "the event"))
        until(lambda: node.history.seq == 1)
        data = b""
        while b"the event" not in data:
            data += connection.recv(65536)
    assert node.server.dropped == 0
