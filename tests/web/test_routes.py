"""Who gets through to what: every path of the route table, and what is no path."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

from hacore.web.answering import SECURITY_HEADERS
from hacore.web.lockout import WRONG_ALLOWED
from hacore.web.registry import Route
from tests.control.worker_pair import until
from tests.web.one_site import ACTION, FAULT, PASSWORD, OneSite, one_site

HTML = "text/html,application/xhtml+xml"


def path_of(route: Route) -> str:
    """With something in the place of each name."""
    return re.sub(r"\{[^}]+\}", "1", route.path)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path


def walk(one: OneSite, by: str = "session") -> list[Route]:
    found = [route for route in one.site.routes if route.by == by]
    assert found
    return found


def test_without_a_session_every_path_but_the_log_in_is_closed(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        async with one_site(directory, monkeypatch) as one:
            for route in one.site.routes:
                if route.needs == "anyone":
                    assert route.path.startswith("/login")
                    continue
                answer = await one.ask(route.method, path_of(route))
                assert answer.status == 401, route
                assert "MASTER" not in answer.text
                if route.method == "GET" and route.by == "session":
                    answer = await one.get(path_of(route), Accept=HTML)
                    assert answer.status == 303
                    assert answer.headers["Location"].startswith("/login?next=")
                    assert (await one.get(path_of(route), HX_Request="true")).headers["HX-Redirect"] == "/login"

    asyncio.run(run())


@pytest.mark.parametrize(
    "path", ["/nowhere", "/assets/../page.css", "/login/x", "/%2e%2e/etc/passwd", "//", "/api/v9/x"]
)
def test_a_path_that_is_none_says_nothing_to_strangers(
    directory: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    async def run() -> None:
        async with one_site(directory, monkeypatch) as one:
            assert (await one.get(path)).status == 401
            await one.sign_in("bob")
            assert (await one.get(path)).status == (401 if path.startswith("/api") else 404)

    asyncio.run(run())


def test_what_strangers_send_to_the_paths_of_programs(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        async with one_site(directory, monkeypatch) as one:
            await one.sign_in("alice")
            for route in one.site.routes:
                if route.by == "token":
                    for scheme in (None, "Bearer hacore_wrong", "Basic YWxpY2U6eA==", "Bearer"):
                        answer = await one.ask(route.method, path_of(route), Authorization=scheme)
                        assert answer.status == 401, (route, scheme)
                        assert answer.headers["WWW-Authenticate"].startswith("Bearer")

    asyncio.run(run())


def test_a_viewer_may_do_nothing(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        async with one_site(directory, monkeypatch) as one:
            await one.sign_in("bob")
            actions = [route for route in walk(one) if route.needs == "administrator"]
            assert ACTION in [route.path for route in actions]
            for route in walk(one):
                if route.method == "POST" and not route.path.startswith("/log"):
                    assert route.needs == "administrator", "who only looks changes nothing"
            for route in actions:
                answer = await one.ask(route.method, path_of(route))
                assert answer.status == 403, route
                assert "administrator" in answer.text
            token = one.file.add_token("grafana", "viewer")
            one.site.refresh_access()
            for route in one.site.routes:
                if route.by == "token" and route.needs == "administrator":
                    answer = await one.ask(route.method, path_of(route), Authorization=f"Bearer {token}")
                    assert answer.status == 403, route
            assert one.told("web")[-1] == "token grafana was added (viewer)"

    asyncio.run(run())


@pytest.mark.parametrize(
    ("origin", "site"),
    [
        ("https://evil.example", "cross-site"),
        ("https://evil.example", None),
        ("https://evil.example", "same-origin"),
        ("null", None),
        (None, None),
        (None, "none"),
        (None, "same-site"),
        ("http", None),
        ("own", "cross-site"),
    ],
)
def test_a_foreign_post_is_refused(
    directory: Path, monkeypatch: pytest.MonkeyPatch, origin: str | None, site: str | None
) -> None:
    async def run() -> None:
        async with one_site(directory, monkeypatch) as one:
            said = {"http": one.origin.replace("https", "http"), "own": one.origin}.get(origin or "", origin)
            stranger = await one.post(
                "/login", {"user": "alice", "password": PASSWORD}, Origin=said, Sec_Fetch_Site=site
            )
            assert stranger.status == 403
            assert "Set-Cookie" not in stranger.headers
            await one.sign_in("alice")
            for route in walk(one):
                if route.method == "POST":
                    answer = await one.post(path_of(route), Origin=said, Sec_Fetch_Site=site)
                    assert answer.status == 403, route
            assert one.told("web")[1:] == []
            assert any("did not come from a page" in text for text in one.told("refused"))

    asyncio.run(run())


def test_a_post_needs_the_token_of_its_session(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        async with one_site(directory, monkeypatch) as one:
            await one.sign_in("alice")
            other = one.token
            await one.forget()
            await one.sign_in("alice")
            for route in walk(one):
                if route.method == "POST" and route.needs != "anyone":
                    for token in (None, "", "x", other, one.token[:-4]):
                        assert (await one.post(path_of(route), X_Hacore_Token=token)).status == 403, route
            assert (await one.post(ACTION)).status == 200
            assert (await one.post(ACTION, {"token": one.token}, X_Hacore_Token=None)).status == 200
            assert one.told("web")[-1] == "web: alice (127.0.0.1): did it"

    asyncio.run(run())


def test_ten_wrong_passwords_lock_for_a_while(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        async with one_site(directory, monkeypatch) as one:
            for _ in range(WRONG_ALLOWED):
                assert (await one.post("/login", {"user": "alice", "password": "wrong wrong"})).status == 401
            answer = await one.sign_in("alice")
            assert answer.status == 429, "also with the right password"
            assert "Too many wrong passwords" in answer.text
            assert 0 < int(answer.headers["Retry-After"]) <= 301
            assert (await one.sign_in("bob")).status == 429, "the address is locked, whoever it says it is"
            assert any("locked after ten" in text for text in one.told("refused"))
            one.site.lockout.right(["address 127.0.0.1"])
            assert (await one.sign_in("alice")).status == 429, "the user is locked, from wherever"
            assert (await one.sign_in("bob")).status == 303

    asyncio.run(run())


def test_the_answer_does_not_tell_whether_there_is_such_a_user(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        async with one_site(directory, monkeypatch) as one:
            known = await one.post("/login", {"user": "alice", "password": "wrong wrong"})
            unknown = await one.post("/login", {"user": "nobody", "password": "wrong wrong"})
            assert known.text == unknown.text
            assert known.status == unknown.status == 401

    asyncio.run(run())


def test_signing_in_and_out(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        async with one_site(directory, monkeypatch) as one:
            answer = await one.post("/login", {"user": "alice", "password": PASSWORD, "next": "/vips?x=1"})
            assert answer.headers["Location"] == "/vips?x=1"
            cookie = answer.headers["Set-Cookie"]
            assert cookie.startswith("__Host-hacore-fw1=")
            assert {"HttpOnly", "Secure", "SameSite=Strict", "Path=/"} <= set(cookie.split("; "))
            assert "Domain" not in cookie
            for away in ("https://evil.example/", "//evil.example", "/\\evil.example", "/login", "x"):
                answer = await one.post("/login", {"user": "alice", "password": PASSWORD, "next": away})
                assert answer.headers["Location"] == "/"
            await one.sign_in("alice")
            assert (await one.get("/")).status == 200
            assert (await one.post("/logout")).headers["Location"] == "/login"
            assert (await one.get("/")).status == 401
            assert one.told("web")[-1] == "web: alice (127.0.0.1): signed out"

    asyncio.run(run())


def test_a_user_who_is_removed_or_gets_another_password_is_out(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        async with one_site(directory, monkeypatch) as one:
            await one.sign_in("alice")
            stream = await one.open("/live/overview")
            assert stream.status == 200
            one.file.set_user("alice", None, "another password")
            async with asyncio.timeout(20):
                while (await one.get("/")).status != 401:
                    await asyncio.sleep(0.05)
                while await stream.content.readany():
                    pass
            await one.sign_in("bob")
            one.file.remove_user("bob")
            async with asyncio.timeout(20):
                while (await one.get("/")).status != 401:
                    await asyncio.sleep(0.05)
            assert "user alice was set anew" in one.told("web")
            assert "user bob was removed" in one.told("web")

    asyncio.run(run())


def test_who_looks_first_sees_what_is_so_now(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While nobody looks the supervisor is asked seldom, and what it said then is not shown."""

    async def run() -> None:
        async with one_site(directory, monkeypatch) as one:
            await one.sign_in("alice")
            watch = one.site.watch
            watch._attend(False)
            await until(lambda: watch.nodes[0].told_at >= watch._attentive_since)

            def shown() -> str:
                snapshot = watch.nodes[0].snapshot
                return snapshot.vips[0].state if snapshot is not None else ""

            assert shown() == one.played.bus.states["lan"]
            one.played.bus.states["lan"] = "INIT"
            assert shown() != "INIT"
            await one.get("/")
            assert shown() == "INIT"

    asyncio.run(run())


