"""The page as a part of the control worker. Whatever goes wrong in it is told and leaves the worker as it is."""

from __future__ import annotations

import time
from collections.abc import Awaitable
from typing import TYPE_CHECKING

from hacore.control.file_looks import FileLooks
from hacore.errors import HacoreError
from hacore.web.access import Access, AccessFile, Token, User
from hacore.web.listener import Listener
from hacore.web.live import Live
from hacore.web.lockout import Lockout
from hacore.web.registry import Route, collect, menu
from hacore.web.rendering import Rendering
from hacore.web.sessions import Sessions
from hacore.web.watch import Watch

if TYPE_CHECKING:
    from hacore.control.worker import ControlWorker


class Site:
    """`worker.part(Site)`."""

    def __init__(self, worker: ControlWorker) -> None:
        self.worker = worker
        self.watch = worker.part(Watch)
        self.access = Access()
        self.sessions = Sessions()
        self.lockout = Lockout()
        self.cookie = f"__Host-hacore-{worker.name}"  # two nodes behind tunnels to one address keep theirs apart
        self.rendering = Rendering(self)
        self.live = Live(self)
        self.watch.pages = lambda: self.live.pages
        self.routes: list[Route] = []
        self._listener = Listener(self)
        self._file = AccessFile(worker.state_dir)
        self._looks: FileLooks | None = None
        self._mark: tuple[int, int, int] | None = None
        worker.on_start(self._start)
        worker.on_leave(self.live.end)
        worker.on_stop(lambda: self._guarded(self._end()))
        worker.on_trust(self._serve)
        worker.on_reload(self._serve)
        self.watch.on_change(self.live.changed)

    @property
    def listens(self) -> bool:
        """Whether browsers can connect."""
        return self._listener.listens

    async def _start(self) -> None:
        await self._guarded(self._begin())

    async def _begin(self) -> None:
        self.routes = collect(self)
        self.rendering.menu = menu(self.routes)
        await self._listener.start(self.routes)
        self._looks = FileLooks([self._file.path])
        self._look()
        self.worker.spawn(self._keep_looking(self._looks), "the users of the page")
        self.worker.spawn(self.live.run(), "the live pages")

    async def _end(self) -> None:
        if self._looks is not None:
            self._looks.close()
        await self._listener.stop()

    async def _guarded(self, work: Awaitable[None]) -> None:
        try:
            await work
        except Exception as error:  # noqa: BLE001 - the node API goes on without the page
            self.worker.fault("the page", error)
            self.worker.warnings["web"] = f"[web] the page does not run: {error}"

    def _serve(self) -> None:
        settings, control = self.worker.settings.web, self.worker.settings.control
        if settings is None or control is None:
            return
        certificate, key = settings.certificate or control.certificate, settings.key or control.key
        self._listener.serve(settings.listen, certificate, key)

    async def _keep_looking(self, looks: FileLooks) -> None:
        while True:
            await looks.wait()
            self._look()
            self.sessions.sweep(time.monotonic())

    def _look(self) -> None:
        """Take the file of users where it is another one, and tell what changed."""
        mark = self._file.mark()
        if mark == self._mark:
            return
        try:
            access = self._file.read()
        except HacoreError as error:
            self.worker.warnings["web users"] = f"[web] nobody can sign in: {error}"
            access = Access()
        else:
            self.worker.warnings.pop("web users", None)
        if self._mark is not None:
            self._tell(self.access, access)
        self._mark, self.access = mark, access
        self.sessions.keep({user.name: user.changed for user in access.users.values()})

    def refresh_access(self) -> None:
        """Before somebody signs in: the file may have changed this moment."""
        self._look()

    def _tell(self, old: Access, new: Access) -> None:
        for name in sorted(old.users.keys() | new.users.keys()):
            self._tell_one(f"user {name}", old.users.get(name), new.users.get(name))
        for name in sorted(old.tokens.keys() | new.tokens.keys()):
            self._tell_one(f"token {name}", old.tokens.get(name), new.tokens.get(name))

    def _tell_one(self, who: str, before: User | Token | None, after: User | Token | None) -> None:
        if before == after:
            return
        if before is None or after is None:
            text = f"was added ({after.role})" if after is not None else "was removed"
        else:
            text = "was set anew" if before.role == after.role else f"is {after.role} now"
        self.worker.record("web", f"{who} {text}")
