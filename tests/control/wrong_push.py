"""A push that no node may send: paths, links, sizes, contents, sections; and the other requests about configuration."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

from hacore import __version__
from hacore.configsync.manifest import LARGEST_OBJECT_BYTES, MOST_ENTRIES, TEMPORARY
from hacore.configsync.stream import head
from tests.control.wrong_world import Case, World, request

CONTENT = b"new"
DIGEST = hashlib.sha256(CONTENT).hexdigest()


def file(path: str, **other: Any) -> list[Any]:
    """An entry as it is on the wire."""
    given = {"kind": "file", "mode": 0o644, "owner": "root", "group": "root", "size": len(CONTENT), "digest": DIGEST}
    given |= {"target": "", "template": False} | other
    return [path, *given.values()]


def folder(path: str, **other: Any) -> list[Any]:
    return file(path, **{"kind": "folder", "mode": 0o755, "size": 0, "digest": ""} | other)


def link(path: str, target: str, **other: Any) -> list[Any]:
    return file(path, **{"kind": "link", "mode": 0, "size": 0, "digest": "", "target": target} | other)


def push(sections: object, **other: Any) -> bytes:
    """POST /v1/push."""
    body = {"sender": "fw1", "version": __version__, "sections": sections} | other
    return request("POST", "/v1/push", body)


def manifests(world: World) -> Iterator[Case]:
    """Refused when the push is opened: before any content was sent."""
    web = str(world.web)

    def web_with(*entries: list[Any]) -> bytes:
        return push([{"section": "web", "entries": [folder(web), *entries]}])

    for name, entry, code in (
        ('".." at the end', file(f"{web}/.."), "path-not-normal"),
        ('".." in the middle', file(f"{web}/../secret"), "path-not-normal"),
        ('".." many times', file(f"{web}{'/..' * 20}/etc/passwd"), "path-not-normal"),
        ('".." behind a folder that is not there', file(f"{web}/x/../../secret"), "path-not-normal"),
        ("a path that is not absolute", file("index.html"), "path-not-absolute"),
        ("a path with ~", file("~/index.html"), "path-not-absolute"),
        ("an empty path", file(""), "path-not-absolute"),
        ("a path with two slashes first", file(f"/{web}/a"), "path-not-absolute"),
        ("a path with two slashes", file(f"{web}//a"), "path-not-normal"),
        ("a path with /./", file(f"{web}/./a"), "path-not-normal"),
        ("a path with a slash last", file(f"{web}/a/"), "path-not-normal"),
        ("a path with NUL", file(f"{web}/a\0b"), "path-not-normal"),
        ("a name of 256 bytes", file(f"{web}/{'a' * 256}"), "path-too-long"),
        ("a path of 5000 bytes", file(web + "/a" * 2500), "path-too-long"),
        ("a name that hacore keeps", file(f"{web}/{TEMPORARY}1"), "path-not-normal"),
        ("another file of the machine", file("/var/lib/passwd"), "path-outside"),
        ("a folder beside, of the same beginning", file(f"{web}2/index.html"), "path-outside"),
        ("a file of the same beginning", file(f"{web}.conf"), "path-outside"),
        ("a file in a folder that is not in the push", file(f"{web}/x/y"), "parent-no-folder"),
        ("a link out, by ..", link(f"{web}/a", "../secret"), "link-outside"),
        ("a link out, absolute", link(f"{web}/a", "/etc/shadow"), "link-outside"),
        ("a link out, behind another", link(f"{web}/a", "pages/../../secret"), "link-outside"),
        ("a link to the root", link(f"{web}/a", "/"), "link-outside"),
        ("a link to the folder above", link(f"{web}/a", ".."), "link-outside"),
        ("a link to itself from far", link(f"{web}/a", f"{web}/../web/a"), "link-outside"),
        ("a link of no target", link(f"{web}/a", ""), "manifest"),
        ("a link with NUL", link(f"{web}/a", "b\0c"), "manifest"),
        ("a link of 5000 bytes", link(f"{web}/a", "b" * 5000), "manifest"),
        ("a link with a mode", link(f"{web}/a", "index.html", mode=0o777), "mode"),
        ("a link with a content", link(f"{web}/a", "index.html", size=3, digest=DIGEST), "manifest"),
        ("a file with a target", file(f"{web}/a", target="b"), "manifest"),
        ("a folder with a content", folder(f"{web}/a", size=3, digest=DIGEST), "manifest"),
        ("a folder that is a template", folder(f"{web}/a", template=True), "manifest"),
        ("settings among files", file(f"{web}/a", kind="settings"), "manifest"),
        ("a mode below zero", file(f"{web}/a", mode=-1), "mode"),
        ("a mode with bits that are none", file(f"{web}/a", mode=0o10000), "mode"),
        ("an owner with a colon", file(f"{web}/a", owner="root:root"), "owner"),
        ("an owner of no name", file(f"{web}/a", owner=""), "owner"),
        ("a group with a blank", file(f"{web}/a", group="a b"), "owner"),
        ("a group with a line", file(f"{web}/a", group="a\nroot::0:0"), "owner"),
        ("a size below zero", file(f"{web}/a", size=-1), "too-large"),
        ("an absurd size", file(f"{web}/a", size=1 << 60), "too-large"),
        ("a size beyond 64 bits", file(f"{web}/a", size=1 << 70), "too-large"),
        ("a byte too many", file(f"{web}/a", size=LARGEST_OBJECT_BYTES + 1), "too-large"),
        ("a digest too short", file(f"{web}/a", digest=DIGEST[:-1]), "digest"),
        ("a digest in capitals", file(f"{web}/a", digest=DIGEST.upper()), "digest"),
        ("no digest", file(f"{web}/a", digest=""), "digest"),
        ("a digest that is a path", file(f"{web}/a", digest="../" * 21 + "x"), "digest"),
    ):
        yield Case(f"push: {name}", web_with(entry), code, ".")
    for name, entries, code in (
        ("a path twice", [file(f"{web}/a"), file(f"{web}/a", mode=0o600)], "path-twice"),
        ("paths in disorder", [file(f"{web}/b"), file(f"{web}/a")], "manifest"),
        ("a file below a file", [file(f"{web}/a"), file(f"{web}/a/b")], "parent-no-folder"),
        ("a file below a link", [link(f"{web}/a", "pages"), file(f"{web}/a/b")], "parent-no-folder"),
    ):
        yield Case(f"push: {name}", web_with(*entries), code, ".")
    many = [file(f"{web}/{number:07}", digest="", size=0) for number in range(MOST_ENTRIES)]
    yield Case(
        "push: too many entries", push([{"section": "web", "entries": [folder(web), *many]}]), "too-many-entries",
        f"at most {MOST_ENTRIES}",
    )  # fmt: skip


def orders(world: World) -> Iterator[Case]:
    """What goes around the manifests."""
    web: dict[str, Any] = {"section": "web", "entries": [folder(str(world.web))]}
    own: dict[str, Any] = {"section": "vips", "entries": [file("vips", kind="settings", mode=0, owner="", group="")]}
    yield Case("push: a section that is not listed", push([web | {"section": "db"}]), "no-section", "there are: ", 404)
    yield Case("push: a section of no name", push([web | {"section": ""}]), "no-section", "there are: ", 404)
    yield Case("push: a section that is a path", push([web | {"section": "../web"}]), "no-section", "there are: ", 404)
    yield Case("push: a section twice", push([web, web]), "request", "twice")
    unchanged = push([], unchanged=["db"])
    yield Case("push: an unlisted section is called unchanged", unchanged, "no-section", "there are: ", 404)
    yield Case("push: files as settings", push([own | {"entries": web["entries"]}]), "manifest", "one entry")
    yield Case("push: settings twice", push([own | {"entries": own["entries"] * 2}]), "manifest", "one entry")
    large = [file("vips", kind="settings", size=1 << 50)]
    yield Case("push: settings of an absurd size", push([own | {"entries": large}]), "too-large", "bytes")
    yield Case("push: another section's settings", push([own | {"section": "checks"}]), "manifest", "one entry")
    yield Case("push: another version of hacore", push([], version="0.0.1"), "guarded", r"0\.0\.1", 409)
    for name, given in (
        ("a restart that is none", {"restart": "some"}), ("a restart that is a number", {"restart": 1}),
        ("overrides that are no list", {"overrides": "all"}), ("a dry run that is text", {"dry_run": "yes"}),
        ("sections that are no list", {"sections": "web"}), ("sections that are names", {"sections": ["web"]}),
        ("a sender that is a list", {"sender": ["fw1"]}), ("unchanged that is null", {"unchanged": None}),
        ("entries that are tables", {"sections": [{"section": "web", "entries": [{"path": "/"}]}]}),
        ("an entry of one field", {"sections": [{"section": "web", "entries": [[str(world.web)]]}]}),
        ("a kind that is none", {"sections": [{"section": "web", "entries": [file("/a", kind="device")]}]}),
        ("a size that is text", {"sections": [{"section": "web", "entries": [file("/a", size="3")]}]}),
        ("a mode that is no whole number", {"sections": [{"section": "web", "entries": [file("/a", mode=0.5)]}]}),
        ("an unknown field", {"comand": ["rm"]}),
        ("a command", {"apply": ["rm", "-rf", "/"]}),
        ("a command in a section", {"sections": [web | {"apply": ["rm"]}]}),
    ):  # fmt: skip
        yield Case(f"push: {name}", push(**{"sections": []} | given), "bad-request", "the body: ")


def contents(world: World) -> Iterator[Case]:
    """The push was opened; what follows is wrong."""

    def opened(wrong: Callable[[str], bytes]) -> Callable[[], bytes]:
        def bring() -> bytes:
            entries = [folder(str(world.web)), file(f"{world.web}/index.html")]
            good = world.send(Case("", push([{"section": "web", "entries": entries}]), "", "", 200))
            assert good.status == 200, good
            return wrong(str(json.loads(good.body)["transaction"]))

        return bring

    other = hashlib.sha256(b"other").hexdigest()
    for name, data, code in (
        ("a digest that was not announced", head(other, 5) + b"other", "bad-stream"),
        ("another size than was announced", head(DIGEST, 5) + b"other", "bad-stream"),
        ("an absurd size", head(DIGEST, 1 << 62), "bad-stream"),
        ("what has another digest", head(DIGEST, 3) + b"old", "changed-meanwhile"),
        ("it twice", (head(DIGEST, 3) + CONTENT) * 2, "bad-stream"),
        ("more behind it", head(DIGEST, 3) + CONTENT + bytes(100), "bad-stream"),
        ("no contents at all", b"GET / HTTP/1.1\r\n" * 10, "bad-stream"),
    ):
        yield Case(
            f"contents: {name}",
            opened(lambda one, data=data: request("PUT", f"/v1/push/{one}/objects", data)),  # type: ignore[misc]
            code, ".", 0,
        )  # fmt: skip
    for name, method, path in (
        ("contents", "PUT", "/objects"), ("a commit", "POST", "/commit"),
    ):  # fmt: skip
        for one in ("0123456789abcdef", "..", "%2e%2e%2fetc", "x" * 300):
            yield Case(
                f"{name} for the push {one[:20]} that is not open", request(method, f"/v1/push/{one}{path}"),
                "no-push|not-found", ".", 404,
            )  # fmt: skip
    yield Case(
        "contents of unknown length",
        opened(lambda one: request(
            "PUT", f"/v1/push/{one}/objects", b"0\r\n\r\n", {"Transfer-Encoding": "chunked"}, length=False
        )),
        "bad-request", "Content-Length", 411,
    )  # fmt: skip
    yield Case(
        "a commit before the contents came", opened(lambda one: request("POST", f"/v1/push/{one}/commit")),
        "bad-stream", ".",
    )  # fmt: skip


def reading(world: World) -> Iterator[Case]:
    """Questions about what this node does not show."""
    for query, code, says, status in (
        ("", "bad-request", "section", 400), ("?section=a&x=1", "bad-request", "x", 400),
        ("?section=", "no-section", "there are: ", 404), ("?section=db", "no-section", '"db"', 404),
        ("?section=../web", "no-section", '"../web"', 404), ("?section=web/../..", "no-section", '"web/../.."', 404),
    ):  # fmt: skip
        asked = request("GET", f"/v1/config/manifest{query}")
        yield Case(f"the manifest of {query!r}", asked, code, says, status)
    for name, path in (
        ("a file outside", "/etc/passwd"), ("this node's key", str(world.node.directory / "state/tls/node.key")),
        ("a file by ..", f"{world.web}/../secret"), ("a file through a link", f"{world.web}/latest/../secret"),
        ("a file that is not there", f"{world.web}/nothing"), ("no path", ""), ("NUL", f"{world.web}/\0"),
        ("the folder itself", str(world.web)),
    ):  # fmt: skip
        body: dict[str, object] = {"section": "web", "paths": [path]}
        asked = request("POST", "/v1/config/files", body)
        says = f"the section web has no file {re.escape(path.partition(chr(0))[0])}"  # NUL is shown otherwise
        yield Case(f"contents of {name}", asked, "no-file", says, 404)
    body = {"section": "web", "paths": ["/a"] * 501}
    yield Case("contents of 501 files", request("POST", "/v1/config/files", body), "bad-request", "at most 500")
    body = {"section": "db", "paths": ["/a"]}
    yield Case("contents of an unlisted section", request("POST", "/v1/config/files", body), "no-section", ".", 404)
    no_number = "bad-request", 400
    none = "not-found", 404
    for number, (code, status) in (
        ("0", none), ("999", none), ("-1", none), ("9" * 30, none), ("x", no_number), ("1.5", no_number),
    ):  # fmt: skip
        for path, method, data in (
            ("", "GET", b""), ("/difference", "GET", b""), ("/restore", "POST", b"{}"),
        ):  # fmt: skip
            yield Case(
                f"revision {number[:5]}{path}", request(method, f"/v1/revisions/{number}{path}", data),
                code, "revision|number", status,
            )  # fmt: skip
    yield Case(
        "a restart that is none",
        request("POST", "/v1/revisions/1/restore", {"restart": "some"}),
        "bad-request",
        "restart",
    )
    for keys in ("x", [1], [{"vhid": 1}], [{"interface": "lan", "vhid": "1", "digest": ""}]):
        asked = request("POST", "/v1/rekeyed", {"keys": keys})
        yield Case(f"rekeyed: {keys!r}", asked, "bad-request", "the body")


def services(world: World) -> Iterator[Case]:
    """Services that are not listed, and actions that are none."""
    for name in ("two", "ssh.service", "..", "%2e%2e%2fone", "One", "one%20", "one;reboot", "%24(reboot)", "a" * 200):
        for action in ("start", "stop", "restart"):
            yield Case(
                f"{action} the service {name[:20]}",
                request("POST", f"/v1/services/{name}/{action}"),
                "not-found",
                ".",
                404,
            )
    for action in ("enable", "kill", "START", "start%20", "..", "%2e"):
        yield Case(
            f"{action} a service", request("POST", f"/v1/services/one/{action}"), "bad-request|not-found", ".",
            400,
        )  # fmt: skip
    for action in ("start", "restart"):
        yield Case(
            f"{action} a service that follows a VIP", request("POST", f"/v1/services/line/{action}"), "follows-vip",
            "MASTER|lan", 409,
        )  # fmt: skip
