"""TLS connections on a loop, over the loopback of a namespace."""

from __future__ import annotations

import hashlib
import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hacore.control import certificates
from hacore.control.certificates import Place
from hacore.control.trial_certificates import make_test_certificates
from hacore.errors import PlatformError
from hacore.node.loop import Loop
from hacore.node.states_connection import Connection
from hacore.node.states_tls import STREAM_PROTOCOL, contexts, names
from tests.namespaces import Network, wait_until


def failing(where: str, error: Exception) -> None:
    raise AssertionError(where) from error


class Ends:
    """Both ends of one connection; `closed` has the reasons."""

    def __init__(self, loop: Loop, client_files: Path, server_files: Path) -> None:
        self.loop = loop
        self.client: Connection | None = None
        self.server: Connection | None = None
        self.opened: list[Connection] = []
        self.closed: dict[str, str] = {}
        self._files = {"client": client_files, "server": server_files}
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._listening.setblocking(False)
        loop.register(self._listening.fileno(), self._accept)

    def contexts(self, end: str) -> object:
        files = self._files[end]
        return contexts(files / "node.crt", files / "node.key", files / "peers.pem")

    def _accept(self, _events: int, _now: float) -> None:
        sock, _ = self._listening.accept()
        files = self._files["server"]
        self.server = Connection(
            self.loop, sock, contexts(files / "node.crt", files / "node.key", files / "peers.pem").server,
            server_side=True, on_open=self.opened.append, on_close=self._close("server"),
        )  # fmt: skip

    def _close(self, end: str) -> Callable[[Connection, str], None]:
        def closed(_connection: Connection, reason: str) -> None:
            self.closed[end] = reason

        return closed

    def dial(self) -> None:
        files = self._files["client"]
        self.client = Connection.dial(
            self.loop, socket.AF_INET, self._listening.getsockname(),
            contexts(files / "node.crt", files / "node.key", files / "peers.pem").client,
            on_open=self.opened.append, on_close=self._close("client"),
        )  # fmt: skip

    def until(self, condition: Callable[[], bool]) -> None:
        def turned() -> bool:
            self.loop.run_once(0.01)
            return condition()

        wait_until(turned, 20, 0)

    def close(self) -> None:
        for connection in (self.client, self.server):
            if connection is not None:
                connection.close("the test is over")
        self._listening.close()
        self.loop.close()


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Ends]]:
    make_test_certificates(tmp_path, ["fw1", "fw2"])
    make_test_certificates(tmp_path / "others", ["fw1", "fw2"])
    made: list[Ends] = []

    def ends(client: str = "fw1", server: str = "fw2") -> Ends:
        made.append(Ends(Loop(failing), tmp_path / client, tmp_path / server))
        return made[-1]

    with Network() as network, network.host("lo").entered():
        yield ends
        for each in made:
            each.close()


def opened(ends: Ends) -> tuple[Connection, Connection]:
    ends.dial()
    ends.until(lambda: len(ends.opened) == 2)
    assert ends.client is not None
    assert ends.server is not None
    return ends.client, ends.server


def test_both_ends_know_each_others_names(make: Callable[..., Ends]) -> None:
    client, server = opened(make())
    assert names(client.tls.getpeercert()) == ("fw2",)
    assert names(server.tls.getpeercert()) == ("fw1",)
    assert {client.tls.version(), server.tls.version()} == {"TLSv1.3"}
    assert server.tls.selected_alpn_protocol() == STREAM_PROTOCOL


