"""The local bus over real sockets: requests and their answers, to clients as the command line uses them."""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from hacore.errors import LocalProtocolError, NotRunning, PlatformError, Problem, SettingsError
from hacore.node import bus_server
from hacore.node.bus import SOCKET, BadRequest, Client, Refused
from tests.node.bus_node import LIMIT, Node, connect, read_all, until


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    node = Node(tmp_path / "run")
    yield node
    node.close()


@pytest.fixture
def client(node: Node) -> Client:
    return Client(node.directory)


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
