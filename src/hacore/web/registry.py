"""How a page is plugged in: one module `web/pages_NAME.py` with a function `routes`, and nothing to be listed anywhere.

    def routes(site: Site) -> list[Route]:
        return [
            Route("GET", "/vips", show, "Virtual IPs", menu=20),
            Route("POST", "/vips/maintenance", maintenance, "Enter maintenance", needs="administrator", form=Enter),
        ]

A handler gets a `Call` and returns an aiohttp response: `call.page(...)`, `call.fragment(...)`, `call.redirect(...)`,
`call.json(...)`. It refuses with `ApiError`; any other exception is a fault of this node. Who may do what is the
route's `needs` alone, checked before the handler is called.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

import msgspec
from aiohttp import web

from hacore.web.access import Role
from hacore.web.sessions import Session

if TYPE_CHECKING:
    from hacore.web.site import Site

Method = Literal["GET", "POST"]
Needs = Literal["anyone", "viewer", "administrator"]
Handler = Callable[["Call"], Awaitable[web.StreamResponse]]

BODY_BYTES = 64 << 10


@dataclass(frozen=True, slots=True)
class Route:
    """One path. `parameters`, `query` and `form` are structs that the path's `{names}`, the query string and the form
    (or, for programs, the JSON body) are converted to.

    `by`: a "session" is that of a browser, and its posts have to bring their token; a "token" stands in the header
    Authorization, and answers, also refusals, are JSON or text. `menu` is the place in the navigation, 0 for none.
    """

    method: Method
    path: str
    handler: Handler
    title: str
    needs: Needs = "viewer"
    by: Literal["session", "token"] = "session"
    form: type[msgspec.Struct] | None = None
    parameters: type[msgspec.Struct] | None = None
    query: type[msgspec.Struct] | None = None
    menu: int = 0
    body_bytes: int = BODY_BYTES


@dataclass(slots=True)
class Call:
    """One request, with who asks and what it brought checked."""

    site: Site
    request: web.Request
    route: Route
    user: str = ""
    role: Role | None = None
    session: Session | None = None
    form: Any = None
    parameters: Any = None
    query: Any = None
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def by(self) -> str:
        """For messages and the event history: `web: alice (10.0.0.7)`."""
        kind = "web" if self.route.by == "session" else "API token"
        return f"{kind}: {self.user or 'nobody'} ({self.address})"

    @property
    def address(self) -> str:
        """Where the request comes from."""
        return self.request.remote or "?"

    @property
    def may_act(self) -> bool:
        """Whether buttons are to be shown."""
        return self.role == "administrator"

    @property
    def by_htmx(self) -> bool:
        """Whether a part of a page is wanted, not a whole one."""
        return "HX-Request" in self.request.headers

    def page(self, template: str, *, status: int = 200, feed: str = "", **values: Any) -> web.Response:
        """A whole page. With `feed` the regions of that feed are in it and live; see `live`."""
        return self.site.rendering.page(self, template, status, feed, values)

    def fragment(self, template: str, *, status: int = 200, **values: Any) -> web.Response:
        """A part of a page, for htmx."""
        return self.site.rendering.fragment(self, template, status, values)

    def redirect(self, path: str) -> web.Response:
        """See there (303)."""
        kind = "HX-Redirect" if self.by_htmx else "Location"
        return web.Response(status=204 if self.by_htmx else 303, headers={kind: path})

    def json(self, value: object, status: int = 200) -> web.Response:
        """For programs."""
        return web.Response(status=status, body=msgspec.json.encode(value), content_type="application/json")

    def record(self, text: str, *, vip: str = "", **fields: str | float | bool | None) -> None:
        """A line of the event history that says who did it."""
        self.site.worker.record("web", f"{self.by}: {text}", vip=vip, user=self.user, address=self.address, **fields)


def collect(site: Site) -> list[Route]:
    """The routes of all modules of this package whose names begin with `pages_`, in the modules' order."""
    import hacore.web as package

    names = sorted(found.name for found in pkgutil.iter_modules(package.__path__) if found.name.startswith("pages_"))
    routes: list[Route] = []
    for name in names:
        routes += import_module(f"hacore.web.{name}").routes(site)
    return routes


def menu(routes: list[Route]) -> Mapping[str, str]:
    """Title by path, in the navigation's order."""
    shown = sorted((route.menu, route.path, route.title) for route in routes if route.menu)
    return {path: title for _place, path, title in shown}
