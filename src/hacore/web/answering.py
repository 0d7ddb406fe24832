"""From a `Route` to what the HTTP server calls: who asks, may they, does the request come from a page of ours, and the
answer. Everything goes through `answer`, also paths that are none, so that nothing is said to strangers.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, quote, urlsplit

import msgspec
from aiohttp import web

from hacore.control.problems import ApiError, bad_request
from hacore.errors import HacoreError
from hacore.node.event import NOT_JSON
from hacore.web.registry import Call, Route

if TYPE_CHECKING:
    from hacore.web.site import Site

FORM = "application/x-www-form-urlencoded"
JSON = "application/json"
TOKEN_FIELD = "token"
TOKEN_HEADER = "X-Hacore-Token"
BODY_TIMEOUT = 30.0

#: No code and no style but that of this node's own files; nothing of it inside of anything else.
SECURITY_HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Server": "hacore",
}

HttpHandler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def handler_of(site: Site, route: Route) -> HttpHandler:
    """What aiohttp calls for this route."""

    async def handle(request: web.Request) -> web.StreamResponse:
        call = Call(site, request, route)
        try:
            identify(call)
            _check_right(call)
            if route.method == "POST":
                await _read(call)
            _check_query(call)
            if call.role is not None:
                await site.watch.looked_at()
            return await route.handler(call)
        except ApiError as error:
            return refused(call, error)
        except HacoreError as error:
            return refused(call, ApiError(500, "failed", str(error)))

    return handle


def answering(site: Site, handler: Any) -> Any:
    """Around all that aiohttp does with a request."""
    nowhere = Route("GET", "", _nothing, "Not found")

    async def answer(request: web.Request) -> web.StreamResponse:
        try:
            response: web.StreamResponse = await handler(request)
        except web.HTTPException as error:
            response = await _no_route(Call(site, request, nowhere), error)
        except (ConnectionError, asyncio.CancelledError):
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, the worker goes on and the asker is told
            site.worker.fault(f"web: {request.method} {request.path[:100]}", error)
            call = Call(site, request, nowhere)
            identify(call)
            response = refused(call, ApiError(500, "internal", f"a fault of this node: {type(error).__name__}"))
        if not response.prepared:
            secure(response)
        return response

    return answer


def secure(response: web.StreamResponse) -> None:
    """The headers of every answer."""
    for name, value in SECURITY_HEADERS.items():
        response.headers[name] = value
    response.headers.setdefault("Cache-Control", "no-store")


async def _nothing(_call: Call) -> web.StreamResponse:
    raise ApiError(404, "not-found", "there is nothing under this path")


async def _no_route(call: Call, error: web.HTTPException) -> web.StreamResponse:
    identify(call)
    try:
        _check_right(call, origin=False)
        if isinstance(error, web.HTTPMethodNotAllowed):
            raise ApiError(405, "bad-request", f"{call.request.method} is not for this path")
        return await _nothing(call)
    except ApiError as problem:
        return refused(call, problem)


def identify(call: Call) -> None:
    """The user behind a cookie or, where the path is one for programs, a token."""
    site, request = call.site, call.request
    if call.route.by == "token" or request.path.startswith("/api/"):
        scheme, _, text = request.headers.get("Authorization", "").partition(" ")
        token = site.access.token_of(text.strip()) if scheme.lower() == "bearer" else None
        if token is not None:
            call.user, call.role = token.name, token.role
        return
    session = site.sessions.find(request.cookies.get(site.cookie, ""), time.monotonic())
    user = site.access.users.get(session.user) if session is not None else None
    if session is not None and user is not None:
        call.session, call.user, call.role = session, user.name, user.role


def _check_right(call: Call, *, origin: bool = True) -> None:
    posts = call.request.method != "GET"
    if call.route.by == "session" and posts and origin:
        _check_origin(call)
    if call.route.needs == "anyone":
        return
    if call.role is None:
        raise ApiError(401, "not-signed-in", "sign in first")
    if call.role == "viewer" and call.route.needs == "administrator":
        raise ApiError(403, "not-allowed", f"{call.user} may look, and change nothing: this needs an administrator")


def _check_origin(call: Call) -> None:
    """A browser says where a post comes from; whoever does not say it is no browser on a page of this node."""
    request = call.request
    site = request.headers.get("Sec-Fetch-Site")
    origin = request.headers.get("Origin")
    right = site == "same-origin" if site is not None else origin is not None
    if origin is not None:
        right = right and urlsplit(origin).netloc == request.host and origin.startswith("https:")
    if not right:
        raise ApiError(403, "foreign-origin", "this did not come from a page of this node")


async def _read(call: Call) -> None:
    route, request = call.route, call.request
    body = await _body(request, route.body_bytes)
    if route.by == "token":
        if route.form is not None:
            call.form = _from_json(body, route.form)
        return
    if body and request.content_type != FORM:
        raise ApiError(415, "bad-request", f"a form is {FORM}")
    try:
        pairs = parse_qsl(body.decode(), keep_blank_values=True, strict_parsing=bool(body), max_num_fields=1000)
    except ValueError:
        raise bad_request("this is no form") from None
    fields: dict[str, Any] = {}
    several = _lists(route.form)
    for name, value in pairs:
        if name in several:
            fields.setdefault(name, []).append(value)
        else:
            fields[name] = value
    token = request.headers.get(TOKEN_HEADER) or str(fields.pop(TOKEN_FIELD, ""))
    if route.needs != "anyone" and (call.session is None or not call.session.takes(token)):
        raise ApiError(403, "no-token", "this page is from an earlier session; load it again")
    if route.form is not None:
        call.form = _convert(fields, route.form, "the form")


def _lists(form: type[msgspec.Struct] | None) -> set[str]:
    """Fields that may come several times."""
    if form is None:
        return set()
    return {
        one.encode_name
        for one in msgspec.structs.fields(form)
        if isinstance(msgspec.inspect.type_info(one.type), msgspec.inspect.ListType | msgspec.inspect.VarTupleType)
    }


def _check_query(call: Call) -> None:
    if call.route.parameters is not None:
        call.parameters = _convert(dict(call.request.match_info), call.route.parameters, "the path")
    if call.route.query is not None:
        call.query = _convert(dict(call.request.query), call.route.query, "the query")


def _convert(values: Any, kind: type[msgspec.Struct], what: str) -> msgspec.Struct:
    try:
        return msgspec.convert(values, kind, strict=False)
    except (msgspec.ValidationError, ValueError) as error:
        raise bad_request(f"{what}: {error}") from None


def _from_json(body: bytes, kind: type[msgspec.Struct]) -> msgspec.Struct:
    try:
        return msgspec.json.decode(body or b"{}", type=kind)
    except NOT_JSON as error:
        raise bad_request(f"the body: {error}") from None


async def _body(request: web.Request, limit: int) -> bytes:
    received = bytearray()
    try:
        async with asyncio.timeout(BODY_TIMEOUT):
            while chunk := await request.content.readany():
                received += chunk
                if len(received) > limit:
                    raise ApiError(413, "too-large", f"a body of at most {limit} bytes is taken here")
    except TimeoutError:
        raise ApiError(408, "timed-out", f"the body did not come within {BODY_TIMEOUT:g} s") from None
    return bytes(received)


def refused(call: Call, error: ApiError) -> web.StreamResponse:
    """The answer to a request that is refused."""
    request = call.request
    if error.status in (403, 429) or (
        error.status == 401 and (request.method != "GET" or "Authorization" in request.headers)
    ):
        call.site.worker.refusals.note(
            call.by, error.code, f"{request.method} {request.path[:100]}: {error.message}"[:500]
        )
    if call.route.by == "token" or request.path.startswith("/api/"):
        response = call.json(error.body(), error.status)
        if error.status == 401:
            response.headers["WWW-Authenticate"] = 'Bearer realm="hacore"'
    elif error.status == 401 and request.method == "GET" and not call.by_htmx and _wants_page(request):
        response = web.Response(status=303, headers={"Location": f"/login?next={quote(request.path_qs, safe='')}"})
    elif call.by_htmx:
        response = call.fragment("problem.html", status=error.status, problem=error)
        if error.status == 401:
            response.headers["HX-Redirect"] = "/login"
    else:
        response = call.page("refused.html", status=error.status, problem=error)
    if error.code == "too-large" or error.status == 408:
        response.force_close()
    return response


def _wants_page(request: web.Request) -> bool:
    return "text/html" in request.headers.get("Accept", "")
