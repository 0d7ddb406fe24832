"""How the sections and the history of each peer are, as the page knows it: asked while somebody looks, and after each
change that was begun here.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from hacore.control.config_schemas import AtPeer, RevisionLine, SectionNames
from hacore.control.local_routes_config import LocalHandlers, PeerSections
from hacore.control.problems import ApiError
from hacore.web.local_calls import local_call

if TYPE_CHECKING:
    from hacore.control.worker import ControlWorker

#: Between two comparisons while somebody looks: both nodes look at their files.
INTERVAL = 20.0
#: After one that did not come about.
RETRY_INTERVAL = 3.0
#: A page that is loaded has nothing older than this, or says that it is being compared.
YOUNG = 2.0
#: Of the history.
REVISIONS = 12


class Compared:
    """One peer; `at` is when it was compared last (0: never), `running` whether it is being compared now."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.at = 0.0
        self.running = False
        self.sections: PeerSections | None = None
        self.revisions: list[RevisionLine] = []
        self.more = 0
        self.problem: ApiError | None = None

    @property
    def in_sync(self) -> bool:
        """Whether every section is as this node wants it."""
        return self.sections is not None and self.problem is None and all(self.sections.in_sync.values())


class Comparison:
    """`worker.part(Comparison)`. `looked_at` says whether anybody looks; `changed` is called with news."""

    def __init__(self, worker: ControlWorker) -> None:
        self._worker = worker
        self._handlers = LocalHandlers(worker)
        self._known: dict[str, Compared] = {}
        self.looked_at: Callable[[], bool] = lambda: False
        self.changed: Callable[[], None] = lambda: None
        worker.on_start(self._start)

    def peers(self) -> list[Compared]:
        """Those of the settings."""
        return [self._known.setdefault(name, Compared(name)) for name in self._worker.peers]

    def peer(self, name: str) -> Compared:
        """By its name, or the only one; raises ApiError where there is none such."""
        return self._known.setdefault(found := self._worker.peer(name).name, Compared(found))

    def refresh(self, name: str = "") -> None:
        """Compare with this peer, or with all, soon."""
        for one in self.peers():
            if not name or one.name == name:
                one.at = min(one.at, time.time() - INTERVAL)
                self._compare_soon(one)

    def look(self) -> None:
        """Somebody begins to look."""
        for one in self.peers():
            if time.time() - one.at > YOUNG:
                self._compare_soon(one)

    async def _start(self) -> None:
        self._worker.spawn(self._keep(), "comparing the configurations")

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            if self.looked_at():
                for one in self.peers():
                    if time.time() - one.at > (INTERVAL if one.problem is None else RETRY_INTERVAL):
                        self._compare_soon(one)

    def _compare_soon(self, one: Compared) -> None:
        if not one.running:
            one.running = True
            self._worker.spawn(self._compare(one), f"comparing with {one.name}")
            self.changed()

    async def _compare(self, one: Compared) -> None:
        try:
            call = local_call(self._worker, "the page", query=SectionNames(peer=one.name))
            status = await self._handlers.status(call)
            one.sections, one.problem = status.peers[0], None
            if one.sections.problem is not None:
                said = one.sections.problem
                one.problem = ApiError(502, said.code, said.message, said.hint)
            with suppress(ApiError):
                await self._history(one)
        except ApiError as error:
            one.problem = error
        finally:
            one.running, one.at = False, time.time()
            self.changed()

    async def _history(self, one: Compared) -> None:
        answer = await self._handlers.revisions(local_call(self._worker, "the page", query=AtPeer(peer=one.name)))
        one.revisions = answer.revisions[: -REVISIONS - 1 : -1]
        one.more = max(0, len(answer.revisions) - REVISIONS)
