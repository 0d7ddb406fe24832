"""What the local command line may ask about this node's control worker, and about the peers."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from hacore.control import routes_node
from hacore.control.openapi import document
from hacore.control.problems import ApiError
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


class OnePeer(Struct, kw_only=True):
    """The name of a peer."""

    name: str


def routes(_worker: ControlWorker) -> list[Route]:
    """Served on the Unix socket."""
    return [
        Route("GET", "/node", routes_node.node, "Who this node is", response=NodeAnswer),
        Route("GET", "/status", routes_node.status, "This node's status", response=Snapshot),
        Route("GET", "/openapi.json", openapi, "This document", response=dict[str, Any]),
        Route("GET", "/peers", peers, "Each peer, asked who it is", response=list[PeerAnswer]),
        Route("GET", "/peers/{name}/status", peer_status, "A peer's status", response=Snapshot, parameters=OnePeer),
    ]


async def openapi(call: Call) -> dict[str, Any]:
    """Of the local routes."""
    from hacore.control.server import LOCAL_ROOT

    return document(call.worker.server.local_routes, LOCAL_ROOT, call.worker.name)


async def peers(call: Call) -> list[PeerAnswer]:
    """All at once."""

    async def one(name: str) -> PeerAnswer:
        peer = call.worker.peers[name]
        answer = PeerAnswer(
            name=name, place=str(peer.place), certificate_until=peer.trusted.not_after if peer.trusted else 0.0
        )
        try:
            answer.node = await peer.ask("GET", "/node", response=NodeAnswer)
        except ApiError as error:
            answer.problem = Problem(code=error.code, message=error.message, hint=error.hint)
        return answer

    return list(await asyncio.gather(*(one(name) for name in call.worker.peers)))


async def peer_status(call: Call) -> Snapshot:
    """As it says itself."""
    return await call.worker.peer(call.parameters.name).ask("GET", "/status", response=Snapshot)