def test_bytes_arrive_whole_and_in_order_though_the_reader_rests(make: Callable[..., Ends]) -> None:
    ends = make()
    client, server = opened(ends)
    data = os.urandom(20 << 20)
    got = hashlib.sha256()
    count = 0

    def take(part: bytes) -> None:
        nonlocal count
        got.update(part)
        count += len(part)

    server.on_data = take
    server.read_on(False)
    sizes = iter((1, 15, 70_000, 300_000, 4, 1 << 20) * 100)
    sent = 0

    def more() -> None:
        nonlocal sent
        size = next(sizes)
        client.send(data[sent : sent + size])
        sent = min(sent + size, len(data))

    client.on_room = more
    client.flush()
    for _ in range(200):
        ends.loop.run_once(0.001)
    assert count == 0
    assert 0 < sent < len(data)
    server.read_on(True)
    ends.until(lambda: count == len(data))
    assert got.digest() == hashlib.sha256(data).digest()
    assert (client.sent_bytes, server.received_bytes) == (len(data), len(data))


def test_the_end_is_told_once_with_its_reason(make: Callable[..., Ends]) -> None:
    ends = make()
    client, _server = opened(ends)
    client.close("enough")
    ends.until(lambda: len(ends.closed) == 2)
    assert ends.closed == {"client": "enough", "server": "the peer closed the connection"}


def test_strangers_are_refused(make: Callable[..., Ends]) -> None:
    ends = make("others/fw1", "fw2")
    ends.dial()
    ends.until(lambda: len(ends.closed) == 2)
    assert "certificate is not to be trusted" in ends.closed["client"]
    assert "refused this node's certificate" in ends.closed["server"]


def test_a_client_whom_the_server_does_not_know(make: Callable[..., Ends], tmp_path: Path) -> None:
    mixed = tmp_path / "mixed"
    mixed.mkdir()
    for file, place in (("node.crt", "others/fw1"), ("node.key", "others/fw1"), ("peers.pem", "fw1")):
        (mixed / file).write_bytes((tmp_path / place / file).read_bytes())
    ends = make("mixed", "fw2")
    ends.dial()
    ends.until(lambda: len(ends.closed) == 2)
    assert "certificate is not to be trusted" in ends.closed["server"]
    assert "refused this node's certificate" in ends.closed["client"]


def test_nobody_there(make: Callable[..., Ends]) -> None:
    ends = make()
    ends._listening.close()
    ends.loop.unregister(ends._listening.fileno())
    files = ends._files["client"]
    with socket.create_server(("127.0.0.1", 0)) as gone:
        place = gone.getsockname()
    Connection.dial(
        ends.loop, socket.AF_INET, place, contexts(files / "node.crt", files / "node.key", files / "peers.pem").client,
        on_open=ends.opened.append, on_close=ends._close("client"),
    )  # fmt: skip
    ends.until(lambda: "client" in ends.closed)
    assert ends.closed["client"] == "Connection refused"


def test_files_that_are_missing_or_wrong_are_named(tmp_path: Path) -> None:
    make_test_certificates(tmp_path, ["fw1", "fw2"])
    good = tmp_path / "fw1"
    with pytest.raises(PlatformError, match=r"nothing\.crt.*No such file"):
        contexts(tmp_path / "nothing.crt", good / "node.key", good / "peers.pem")
    with pytest.raises(PlatformError, match="key values mismatch"):
        contexts(good / "node.crt", tmp_path / "fw2/node.key", good / "peers.pem")
    (tmp_path / "garbage.pem").write_text("garbage")
    with pytest.raises(PlatformError, match=r"garbage\.pem"):
        contexts(good / "node.crt", good / "node.key", tmp_path / "garbage.pem")
    assert (good / "node.key").stat().st_mode & 0o777 == 0o600


def test_a_connection_ends_with_the_certificate_of_the_peer(make: Callable[..., Ends], tmp_path: Path) -> None:
    ends_soon = certificates.make("fw1", time.time(), valid_days=5 / 86400)
    certificates.save(ends_soon, Place(tmp_path / "fw1/node.crt", tmp_path / "fw1/node.key"))
    (tmp_path / "fw2/peers.pem").write_bytes(ends_soon.certificate.pem)
    ends = make()
    _client, server = opened(ends)
    ends.until(lambda: len(ends.closed) == 2)
    assert ends.closed == {
        "client": "the peer closed the connection",
        "server": "the peer's certificate has expired",
    }
    assert not server.is_open
