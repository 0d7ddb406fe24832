"""What a connection may cost: time for its handshake, its head, its body; and how many there may be."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from hacore.control import answering, connection, server
from hacore.control.registry import SMALL_BODY_BYTES, Call, Route
from hacore.control.schemas import NodeAnswer
from hacore.node import places
from tests.control.worker_pair import pair, until
from tests.control.wrong_world import Case, World, request

SHORT = 0.3
NODE = request("GET", "/v1/node")


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setattr(server, "HANDSHAKE_TIMEOUT", SHORT)
    monkeypatch.setattr(connection, "HEAD_TIMEOUT", SHORT)
    monkeypatch.setattr(answering, "BODY_TIMEOUT", SHORT)
    with World(tmp_path) as made:
        yield made


def connect(world: World, asker: str = "fw1", source: str = "127.0.0.1") -> ssl.SSLSocket:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.load_cert_chain(world.directory / f"{asker}.crt", world.directory / f"{asker}.key")
    raw = socket.create_connection(("127.0.0.1", world.port), timeout=20, source_address=(source, 0))
    return context.wrap_socket(raw)


def rest(one: socket.socket) -> bytes:
    """All that still comes until the other side closes."""
    received = b""
    while more := one.recv(65536):
        received += more
    return received


def told(world: World, code: str, text: str) -> None:
    world.run(until(lambda: any(one == code and text in line for one, line in world.refusals())))
    assert len(world.refusals()) == 1
    assert world.send(Case("", NODE, "", "", 200)).status == 200


@pytest.mark.parametrize("sent", [b"", b"\x16\x03\x01\x02\x00\x01"], ids=["nothing", "half a ClientHello"])
def test_a_slow_handshake(world: World, sent: bytes) -> None:
    with socket.create_connection(("127.0.0.1", world.port), timeout=20) as one:
        one.sendall(sent)
        assert rest(one) == b""
    told(world, "timed-out", "handshake was not finished in time")


@pytest.mark.parametrize("sent", [b"", NODE[:-2], b"G"], ids=["nothing", "all but its end", "a letter"])
def test_a_slow_head(world: World, sent: bytes) -> None:
    with connect(world) as one:
        one.sendall(sent)
        assert rest(one) == b""
    told(world, "timed-out", "no request came within")


def test_a_head_that_comes_byte_by_byte(world: World) -> None:
    with connect(world) as one:
        one.settimeout(0.02)
        for byte in NODE[:-1] * 10:
            try:
                one.sendall(bytes([byte]))
                assert one.recv(10) == b""
                break
            except TimeoutError:
                continue
            except OSError:
                break
        else:
            pytest.fail("the connection was not closed")
    told(world, "timed-out", "no request came within")


def test_an_idle_connection_is_kept(world: World) -> None:
    with connect(world) as one:
        for _ in range(2):
            one.sendall(NODE)
            assert one.recv(65536).startswith(b"HTTP/1.1 200")
            world.run(asyncio.sleep(2 * SHORT))
        assert world.refusals() == []


@pytest.mark.parametrize("encoding", ["Content-Length: 100", "Transfer-Encoding: chunked"])
def test_a_slow_body(world: World, encoding: str) -> None:
    head = f"POST /v1/config/files HTTP/1.1\r\nHost: fw2\r\nContent-Type: application/json\r\n{encoding}\r\n\r\n"
    with connect(world) as one:
        one.sendall(head.encode() + b"1\r\n{\r\n")
        assert rest(one).startswith(b"HTTP/1.1 408")
    told(world, "timed-out", "nothing more of the body")


def test_a_body_of_unknown_length_ends_at_the_limit(world: World) -> None:
    head = b"POST /v1/config/files HTTP/1.1\r\nHost: fw2\r\nContent-Type: application/json\r\n"
    chunk = b"%x\r\n" % 10_000 + b" " * 10_000 + b"\r\n"
    with connect(world) as one:
        one.sendall(head + b"Transfer-Encoding: chunked\r\n\r\n" + chunk * (SMALL_BODY_BYTES // 10_000 + 1))
        assert rest(one).startswith(b"HTTP/1.1 413")
    told(world, "too-large", f"at most {SMALL_BODY_BYTES} bytes")


def test_connections_of_one_address(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "HEAD_TIMEOUT", 60.0)
    with ExitStack() as stack:
        held = [stack.enter_context(connect(world)) for _ in range(places.CONNECTIONS_PER_ADDRESS)]
        with pytest.raises(OSError, match=r"."):
            connect(world)
        with connect(world, "fw3", "127.0.0.9") as other:
            other.sendall(NODE)
            assert other.recv(65536).startswith(b"HTTP/1.1 200")
        for one in held:
            one.sendall(NODE)
            assert one.recv(65536).startswith(b"HTTP/1.1 200")
    told(world, "too-many", "too many connections at once")


def test_who_showed_a_certificate_does_not_make_way(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "HEAD_TIMEOUT", 60.0)
    monkeypatch.setattr(places.Places, "_is_peers", lambda *_: False)
    with ExitStack() as stack:
        for number in range(places.CONNECTIONS):
            source = f"127.0.1.{1 + number // places.CONNECTIONS_PER_ADDRESS}"
            stack.enter_context(connect(world, "fw3", source))
        with pytest.raises(OSError, match=r"."):
            connect(world)
    told(world, "too-many", "too many connections at once")


def test_the_oldest_stranger_makes_way(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "HANDSHAKE_TIMEOUT", 60.0)
    with ExitStack() as stack:
        held = []
        for number in range(places.CONNECTIONS):
            source = (f"127.0.2.{1 + number // places.CONNECTIONS_PER_ADDRESS}", 0)
            there = ("127.0.0.1", world.port)
            held.append(stack.enter_context(socket.create_connection(there, timeout=20, source_address=source)))
        assert world.send(Case("", NODE, "", "", 200)).status == 200  # a peer has places of its own
        assert world.refusals() == []
        with connect(world, "fw3", "127.0.2.9") as other:
            other.sendall(NODE)
            assert other.recv(65536).startswith(b"HTTP/1.1 200")
            assert rest(held[0]) == b""
    told(world, "too-many", "made way")


def test_a_peer_is_served_in_a_flood(world: World) -> None:
    """Strangers that connect as fast as they can, and say nothing, or half of something."""
    ended = threading.Event()
    opened = [0]

    def flood(number: int) -> None:
        held: deque[socket.socket] = deque()
        while not ended.is_set():
            source = (f"127.0.{3 + number}.{1 + opened[0] % 50}", 0)
            try:
                one = socket.create_connection(("127.0.0.1", world.port), timeout=20, source_address=source)
            except OSError:
                continue
            opened[0] += 1
            held.append(one)
            if opened[0] % 2:
                with suppress(OSError):
                    one.send(b"\x16\x03\x01\x02\x00\x01")
            if len(held) > places.CONNECTIONS:
                held.popleft().close()
        for one in held:
            one.close()

    threads = [threading.Thread(target=flood, args=(number,)) for number in range(2)]
    for each in threads:
        each.start()
    try:
        world.run(until(lambda: opened[0] > 4 * places.CONNECTIONS))
        for _ in range(15):
            before = opened[0]
            with connect(world) as one:
                one.sendall(NODE)
                assert one.recv(65536).startswith(b"HTTP/1.1 200")
            world.run(until(lambda before=before: opened[0] > before))
            assert len(world.node.worker.server._places) <= 2 * places.CONNECTIONS
    finally:
        ended.set()
        for each in threads:
            each.join()
    assert {one for one, _ in world.refusals()} <= {"too-many", "timed-out", "tls"}


def test_a_stream_that_nobody_reads(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answering, "WRITE_TIMEOUT", SHORT)
    monkeypatch.setattr(answering, "_check_right", lambda *_: None)
    ended = asyncio.Event()

    async def endless(_call: Call) -> AsyncIterator[dict[str, str]]:
        try:
            while True:
                yield {"text": "x" * 100_000}
        finally:
            ended.set()

    route = Route("GET", "/endless", endless, "Never ends", response=dict[str, str], streams=True)
    handler = answering.handler_of(world.node.worker, route, local=False)

    async def serve() -> web.AppRunner:
        app = web.Application()
        app.router.add_get("/endless", handler)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return runner

    runner = world.run(serve())
    with socket.create_connection(runner.addresses[0], timeout=20) as one:
        one.sendall(b"GET /endless HTTP/1.1\r\nHost: fw2\r\n\r\n")
        world.run(asyncio.wait_for(ended.wait(), 20))
    world.run(runner.cleanup())
    assert world.faults() == []


def test_reload_under_load_drops_no_request(tmp_path: Path) -> None:
    """On either side: the node that is asked, and the one that asks."""
    answered = 0

    async def ask(worker: Any, stop: asyncio.Event) -> None:
        nonlocal answered
        while not stop.is_set():
            answer = await worker.peer("fw2").ask("GET", "/node", response=NodeAnswer)
            assert answer.name == "fw2"
            answered += 1

    async def run() -> None:
        async with pair(tmp_path) as (one, two):
            stop = asyncio.Event()
            asking = [asyncio.create_task(ask(one.worker, stop)) for _ in range(4)]
            text = two.path.read_text()
            for number in range(30):
                two.path.write_text(text.replace("advskew = 20", f"advskew = {30 + number}"))
                await two.worker.reload()
                assert two.worker.settings.vips[0].advskew == 30 + number
                (one.directory / "state/tls/node.crt").touch()  # as if it were renewed: new connections from now on
                await one.worker.reload()
                before = answered
                await until(lambda before=before: answered > before or any(task.done() for task in asking))
            stop.set()
            await asyncio.gather(*asking)
            assert not one.refusals()
            assert not two.refusals()

    asyncio.run(run())
    assert answered >= 30