def test_every_answer_has_the_headers_that_protect_it(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        async with one_site(directory, monkeypatch) as one:
            answers = [await one.get("/login"), await one.get("/"), await one.get("/", Accept=HTML)]
            await one.sign_in("alice")
            answers += [await one.get(path) for path in ("/", "/nowhere", "/assets/page.js", FAULT)]
            answers += [await one.post(ACTION), await one.post(ACTION, Origin="https://evil.example")]
            for answer in answers:
                assert {name: answer.headers[name] for name in SECURITY_HEADERS} == dict(SECURITY_HEADERS)
                assert "Cache-Control" in answer.headers
            stream = await one.open("/live/overview")
            assert {name: stream.headers[name] for name in SECURITY_HEADERS} == dict(SECURITY_HEADERS)
            stream.close()

    asyncio.run(run())


def test_no_page_has_a_script_or_a_style_in_it(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        async with one_site(directory, monkeypatch) as one:
            texts = [(await one.get("/login")).text]
            await one.sign_in("alice")
            routes = [route for route in walk(one) if route.method == "GET" and "{" not in route.path]
            pages = [route.path for route in routes if route.path != FAULT]
            texts += [(await one.get(path)).text for path in pages]
            for text in texts:
                assert not re.search(r"<script(?![^>]* src=)|<style| style=| on[a-z]+=|javascript:", text)
                assert not re.search(r'(?:src|href|action)="(?:https?:)?//', text), "an outside address"

    asyncio.run(run())


def test_a_fault_in_a_page_is_told_and_the_worker_goes_on(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        async with one_site(directory, monkeypatch) as one:
            await one.sign_in("bob")
            answer = await one.get(FAULT)
            assert answer.status == 500
            assert "a bug in a page" not in answer.text
            assert any("a bug in a page" in text for text in one.told("fault"))
            assert (await one.get("/")).status == 200

    asyncio.run(run())


def test_bodies_that_will_not_do(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        async with one_site(directory, monkeypatch) as one:
            for body, kind, status in (
                (b"x" * 100_000, "application/x-www-form-urlencoded", 413),
                (b"user=\xff", "application/x-www-form-urlencoded", 400),
                (b"user", "application/x-www-form-urlencoded", 400),
                (b"user=alice", "application/x-www-form-urlencoded", 400),
                (b"{}", "application/json", 415),
            ):
                assert (await one.post("/login", body, Content_Type=kind)).status == status
            assert (await one.ask("PUT", "/login")).status == 401
            await one.sign_in("bob")
            assert (await one.ask("PUT", "/login", Origin=one.origin)).status == 405

    asyncio.run(run())


def test_without_users_the_log_in_says_how_to_make_one(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        async with one_site(directory, monkeypatch, users=False) as one:
            assert "hacore web user add" in (await one.get("/login")).text
            assert (await one.sign_in("alice")).status == 401
            one.file.set_user("alice", "administrator", PASSWORD)
            assert "hacore web user add" not in (await one.get("/login")).text
            assert (await one.sign_in("alice")).status == 303

    asyncio.run(run())


def test_a_page_without_a_certificate_is_a_warning(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        async with one_site(directory, monkeypatch, certificate=False) as one:
            worker = one.played.worker
            async with asyncio.timeout(20):
                while "web" not in worker.warnings:
                    await asyncio.sleep(0.01)
            assert "there is no certificate" in worker.warnings["web"]
            assert not one.site.listens
            one.played.trust(directory / "certificates")
            async with asyncio.timeout(20):
                while not one.site.listens:
                    await asyncio.sleep(0.05)
            assert "web" not in worker.warnings
            assert (await one.get("/login")).status == 200

    asyncio.run(run())


def test_what_the_first_page_weighs(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        async with one_site(directory, monkeypatch) as one:
            await one.sign_in("alice")
            page = await one.get("/")
            files = re.findall(r'(?:src|href)="(/assets/[^"]+)"', page.text)
            assert len(files) == 5
            sizes = [page.size_bytes, *[(await one.get(file)).size_bytes for file in files]]
            assert sum(sizes) < 60_000
            kept = (await one.get(files[0])).headers["Cache-Control"]
            assert "immutable" in kept

    asyncio.run(run())
