"""What the local command line may ask about this node's control worker, and about the peers."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from hacore import __version__
from hacore.control import routes_node
from hacore.control.openapi import document
from hacore.control.problems import ApiError, as_problem
from hacore.control.registry import Call, Route
from hacore.control.schemas import NodeAnswer, Problem
from hacore.node.snapshot import Snapshot

if TYPE_CHECKING:
    from hacore.control.worker import ControlWorker


class PeerAnswer(Struct, kw_only=True):
    """A peer of the settings: what it answers, or why it does not; until when its certificate holds (0: none)."""

    name: str
    place: str
    node: NodeAnswer | None = None
    problem: Problem | None = None
    certificate_until: float = 0.0


class Condition(Struct, kw_only=True):
    """The control worker itself: where peers find it, whether they can, and how many requests it has refused."""

    version: str
    listen: str
    listens: bool
    warnings: list[str]
    refused: int


class OnePeer(Struct, kw_only=True):
    """The name of a peer."""

    name: str


def routes(_worker: ControlWorker) -> list[Route]:
    """Served on the Unix socket."""
    return [
        Route("GET", "/node", routes_node.node, "Who this node is", response=NodeAnswer),
        Route("GET", "/status", routes_node.status, "This node's status", response=Snapshot),
        Route("GET", "/openapi.json", openapi, "This document", response=dict[str, Any]),
        Route("GET", "/control", control, "How the control worker is", response=Condition),
        Route("GET", "/peers", peers, "Each peer, asked who it is", response=list[PeerAnswer]),
        Route("GET", "/peers/{name}/status", peer_status, "A peer's status", response=Snapshot, parameters=OnePeer),
    ]


async def openapi(call: Call) -> dict[str, Any]:
    """Of the local routes."""
    from hacore.control.server import LOCAL_ROOT

    return document(call.worker.server.local_routes, LOCAL_ROOT, call.worker.name)


async def control(call: Call) -> Condition:
    """As it is at this moment."""
    worker = call.worker
    settings = worker.settings.control
    assert settings is not None
    return Condition(
        version=__version__, listen=str(settings.listen), listens=worker.server.listens,
        warnings=list(worker.warnings.values()), refused=worker.refusals.total,
    )  # fmt: skip


async def peers(call: Call) -> list[PeerAnswer]:
    """All at once."""

    async def one(name: str) -> PeerAnswer:
        peer = call.worker.peers[name]
        answer = PeerAnswer(
            name=name,
            place=str(peer.place),
            certificate_until=max((one.not_after for one in peer.trusted), default=0.0),
        )
        try:
            answer.node = await peer.ask("GET", "/node", response=NodeAnswer)
        except ApiError as error:
            answer.problem = as_problem(error)
        return answer

    return list(await asyncio.gather(*(one(name) for name in call.worker.peers)))


async def peer_status(call: Call) -> Snapshot:
    """As it says itself."""
    return await call.worker.peer(call.parameters.name).ask("GET", "/status", response=Snapshot)
