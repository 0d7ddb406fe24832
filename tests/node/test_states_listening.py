"""What anybody who can reach the states port may do: nothing that ends more than their own connection."""

from __future__ import annotations

import os
import resource
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from hacore.control.trial_certificates import make_test_certificates
from hacore.node import places
from hacore.node.loop import Loop
from hacore.node.states_connection import Connection
from hacore.node.states_credentials import Credentials
from hacore.node.states_listening import Listener
from hacore.node.states_tls import contexts
from tests.namespaces import Network, wait_until

PEER = "127.0.0.9"
ABORT = struct.pack("ii", 1, 0)  # SO_LINGER: close(2) resets


def failing(where: str, error: Exception) -> None:
    raise AssertionError(where) from error


class Port:
    """A listener on the loopback, its loop, and what came of it."""

    def __init__(self, directory: Path) -> None:
        self.loop = Loop(failing)
        self.opened: list[Connection] = []
        self.ended: list[str] = []
        self.problems: list[str] = []
        files = directory / "fw2"
        self.listener = Listener(
            self.loop, Credentials(files / "node.crt", files / "node.key", files / "peers.pem"),
            self.opened.append, self.close, self.problems.append,
        )  # fmt: skip
        self.listener.know([PEER])
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.place = free.getsockname()
        self.listener.listen(*self.place)
        self.listener.set_open(True)
        files = directory / "fw1"
        self.client = contexts(files / "node.crt", files / "node.key", files / "peers.pem").client

    def close(self, _connection: Connection, reason: str) -> None:
        self.ended.append(reason)

    def until(self, condition: Callable[[], object]) -> None:
        def turned() -> object:
            self.loop.run_once(0.01)
            return condition()

        wait_until(turned, 20, 0)

    def call(self, source: str = "127.0.0.1") -> socket.socket:
        return socket.create_connection(self.place, 20, source_address=(source, 0))

    def serves(self) -> None:
        """A peer is served."""
        came: list[Connection] = []
        before = len(self.opened)
        there = Connection.dial(
            self.loop, socket.AF_INET, self.place, self.client, on_open=came.append, on_close=lambda *_: None
        )
        self.until(lambda: came and len(self.opened) > before)
        there.close("enough")


@pytest.fixture
def port(tmp_path: Path) -> Iterator[Port]:
    make_test_certificates(tmp_path, ["fw1", "fw2"])
    with Network() as network, network.host("lo").entered():
        made = Port(tmp_path)
        yield made
        made.listener.close("the test is over")
        made.loop.close()


@pytest.mark.parametrize("said", [b"", b"x" * 10], ids=["nothing", "some bytes"])
def test_connections_that_are_reset_before_they_are_taken(port: Port, said: bytes) -> None:
    for _ in range(3):
        with port.call() as one:
            one.send(said)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORT)
    port.until(lambda: len(port.ended) == 3)
    assert set(port.ended) == {"Connection reset by peer"}
    port.serves()


@pytest.mark.parametrize(
    "said", [b"", b"x" * 10, b"\x16\x03\x01\x02\x00\x01"], ids=["nothing", "letters", "half a hello"]
)
def test_connections_that_end_in_the_handshake(port: Port, said: bytes) -> None:
    for _ in range(3):
        with port.call() as one:
            one.send(said)
    port.until(lambda: len(port.ended) == 3)
    port.serves()


def test_without_descriptors_the_loop_rests_and_goes_on_when_there_are_some(port: Port) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with ExitStack() as held:
        caller = held.enter_context(port.call())
        last = os.dup(0)
        os.close(last)
        resource.setrlimit(resource.RLIMIT_NOFILE, (last, hard))
        try:
            port.until(lambda: port.problems)
            for _ in range(50):
                port.loop.run_once(0)
            assert port.listener.refused == 1
            assert port.problems == ["refused a connection: it cannot be taken: Too many open files"]
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        port.until(lambda: port.listener.taken)
        caller.close()
        port.until(lambda: port.ended)
    port.serves()


def test_one_address_has_so_many_connections(port: Port) -> None:
    with ExitStack() as held:
        for _ in range(places.CONNECTIONS_PER_ADDRESS + 1):
            held.enter_context(port.call("127.0.0.3"))
        port.until(lambda: port.problems)
        assert port.problems == ["refused a connection: too many at once from 127.0.0.3"]
        assert len(port.listener.taken) == places.CONNECTIONS_PER_ADDRESS
        port.serves()


def test_strangers_keep_no_peer_out(port: Port) -> None:
    with ExitStack() as held:
        for number in range(places.CONNECTIONS + 5):
            held.enter_context(port.call(f"127.0.1.{1 + number // places.CONNECTIONS_PER_ADDRESS}"))
        port.until(lambda: port.ended)
        peer = held.enter_context(port.call(PEER))
        port.until(lambda: len(port.listener.taken) == places.CONNECTIONS + 1)
        port.until(lambda: len(port.ended) == 5)
        assert set(port.ended) == {"made way: it did not show who it is"}
        peer.setblocking(False)
        with pytest.raises(BlockingIOError):
            peer.recv(1)  # it stands
        port.serves()  # from an address of no peer: the oldest stranger makes way
