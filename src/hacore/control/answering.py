"""From a `Route` to what the HTTP server calls: who asks, may it, is the request well made, and the answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any, cast

import msgspec
from aiohttp import web

from hacore import __version__
from hacore.control.problems import ApiError, bad_request
from hacore.control.registry import Call, Route, convert
from hacore.control.schemas import API_HEADER, API_VERSION, VERSION_HEADER
from hacore.errors import HacoreError
from hacore.node.event import NOT_JSON

if TYPE_CHECKING:
    from hacore.control.worker import ControlWorker

JSON = "application/json"
LINES = "application/x-ndjson"
LOCAL = "the local command line"
#: Between two parts of a body; one that comes slower holds up a connection for nothing.
BODY_TIMEOUT = 30.0

HttpHandler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def handler_of(worker: ControlWorker, route: Route, local: bool) -> HttpHandler:
    """What aiohttp calls for this route."""

    async def handle(request: web.Request) -> web.StreamResponse:
        call = _called(worker, route, request, local)
        try:
            if not local:
                _check_version(route, call)
                _check_right(worker, route, call)
            await _read(call)
            if route.streams:
                return await _stream(call)
            return as_json(200, await cast("Callable[[Call], Awaitable[object]]", route.handler)(call))
        except ApiError as error:
            return refused(worker, request, call.asker, error, local)
        except HacoreError as error:
            problem = ApiError(500, _code_of(error), str(error), exit_code=error.exit_code)
            return refused(worker, request, call.asker, problem, local)

    return handle


def refuse_unknown(worker: ControlWorker, *, local: bool) -> Any:
    """Middleware: unknown paths, wrong methods and faults of this node are answered as JSON, too."""

    @web.middleware
    async def middleware(request: web.Request, handler: HttpHandler) -> web.StreamResponse:
        asker = LOCAL if local else request.remote or "?"
        try:
            return await handler(request)
        except web.HTTPException as error:
            problem = _http_problem(request, error)
            return refused(worker, request, asker, problem, local)
        except (ConnectionError, asyncio.CancelledError):
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, the worker goes on and the asker is told
            worker.fault(f"{request.method} {request.path}", error)
            problem = ApiError(500, "internal", f"a fault of this node: {type(error).__name__}: {error}")
            return refused(worker, request, asker, problem, local)

    return middleware


def refused(worker: ControlWorker, request: web.Request, asker: str, error: ApiError, local: bool) -> web.Response:
    """The answer to a request that is refused, and its line in the event history."""
    if not local:
        worker.refusals.note(asker, error.code, f"{request.method} {request.path}: {error.message}"[:500])
    response = as_json(error.status, error.body())
    if error.code == "too-large" or error.status == 408:
        response.force_close()
    return response


def _called(worker: ControlWorker, route: Route, request: web.Request, local: bool) -> Call:
    call = Call(worker, request, route, "", LOCAL)
    if local:
        return call
    certificate = call.certificate
    call.peer = worker.identify(certificate) if certificate else ""
    source = request.remote or "?"
    without = "its certificate is not trusted any more" if certificate else "no certificate"
    call.asker = f"{call.peer} ({source})" if call.peer else f"{source} ({without})"
    return call


def _check_version(route: Route, call: Call) -> None:
    said = call.header(API_HEADER)
    if said and said != str(API_VERSION) and route.path != "/node":
        raise ApiError(
            400, "version",
            f"{call.worker.name} runs hacore {__version__} with version {API_VERSION} of the node API, "
            f"not hacore {call.header(VERSION_HEADER) or '?'} with version {said[:20]}",
            "run the same version of hacore on both nodes",
        )  # fmt: skip


def _check_right(worker: ControlWorker, route: Route, call: Call) -> None:
    if route.needs == "anyone":
        return
    if not call.certificate:
        raise ApiError(
            403, "no-certificate", "this needs the certificate of a paired node",
            "pair the nodes: hacore pair invite, then hacore pair join",
        )  # fmt: skip
    if not call.peer:
        raise ApiError(
            403, "certificate-revoked", f"{worker.name} does not trust this certificate any more", "pair the nodes anew"
        )
    if route.needs != "peer" and not worker.allows(call.peer, route.needs):
        raise ApiError(
            403, "not-allowed", f'{worker.name} does not give {call.peer} the right "{route.needs}"',
            f'its settings say what a peer may do: [[peer]] name = "{call.peer}", allow = [...]',
        )  # fmt: skip


async def _read(call: Call) -> None:
    """The parameters, the query and the body as the route's structs."""
    request, route = call.request, call.route
    if route.parameters is not None:
        call.parameters = convert(route.parameters, dict(request.match_info), "the path")
    if route.query is not None:
        call.query = convert(route.query, dict(request.query), "the query")
    if route.raw_body:
        return
    body = await _body(request, route.body_bytes)
    if route.request is None:
        if body:
            raise bad_request("this takes no body")
        return
    if request.content_type != JSON:
        raise ApiError(415, "bad-request", f"the body is to be {JSON}, not {request.content_type[:100]}")
    try:
        call.body = msgspec.json.decode(body, type=route.request)
    except NOT_JSON as error:
        raise bad_request(f"the body: {error}") from None


async def _body(request: web.Request, limit: int) -> bytes:
    too_large = ApiError(413, "too-large", f"a body of at most {limit} bytes is taken here")
    if (request.content_length or 0) > limit:
        raise too_large
    received = bytearray()
    while True:
        try:
            async with asyncio.timeout(BODY_TIMEOUT):
                chunk = await request.content.readany()
        except TimeoutError:
            raise ApiError(408, "timed-out", f"nothing more of the body came within {BODY_TIMEOUT:g} s") from None
        if not chunk:
            return bytes(received)
        received += chunk
        if len(received) > limit:
            raise too_large


async def _stream(call: Call) -> web.StreamResponse:
    """One JSON line for each that the handler yields; a refusal after the first is the last line."""
    lines = cast("Callable[[Call], AsyncIterator[object]]", call.route.handler)(call)
    try:
        line: object | None = await anext(lines, None)
        response = web.StreamResponse(headers={"Content-Type": LINES})
        response.enable_chunked_encoding()
        await response.prepare(call.request)
        try:
            while line is not None:
                await response.write(msgspec.json.encode(line) + b"\n")
                line = await anext(lines, None)
        except ApiError as error:
            await response.write(msgspec.json.encode(error.body()) + b"\n")
        except HacoreError as error:
            await response.write(msgspec.json.encode(ApiError(500, _code_of(error), str(error)).body()) + b"\n")
        await response.write_eof()
        return response
    finally:
        if hasattr(lines, "aclose"):
            await lines.aclose()


def as_json(status: int, value: object) -> web.Response:
    """An answer whose body is `value`."""
    return web.Response(status=status, body=msgspec.json.encode(value), content_type=JSON)


def _code_of(error: HacoreError) -> str:
    """NotRunning -> "not-running"."""
    name = type(error).__name__
    return "".join(f"-{letter.lower()}" if letter.isupper() else letter for letter in name).lstrip("-")


def _http_problem(request: web.Request, error: web.HTTPException) -> ApiError:
    if isinstance(error, web.HTTPMethodNotAllowed):
        allowed = ", ".join(sorted(error.allowed_methods))
        return ApiError(405, "bad-request", f"{request.method} is not for this path; it takes {allowed}")
    if isinstance(error, web.HTTPNotFound):
        return ApiError(404, "not-found", "there is nothing under this path")
    return ApiError(error.status, "bad-request", error.reason or str(error))
