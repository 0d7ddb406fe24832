"""Asking one peer, over TLS that both sides check. Whatever goes wrong is an `ApiError` with a text of its own.

name not found    refused    unreachable    timed out    connection lost
certificate unknown | expired | revoked     version      and what the peer answers: busy, check failed, ...
"""

from __future__ import annotations

import errno
import socket
import ssl
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import aiohttp
import msgspec

from hacore import __version__
from hacore.control import tls
from hacore.control.certificates import Certificate, Place
from hacore.control.problems import ApiError, from_body
from hacore.control.schemas import API_HEADER, API_VERSION, VERSION_HEADER
from hacore.control.uploading import Upload
from hacore.errors import PlatformError
from hacore.node.event import NOT_JSON
from hacore.node.settings_values import Endpoint

CONNECT_TIMEOUT = 5.0
#: For a whole small answer; streams are bounded by the silence between two lines.
ANSWER_TIMEOUT = 15.0
SILENCE_TIMEOUT = 330.0
ANSWER_BYTES = 64 << 20
LINE_BYTES = 4 << 20

T = TypeVar("T")


class PeerClient:
    """One peer of the settings. Its connections are kept and used again; `close` ends them.

    `trusted` are the peer's certificates as pairing stored them, one of which it has to show; without any every request
    is refused here. `own` is where this node's certificate is; without it none is shown.
    """

    def __init__(self, name: str, place: Endpoint, own: Place | None, trusted: Sequence[Certificate]) -> None:
        self.name, self.place, self.trusted = name, place, tuple(trusted)
        self._own = own
        self._session: aiohttp.ClientSession | None = None
        self._asked = 0
        self._retired = False

    def __str__(self) -> str:
        return f"{self.name} ({self.place})"

    async def close(self) -> None:
        """Ends what is open."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def retire(self) -> None:
        """Another client takes its place: ends as soon as all that it was asked is answered."""
        self._retired = True
        if not self._asked:
            await self.close()

    async def ask(
        self, method: str, path: str, body: Any = None, *, response: type[T],
        query: Mapping[str, str | int] | None = None, timeout: float = ANSWER_TIMEOUT,
    ) -> T:  # fmt: skip
        """One request and its whole answer, as the struct `response`. `path` is below /v1, such as "/node"."""
        async with self._request(method, path, body, query, aiohttp.ClientTimeout(total=timeout)) as answer:
            return _decode(await _all(answer, self), response, self)

    async def stream(
        self, method: str, path: str, body: Any = None, *, response: type[T],
        query: Mapping[str, str | int] | None = None, silence: float = SILENCE_TIMEOUT,
    ) -> AsyncGenerator[T, None]:  # fmt: skip
        """The lines of a streamed answer, each as the struct `response`; a line that is an error is raised."""
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT, sock_read=silence)
        async with self._request(method, path, body, query, timeout) as answer:
            received = bytearray()
            async for chunk in answer.content.iter_any():
                received += chunk
                *lines, rest = received.split(b"\n")
                received = bytearray(rest)
                if len(received) > LINE_BYTES:
                    raise ApiError(502, "unexpected", f"{self}: a line longer than {LINE_BYTES} bytes")
                for line in lines:
                    if line.startswith(b'{"error":'):
                        raise from_body(answer.status, _decode(bytes(line), object, self), f"{self.name}: ")
                    yield _decode(bytes(line), response, self)

    def upload(self, method: str, path: str, total_bytes: int) -> Upload:
        """A request with a long body, to be run in a thread."""
        if self._retired:
            raise self._retirement()
        return Upload(self, method, path, total_bytes)

    @asynccontextmanager
    async def download(
        self, method: str, path: str, body: Any = None, *, silence: float = SILENCE_TIMEOUT
    ) -> AsyncIterator[aiohttp.StreamReader]:
        """A raw answer of any length."""
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT, sock_read=silence)
        async with self._request(method, path, body, None, timeout) as answer:
            yield answer.content

    @asynccontextmanager
    async def _request(
        self, method: str, path: str, body: Any, query: Mapping[str, str | int] | None, timeout: aiohttp.ClientTimeout
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        if self._retired:
            raise self._retirement()
        session = self._open()
        headers = self.headers()
        data = None
        if body is not None:
            data = msgspec.json.encode(body)
            headers["Content-Type"] = "application/json"
        self._asked += 1
        try:
            async with session.request(
                method, f"https://{self.place}/v1{path}", data=data, params=query, headers=headers, timeout=timeout,
                allow_redirects=False,
            ) as answer:  # fmt: skip
                if answer.status >= 300:
                    self.answer(answer.status, await _all(answer, self), object)
                yield answer
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise self.explain(error) from error
        finally:
            self._asked -= 1
            if self._retired and not self._asked:
                await self.close()

    def _retirement(self) -> ApiError:
        return ApiError(503, "connection-lost", f"{self}: its settings or certificates changed", "try again")

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(ssl=self.context(), limit=4, keepalive_timeout=20.0)
            self._session = aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())
        return self._session

    def context(self) -> ssl.SSLContext:
        """For one more connection; raises ApiError."""
        if not self.trusted:
            raise ApiError(
                502, "certificate-unknown", f"{self}: this node is not paired with it",
                "pair the nodes: hacore pair invite, then hacore pair join",
            )  # fmt: skip
        try:
            certificate, key = self._own or (None, None)
            return tls.client_context(certificate, key, [one.der for one in self.trusted])
        except PlatformError as error:
            raise ApiError(500, "not-configured", str(error)) from None

    def headers(self) -> dict[str, str]:
        """Of every request."""
        return {API_HEADER: str(API_VERSION), VERSION_HEADER: __version__}

    def answer(self, status: int, body: bytes, response: type[T]) -> T:
        """A whole answer as the struct `response`; raises ApiError where it is a refusal."""
        if status >= 300:
            raise from_body(status, _decode(body, object, self), f"{self.name}: ")
        return _decode(body, response, self)

    def explain(self, error: Exception) -> ApiError:
        """The failure class of a connection, in words."""
        cause: BaseException = error
        if isinstance(error, aiohttp.ClientConnectorError):
            cause = error.os_error
        elif isinstance(error, aiohttp.ClientConnectorCertificateError):
            cause = error.certificate_error
        elif error.__cause__ is not None:
            cause = error.__cause__
        if isinstance(cause, socket.gaierror):
            return ApiError(
                502, "name-not-found", f"{self}: the name {self.place.host} was not found ({cause.strerror})",
                f'the settings say where the peer is: [[peer]] name = "{self.name}", control = "HOST:PORT"',
            )  # fmt: skip
        if isinstance(error, TimeoutError) or isinstance(cause, TimeoutError) or _number(cause) == errno.ETIMEDOUT:
            return ApiError(
                504, "timed-out", f"{self}: no answer in time",
                "the node is down, stuck, or a firewall drops the packets",
            )  # fmt: skip
        if isinstance(cause, ConnectionRefusedError):
            return ApiError(
                502, "refused", f"{self}: the connection was refused",
                "hacore does not run there, or it has no [control], or it is not paired yet",
            )  # fmt: skip
        if isinstance(cause, ssl.SSLCertVerificationError):
            if cause.verify_code == tls.HAS_EXPIRED or all(one.not_after < time.time() for one in self.trusted):
                return ApiError(
                    502,
                    "certificate-expired",
                    f"{self}: its certificate has expired",
                    "on that node: hacore pair renew",
                )
            return ApiError(
                502, "certificate-unknown",
                f"{self}: it shows another certificate than the one this node was paired with ({cause.verify_message})",
                "another node answers there, or it was paired anew: pair the nodes again",
            )  # fmt: skip
        if _number(cause) in (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN, errno.ENETDOWN):
            return ApiError(502, "unreachable", f"{self}: {_words(cause)}", "there is no route to the peer")
        if isinstance(cause, ssl.SSLError) or "SSL" in str(error):
            code, reason = tls.refusal(cause if isinstance(cause, OSError) else OSError(str(error)))
            hints = {
                "certificate-unknown": f"it was not paired with this node, or revoked it: pair them ({self.name})",
                "certificate-expired": "hacore pair renew",
                "certificate-revoked": "pair the nodes anew",
            }
            return ApiError(502, code, f"{self}: {reason}", hints.get(code, ""))
        return ApiError(502, "connection-lost", f"{self}: the connection was lost: {_words(cause)}")


def _number(error: BaseException) -> int:
    return getattr(error, "errno", 0) or 0


def _words(error: BaseException) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


async def _all(answer: aiohttp.ClientResponse, peer: PeerClient) -> bytes:
    received = bytearray()
    async for chunk in answer.content.iter_any():
        received += chunk
        if len(received) > ANSWER_BYTES:
            raise ApiError(502, "unexpected", f"{peer}: an answer larger than {ANSWER_BYTES} bytes")
    return bytes(received)


def _decode(data: bytes, kind: type[T], peer: PeerClient) -> T:
    try:
        return msgspec.json.decode(data, type=kind)
    except NOT_JSON as error:
        raise ApiError(502, "unexpected", f"{peer}: an answer that is not of this API: {error}") from None
