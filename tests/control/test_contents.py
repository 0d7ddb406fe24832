"""The body of a push as it may come: slowly, in any pieces, too short, too long, from a sender that goes away."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import socket
import ssl
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from hacore.configsync.stream import head
from hacore.control import contents, routes_config
from hacore.control.config import Configuration
from tests.control.test_limits import connect, rest
from tests.control.worker_pair import until
from tests.control.wrong_push import file, folder, push
from tests.control.wrong_world import Case, World, request

SIZE = 3 * contents.PIECE_BYTES + 12345
CONTENT = os.urandom(SIZE)
BODY = head(hashlib.sha256(CONTENT).hexdigest(), SIZE) + CONTENT


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with World(tmp_path) as made:
        yield made


def opened(world: World) -> str:
    """A push that waits for `BODY`."""
    digest = hashlib.sha256(CONTENT).hexdigest()
    entries = [folder(str(world.web)), file(f"{world.web}/index.html", size=SIZE, digest=digest)]
    answer = world.send(Case("", push([{"section": "web", "entries": entries}]), "", "", 200))
    assert answer.status == 200, answer
    return str(json.loads(answer.body)["transaction"])


def sending(world: World, length: int = len(BODY)) -> ssl.SSLSocket:
    """A connection on which the head was sent."""
    one = connect(world)
    one.sendall(request("PUT", f"/v1/push/{opened(world)}/objects", b"", {"Content-Length": str(length)}))
    return one


def taken(world: World) -> int:
    """Bytes of the body that were passed on to be written; -1 where no push is open."""
    state = world.node.worker.part(Configuration).node._opened
    return -1 if state is None else state.reader.offset


@pytest.mark.parametrize("step", [1 << 14, 100_001, len(BODY)])
def test_in_pieces(world: World, step: int) -> None:
    with sending(world) as one:
        for start in range(0, len(BODY), step):
            one.sendall(BODY[start : start + step])
        assert one.recv(65536).startswith(b"HTTP/1.1 200")
        assert taken(world) == len(BODY)
        assert rest(one) == b""


def test_what_comes_slowly_is_not_held_back(world: World) -> None:
    """Less than a piece, and less than what wakes the receiver when much comes."""
    with sending(world) as one:
        done = contents.PIECE_BYTES + 1000
        one.sendall(BODY[:done])
        world.run(until(lambda: taken(world) == done))
        for more in (1, 5000):
            one.sendall(BODY[done : done + more])
            done += more
            world.run(until(lambda done=done: taken(world) == done))
        one.sendall(BODY[done:])
        assert one.recv(65536).startswith(b"HTTP/1.1 200")


def test_a_sender_that_stops(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes_config, "CONTENT_TIMEOUT", 0.5)
    with sending(world) as one:
        one.sendall(BODY[: contents.PIECE_BYTES + 1000])
        assert b'"timed-out"' in rest(one)
        world.run(until(lambda: taken(world) == -1))


def test_a_sender_that_goes_away(world: World) -> None:
    with sending(world) as one:
        one.sendall(BODY[:500_000])
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    node = world.node.worker.part(Configuration).node
    world.run(until(lambda: not node.busy))
    assert not list(node.parts.store.directory.glob("*.new"))
    with sending(world) as one:  # the same peer may begin anew at once
        one.sendall(BODY)
        assert one.recv(65536).startswith(b"HTTP/1.1 200")


def test_a_disk_that_is_full(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_arguments: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("hacore.node.config_store.os.pwrite", full)
    with sending(world) as one:
        with suppress(OSError):  # once the receiver has said so
            one.sendall(BODY)
        world.run(until(lambda: taken(world) == -1))
    world.run(until(world.refusals))
    assert [code for code, _ in world.refusals()] == ["disk-full"]
    assert not world.faults()


def test_more_than_was_announced(world: World) -> None:
    with sending(world) as one:
        one.sendall(BODY)
        try:
            one.sendall(bytes(100_000))
            answer = rest(one)
        except OSError:
            answer = b""
        assert answer == b"" or answer.startswith(b"HTTP/1.1 200")
    world.run(until(lambda: len(world.node.worker.server._places) == 0))


def test_wrong_contents_are_refused_before_all_of_them_came(world: World) -> None:
    wrong = head(hashlib.sha256(CONTENT).hexdigest(), SIZE) + bytes(SIZE) + BODY * 3
    with sending(world, len(wrong)) as one:
        with suppress(OSError):  # once the receiver has enough
            one.sendall(wrong)
        world.run(until(lambda: taken(world) == -1))
    assert [code for code, _ in world.refusals()] == ["changed-meanwhile"]
