"""Who asks is wrong: no certificate, one that is not trusted, expired, or without the right; no TLS 1.3."""

from __future__ import annotations

import ssl
from collections.abc import Iterator

from hacore.control.registry import Route
from tests.control.wrong_world import Case, World, request

NODE = request("GET", "/v1/node")


def sample(route: Route) -> str:
    """A path of this route."""
    path = route.path
    for name in ("transaction", "id", "action", "name"):
        path = path.replace(f"{{{name}}}", {"action": "start"}.get(name, "x"))
    path += "?section=web" if route.path == "/config/manifest" else ""
    return "/v1" + path.replace("{number}", "1")


def well_made(route: Route, headers: dict[str, str] | None = None) -> bytes:
    """A request that fits the route as far as can be seen before its body is read."""
    return request(route.method, sample(route), b"{}" if route.request or route.raw_body else b"", headers)


def tls(world: World) -> Iterator[Case]:
    """Refused before HTTP; the asker sees an alert."""
    unknown = "UNKNOWN_CA|UNKNOWN CA"
    for asker, what in (
        ("stranger", "a certificate that signs itself and was never paired"),
        ("namesake", "another certificate with the name of a peer"),
        ("child", "a certificate that a trusted peer's key signed"),
    ):
        yield Case(f"TLS: {what}", NODE, "certificate-unknown", "not trusted here", 0, asker, unknown)
    yield Case(
        "TLS: a trusted certificate that has expired",
        NODE,
        "certificate-expired",
        "has expired",
        0,
        "expired",
        "EXPIRED",
    )
    yield Case(
        "TLS: a trusted certificate before its time", NODE, "certificate-unknown", "not yet valid|not valid yet", 0,
        "early", "BAD_CERTIFICATE|CERTIFICATE",
    )  # fmt: skip
    for version, name in (
        (ssl.TLSVersion.TLSv1, "1.0"),
        (ssl.TLSVersion.TLSv1_1, "1.1"),
        (ssl.TLSVersion.TLSv1_2, "1.2"),
    ):
        for asker in ("fw1", "nobody"):
            yield Case(
                f"TLS: version {name}, asked by {asker}", NODE, "version", r"1\.3 is needed", 0, asker,
                "PROTOCOL_VERSION|protocol version", (version, version),
            )  # fmt: skip


def plain(world: World) -> Iterator[Case]:
    """What comes is no TLS."""
    for name, data, says in (
        ("an HTTP request", NODE, "plain HTTP"),
        ("an HTTP request by a proxy", b"CONNECT fw2:443 HTTP/1.1\r\nHost: fw2\r\n\r\n", "plain HTTP"),
        ("a POST", request("POST", "/v1/node", b"{}"), "plain HTTP"),
        ("zeros", bytes(300), "no TLS"),
        ("0xff", b"\xff" * 300, "no TLS"),
        ("SSH", b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n", "no TLS"),
        ("SMTP", b"EHLO fw1.example.org\r\n", "no TLS"),
        (
            "a ClientHello of SSL 2",
            bytes.fromhex("802e0100020015000000100100800200800300800400800500800600400700c0") + bytes(18),
            "",
        ),
        ("a TLS record that is too long", b"\x16\x03\x01\xff\xff" + bytes(5000), ""),
        ("a TLS alert at once", b"\x15\x03\x03\x00\x02\x02\x28", ""),
        ("a TLS record of application data at once", b"\x17\x03\x03\x00\x10" + bytes(16), ""),
        ("a ClientHello of no sense", b"\x16\x03\x01\x00\x40\x01\x00\x00\x3c\x03\x03" + bytes(58), ""),
    ):
        yield Case(f"no TLS: {name}", data, "tls", says, 0, "nobody", "", plain=True)


def no_certificate(world: World) -> Iterator[Case]:
    """Gets as far as the routes for which it needs one."""
    for route in world.routes:
        if route.needs != "anyone":
            yield Case(
                f"no certificate: {route.method} {route.path}", well_made(route), "no-certificate",
                "needs the certificate of a paired node", 403, "nobody",
            )  # fmt: skip


def revoked(world: World) -> Iterator[Case]:
    """A certificate that was trusted gets through TLS to be told that it is not any more."""
    for route in world.routes:
        if route.needs != "anyone":
            yield Case(
                f"revoked: {route.method} {route.path}", well_made(route), "certificate-revoked",
                "does not trust this certificate any more", 403, "fw6",
            )  # fmt: skip


def rights(world: World) -> Iterator[Case]:
    """A certificate that is trusted, and not the right; or a peer that the settings do not name."""
    for route in world.routes:
        for asker, has in (("fw3", ()), ("fw4", ("status",)), ("fw5", ())):
            if route.needs not in ("anyone", "peer", *has):
                yield Case(
                    f"not the right: {asker} asks {route.method} {route.path}", well_made(route), "not-allowed",
                    f'does not give {asker} the right "{route.needs}"', 403, asker,
                )  # fmt: skip


def api_version(world: World) -> Iterator[Case]:
    """The asker speaks another version of this API."""
    for route in world.routes:
        if route.path != "/node":
            yield Case(
                f"version 2 of the API: {route.method} {route.path}",
                well_made(route, {"Hacore-Api": "2", "Hacore-Version": "9.9"}),
                "version", "not hacore 9.9 with version 2",
            )  # fmt: skip
    for said in ("", "0", "-1", "one", "1.0", "1 ", "²", "9" * 4000):
        given = {"Hacore-Api": said, "Hacore-Version": "x" * 3000}
        if said != "1 ":
            yield Case(
                f"version {said[:10]} of the API", request("GET", "/v1/status", headers=given), "version",
                "run the same version|version 1 of the node API",
            )  # fmt: skip
