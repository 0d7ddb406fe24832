"""The local bus, as the supervisor serves it: see `bus` for the protocol.

The clients are local and, by the socket's mode, root; the bounds are there so that a stuck terminal or a broken
script costs the node neither time nor memory. A connection is answered one request a turn of the loop, and not before
its last answer was taken.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

import msgspec

from hacore.errors import LocalProtocolError
from hacore.node.bus import SOCKET, BadRequest, Refused, SocketPath, error_reply
from hacore.node.event import NOT_JSON
from hacore.node.history import History
from hacore.node.loop import HANGUP, READ, WRITE, Loop, OnError, Timer
from hacore.node.runtime_lock import RuntimeLock

MODE = 0o600
CLIENTS = 32
REQUEST_BYTES = 64 << 10
#: Events that wait for a follower; one that is behind by more is dropped.
FOLLOWER_BYTES = 256 << 10
#: A handler that answers later has this long, less than a client waits.
REPLY_TIMEOUT = 5.0
#: A client that takes none of its answer, or asks nothing, for so long is dropped.
STALL_TIMEOUT = 10.0
IDLE_TIMEOUT = 60.0
SWEEP_INTERVAL = 5.0
#: After accept(2) failed for want of descriptors.
ACCEPT_PAUSE = 0.1


class Credentials(NamedTuple):
    """Who connected (SO_PEERCRED)."""

    pid: int
    uid: int
    gid: int


class Request(NamedTuple):
    """One request; `arguments` is the JSON object without "command", nothing in it checked."""

    command: str
    arguments: dict[str, Any]
    peer: Credentials

    def argument(self, name: str, kind: type[Any], default: Any = None) -> Any:
        """The argument, of this JSON type; raises BadRequest when it is another or, without a default, missing."""
        value = self.arguments.get(name, default)
        if value is None:
            raise BadRequest(f"{self.command} needs the argument {name}")
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise BadRequest(
                f"{self.command}: the argument {name} is to be {kind.__name__}, not {type(value).__name__}"
            )
        return value


class Deferred:
    """An answer that comes later.

    The first of `resolve`, `fail` and the timeout counts, the others are without effect.
    """

    def __init__(self) -> None:
        self._answer: dict[str, Any] | None = None
        self._taker: Callable[[dict[str, Any]], None] | None = None

    def resolve(self, answer: dict[str, Any]) -> None:
        """Answers."""
        self._settle({"ok": True, **answer})

    def fail(self, error: Exception) -> None:
        """Answers with an error."""
        self._settle(error_reply(error))

    def _settle(self, answer: dict[str, Any]) -> None:
        if self._answer is None:
            self._answer = answer
            if self._taker is not None:
                self._taker(answer)

    def _take(self, taker: Callable[[dict[str, Any]], None]) -> None:
        if self._answer is not None:
            taker(self._answer)
        else:
            self._taker = taker


class Follow(NamedTuple):
    """An answer after which the client gets everything that is published."""

    answer: dict[str, Any]


Handler = Callable[[Request], dict[str, Any] | Deferred | Follow]


class Server:
    """Listens in the directory of the lock.

    What a handler raises is the answer; what is not a HacoreError goes to `on_error` as well.
    """

    def __init__(self, loop: Loop, lock: RuntimeLock, handlers: Mapping[str, Handler], on_error: OnError) -> None:
        if not lock.held:
            raise LocalProtocolError("the bus may be served only while the runtime directory is locked")
        self.loop = loop
        self.handlers = handlers
        self.on_error = on_error
        #: Clients that were dropped because they did not read.
        self.dropped = 0
        self._connections: set[_Connection] = set()
        self._directory = lock.directory
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        self._bind()
        self._sweep: Timer = loop.call_at(loop.now() + SWEEP_INTERVAL, self._sweep_connections)
        loop.register(self._socket.fileno(), self._accept)

    def publish(self, line: bytes) -> None:
        """Sends the JSON text of one event to all that follow."""
        data = b'{"event":' + line + b"}\n"
        for connection in [*self._connections]:
            connection.publish(data)

    def close(self) -> None:
        """Sends what the sockets take at once, then closes them all and removes the socket."""
        self._sweep.cancel()
        for connection in [*self._connections]:
            connection.close()
        self.loop.unregister(self._socket.fileno())
        self._socket.close()
        with suppress(OSError):  # somebody else removed it
            os.unlink(f"{self._directory}/{SOCKET}")

    def _bind(self) -> None:
        # Bound and restricted under another name, so that the real one is never open to others and never refuses in
        # between.
        new = f"{SOCKET}.new"
        with SocketPath(self._directory, new) as path:
            with suppress(FileNotFoundError):
                os.unlink(path)
            self._socket.bind(path)
            os.chmod(path, MODE)
            self._socket.listen(CLIENTS)
        os.rename(f"{self._directory}/{new}", f"{self._directory}/{SOCKET}")

    def _accept(self, _events: int, now: float) -> None:
        try:
            client, _address = self._socket.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError:
            self.loop.modify(self._socket.fileno(), 0)
            self.loop.call_at(now + ACCEPT_PAUSE, self._accept_again)
            raise
        client.setblocking(False)
        connection = _Connection(self, client, now)
        if len(self._connections) >= CLIENTS:
            connection.refuse(Refused("Busy", f"the node has {CLIENTS} clients already", 75))
        else:
            self._connections.add(connection)

    def _accept_again(self, _now: float) -> None:
        if self._socket.fileno() >= 0:
            self.loop.modify(self._socket.fileno(), READ)

    def _sweep_connections(self, now: float) -> None:
        self._sweep = self.loop.call_at(now + SWEEP_INTERVAL, self._sweep_connections)
        for connection in [*self._connections]:
            connection.sweep(now)

    def forget(self, connection: _Connection) -> None:
        """A connection has ended."""
        self._connections.discard(connection)

    def answer(self, line: bytes, peer: Credentials) -> dict[str, Any] | Deferred | Follow:
        """What the handler of one request says; never raises."""
        try:
            arguments = msgspec.json.decode(line, type=dict[str, Any])
        except NOT_JSON as error:
            return error_reply(BadRequest(f"a request is a JSON object on one line: {error}"))
        command = arguments.pop("command", None)
        handler = self.handlers.get(command) if isinstance(command, str) else None
        if handler is None:
            return error_reply(
                BadRequest(f"no such command: {command!r:.80}; there are {', '.join(sorted(self.handlers))}")
            )
        try:
            answer = handler(Request(str(command), arguments, peer))
        except Exception as error:  # noqa: BLE001 - a handler's fault is its client's answer
            return self.failed(f"command {command}", error)
        return {"ok": True, **answer} if isinstance(answer, dict) else answer

    def failed(self, where: str, error: Exception) -> dict[str, Any]:
        """The answer for what a handler raised."""
        reply = error_reply(error)
        if not hasattr(error, "exit_code"):
            self.on_error(where, error)
        return reply


class _Connection:
    def __init__(self, server: Server, client: socket.socket, now: float) -> None:
        self._server = server
        self._loop = server.loop
        self._socket = client
        self._fd = client.fileno()
        self._peer = Credentials(*struct.unpack("iII", client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)))
        self._received = bytearray()
        self._sending = bytearray()
        self._events = READ
        self._waits: Timer | None = None
        self._next: Timer | None = None
        self._following = False
        self._follower_limit = 0
        self._no_more = False
        self._closed = False
        self._active = now
        self._loop.register(self._fd, self._ready)

    def publish(self, data: bytes) -> None:
        if self._following:
            if len(self._sending) + len(data) > self._follower_limit:
                self._drop()
            else:
                self._send(data)

    def refuse(self, error: Exception) -> None:
        self._send(msgspec.json.encode(error_reply(error)) + b"\n")
        self.close()

    def sweep(self, now: float) -> None:
        silent = now - self._active
        if self._sending:
            if silent > STALL_TIMEOUT:
                self._drop()
        elif silent > IDLE_TIMEOUT and not self._following and self._waits is None:
            self.close()

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        for timer in (self._waits, self._next):
            if timer is not None:
                timer.cancel()
        self._loop.unregister(self._fd)
        self._socket.close()
        self._server.forget(self)

    def _drop(self) -> None:
        self._server.dropped += 1
        self.close()

    def _ready(self, events: int, now: float) -> None:
        self._active = now if events & (READ | WRITE) else self._active
        if events & WRITE:
            self._flush()
        if events & READ and not self._closed and self._events & READ:
            self._receive()
        if events & HANGUP and not self._closed:
            self.close()
        if not self._closed:
            self._go_on()

    def _receive(self) -> None:
        try:
            data = self._socket.recv(REQUEST_BYTES)
        except BlockingIOError:
            return
        except OSError:
            self.close()
            return
        if not data:
            self._no_more = True
        elif not self._following:
            self._received += data

    def _go_on(self) -> None:
        """Takes the next request when it may, and watches for what can happen next."""
        if not self._sending and self._waits is None and self._next is None and not self._following:
            newline = self._received.find(b"\n")
            if newline >= 0:
                line = bytes(self._received[:newline])
                del self._received[: newline + 1]
                self._handle(line)
                return
            if len(self._received) > REQUEST_BYTES:
                self.refuse(BadRequest(f"a request has at most {REQUEST_BYTES} bytes"))
                return
            if self._no_more:
                self.close()
                return
        self._watch()

    def _watch(self) -> None:
        room = len(self._received) <= REQUEST_BYTES and not self._no_more
        events = (READ if room else 0) | (WRITE if self._sending else 0)
        if events != self._events:
            self._events = events
            self._loop.modify(self._fd, events)

    def _handle(self, line: bytes) -> None:
        answer = self._server.answer(line, self._peer)
        if isinstance(answer, Deferred):
            self._waits = self._loop.call_at(self._loop.now() + REPLY_TIMEOUT, lambda _now: self._too_late(answer))
            answer._take(self._answer)
            self._watch_if_open()
        elif isinstance(answer, Follow):
            self._following = True
            self._received.clear()
            self._answer({"ok": True, **answer.answer})
            self._follower_limit = FOLLOWER_BYTES + len(self._sending)
        else:
            self._answer(answer)

    def _too_late(self, deferred: Deferred) -> None:
        deferred.fail(
            Refused("NoAnswer", f"no answer within {REPLY_TIMEOUT:g} s from the part of the node that was asked", 75)
        )

    def _answer(self, answer: dict[str, Any]) -> None:
        if self._closed:
            return
        if self._waits is not None:
            self._waits.cancel()
            self._waits = None
        try:
            data = msgspec.json.encode(answer)
        except (TypeError, ValueError, msgspec.MsgspecError, RecursionError) as error:
            data = msgspec.json.encode(self._server.failed("an answer that is not JSON", error))
        self._active = self._loop.now()
        self._send(data + b"\n")
        if not self._closed:
            self._next = self._loop.call_soon(self._next_turn)

    def _next_turn(self, _now: float) -> None:
        self._next = None
        self._go_on()

    def _send(self, data: bytes) -> None:
        empty = not self._sending
        self._sending += data
        if empty:
            self._flush()
        self._watch_if_open()

    def _watch_if_open(self) -> None:
        if not self._closed:
            self._watch()

    def _flush(self) -> None:
        try:
            while self._sending:
                sent = self._socket.send(self._sending)
                del self._sending[:sent]
                self._active = self._loop.now()
        except BlockingIOError:
            pass
        except OSError:
            self.close()


def serve_events(server: Server, handlers: dict[str, Handler], history: History) -> None:
    """Adds the command `events`, with `limit` (100), `after` (0) and `follow` (false), to the table."""

    def events(request: Request) -> dict[str, Any] | Follow:
        limit = request.argument("limit", int, 100)
        after = request.argument("after", int, 0)
        answer = {"events": [msgspec.Raw(line) for line in history.read_lines(limit, after)]}
        return Follow(answer) if request.argument("follow", bool, False) else answer

    handlers["events"] = events
    history.follow(lambda _event, line: server.publish(line))
