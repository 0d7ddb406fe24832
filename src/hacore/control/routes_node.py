"""Who this node is, what it says of itself, and the description of its API."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import msgspec

from hacore import __version__
from hacore.control.openapi import document
from hacore.control.problems import ApiError
from hacore.control.registry import Call, Route
from hacore.control.schemas import API_VERSION, NodeAnswer, VipRole
from hacore.errors import HacoreError
from hacore.node.snapshot import Snapshot

if TYPE_CHECKING:
    from hacore.control.worker import ControlWorker


def routes(_worker: ControlWorker) -> list[Route]:
    """Served to the peers."""
    return [
        Route("GET", "/node", node, "Who this node is, and its state in each VIP", response=NodeAnswer),
        Route("GET", "/status", status, "All that `hacore status --json` says", response=Snapshot, needs="status"),
        Route("GET", "/openapi.json", openapi, "This document", response=dict[str, Any]),
    ]


async def node(call: Call) -> NodeAnswer:
    """`you` is the name by which this node knows the one that asks."""
    worker = call.worker
    return NodeAnswer(
        name=worker.name,
        version=__version__,
        api=API_VERSION,
        vips=[VipRole(name=vip.name, state=worker.states.get(vip.name, "INIT")) for vip in worker.settings.vips],
        started=worker.started,
        now=time.time(),
        you=call.peer,
    )


async def status(call: Call) -> Snapshot:
    """What the supervisor says, at this moment."""
    try:
        return msgspec.convert(await call.worker.bus.request("status"), Snapshot)
    except HacoreError as error:
        raise ApiError(503, "not-running", f"the supervisor of {call.worker.name} does not answer: {error}") from None


async def openapi(call: Call) -> dict[str, Any]:
    """Made anew each time: it is asked for by people and tests."""
    from hacore.control.server import PEER_ROOT

    return document(call.worker.server.peer_routes, PEER_ROOT, call.worker.name)
