"""The node's own status as it changes: asked of the supervisor once for all who follow it.

A word goes out at once when somebody begins to follow, at every event of the node, and as often as the most eager
follower wants: once a second, or more seldom while nobody looks at a page.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct

from hacore.errors import HacoreError
from hacore.node.event import Event
from hacore.node.snapshot import Snapshot

if TYPE_CHECKING:
    from hacore.control.worker import ControlWorker

INTERVAL = 1.0
LONGEST_INTERVAL = 10.0
#: Until the supervisor has answered; a word without its status goes out instead.
ANSWER_TIMEOUT = 2.0
#: Events that a follower is told at its beginning.
EARLIER_EVENTS = 200
#: Words that wait for a follower; one that is behind by more is dropped.
WAITING_WORDS = 64


class LiveWord(Struct, kw_only=True):
    """What a node says of itself at `at`, by its clock: its status, or in `problem` why there is none, and the events
    since its last word; the first one carries the latest of those before it.
    """

    at: float
    snapshot: Snapshot | None = None
    problem: str = ""
    events: list[Event] = []


class Live:
    """`worker.part(Live)`."""

    def __init__(self, worker: ControlWorker) -> None:
        self._worker = worker
        self._followers: dict[asyncio.Queue[LiveWord | None], float] = {}
        self._events: dict[int, Event] = {}
        self._new: list[Event] = []
        self._wake = asyncio.Event()
        self._leaving = False
        worker.on_start(self._start)
        worker.on_leave(self._leave)
        worker.on_event(self._heard)

    async def _start(self) -> None:
        self._worker.spawn(self._speak(), "the live status")

    def _leave(self) -> None:
        self._leaving = True
        self._wake.set()
        for follower in self._followers:
            _put(follower, None)

    async def follow(self, every: float = INTERVAL) -> AsyncIterator[LiveWord]:
        """A word at once, then each new one, which come at least `every` so many seconds; ends when the worker leaves,
        or with a follower that is too slow.
        """
        mine: asyncio.Queue[LiveWord | None] = asyncio.Queue(WAITING_WORDS)
        self._followers[mine] = every
        self._wake.set()  # the time of the next word is another
        try:
            last = await self._ask()
            yield LiveWord(
                at=last.at,
                snapshot=last.snapshot,
                problem=last.problem,
                events=[self._events[seq] for seq in sorted(self._events)],
            )
            while not self._leaving and (word := await mine.get()) is not None:
                yield word
        finally:
            self._followers.pop(mine, None)

    async def _speak(self) -> None:
        spoken = time.monotonic()
        while not self._leaving:
            self._wake.clear()
            if not self._followers:
                self._new.clear()
                await self._wake.wait()
                spoken = time.monotonic()  # who comes is told at once
                continue
            left = spoken + min(self._followers.values()) - time.monotonic()
            if not self._new and left > 0:
                with suppress(TimeoutError):
                    async with asyncio.timeout(left):
                        await self._wake.wait()
                continue
            word = await self._ask()
            word.events, self._new = self._new, []
            spoken = time.monotonic()
            for follower in list(self._followers):
                _put(follower, word)

    async def _ask(self) -> LiveWord:
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT):
                answer = await self._worker.bus.request("status")
            return LiveWord(at=time.time(), snapshot=msgspec.convert(answer, Snapshot))
        except TimeoutError:
            problem = f"the supervisor did not answer within {ANSWER_TIMEOUT:g} s"
        except (HacoreError, msgspec.ValidationError) as error:
            problem = str(error)
        return LiveWord(at=time.time(), problem=problem)

    def _heard(self, event: Mapping[str, Any]) -> None:
        if event:
            self._take(event)
        else:
            self._worker.spawn(self._catch_up(), "the events before")

    async def _catch_up(self) -> None:
        answer = await self._worker.bus.request("events", limit=EARLIER_EVENTS, after=0)
        for event in answer.get("events", []):
            self._take(event)

    def _take(self, raw: Mapping[str, Any]) -> None:
        with suppress(msgspec.ValidationError):
            event = msgspec.convert(raw, Event)
            if event.seq not in self._events:
                self._events[event.seq] = event
                for oldest in sorted(self._events)[:-EARLIER_EVENTS]:
                    del self._events[oldest]
                self._new.append(event)
                self._wake.set()


def _put(follower: asyncio.Queue[LiveWord | None], word: LiveWord | None) -> None:
    """One that does not read loses its place: the end comes after what waits."""
    try:
        follower.put_nowait(word)
    except asyncio.QueueFull:
        follower.get_nowait()
        follower.put_nowait(None)
