"""`/metrics` and `/api/v1/...`: what programs are answered, with which token."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.web.one_site import Answer, OneSite, one_site

Check = Callable[[OneSite, "Client"], Awaitable[None]]


class Client:
    """A program with a token of each role."""

    def __init__(self, one: OneSite) -> None:
        self._one = one
        self._tokens = {role: one.file.add_token(f"{role}-program", role) for role in ("viewer", "administrator")}
        one.site.refresh_access()

    async def get(self, path: str, role: str = "viewer") -> Answer:
        return await self._one.ask("GET", path, Authorization=f"Bearer {self._tokens[role]}")

    async def post(self, path: str, body: Any = None, role: str = "administrator") -> Answer:
        data = None if body is None else json.dumps(body)
        return await self._one.ask(
            "POST", path, data, Authorization=f"Bearer {self._tokens[role]}", Content_Type="application/json",
            Origin=None, Sec_Fetch_Site=None, X_Hacore_Token=None,
        )  # fmt: skip


def run(directory: Path, monkeypatch: pytest.MonkeyPatch, check: Check) -> None:
    async def whole() -> None:
        async with one_site(directory, monkeypatch) as one:
            await check(one, Client(one))

    asyncio.run(whole())


def test_metrics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def check(one: OneSite, client: Client) -> None:
        assert (await one.get("/metrics")).status == 401
        answer = await client.get("/metrics")
        assert answer.headers["Content-Type"].startswith("text/plain; version=")
        found = {
            sample.name: sample for family in text_string_to_metric_families(answer.text) for sample in family.samples
        }
        assert found["hacore_up"].value == 1
        assert found["hacore_peer_up"].labels == {"peer": "fw2"}
        assert found["hacore_peer_up"].value == 0
        assert found["hacore_election_up"].value == 0  # the played supervisor names no worker
        assert "hacore_vip_state" not in found

    run(tmp_path, monkeypatch, check)


def test_what_the_command_line_is_answered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def check(_one: OneSite, client: Client) -> None:
        node = json.loads((await client.get("/api/v1/node")).text)
        assert (node["name"], node["api"]) == ("fw1", 1)
        assert json.loads((await client.get("/api/v1/status")).text)["vips"][0]["state"] == "MASTER"
        assert json.loads((await client.get("/api/v1/services")).text)["services"] == []
        assert json.loads((await client.get("/api/v1/revisions")).text) == {"name": "fw1", "revisions": []}
        nodes = json.loads((await client.get("/api/v1/nodes")).text)
        assert [(one["name"], one["here"], one["known"]) for one in nodes] == [
            ("fw1", True, True),
            ("fw2", False, False),
        ]
        assert nodes[1]["reason"]
        assert nodes[1]["snapshot"] is None
        missing = await client.get("/api/v1/revisions/7")
        assert missing.status == 404
        assert json.loads(missing.text)["error"]["code"] == "not-found"

    run(tmp_path, monkeypatch, check)


def test_a_deed_is_foreseen_and_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def check(one: OneSite, client: Client) -> None:
        foreseen = json.loads((await client.get("/api/v1/vips/maintenance-enter")).text)
        assert foreseen["deed"] == "maintenance-enter"
        assert (await client.post("/api/v1/vips/maintenance-enter", role="viewer")).status == 403
        assert not (one.played.directory / "state/maintenance").exists()
        done = await client.post("/api/v1/vips/maintenance-enter")
        assert done.status == 200, done.text
        assert (one.played.directory / "state/maintenance").exists()
        assert ("maintenance", {"enter": True}) in one.played.bus.requests
        assert any("administrator-program" in text and "enters maintenance" in text for text in one.told("web"))
        for deed, asked in (
            ("carp-disable", ("carp", {"enable": False})),
            ("carp-enable", ("carp", {"enable": True})),
            ("demotion-reset", ("demotion", {"action": "reset"})),
            ("maintenance-leave", ("maintenance", {"enter": False})),
        ):
            assert (await client.post(f"/api/v1/vips/{deed}")).status == 200
            assert asked in one.played.bus.requests
        assert not (one.played.directory / "state/maintenance").exists()
        assert (await client.post("/api/v1/vips/explode")).status == 400

    run(tmp_path, monkeypatch, check)


def test_orders_that_do_not_come_about(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def check(one: OneSite, client: Client) -> None:
        lines = (await client.post("/api/v1/config/push", {"sections": []})).text.splitlines()
        assert json.loads(lines[0])["progress"]["step"] == "compare"
        assert json.loads(lines[-1])["error"]["code"] == "not-configured"
        assert (await client.post("/api/v1/config/push", {"nonsense": 1})).status == 400
        assert (await client.post("/api/v1/config/push", {}, role="viewer")).status == 403
        assert (await client.post("/api/v1/services/squid/restart")).status == 404
        assert (await client.post("/api/v1/services/squid/explode")).status == 400
        assert any("administrator-program" in text and "POST /api/v1/config/push" in text for text in one.told("web"))

    run(tmp_path, monkeypatch, check)


def test_a_session_is_no_token_and_a_token_no_session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def check(one: OneSite, client: Client) -> None:
        assert (await client.get("/backup")).status == 401
        await one.sign_in("alice")
        assert (await one.get("/api/v1/status")).status == 401
        assert (await one.get("/metrics")).status == 401

    run(tmp_path, monkeypatch, check)
