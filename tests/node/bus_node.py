"""A server of the local bus with some commands, in a thread with its loop, and connections to it."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hacore.errors import PlatformError, Problem, SettingsError
from hacore.node.bus import SOCKET
from hacore.node.bus_server import Deferred, Handler, Request, Server, serve_events
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
