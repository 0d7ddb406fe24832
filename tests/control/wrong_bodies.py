"""The request is well made as HTTP, and its body, query or path is not what the route takes."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator

from tests.control.wrong_connections import sample
from tests.control.wrong_world import Case, World, request

DEEP = b'{"a":' * 100_000


def not_wanted(world: World) -> Iterator[Case]:
    """A body, or an encoding, where there is to be none."""
    for route in world.routes:
        if route.request is None and not route.raw_body:
            path, method = sample(route), route.method
            yield Case(f"a body for {method} {path}", request(method, path, b"{}"), "bad-request", "takes no body")
            length = {"Content-Length": str(10**15)}
            yield Case(
                f"an absurd size for {method} {path}", request(method, path, headers=length), "too-large",
                "at most [0-9]+ bytes", 413,
            )  # fmt: skip
    for encoding, data in (
        ("gzip", gzip.compress(b"{}")), ("deflate", zlib.compress(b"{}")), ("br", b"\x0b\x00\x80{}\x03"), ("x", b"{}"),
    ):  # fmt: skip
        packed = request("GET", "/v1/node", data, {"Content-Encoding": encoding})
        yield Case(f"a body in {encoding}", packed, "bad-request", "without a Content-Encoding", 415)
    bomb = request("GET", "/v1/node", gzip.compress(bytes(40_000_000)), {"Content-Encoding": "gzip"})
    yield Case("a body that grows by a factor of 1000", bomb, "bad-request", "without a Content-Encoding", 415)
    expecting = request("GET", "/v1/node", headers={"Expect": "200-ok"})
    yield Case("something else expected than 100-continue", expecting, "bad-request", "Expect", 417)


def bad_json(world: World) -> Iterator[Case]:
    """Each body that is JSON, as what is not."""
    for route in world.routes:
        if route.request is None:
            continue
        path, method = sample(route), route.method
        for name, data in (
            ("nothing", b" "),
            ("half", b'{"a": '),
            ("text", b"hello"),
            ("XML", b"<a/>"),
            ("Python", b"{'a': None}"),
            ("bytes that are no UTF-8", b'{"\xff": 1}'),
            ("100,000 deep", DEEP[: min(len(DEEP), route.body_bytes - 1)]),
            ("a number", b"1"),
            ("a list", b"[]"),
            ("null", b"null"),
            ("two values", b"{} {}"),
            ("NaN", b'{"a": NaN}'),
            ("an unknown field", b'{"no_such_field": 1}'),
        ):
            yield Case(
                f"JSON, {name}: {method} {path}", request(method, path, data), "bad-request", "the body: ",
            )  # fmt: skip
        for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""):
            yield Case(
                f"a body called {kind or 'nothing'}: {method} {path}",
                request(method, path, b"{}", {"Content-Type": kind}), "bad-request", "application/json", 415,
            )  # fmt: skip
        too_long = {"Content-Length": str(route.body_bytes + 1)}
        yield Case(
            f"a byte too many: {method} {path}", request(method, path, b"{", too_long), "too-large",
            f"at most {route.body_bytes} bytes", 413,
        )  # fmt: skip
        absurd = {"Content-Length": str(10**18)}
        yield Case(
            f"an absurd size: {method} {path}", request(method, path, b"{", absurd), "too-large",
            f"at most {route.body_bytes} bytes", 413,
        )  # fmt: skip


def bad_query(world: World) -> Iterator[Case]:
    """Names that the route does not know."""
    for route in world.routes:
        path = sample(route)
        path += ("&" if "?" in path else "?") + "no_such_name=1"
        yield Case(
            f"an unknown name in the query of {route.method} {route.path}",
            request(route.method, path, b"{}" if route.request else b""),
            "bad-request", "the query: .*no_such_name",
        )  # fmt: skip
