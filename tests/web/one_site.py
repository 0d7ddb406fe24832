"""A page in the process of the test: the real worker, listener, TLS and users; only the supervisor is played.

async with one_site(tmp_path) as site:
    await site.sign_in("alice")
    answer = await site.get("/")
"""

from __future__ import annotations

import re
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import pytest
from aiohttp import web

from hacore.control.trial_certificates import make_test_certificates
from hacore.control.worker import ControlWorker
from hacore.node.settings import load
from hacore.web import access, registry
from hacore.web.registry import Call, Route
from hacore.web.site import Site
from tests.control.worker_pair import Played, free_port, until

PASSWORD = "correct horse battery"
#: An action that is in the table whatever pages there are.
ACTION = "/made-up-action"
FAULT = "/made-up-fault"


class Answer(NamedTuple):
    """`size_bytes` is that of the body as it came over the wire."""

    status: int
    headers: Mapping[str, str]
    text: str
    size_bytes: int


class OneSite:
    """fw1's page, and a browser without a screen."""

    def __init__(self, played: Played, port: int) -> None:
        self.played, self.origin = played, f"https://127.0.0.1:{port}"
        self.file = access.AccessFile(played.directory / "state")
        self.site: Site
        self.token = ""
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        self._client = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=context, limit=0), cookie_jar=aiohttp.CookieJar(unsafe=True),
            auto_decompress=False,
        )  # fmt: skip

    async def ask(self, method: str, path: str, form: Any = None, **headers: str | None) -> Answer:
        """Headers as a browser on this page sends them; one that is None is left out. `_` stands for `-`."""
        said: dict[str, str | None] = {"Accept-Encoding": "gzip"}
        if method == "POST":
            said |= {"Origin": self.origin, "Sec-Fetch-Site": "same-origin", "X-Hacore-Token": self.token or None}
        said |= {name.replace("_", "-"): value for name, value in headers.items()}
        clean = {name: value for name, value in said.items() if value is not None}
        async with self._client.request(
            method, self.origin + path, data=form, headers=clean, allow_redirects=False
        ) as answer:
            body = await answer.read()
            import gzip

            plain = gzip.decompress(body) if answer.headers.get("Content-Encoding") == "gzip" else body
            return Answer(answer.status, dict(answer.headers), plain.decode(), len(body))

    async def get(self, path: str, **headers: str | None) -> Answer:
        return await self.ask("GET", path, **headers)

    async def post(self, path: str, form: Any = None, **headers: str | None) -> Answer:
        return await self.ask("POST", path, form or {}, **headers)

    async def sign_in(self, user: str) -> Answer:
        """Also takes the token of the page that comes then."""
        answer = await self.post("/login", {"user": user, "password": PASSWORD})
        if answer.status == 303:
            found = re.search(r'name="token" value="([^"]+)"', (await self.get("/")).text)
            assert found
            self.token = found[1]
        return answer

    async def forget(self) -> None:
        """As if another browser came."""
        self._client.cookie_jar.clear()
        self.token = ""

    async def open(self, path: str) -> aiohttp.ClientResponse:
        """An answer that goes on."""
        return await self._client.get(self.origin + path)

    def told(self, kind: str) -> list[str]:
        return [text for found, text, _fields in self.played.events if found == kind]

    async def close(self) -> None:
        await self._client.close()


async def _act(call: Call) -> web.Response:
    call.record("did it")
    return call.json({"ok": True})


async def _fault(_call: Call) -> web.Response:
    raise RuntimeError("a bug in a page")


@asynccontextmanager
async def one_site(
    directory: Path, monkeypatch: pytest.MonkeyPatch, *, certificate: bool = True, users: bool = True
) -> AsyncIterator[OneSite]:
    """alice is an administrator, bob a viewer."""
    make_test_certificates(directory / "certificates", ["fw1", "fw2"])
    played = Played(directory / "fw1", "fw1", "MASTER")
    port = free_port()
    played.write(
        name="fw1", other="fw2", advskew=0, port=free_port(), other_port=free_port(),
        more=f'[web]\nlisten = "127.0.0.1:{port}"',
    )  # fmt: skip
    if certificate:
        played.trust(directory / "certificates")
    made = [Route("POST", ACTION, _act, "Act", needs="administrator"), Route("GET", FAULT, _fault, "Fault")]
    collect = registry.collect
    monkeypatch.setattr("hacore.web.site.collect", lambda site: [*collect(site), *made])
    one = OneSite(played, port)
    if users:
        one.file.set_user("alice", "administrator", PASSWORD)
        one.file.set_user("bob", "viewer", PASSWORD)
    played.worker = ControlWorker(load(played.path), played.bus, played._told)
    one.site = played.worker.part(Site)
    try:
        await played.worker.start()
        if certificate:
            await until(lambda: one.site.listens and one.site.watch.nodes[0].is_known())
        yield one
    finally:
        await one.close()
        await played.worker.stop()
