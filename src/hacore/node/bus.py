"""The local bus, as a client sees it: `runtime_dir/hacore.sock`, lines of JSON in both directions.

    {"command": "status"}                    ->  {"ok": true, "node": {...}, "vips": [...]}
    {"command": "reload"}                    ->  {"ok": false, "error": {"type": ..., "message": ..., "exit_code": 78}}
    {"command": "events", "follow": true}    ->  {"ok": true, "events": [...]}, then {"event": {...}} for each new one

The server is in `bus_server`.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Any

import msgspec

from hacore import errors
from hacore.errors import HacoreError, NotRunning, PlatformError, PrivilegeError
from hacore.node.event import NOT_JSON

SOCKET = "hacore.sock"
#: sun_path of unix(7), with its closing NUL.
PATH_BYTES = 108
#: The server gives up on a command after 5 s; a node that says nothing for longer is stopped or stuck.
TIMEOUT = 10.0
_RECEIVE_BYTES = 65536


class Refused(HacoreError):
    """An error of the node that has no class of its own here; `type` names it, `exit_code` is the node's."""

    def __init__(self, name: str, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.type = name
        self.exit_code = exit_code


class BadRequest(HacoreError):
    """A request that the node does not understand: an unknown command, a missing or wrong argument."""

    exit_code = 64


class SocketPath:
    """A path of a socket that fits its address: a directory with a longer name is gone through by its descriptor.

    Use as a context manager; raises OSError when the directory cannot be opened.
    """

    def __init__(self, directory: str | os.PathLike[str], name: str = SOCKET) -> None:
        self._directory = os.fspath(directory)
        self._name = name
        self._fd = -1

    def __enter__(self) -> str:
        path = f"{self._directory}/{self._name}"
        if len(os.fsencode(path)) < PATH_BYTES:
            return path
        self._fd = os.open(self._directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        return f"/proc/self/fd/{self._fd}/{self._name}"

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class Client:
    """Asks a running node. Each request is a connection of its own, so that a client holds nothing between two."""

    def __init__(self, runtime_dir: str | os.PathLike[str], timeout: float = TIMEOUT) -> None:
        self._directory = os.fspath(runtime_dir)
        self._timeout = timeout

    def request(self, command: str, **arguments: Any) -> dict[str, Any]:
        """The node's answer without "ok".

        Raises NotRunning, PrivilegeError, or what the node answered: the class of `hacore.errors` that it named, else
        Refused.
        """
        with self._connect() as connection:
            return self._ask(_Lines(connection, self._directory), command, arguments)

    def follow(self, limit: int = 0, after: int = 0) -> Iterator[dict[str, Any]]:
        """The latest `limit` events with a number above `after`, then each new one as it happens.

        Ends with NotRunning when the node ends, or when this reader is too slow and was dropped.
        """
        with self._connect() as connection:
            lines = _Lines(connection, self._directory)
            answer = self._ask(lines, "events", {"follow": True, "limit": limit, "after": after})
            yield from answer["events"]
            while True:
                yield lines.next(None)["event"]

    def _connect(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(self._timeout)
        where = f"{self._directory}/{SOCKET}"
        try:
            with SocketPath(self._directory) as path:
                connection.connect(path)
        except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError):
            connection.close()
            raise NotRunning(
                f"no node runs on {self._directory} (nothing listens on {where}); start it with `hacore run`"
            ) from None
        except PermissionError:
            connection.close()
            raise PrivilegeError(f"{where} is for root alone: run this command as root (sudo)") from None
        except (BlockingIOError, TimeoutError):
            connection.close()
            raise NotRunning(f"the node on {self._directory} takes no connections: it is stopped or stuck") from None
        except OSError as error:
            connection.close()
            raise PlatformError(f"cannot connect to {where}: {error.strerror or error}") from None
        return connection

    def _ask(self, lines: _Lines, command: str, arguments: dict[str, Any]) -> dict[str, Any]:
        lines.send({"command": command, **arguments}, self._timeout)
        answer = lines.next(self._timeout)
        if answer.pop("ok", False) is True:
            return answer
        raise _error(answer.get("error", {}))


class _Lines:
    """JSON lines over a connection; `timeout` counts from the call to its end."""

    def __init__(self, connection: socket.socket, directory: str) -> None:
        self._connection = connection
        self._directory = directory
        self._received = bytearray()

    def send(self, request: dict[str, Any], timeout: float) -> None:
        self._connection.settimeout(timeout)
        try:
            self._connection.sendall(msgspec.json.encode(request) + b"\n")
        except TimeoutError:
            raise self._silent(timeout) from None
        except OSError:
            pass  # it hung up; what it said before that is read below, or tells that it is gone

    def next(self, timeout: float | None) -> dict[str, Any]:
        end = None if timeout is None else time.monotonic() + timeout
        searched = 0
        while (newline := self._received.find(b"\n", searched)) < 0:
            searched = len(self._received)
            self._receive(timeout, end)
        line = bytes(self._received[:newline])
        del self._received[: newline + 1]
        try:
            return msgspec.json.decode(line, type=dict[str, Any])
        except NOT_JSON as error:
            raise PlatformError(f"{self._directory}/{SOCKET} does not speak the node's language: {error}") from None

    def _receive(self, timeout: float | None, end: float | None) -> None:
        try:
            self._connection.settimeout(None if end is None else max(1e-3, end - time.monotonic()))
            data = self._connection.recv(_RECEIVE_BYTES)
        except TimeoutError:
            raise self._silent(timeout) from None
        except ConnectionError:
            data = b""
        if not data:
            raise NotRunning(f"the node on {self._directory} closed the connection: it ended, or had too many clients")
        self._received += data

    def _silent(self, timeout: float | None) -> NotRunning:
        return NotRunning(
            f"the node on {self._directory} did not answer within {timeout:.3g} s: it is stopped or stuck"
        )


def error_reply(error: Exception) -> dict[str, Any]:
    """The reply that tells a client of an error, and that `Client` raises again."""
    known = isinstance(error, HacoreError)
    body: dict[str, Any] = {
        "type": getattr(error, "type", type(error).__name__),
        "message": str(error) if known else f"{type(error).__name__}: {error}",
        "exit_code": error.exit_code if isinstance(error, HacoreError) else errors.LocalProtocolError.exit_code,
    }
    if isinstance(error, errors.SettingsError):
        body["problems"] = [list(problem) for problem in error.problems]
    return {"ok": False, "error": body}


def _error(body: dict[str, Any]) -> HacoreError:
    name, message = str(body.get("type", "")), str(body.get("message", "the node refused without a reason"))
    if name == "SettingsError" and "problems" in body:
        return errors.SettingsError([errors.Problem(*problem) for problem in body["problems"]])
    if name == "BadRequest":
        return BadRequest(message)
    known = getattr(errors, name, None)
    if isinstance(known, type) and issubclass(known, HacoreError) and "__init__" not in vars(known):
        return known(message)
    return Refused(name, message, int(body.get("exit_code", 1)))
