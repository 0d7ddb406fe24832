"""This node as the one that pushes: guards, comparison, the stream of contents, and what the peer says meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from hacore import __version__
from hacore.configsync.guards import sender_objections, standing
from hacore.configsync.manifest import Manifest
from hacore.configsync.report import Outcome, Progress
from hacore.configsync.stream import stream_bytes
from hacore.control.client import CONNECT_TIMEOUT, SILENCE_TIMEOUT, PeerClient
from hacore.control.config import Configuration, as_api_error
from hacore.control.config_differences import from_files, section_difference, texts_wanted
from hacore.control.config_rekey import Rekeying
from hacore.control.config_schemas import (
    ConfigAnswer,
    Differences,
    Files,
    Line,
    PeerDifference,
    PushOrder,
    SectionDifference,
    Transaction,
    WantedFiles,
)
from hacore.control.figures import Figures
from hacore.control.heartbeat import with_heartbeat
from hacore.control.problems import ApiError, as_problem
from hacore.control.schemas import NodeAnswer
from hacore.errors import HacoreError
from hacore.node.config_node import Guarded, Opened
from hacore.node.config_sections import SectionStatus
from hacore.node.config_sending import Sending
from hacore.node.control_snapshot import PushResult

if TYPE_CHECKING:
    from hacore.control.worker import ControlWorker

TELL_INTERVAL = 0.1
#: The peer reads its files, perhaps all of them for the first time.
COMPARE_TIMEOUT = 600.0


class Pushing:
    """A part of the worker."""

    def __init__(self, worker: ControlWorker) -> None:
        self._worker = worker
        self._part = worker.part(Configuration)
        self._rekeying = worker.part(Rekeying)
        self._figures = worker.part(Figures)

    async def compare(self, names: list[str], peer: str) -> tuple[PeerClient, ConfigAnswer, Sending]:
        """This node's sections and the peer's, read at the same time."""
        client = self._worker.peer(peer)
        node = self._part.node
        asked = names or await self._part.read(lambda: node.sections().names)
        if not asked:
            raise ApiError(400, "not-configured", "the settings have no [[section]]: there is nothing to push")
        there, sending = await asyncio.gather(
            client.ask(
                "GET", "/config", response=ConfigAnswer, query={"sections": ",".join(asked)}, timeout=COMPARE_TIMEOUT
            ),
            self._part.read(lambda: Sending(node, asked)),
        )
        await self._part.read(lambda: sending.compare(there.sections))
        return client, there, sending

    # Differences

    async def difference(self, names: list[str], peer: str) -> Differences:
        """What a push would change on the peer."""
        client, there, sending = await self.compare(names, peer)
        known = {each.id: each for each in there.sections}
        found = [await self._section(client, sending, name, known.get(name)) for name in sending.names]
        return Differences(old=client.name, new=self._worker.name, sections=found)

    async def differences(self, names: list[str]) -> list[PeerDifference]:
        """The same for every peer; raises ApiError where the settings name none."""
        if not self._worker.peers:
            self._worker.peer()
        found = []
        for name in self._worker.peers:
            try:
                found.append(PeerDifference(name=name, difference=await self.difference(names, name)))
            except HacoreError as error:
                found.append(PeerDifference(name=name, problem=as_problem(as_api_error(error))))
        return found

    async def _section(
        self, client: PeerClient, sending: Sending, name: str, there: SectionStatus | None
    ) -> SectionDifference:
        if there is None or there.problem:
            return SectionDifference(
                id=name, in_sync=False, problem=there.problem if there else f"{client.name} has none"
            )
        if name in sending.unchanged:
            return SectionDifference(id=name, changed_there=there.changed)
        old = await client.ask(
            "GET", "/config/manifest", response=Manifest, query={"section": name}, timeout=COMPARE_TIMEOUT
        )
        new = sending.wanted(name, there)
        wanted = WantedFiles(section=name, paths=texts_wanted(old, new))
        files = await client.ask("POST", "/config/files", wanted, response=Files, timeout=COMPARE_TIMEOUT)

        def make() -> SectionDifference:
            return section_difference(old, new, from_files(files), sending.content, client.name, self._worker.name)

        found = await self._part.read(make)
        found.changed_there = there.changed
        return found

    # A push

    def is_master(self) -> bool:
        """Of all its VIPs."""
        return all(self._worker.states.get(vip.name) == "MASTER" for vip in self._worker.settings.vips)

    def push(self, order: PushOrder) -> AsyncGenerator[Line, None]:
        """Progress, then the outcome; raises ApiError where the push does not come about.

        Without a peer in the order it goes to all of them, one after the other, whatever becomes of the others: each
        push is a transaction of its own, with the peer's name in its lines and an outcome or a problem at its end.
        """
        return with_heartbeat(self._to_each(order))

    async def _to_each(self, order: PushOrder) -> AsyncGenerator[Line, None]:
        if order.if_master and not self.is_master():
            yield Line(outcome=Outcome(result="unchanged", node=self._worker.name, notes=["not MASTER: nothing to do"]))
            return
        names = [order.peer] if order.peer or len(self._worker.peers) < 2 else list(self._worker.peers)
        for name in names:
            try:
                async with aclosing(self._push(msgspec.structs.replace(order, peer=name))) as lines:
                    async for line in lines:
                        line.peer = name
                        yield line
            except HacoreError as error:
                if len(names) == 1:
                    raise as_api_error(error) from None
                yield Line(peer=name, problem=as_problem(as_api_error(error)))

    async def _push(self, order: PushOrder) -> AsyncGenerator[Line, None]:
        """To one peer."""
        client = self._worker.peer(order.peer)
        await self._claim(f"{self._worker.name} pushes to {client.name}")
        result: PushResult = "failed"
        try:
            async with aclosing(self._claimed(order)) as lines:
                async for line in lines:
                    if line.outcome is not None:
                        result = line.outcome.result
                    yield line
        finally:
            self._part.node.release()
            self._figures.push_ended("to", client.name, result)

    async def _claim(self, what: str) -> None:
        """Raises ApiError "busy". One who stops waiting for it does not have it."""
        node = self._part.node
        claiming = asyncio.ensure_future(self._part.read(lambda: node.claim(what)))
        try:
            await asyncio.shield(claiming)
        except asyncio.CancelledError:
            claiming.add_done_callback(lambda done: None if done.cancelled() or done.exception() else node.release())
            raise

    async def _claimed(self, order: PushOrder) -> AsyncGenerator[Line, None]:
        """The section `sections` goes first, as a transaction of its own: what else is pushed may be new there."""
        names = order.sections or await self._part.read(lambda: self._part.node.sections().names)
        if "sections" not in names or len(names) == 1 or order.dry_run:
            async with aclosing(self._transaction(order)) as lines:
                async for line in lines:
                    yield line
            return
        restart = "changed" if order.restart == "all" else order.restart
        first = msgspec.structs.replace(order, sections=["sections"], restart=restart)
        rest = msgspec.structs.replace(order, sections=[name for name in names if name != "sections"])
        before: Outcome | None = None
        for each in (first, rest):
            async with aclosing(self._transaction(each)) as lines:
                async for line in lines:
                    if line.outcome is None:
                        yield line
                    elif each is rest:
                        yield Line(outcome=_together(before, line.outcome))
                    elif line.outcome.failure is not None:
                        yield line
                        return
                    else:
                        before = line.outcome

    async def _transaction(self, order: PushOrder) -> AsyncGenerator[Line, None]:
        yield _line("compare", "compares the sections")
        identity = asyncio.create_task(self._worker.peer(order.peer).ask("GET", "/node", response=NodeAnswer))
        try:
            client, there, sending = await self.compare(order.sections, order.peer)
            answer = await identity
        finally:
            identity.cancel()
        self._guard(client, sending, order, answer.version)
        _look_at_problems(client, sending, there)
        if not sending.manifests and order.restart != "all":
            yield await self._ended(Outcome(result="unchanged", node=client.name, sections=sending.digests), sending)
            return
        asked = sending.request(overrides=order.overrides, restart=order.restart, dry_run=order.dry_run)
        opened = await client.ask("POST", "/push", asked, response=Opened, timeout=COMPARE_TIMEOUT)
        committed = False
        try:
            async with aclosing(self._send(client, sending, opened)) as sent:
                async for line in sent:
                    yield line
            self._guard(client, sending, order, answer.version)  # sending takes its time
            path = f"/push/{opened.transaction}/commit"
            committed = True
            outcome = None
            async with aclosing(client.stream("POST", path, response=Line)) as told:
                async for line in told:
                    if line.outcome is not None:
                        outcome = line.outcome
                    else:
                        yield line
            if outcome is None:
                raise ApiError(
                    502, "connection-lost", f"{client}: the connection was lost in the middle of the push",
                    f"what became of it: hacore config status, or hacore events on {client.name}",
                )  # fmt: skip
            yield await self._ended(outcome, sending)
        finally:
            if not committed:
                with suppress(ApiError):
                    await client.ask("DELETE", f"/push/{opened.transaction}", response=Transaction)

    def _guard(self, client: PeerClient, sending: Sending, order: PushOrder, version: str) -> None:
        states = {vip.name: self._worker.states.get(vip.name, "INIT") for vip in sending.settings.vips}
        objections = sender_objections(self._worker.name, states, __version__, client.name, version)
        if left := standing(objections, order.overrides):
            raise as_api_error(Guarded(left))

    async def _send(self, client: PeerClient, sending: Sending, opened: Opened) -> AsyncGenerator[Line, None]:
        if not opened.lacking:
            return
        total = stream_bytes(opened.lacking)
        upload = client.upload("PUT", f"/push/{opened.transaction}/objects", total)
        work = partial(
            upload.run, sending.stream(opened.lacking), response=Transaction,
            connect=CONNECT_TIMEOUT, silence=SILENCE_TIMEOUT,
        )  # fmt: skip
        running = asyncio.ensure_future(asyncio.to_thread(work))
        try:
            while not running.done():
                await asyncio.wait([running], timeout=TELL_INTERVAL)
                yield _line("send", f"{len(opened.lacking)} contents", upload.sent, total)
            await running
        except HacoreError as error:
            raise as_api_error(error) from None
        finally:
            upload.abort()
            if not running.done():
                with suppress(HacoreError):  # the thread meets the end of its connection
                    await running

    async def _ended(self, outcome: Outcome, sending: Sending) -> Line:
        if outcome.result in ("applied", "unchanged") and "vips" in sending.names:
            await self._rekeying.tell_all()
        names = ", ".join(sending.names)
        if outcome.result != "unchanged":
            number = f", revision {outcome.revision} there" if outcome.revision else ""
            self._worker.record("config", f"push of {names} to {outcome.node}: {outcome.result}{number}")
        return Line(outcome=outcome)


def _look_at_problems(client: PeerClient, sending: Sending, there: ConfigAnswer) -> None:
    named = {manifest.section for manifest in sending.manifests}
    for each in there.sections:
        if each.id in named and each.problem:
            hint = (
                'a section that only this node knows: push "sections" first' if "has no section" in each.problem else ""
            )
            raise ApiError(409, "not-ready", f"{client.name}: section {each.id}: {each.problem}", hint)


def _together(first: Outcome | None, second: Outcome) -> Outcome:
    """Of the transaction for `sections` and the one for the others."""
    if first is None:
        return second
    if first.result == "applied" and second.result == "unchanged" and second.failure is None:
        first, second = second, first
    elif first.result == "applied":
        note = f"the section sections went first, as revision {first.revision}"
        second = msgspec.structs.replace(second, notes=[note, *second.notes])
    return msgspec.structs.replace(
        second, sections=first.sections | second.sections, services=first.services | second.services
    )


def _line(step: str, text: str, done: int = 0, total: int = 0) -> Line:
    return Line(progress=Progress(step=step, text=text, done=done, total=total))
