"""Configuration, as peers ask for it: how the sections are, a push in three steps, the revisions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING

import msgspec

from hacore import __version__
from hacore.configsync.guards import receiver_objections, standing
from hacore.configsync.manifest import Manifest
from hacore.configsync.report import Outcome
from hacore.control import config_history
from hacore.control.config import Configuration, as_api_error
from hacore.control.config_differences import read_files
from hacore.control.config_rekey import Rekeying
from hacore.control.config_schemas import (
    Against,
    ConfigAnswer,
    Differences,
    Files,
    Line,
    OneRevision,
    OneSection,
    Rekeyed,
    RevisionAnswer,
    Revisions,
    RollBackOrder,
    SectionNames,
    Transaction,
    WantedFiles,
)
from hacore.control.contents import Contents
from hacore.control.figures import Figures
from hacore.control.problems import ApiError
from hacore.control.registry import Call, Route
from hacore.errors import HacoreError
from hacore.node.config_node import Guarded, Opened, PushRequest
from hacore.node.settings import Right

if TYPE_CHECKING:
    from hacore.control.worker import ControlWorker

#: Of the manifests in a push: some 200 bytes an entry, at most 200,000 entries.
PUSH_BYTES = 64 << 20
MOST_FILES = 500
#: Between two parts of the contents.
CONTENT_TIMEOUT = 30.0


def routes(worker: ControlWorker) -> list[Route]:
    """Served to the peers."""
    part = Handlers(worker.part(Configuration), worker.part(Rekeying))
    config: Right = "config"
    return [
        Route(
            "GET", "/config", part.overview, "How the sections are", response=ConfigAnswer, query=SectionNames,
            needs=config,
        ),
        Route(
            "GET", "/config/manifest", part.manifest, "All entries of a section", response=Manifest, query=OneSection,
            needs=config,
        ),
        Route(
            "POST", "/config/files", part.files, "Contents of files, to show a difference", request=WantedFiles,
            response=Files, needs=config,
        ),
        Route(
            "POST", "/push", part.open, "Begin a push; answers what contents are lacking", request=PushRequest,
            response=Opened, needs=config, body_bytes=PUSH_BYTES,
        ),
        Route(
            "PUT", "/push/{transaction}/objects", part.objects, "The contents that were lacking",
            parameters=Transaction, response=Transaction, needs=config, raw_body=True,
        ),
        Route(
            "POST", "/push/{transaction}/commit", part.commit, "Check, swap, apply and verify", parameters=Transaction,
            response=Line, needs=config, streams=True,
        ),
        Route(
            "DELETE", "/push/{transaction}", part.discard, "Give a push up before its commit", parameters=Transaction,
            response=Transaction, needs=config,
        ),
        Route("GET", "/revisions", part.revisions, "The states that were applied", response=Revisions, needs=config),
        Route(
            "GET", "/revisions/{number}", part.revision, "One of them", parameters=OneRevision,
            response=RevisionAnswer, needs=config,
        ),
        Route(
            "GET", "/revisions/{number}/difference", part.difference, "What differs from another one",
            parameters=OneRevision, query=Against, response=Differences, needs=config,
        ),
        Route(
            "POST", "/revisions/{number}/restore", part.restore, "Bring it back", parameters=OneRevision,
            request=RollBackOrder, response=Line, needs=config, streams=True,
        ),
        Route(
            "POST", "/rekeyed", part.rekeyed, "Which VHIDs' new addresses and passwords are known here",
            request=Rekeyed, response=Rekeyed, needs=config,
        ),
    ]  # fmt: skip


class Handlers:
    """One method a route."""

    def __init__(self, part: Configuration, rekeying: Rekeying) -> None:
        self._part, self._rekeying = part, rekeying

    async def overview(self, call: Call) -> ConfigAnswer:
        """Of the sections named, or all of this node's settings."""
        node = self._part.node
        sections = await self._part.read(lambda: node.overview(call.query.names))
        return ConfigAnswer(name=call.worker.name, version=__version__, busy=node.busy, sections=sections)

    async def manifest(self, call: Call) -> Manifest:
        """As it is compared."""
        return await self._part.read(lambda: self._part.node.manifest(call.query.section))

    async def files(self, call: Call) -> Files:
        """Settings without their secrets."""
        wanted: WantedFiles = call.body
        if len(wanted.paths) > MOST_FILES:
            raise ApiError(400, "bad-request", f"at most {MOST_FILES} files at once")
        node = self._part.node
        return await self._part.read(lambda: read_files(node, wanted))

    async def open(self, call: Call) -> Opened:
        """The sender is who its certificate says."""
        asked: PushRequest = msgspec.structs.replace(call.body, sender=call.peer)
        return await self._part.read(lambda: self._part.node.open(asked))

    async def objects(self, call: Call) -> Transaction:
        """One stream; a piece is written while the next one comes. A part that is wrong ends the push."""
        node, transaction = self._part.node, call.parameters.transaction
        try:
            node.opened(transaction)
            length = call.request.content_length if call.request.body_exists else 0
            if length is None:
                raise ApiError(411, "bad-request", "the contents come with a Content-Length")
            async with Contents(call.request, length) as contents:
                writing = asyncio.ensure_future(_nothing())
                while (piece := await contents.next(CONTENT_TIMEOUT)) is not None:
                    await writing
                    writing = asyncio.ensure_future(
                        self._part.write(lambda piece=piece: node.take(transaction, piece))  # type: ignore[misc]
                    )
                    writing.add_done_callback(lambda _, piece=piece: contents.give_back(piece))  # type: ignore[misc]
                await writing
                return Transaction(transaction=transaction)
        except HacoreError as error:
            await self._part.write(lambda: node.discard(transaction))
            raise as_api_error(error) from None
        except TimeoutError:
            await self._part.write(lambda: node.discard(transaction))
            raise ApiError(408, "timed-out", f"no more of the contents came within {CONTENT_TIMEOUT:g} s") from None
        except OSError:  # the sender is gone, or the disk
            await self._part.write(lambda: node.discard(transaction))
            raise

    async def commit(self, call: Call) -> AsyncGenerator[Line, None]:
        """Goes on to its end, whoever listens."""
        node, transaction = self._part.node, call.parameters.transaction
        try:
            node.opened(transaction)
        except HacoreError as error:
            raise as_api_error(error) from None
        figures, peer = call.worker.part(Figures), call.peer
        ended = False

        def count(outcome: Outcome) -> None:
            nonlocal ended
            ended = True
            figures.push_ended("from", peer, outcome.result)

        try:
            async with aclosing(self._part.run(lambda report: node.commit(transaction, report), count)) as lines:
                async for line in lines:
                    yield line
        except ApiError:
            if not ended:
                figures.push_ended("from", peer, "failed")
            raise

    async def discard(self, call: Call) -> Transaction:
        """Nothing had changed."""
        transaction = call.parameters.transaction
        await self._part.read(lambda: self._part.node.discard(transaction))
        return Transaction(transaction=transaction)

    async def revisions(self, _call: Call) -> Revisions:
        """The oldest first."""
        return await self._part.read(lambda: config_history.history(self._part.node))

    async def revision(self, call: Call) -> RevisionAnswer:
        """With its entries."""
        return await self._part.read(lambda: config_history.show(self._part.node, call.parameters.number))

    async def difference(self, call: Call) -> Differences:
        """For people."""
        number, to = call.parameters.number, call.query.to
        return await self._part.read(lambda: config_history.compare(self._part.node, number, to))

    async def restore(self, call: Call) -> AsyncGenerator[Line, None]:
        """Goes on to its end, whoever listens. A peer has to say so where this node is MASTER."""
        if call.peer:
            states = call.worker.states
            objections = receiver_objections(call.worker.name, states, __version__, call.peer, __version__, [])
            if left := standing(objections, call.body.overrides):
                raise as_api_error(Guarded(left))
        number, restart = call.parameters.number, call.body.restart
        by = call.peer or call.worker.name
        node = self._part.node
        work = self._part.run(lambda report: node.roll_back(number, report, by=by, restart=restart))
        async with aclosing(work) as lines:
            async for line in lines:
                yield line

    async def rekeyed(self, call: Call) -> Rekeyed:
        """The peer has these keys; where they are this node's own too, and every other peer has them, the old go."""
        await self._rekeying.heard(call.peer, call.body.keys)
        try:
            return Rekeyed(keys=await self._rekeying.in_force())
        except HacoreError as error:
            raise ApiError(503, "not-running", f"the election here does not say what keys it has: {error}") from None


async def _nothing() -> None:
    """What was written before the first piece."""
