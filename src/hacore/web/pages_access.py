"""Signing in and out, and the files that pages are made of."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from aiohttp import web
from msgspec import Struct

from hacore.control.problems import ApiError
from hacore.web.registry import Call, Route
from hacore.web.sessions import LONGEST
from hacore.web.wording import duration

if TYPE_CHECKING:
    from hacore.web.site import Site

#: What the page of those who have not signed in is made of.
PUBLIC = ("page.css", "icon.svg")
#: Passwords looked at at once: each takes 32 MiB and a good part of a processor.
PASSWORDS_AT_ONCE = 2


class SignIn(Struct, kw_only=True):
    """What the form brings; `next` is where one wanted to go."""

    user: str
    password: str
    next: str = "/"


class Wanted(Struct, kw_only=True):
    """Where one wanted to go."""

    next: str = "/"


class OneAsset(Struct, kw_only=True):
    """A file of `assets/`."""

    name: str


class OneFeed(Struct, kw_only=True):
    """The feed of a page."""

    feed: str


def routes(site: Site) -> list[Route]:
    """Found by the module's name."""
    doors = Doors(site)
    return [
        Route("GET", "/login", doors.show, "Sign in", needs="anyone", query=Wanted),
        Route("POST", "/login", doors.sign_in, "Sign in", needs="anyone", form=SignIn),
        Route("GET", "/login/assets/{name}", public_asset, "Style", needs="anyone", parameters=OneAsset),
        Route("POST", "/logout", doors.sign_out, "Sign out"),
        Route("GET", "/assets/{name}", asset, "Style and scripts", parameters=OneAsset),
        Route("GET", "/live/{feed}", live, "What changes on a page", parameters=OneFeed),
    ]


class Doors:
    """Signing in and out."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._checking = asyncio.Semaphore(PASSWORDS_AT_ONCE)

    async def show(self, call: Call) -> web.Response:
        """The form."""
        if call.session is not None:
            return call.redirect(_inside(call.query.next))
        self._site.refresh_access()
        return self._form(call, _inside(call.query.next))

    def _form(self, call: Call, wanted: str, problem: str = "", status: int = 200) -> web.Response:
        return call.page(
            "login.html", status=status, wanted=wanted, problem=problem, nobody=not self._site.access.users
        )

    async def sign_in(self, call: Call) -> web.Response:
        """The same answer in the same time, whether the user or the password is wrong."""
        site, form = self._site, call.form
        keys = [f"address {call.address}", f"user {form.user[:64]}"]
        async with self._checking:
            site.refresh_access()
            if wait := site.lockout.locked_for(keys, time.monotonic()):
                self._note(call, "locked", f"signing in as {form.user[:64]!r} is locked after ten wrong passwords")
                text = f"Too many wrong passwords. Try again in {duration(wait + 1)}."
                response = self._form(call, _inside(form.next), text, 429)
                response.headers["Retry-After"] = str(int(wait) + 1)
                return response
            user = await asyncio.to_thread(site.access.user_of, form.user, form.password)
            if user is None:
                site.lockout.wrong(keys, time.monotonic())
                self._note(call, "wrong-password", f"wrong user or password for {form.user[:64]!r}")
                return self._form(call, _inside(form.next), "Wrong user or password.", 401)
        site.lockout.right(keys)
        if call.session is not None:
            site.sessions.close(call.session)
        cookie = site.sessions.open(user.name, user.changed, call.address, time.monotonic())
        call.user = user.name
        call.record("signed in")
        response = call.redirect(_inside(form.next))
        response.set_cookie(
            site.cookie, cookie, path="/", secure=True, httponly=True, samesite="Strict", max_age=int(LONGEST)
        )
        return response

    def _note(self, call: Call, code: str, text: str) -> None:
        self._site.worker.refusals.note(f"web: {call.address}", code, text)

    async def sign_out(self, call: Call) -> web.Response:
        """Ends the session."""
        assert call.session is not None
        self._site.sessions.close(call.session)
        call.record("signed out")
        response = call.redirect("/login")
        response.del_cookie(self._site.cookie, path="/", secure=True, httponly=True, samesite="Strict")
        return response


def _inside(path: str) -> str:
    """A path of this page, whatever somebody wrote into the address."""
    if not path.startswith("/") or path.startswith(("//", "/\\", "/login", "/live")) or not path.isprintable():
        return "/"
    return path


async def public_asset(call: Call) -> web.Response:
    """A file that the log-in needs."""
    if call.parameters.name not in PUBLIC:
        raise ApiError(404, "not-found", "there is no such file")
    return call.site.rendering.asset(call, call.parameters.name)


async def asset(call: Call) -> web.Response:
    """A file."""
    if call.parameters.name not in call.site.rendering.assets:
        raise ApiError(404, "not-found", "there is no such file")
    return call.site.rendering.asset(call, call.parameters.name)


async def live(call: Call) -> web.StreamResponse:
    """Until the page is closed."""
    return await call.site.live.stream(call, call.parameters.feed)
