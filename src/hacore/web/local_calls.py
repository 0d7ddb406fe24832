"""The handlers behind the local command line, called by the page and its API: what both do is done by the same code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from hacore.control.registry import Call, Route

if TYPE_CHECKING:
    from aiohttp import web

    from hacore.control.worker import ControlWorker


async def _never(_call: Call) -> object:
    raise NotImplementedError


_ROUTE = Route("POST", "", _never, "Asked for on the page")


def local_call(worker: ControlWorker, by: str, *, query: Any = None, body: Any = None, parameters: Any = None) -> Call:
    """A call as a handler of `control.local_routes_*` gets it; `by` is who asks. There is no HTTP request behind it."""
    return Call(worker, cast("web.Request", None), _ROUTE, "", by, body, query, parameters)
