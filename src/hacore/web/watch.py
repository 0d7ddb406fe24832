"""What this node and each peer say of themselves: one model, whoever looks on.

This node's words come from `control.live`, a peer's over one stream of the node API (`GET /v1/live`). What is shown is
what was said last, when that was, and, once it is older than three seconds, why there is nothing newer. While nobody
looks, words come seldom; whoever is the first to look has them come anew, and waits for them for a moment.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from hacore.control.client import PeerClient
from hacore.control.live import EARLIER_EVENTS, INTERVAL, Live, LiveWord
from hacore.control.problems import ApiError
from hacore.node.event import Event
from hacore.node.snapshot import Snapshot, doubt
from hacore.node.states_snapshot import StatesStatus
from hacore.web.hour import Hour

if TYPE_CHECKING:
    from hacore.control.worker import ControlWorker

#: Seconds after which nobody vouches for what a node said last.
STALE = 3.0
RETRY_INTERVAL = 1.0
#: Seconds between two words while nobody looks at a page; each five seconds of the hour's figures have one.
SELDOM = 4.0
#: Seconds for which a request counts as somebody who looks; pages that are open count as long as they are.
LINGER = 5.0
#: How long the first one who looks waits for every node's word of this moment.
FRESH_TIMEOUT = 0.5
#: Clocks that differ by more are worth a warning, and times are shown by this node's clock in any case.
CLOCK_DIFFERENCE = 1.0


class NodeView:
    """One node. `at` is when its last word came (unix seconds, 0: never); `skew` is its clock minus this node's."""

    def __init__(self, name: str, *, here: bool, place: str = "") -> None:
        self.name, self.here, self.place = name, here, place
        self.snapshot: Snapshot | None = None
        self.at = 0.0
        self.skew = 0.0
        self.problem = "no word has come yet"
        self.hint = ""
        self.events: dict[int, Event] = {}
        self.hour = Hour()
        self.told_at = 0.0  # monotonic: a word, or that there is none
        self._heard = 0.0

    def take(self, word: LiveWord) -> None:
        """It said something."""
        now, self.told_at = time.time(), time.monotonic()
        if word.snapshot is not None:
            self.snapshot, self.at, self._heard = word.snapshot, now, time.monotonic()
            self.skew = word.at - now if abs(word.at - now) > CLOCK_DIFFERENCE else 0.0
            self.problem = self.hint = ""
            self.hour.take(word.snapshot, now)
        else:
            self.problem, self.hint = word.problem, ""
        for event in word.events:
            self.events[event.seq] = event
        for seq in sorted(self.events)[:-EARLIER_EVENTS]:
            del self.events[seq]

    def lose(self, problem: str, hint: str = "") -> None:
        """There is nobody who says anything."""
        self.problem, self.hint, self.told_at = problem, hint, time.monotonic()

    def is_known(self) -> bool:
        """Whether its last word is young enough to be believed."""
        return self.snapshot is not None and time.monotonic() - self._heard <= STALE

    def until_stale(self) -> float:
        """Seconds until `is_known` turns false; 0.0 where it has."""
        return max(0.0, STALE - (time.monotonic() - self._heard)) if self.snapshot is not None else 0.0

    @property
    def reason(self) -> str:
        """Why nothing newer is known; "" while something is."""
        if self.is_known():
            return ""
        return self.problem or f"nothing came for {STALE:g} s"

    @property
    def doubt(self) -> str:
        """Why, in a word that did come, nobody vouches for the states of its VIPs; "" while the election does."""
        return doubt(self.snapshot) if self.snapshot is not None else ""

    @property
    def states(self) -> StatesStatus | None:
        """The figures of its replication."""
        return self.snapshot.states if self.snapshot is not None else None

    def state_of(self, vip: str) -> str:
        """MASTER, BACKUP or INIT of this VIP; "" where it is not known now, or the node has no such VIP."""
        if self.snapshot is None or not self.is_known() or self.doubt:
            return ""
        return next((one.state for one in self.snapshot.vips if one.name == vip), "")

    def local(self, moment: float) -> float:
        """A moment by its clock, by this node's."""
        return moment - self.skew if moment else 0.0


