"""How a part of the API is plugged in: one module with a function `routes`, and nothing to be listed anywhere.

    control/routes_NAME.py         served to the peers, under /v1
    control/local_routes_NAME.py   served to the local command line, under /local/v1

    def routes(worker: ControlWorker) -> list[Route]:
        services = worker.part(Services)
        return [Route("GET", "/services", services.list, "The services", response=ServiceList, right="services")]

A handler gets a `Call` and returns the struct of its answer, or, where the route `streams`, yields the lines of one.
It refuses with `ApiError`; any other exception is a fault of this node.
"""

from __future__ import annotations

import pkgutil
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import msgspec

from hacore.control.problems import bad_request
from hacore.node.settings import Right

if TYPE_CHECKING:
    from aiohttp import web

    from hacore.control.worker import ControlWorker

Method = Literal["GET", "POST", "PUT", "DELETE"]
#: "anyone" needs no certificate, "peer" any that is trusted; the others are given by `[[peer]] allow`.
Needs = Right | Literal["anyone", "peer"]
Handler = Callable[["Call"], Awaitable[object]] | Callable[["Call"], AsyncIterator[object]]

SMALL_BODY_BYTES = 64 << 10

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Route:
    """One operation.

    `path` is relative to the version's root and may hold `{names}`; `parameters` and `query` are structs that these
    and the query string are converted to. `request` is the struct of the JSON body. With `raw_body` the handler reads
    `call.request.content` itself, of whatever size. `response` is the struct of the answer, or of each line (NDJSON)
    of one that `streams`. `needs` is the right that a peer must have.
    """

    method: Method
    path: str
    handler: Handler
    summary: str
    request: type[Any] | None = None
    response: Any = dict
    needs: Needs = "peer"
    query: type[msgspec.Struct] | None = None
    parameters: type[msgspec.Struct] | None = None
    streams: bool = False
    raw_body: bool = False
    body_bytes: int = SMALL_BODY_BYTES


@dataclass(slots=True)
class Call:
    """One request, with what it brought checked: `body`, `query` and `parameters` are the route's structs.

    `peer` is the name of the node that asks, or "" where it has no certificate or is the local command line. `asker`
    says it for messages: `fw2`, `10.9.0.7 (no certificate)`, `the local command line`.
    """

    worker: ControlWorker
    request: web.Request
    route: Route
    peer: str
    asker: str
    body: Any = None
    query: Any = None
    parameters: Any = None

    @property
    def certificate(self) -> bytes:
        """DER of the certificate that the other side showed, empty without one."""
        transport = self.request.transport
        tls = transport.get_extra_info("ssl_object") if transport is not None else None
        return (tls.getpeercert(binary_form=True) if tls is not None else None) or b""

    @property
    def header(self) -> Callable[[str], str]:
        """The value of a request's header, "" without."""
        return lambda name: self.request.headers.get(name, "")


def convert(kind: type[T], values: Any, what: str) -> T:
    """Strings to a struct of this kind; raises ApiError that names the field."""
    try:
        return msgspec.convert(values, kind, strict=False)
    except (msgspec.ValidationError, ValueError) as error:
        raise bad_request(f"{what}: {error}") from None


def collect(worker: ControlWorker, prefix: Literal["routes_", "local_routes_"]) -> list[Route]:
    """The routes of all modules of this package whose names begin so, in the modules' order."""
    import hacore.control as package

    names = sorted(found.name for found in pkgutil.iter_modules(package.__path__) if found.name.startswith(prefix))
    routes: list[Route] = []
    for name in names:
        routes += import_module(f"hacore.control.{name}").routes(worker)
    return routes
