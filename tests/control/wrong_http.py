"""What comes over TLS is no HTTP, not well made, or asks for what is not there."""

from __future__ import annotations

from collections.abc import Iterator

from tests.control.wrong_connections import sample
from tests.control.wrong_world import Case, World, request

START = b"GET /v1/node HTTP/1.1\r\n"
HOST = b"Host: fw2\r\n"
POST = b"POST /v1/node HTTP/1.1\r\nHost: fw2\r\n"


def malformed(world: World) -> Iterator[Case]:
    """Refused by the parser."""
    for name, data in (
        ("binary", b"\x00\x01\x02\x03\xff\xfe\r\n\r\n"),
        ("a method alone", b"GET\r\n\r\n"),
        ("HTTP/9.9", b"GET /v1/node HTTP/9.9\r\nHost: fw2\r\n\r\n"),
        ("HTTP/1", b"GET /v1/node HTTP/1\r\nHost: fw2\r\n\r\n"),
        ("a method with @", b"G@T /v1/node HTTP/1.1\r\nHost: fw2\r\n\r\n"),
        ("a path that is a star", b"GET * HTTP/1.1\r\nHost: fw2\r\n\r\n"),
        ("two spaces", b"GET /v1/node HTTP/1.1 HTTP/1.1\r\nHost: fw2\r\n\r\n"),
        ("a blank in the path", b"GET /v1/no de HTTP/1.1\r\nHost: fw2\r\n\r\n"),
        ("a header without colon", START + b"Host fw2\r\n\r\n"),
        ("a header of no name", START + b": fw2\r\n\r\n"),
        ("a blank before the colon", START + b"Host : fw2\r\n\r\n"),
        ("NUL in a header", START + HOST + b"X-A: a\x00b\r\n\r\n"),
        ("CR in a header", START + HOST + b"X-A: a\rb\r\n\r\n"),
        ("a folded header", START + HOST + b" folded\r\n\r\n"),
        ("a path of 5000 bytes", b"GET /v1/" + b"a" * 5000 + b" HTTP/1.1\r\nHost: fw2\r\n\r\n"),
        ("a header of 9000 bytes", START + HOST + b"X-A: " + b"a" * 9000 + b"\r\n\r\n"),
        ("a header's name of 9000 bytes", START + HOST + b"a" * 9000 + b": a\r\n\r\n"),
        ("1000 headers", START + HOST + b"".join(b"X-%d: a\r\n" % number for number in range(1000)) + b"\r\n"),
        ("a length below zero", POST + b"Content-Length: -1\r\n\r\n"),
        ("a length that is no number", POST + b"Content-Length: many\r\n\r\n"),
        ("a length with a sign", POST + b"Content-Length: +2\r\n\r\n{}"),
        ("a length in hex", POST + b"Content-Length: 0x2\r\n\r\n{}"),
        ("two lengths", POST + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}"),
        ("a list of lengths", POST + b"Content-Length: 2, 3\r\n\r\n{}"),
        ("length and chunks", POST + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        ("an unknown transfer encoding", POST + b"Transfer-Encoding: gzip\r\n\r\n{}"),
        ("chunks, and then more", POST + b"Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n"),
        ("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9)),
        ("TLS within TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500) + b"\r\n\r\n"),
        ("a bus request", b'{"command": "status"}\n\n'),
        ("a path that is no UTF-8 and no HTTP", b"GET /\xff\xfe\x00 HTTP/1.1\r\nHost: fw2\r\n\r\n"),
    ):
        yield Case(f"HTTP: {name}", data, "bad-request", "well-formed HTTP")


def old(world: World) -> Iterator[Case]:
    """HTTP as it was before 1.1."""
    for name, data in (
        ("HTTP/0.9", b"GET /v1/node\r\n\r\n"),
        ("HTTP/1.0", b"GET /v1/node HTTP/1.0\r\n\r\n"),
    ):
        yield Case(f"HTTP: {name}", data, "bad-request", "HTTP/1.1 is spoken here", 505)
    yield Case("HTTP: no Host", START + b"\r\n", "bad-request", "Host")


def bad_chunks(world: World) -> Iterator[Case]:
    """The head was good."""
    head = POST.replace(b"POST /v1/node", b"GET /v1/node") + b"Transfer-Encoding: chunked\r\n\r\n"
    for name, data in (
        ("a size that is no number", b"zz\r\n{}\r\n0\r\n\r\n"),
        ("a size below zero", b"-2\r\n{}\r\n0\r\n\r\n"),
        ("more bytes than said", b"2\r\n{}{}{}\r\n0\r\n\r\n"),
        ("a size of 5000 digits", b"1" * 5000 + b"\r\n"),
    ):
        yield Case(f"chunks: {name}", head + data, "bad-request", "well-formed HTTP")


def not_there(world: World) -> Iterator[Case]:
    """Paths that lead nowhere, or out."""
    for target in (
        "/", "/v1", "/v1/", "/v1/nothing", "/v2/node", "/V1/node", "/v1/NODE", "/v1//node", "//v1/node", "/v1/node/",
        "/v1/node/x", "/v1/node;x=1", "/v1/node%00", "/v1/node%0a", "/v1/n%F6de", "/v1/%2e%2e/%2e%2e/etc/passwd",
        "/v1/..%2f..%2fetc%2fpasswd", "/v1/%5c..%5c..%5cetc", "/v1/.git/config", "/v1/state/tls/node.key",
        "/local/v1/node", "/local/v1/status", "/local/v1/peers", "/local/v1/openapi.json", "/v1/../local/v1/node",
        "/v1/node.json", "/openapi.json", "/index.html", "/robots.txt", "/v1/{name}",
    ):  # fmt: skip
        yield Case(f"not there: {target}", request("GET", target), "not-found", "nothing under this path", 404)


def wrong_method(world: World) -> Iterator[Case]:
    """Each path with a method that it does not take."""
    paths: dict[str, set[str]] = {}
    for route in world.routes:
        paths.setdefault(sample(route), set()).add(route.method)
    for path, allowed in paths.items():
        for method in ("GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND"):
            if method not in allowed:
                yield Case(
                    f"wrong method: {method} {path}", request(method, path), "bad-request",
                    f"{method} is not for this path; it takes {'.*'.join(sorted(allowed))}", 405,
                )  # fmt: skip