class Watch:
    """`worker.part(Watch)`. `on_change` is called whenever anything is another than before."""

    def __init__(self, worker: ControlWorker) -> None:
        self._worker = worker
        self.nodes: list[NodeView] = [NodeView(worker.name, here=True)]
        self._clients: dict[str, PeerClient] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._on_change: list[Callable[[], None]] = []
        self._news = asyncio.Event()
        self._here: asyncio.Task[None] | None = None
        self._attentive = False
        self._attentive_since = 0.0
        self._looked_at = -math.inf
        self.pages: Callable[[], int] = int  # how many are open
        worker.part(Live)
        worker.on_start(self._start)
        worker.on_leave(self._leave)
        worker.on_trust(self._renew)

    async def looked_at(self) -> None:
        """Somebody is about to look: returns when every node's word is one of now, or a moment later without it."""
        self._looked_at = time.monotonic()
        if not self._attentive:
            self._attend(True)
        with suppress(TimeoutError):
            async with asyncio.timeout(FRESH_TIMEOUT):
                while any(node.told_at < self._attentive_since for node in self.nodes):
                    self._news.clear()
                    await self._news.wait()

    def _attend(self, attentive: bool) -> None:
        """From now on words come often, or seldom: whom they are asked of is asked anew, and answers at once."""
        self._attentive, self._attentive_since = attentive, time.monotonic()
        if self._here is not None:
            self._here.cancel()
            self._here = self._worker.spawn(self._listen_here(self.nodes[0]), "watching this node")
        for view in self.peers:
            if (task := self._tasks.get(view.name)) is not None:
                task.cancel()
                self._tasks[view.name] = self._worker.spawn(
                    self._listen(view, self._clients[view.name]), f"watching {view.name}"
                )

    @property
    def _every(self) -> float:
        return INTERVAL if self._attentive else SELDOM

    def on_change(self, call: Callable[[], None]) -> None:
        """At each word and each loss of one."""
        self._on_change.append(call)

    def node(self, name: str) -> NodeView | None:
        """By its name."""
        return next((one for one in self.nodes if one.name == name), None)

    def nodes_now(self) -> list[NodeView]:
        """This node, then the peers of the settings."""
        return self.nodes

    @property
    def peers(self) -> list[NodeView]:
        """The others."""
        return self.nodes[1:]

    async def _start(self) -> None:
        self._here = self._worker.spawn(self._listen_here(self.nodes[0]), "watching this node")

    def _leave(self) -> None:
        for task in self._tasks.values():
            task.cancel()

    def _renew(self) -> None:
        """Peers of the settings as they are now; a client that is another one begins anew."""
        known = {one.name: one for one in self.nodes}
        for name in set(self._clients) - set(self._worker.peers):
            self._tasks.pop(name).cancel()
            del self._clients[name]
        self.nodes = [self.nodes[0]]
        for name, client in self._worker.peers.items():
            view = known.get(name) or NodeView(name, here=False)
            view.place = str(client.place)
            self.nodes.append(view)
            if self._clients.get(name) is not client:
                if name in self._tasks:
                    self._tasks[name].cancel()
                self._clients[name] = client
                self._tasks[name] = self._worker.spawn(self._listen(view, client), f"watching {name}")
        self._changed()

    async def _listen_here(self, view: NodeView) -> None:
        while True:
            await self._take(view, self._worker.part(Live).follow(self._every))
            await asyncio.sleep(RETRY_INTERVAL)

    async def _listen(self, view: NodeView, client: PeerClient) -> None:
        while True:
            try:
                every = self._every
                words = client.stream(
                    "GET", "/live", query={"every": str(every)}, response=LiveWord, silence=every - INTERVAL + STALE
                )
                await self._take(view, words)
                view.lose("it ended the connection")
            except ApiError as error:
                view.lose(error.message.removeprefix(f"{client}: "), error.hint)
            self._changed()
            await asyncio.sleep(RETRY_INTERVAL)

    async def _take(self, view: NodeView, words: AsyncIterator[LiveWord]) -> None:
        async for word in words:
            view.take(word)
            self._changed()
            if self._attentive and not self.pages() and time.monotonic() - self._looked_at > LINGER:
                self._attend(False)

    def _changed(self) -> None:
        self._news.set()
        for call in self._on_change:
            call()
