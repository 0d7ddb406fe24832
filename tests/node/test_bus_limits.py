"""What a client may do to the local bus: too much, too slowly, or no request at all."""

from __future__ import annotations

import json
import resource
import secrets
import select
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hacore.node import bus_server
from hacore.node.bus import SOCKET, Client, Refused
from hacore.node.bus_server import Follow
from tests.node.bus_node import LIMIT, Node, connect, read_all, until


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    node = Node(tmp_path / "run")
    yield node
    node.close()


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


def test_without_descriptors_nobody_is_accepted_and_the_loop_rests(node: Node) -> None:
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
