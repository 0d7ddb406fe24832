"""The command line's side of the control worker: `runtime_dir/control.sock`, with the standard library alone."""

from __future__ import annotations

import http.client
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlencode

import msgspec

from hacore.control.problems import from_body
from hacore.errors import NotRunning, PlatformError, PrivilegeError
from hacore.node.bus import SocketPath
from hacore.node.event import NOT_JSON

SOCKET = "control.sock"
ROOT = "/local/v1"
TIMEOUT = 30.0
#: Between two lines of a stream: the longest command that a section or service may run, and then some.
SILENCE_TIMEOUT = 330.0


class LocalClient:
    """Asks the control worker of this machine; each request is a connection of its own."""

    def __init__(self, runtime_dir: str | os.PathLike[str]) -> None:
        self._directory = os.fspath(runtime_dir)

    def ask(
        self, method: str, path: str, body: Any = None, *, query: Mapping[str, Any] | None = None,
        timeout: float = TIMEOUT,
    ) -> Any:  # fmt: skip
        """The JSON of the answer. `path` is below /local/v1.

        Raises ApiError as the worker does, NotRunning where there is none, PrivilegeError where this is not root.
        """
        with self._request(method, path, body, query, timeout) as answer:
            return self._decode(answer.read())

    def stream(
        self, method: str, path: str, body: Any = None, *, query: Mapping[str, Any] | None = None
    ) -> Iterator[dict[str, Any]]:
        """The lines of a streamed answer as they come; a line that is an error is raised as ApiError."""
        with self._request(method, path, body, query, SILENCE_TIMEOUT) as answer:
            ended = False
            while line := answer.readline():
                value = self._decode(line)
                ended = line.endswith(b"\n")
                if "error" in value and isinstance(value["error"], dict) and "code" in value["error"]:
                    raise from_body(answer.status, value)
                yield value
            if not ended:
                raise NotRunning("the control worker ended in the middle of its answer")

    @contextmanager
    def _request(
        self, method: str, path: str, body: Any, query: Mapping[str, Any] | None, timeout: float
    ) -> Iterator[http.client.HTTPResponse]:
        connection = _Connection(self._directory, timeout)
        given = {key: value for key, value in (query or {}).items() if value is not None}
        target = f"{ROOT}{path}" + (f"?{urlencode(given)}" if given else "")
        data = None if body is None else msgspec.json.encode(body)
        headers = {} if data is None else {"Content-Type": "application/json"}
        try:
            connection.request(method, target, data, headers)
            answer = connection.getresponse()
            if answer.status >= 300:
                raise from_body(answer.status, self._decode(answer.read()))
            yield answer
        except TimeoutError:
            raise NotRunning(
                f"the control worker on {self._directory} said nothing for {timeout:g} s: it is stopped or stuck"
            ) from None
        except (ConnectionError, http.client.HTTPException) as error:
            raise NotRunning(
                f"the control worker on {self._directory} closed the connection ({type(error).__name__}): "
                "see `hacore events`"
            ) from None
        finally:
            connection.close()

    def _decode(self, data: bytes) -> Any:
        try:
            return msgspec.json.decode(data)
        except NOT_JSON as error:
            raise PlatformError(f"{self._directory}/{SOCKET} does not speak the node's language: {error}") from None


class _Connection(http.client.HTTPConnection):
    def __init__(self, directory: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._directory = directory

    def connect(self) -> None:
        """To the Unix socket."""
        where = f"{self._directory}/{SOCKET}"
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(self.timeout)
        try:
            with SocketPath(self._directory, SOCKET) as path:
                connection.connect(path)
        except OSError as error:
            connection.close()
            if isinstance(error, FileNotFoundError | NotADirectoryError | ConnectionRefusedError):
                raise NotRunning(
                    f"no control worker runs on {self._directory} (nothing listens on {where}); "
                    "it runs where the settings have [control], beside `hacore run`"
                ) from None
            if isinstance(error, PermissionError):
                raise PrivilegeError(f"{where} is for root alone: run this command as root (sudo)") from None
            if isinstance(error, TimeoutError | BlockingIOError):
                raise NotRunning(f"the control worker on {self._directory} is stopped or stuck") from None
            raise PlatformError(f"cannot connect to {where}: {error.strerror or error}") from None
        self.sock = connection
