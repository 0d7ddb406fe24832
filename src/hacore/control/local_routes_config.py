"""Configuration, as the local command line asks for it: about a peer, or about this node's own revisions."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING

from msgspec import Struct

from hacore.control import routes_config
from hacore.control.config import Configuration, as_api_error
from hacore.control.config_push import COMPARE_TIMEOUT, Pushing
from hacore.control.config_rekey import Rekeying
from hacore.control.config_schemas import (
    Against,
    AllDifferences,
    AtPeer,
    ConfigAnswer,
    Differences,
    Line,
    OneRevision,
    PushOrder,
    RevisionAnswer,
    Revisions,
    RollBackOrder,
    SectionNames,
)
from hacore.control.problems import ApiError, as_problem
from hacore.control.registry import Call, Route
from hacore.control.schemas import Problem
from hacore.errors import HacoreError

if TYPE_CHECKING:
    from hacore.control.worker import ControlWorker


class PeerSections(Struct, kw_only=True):
    """A peer's side: which sections are as this node wants them, or why it does not answer."""

    name: str
    answer: ConfigAnswer | None = None
    in_sync: dict[str, bool] = {}
    problem: Problem | None = None


class ConfigStatus(Struct, kw_only=True):
    """This node's sections, and each peer's."""

    here: ConfigAnswer
    peers: list[PeerSections]


def routes(worker: ControlWorker) -> list[Route]:
    """Served on the Unix socket."""
    part = LocalHandlers(worker)
    return [
        Route("GET", "/config", part.status, "Are the peers in sync", response=ConfigStatus, query=SectionNames),
        Route(
            "GET", "/config/difference", part.difference, "What a push would change", response=Differences,
            query=SectionNames,
        ),
        Route(
            "GET", "/config/differences", part.differences, "The same for every peer", response=AllDifferences,
            query=SectionNames,
        ),
        Route("POST", "/config/push", part.push, "Push", request=PushOrder, response=Line, streams=True),
        Route("GET", "/revisions", part.revisions, "The states that were applied", response=Revisions, query=AtPeer),
        Route(
            "GET", "/revisions/{number}", part.revision, "One of them", parameters=OneRevision,
            response=RevisionAnswer, query=AtPeer,
        ),
        Route(
            "GET", "/revisions/{number}/difference", part.revision_difference, "What differs from another one",
            parameters=OneRevision, query=Against, response=Differences,
        ),
        Route(
            "POST", "/revisions/{number}/restore", part.restore, "Bring it back", parameters=OneRevision,
            request=RollBackOrder, query=AtPeer, response=Line, streams=True,
        ),
    ]  # fmt: skip


class LocalHandlers:
    """One method a route."""

    def __init__(self, worker: ControlWorker) -> None:
        self._worker = worker
        self._part = worker.part(Configuration)
        self._pushing = worker.part(Pushing)
        self._here = routes_config.Handlers(self._part, worker.part(Rekeying))

    async def status(self, call: Call) -> ConfigStatus:
        """All peers, or the one that is named."""
        names = [call.query.peer] if call.query.peer else list(self._worker.peers)
        peers = [await self._peer(name, call.query.names) for name in names]
        return ConfigStatus(here=await self._here.overview(call), peers=peers)

    async def _peer(self, name: str, sections: list[str]) -> PeerSections:
        try:
            _, there, sending = await self._pushing.compare(sections, name)
        except ApiError as error:
            return PeerSections(name=name, problem=as_problem(error))
        in_sync = {section: section in sending.unchanged for section in sending.names}
        return PeerSections(name=name, answer=there, in_sync=in_sync)

    async def difference(self, call: Call) -> Differences:
        """With one peer."""
        try:
            return await self._pushing.difference(call.query.names, call.query.peer)
        except HacoreError as error:
            raise as_api_error(error) from None

    async def differences(self, call: Call) -> AllDifferences:
        """With each peer."""
        return AllDifferences(peers=await self._pushing.differences(call.query.names))

    async def push(self, call: Call) -> AsyncGenerator[Line, None]:
        """To one peer, or to all."""
        async with aclosing(self._pushing.push(call.body)) as lines:
            async for line in lines:
                yield line

    async def revisions(self, call: Call) -> Revisions:
        """Of this node, or of a peer."""
        if call.query.peer:
            return await self._worker.peer(call.query.peer).ask("GET", "/revisions", response=Revisions)
        return await self._here.revisions(call)

    async def revision(self, call: Call) -> RevisionAnswer:
        """Of this node, or of a peer."""
        if call.query.peer:
            path = f"/revisions/{call.parameters.number}"
            return await self._worker.peer(call.query.peer).ask("GET", path, response=RevisionAnswer)
        return await self._here.revision(call)

    async def revision_difference(self, call: Call) -> Differences:
        """Of this node, or of a peer."""
        if call.query.peer:
            path, query = f"/revisions/{call.parameters.number}/difference", {"to": call.query.to}
            return await self._worker.peer(call.query.peer).ask(
                "GET", path, response=Differences, query=query, timeout=COMPARE_TIMEOUT
            )
        return await self._here.difference(call)

    async def restore(self, call: Call) -> AsyncGenerator[Line, None]:
        """On this node, or on a peer."""
        if not call.query.peer:
            async with aclosing(self._here.restore(call)) as here:
                async for line in here:
                    yield line
            return
        path = f"/revisions/{call.parameters.number}/restore"
        peer = self._worker.peer(call.query.peer)
        async with aclosing(peer.stream("POST", path, call.body, response=Line)) as there:
            async for line in there:
                yield line
