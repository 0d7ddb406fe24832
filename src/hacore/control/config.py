"""The configuration of this node inside the control worker: `ConfigNode` in threads, and what it needs of the node."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import msgspec

from hacore.configsync.manifest import BadManifest
from hacore.configsync.report import Outcome, Progress
from hacore.control.config_schemas import Line, VipKey
from hacore.control.heartbeat import with_heartbeat
from hacore.control.problems import ApiError
from hacore.errors import HacoreError, LocalProtocolError, SettingsError, WireError
from hacore.linux.rtnl import dump_links
from hacore.node.config_digests import ChangedMeanwhile
from hacore.node.config_lock import Busy
from hacore.node.config_node import ConfigNode, Guarded
from hacore.node.config_revisions import NoRevision
from hacore.node.config_space import DiskFull
from hacore.node.config_store import StoreError
from hacore.node.config_surroundings import Restarted, Standing, Surroundings, no_services, not_known
from hacore.node.config_tree import TreeError
from hacore.node.settings import Settings, load

if TYPE_CHECKING:
    from hacore.control.worker import ControlWorker

RELOAD_TIMEOUT = 90.0
LOOK_TIMEOUT = 60.0
RESTART_TIMEOUT = 3600.0  # each service has a limit of its own
#: The worker before this one may still be ending.
OPEN_TRIES = 50
OPEN_PAUSE = 0.1
#: Seconds between two looks after what nobody asks for: a push that has lost its sender, one that is not put back yet.
TEND_INTERVAL = 10.0

T = TypeVar("T")


class PushedServices(NamedTuple):
    """What a push does with services, as `Surroundings` has it."""

    look: Callable[[Sequence[str]], Coroutine[Any, Any, list[Standing]]]
    restart: Callable[[Sequence[str]], Coroutine[Any, Any, list[Restarted]]]
    stop: Callable[[Sequence[str]], Coroutine[Any, Any, list[Restarted]]]


class Configuration:
    """A part of the worker. `services` is set by the part that controls them."""

    def __init__(self, worker: ControlWorker) -> None:
        self._worker = worker
        self._writing = ThreadPoolExecutor(1, "config")
        self._reading = ThreadPoolExecutor(2, "config-read")
        self._node: ConfigNode | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tending: asyncio.Task[None] | None = None
        self.services: PushedServices | None = None
        worker.on_start(self._start)
        worker.on_stop(self._stop)

    @property
    def node(self) -> ConfigNode:
        """Raises ApiError where it could not be opened."""
        if self._node is None:
            raise ApiError(503, "not-running", self._worker.warnings.get("config", "the configuration is not open"))
        return self._node

    async def _start(self) -> None:
        self._loop = asyncio.get_running_loop()
        for left in reversed(range(OPEN_TRIES)):
            try:
                self._node = await self.write(lambda: ConfigNode(self._worker.state_dir, self._surroundings()))
                break
            except (HacoreError, OSError) as error:
                if not isinstance(error, Busy) or not left:
                    self._worker.warnings["config"] = f"no push and no history: {error}"
                    self._worker.record("config", f"no push and no history: {error}")
                    return
                await asyncio.sleep(OPEN_PAUSE)
        if self.node.damage:
            text = f"the history of the configuration is damaged: {'; '.join(self.node.damage)}"
            self._worker.warnings["config history"] = text
            self._worker.record("config", text)
        self._tending = self._worker.spawn(self._tend(self.node), "looking after the configuration")

    async def _tend(self, node: ConfigNode) -> None:
        """Puts back what an interrupted push replaced, again and again until that succeeds."""
        while True:
            if node.unfinished:
                with suppress(Busy):
                    await self._recover(node)
            await self.read(node.discard_idle)
            await asyncio.sleep(TEND_INTERVAL)

    async def _recover(self, node: ConfigNode) -> None:
        try:
            problems = await self.write(lambda: node.recover())
        except OSError as error:
            problems = [str(error)]
        if node.unfinished:
            self._worker.warnings["config"] = f"an interrupted push could not be put back: {'; '.join(problems)}"
        else:
            self._worker.warnings.pop("config", None)

    async def _stop(self) -> None:
        if self._tending is not None:
            self._tending.cancel()
        if self._node is not None:
            await self.write(self._node.close)
        self._writing.shutdown(wait=False)
        self._reading.shutdown(wait=False)

    # Threads

    async def write(self, work: Callable[[], T]) -> T:
        """Run in the thread that changes things; one after the other."""
        return await asyncio.get_running_loop().run_in_executor(self._writing, work)

    async def read(self, work: Callable[[], T]) -> T:
        """Run beside that; what hacore refuses becomes an ApiError."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._reading, work)
        except HacoreError as error:
            raise as_api_error(error) from None

    def run(
        self, work: Callable[[Callable[[Progress], None]], Outcome], ended: Callable[[Outcome], None] | None = None
    ) -> AsyncGenerator[Line, None]:
        """Run something long in the changing thread: its progress, then its outcome, which `ended` is told too. It ends
        also where nobody listens any more.
        """
        return with_heartbeat(self._lines(work, ended))

    async def _lines(
        self, work: Callable[[Callable[[Progress], None]], Outcome], ended: Callable[[Outcome], None] | None
    ) -> AsyncGenerator[Line, None]:
        loop = asyncio.get_running_loop()
        lines: asyncio.Queue[Line | None] = asyncio.Queue()

        def report(progress: Progress) -> None:
            loop.call_soon_threadsafe(lines.put_nowait, Line(progress=progress))

        async def whole() -> None:
            try:
                outcome = await self.write(lambda: work(report))
                if ended is not None:
                    ended(outcome)
                lines.put_nowait(Line(outcome=outcome))
            finally:
                lines.put_nowait(None)

        task = self._worker.spawn(whole(), "a change of the configuration")
        while (line := await lines.get()) is not None:
            yield line
        try:
            await task
        except HacoreError as error:
            raise as_api_error(error) from None

    # What the node needs

    def _surroundings(self) -> Surroundings:
        return Surroundings(
            settings=self._settings,
            reload=self._reload,
            look=self._look,
            restart=self._restart,
            stop=self._stop_services,
            states=lambda: dict(self._worker.states),
            links=_links,
            record=self._record,
        )

    def _settings(self) -> Settings:
        return load(self._worker.settings.path)

    def _in_loop(self, work: Coroutine[Any, Any, T], timeout: float) -> T:
        assert self._loop is not None
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout)

    def _reload(self) -> None:
        self._in_loop(self._worker.reload_node(), RELOAD_TIMEOUT)

    def _look(self, names: Sequence[str]) -> Sequence[Standing]:
        return not_known(names) if self.services is None else self._in_loop(self.services.look(names), LOOK_TIMEOUT)

    def _restart(self, names: Sequence[str]) -> Sequence[Restarted]:
        if self.services is None:
            return no_services(names)
        return self._in_loop(self.services.restart(names), RESTART_TIMEOUT)

    def _stop_services(self, names: Sequence[str]) -> Sequence[Restarted]:
        if self.services is None:
            return no_services(names)
        return self._in_loop(self.services.stop(names), RESTART_TIMEOUT)

    def _record(self, text: str) -> None:
        assert self._loop is not None
        self._loop.call_soon_threadsafe(lambda: self._worker.record("config", text))


def _links() -> Mapping[str, bool]:
    return {link.name: link.ethernet for link in dump_links()}


def vip_keys(settings: Settings) -> list[VipKey]:
    """What the advertisements of each VIP are signed with, as digests."""
    found = []
    for vip in settings.vips:
        addresses = sorted(str(address.ip) for address in vip.addresses)
        material = msgspec.json.encode([vip.interface, vip.vhid, bytes(vip.password).hex(), addresses])
        digest = hashlib.sha256(b"hacore: key of a VHID\0" + material).hexdigest()
        found.append(VipKey(interface=vip.interface, vhid=vip.vhid, digest=digest))
    return found


def as_api_error(error: HacoreError) -> ApiError:
    """What the configuration refuses with, for the other side."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, Guarded):
        listed = [[each.code, each.message, each.override] for each in error.objections]
        message = "; ".join(each.message for each in error.objections)
        hint = "to push all the same: " + " ".join(each.override for each in error.objections)
        return ApiError(409, "guarded", message, hint, objections=listed)
    if isinstance(error, Busy):
        return ApiError(409, "busy", str(error), "try again when it is done")
    if isinstance(error, BadManifest):
        return ApiError(404 if error.code in ("no-section", "no-file") else 400, error.code, str(error))
    if isinstance(error, NoRevision):
        return ApiError(404, "not-found", str(error))
    if isinstance(error, LocalProtocolError):
        return ApiError(404, "no-push", str(error))
    if isinstance(error, WireError):
        return ApiError(400, "bad-stream", str(error))
    if isinstance(error, ChangedMeanwhile | StoreError):
        return ApiError(409, "changed-meanwhile", str(error))
    if isinstance(error, SettingsError):
        return ApiError(500, "settings", f"the settings of this node cannot be used: {error}")
    if isinstance(error, DiskFull):
        return ApiError(507, DiskFull.code, str(error), "nothing was changed: make room, then push again")
    if isinstance(error, TreeError):
        return ApiError(500, "cannot-read", str(error))
    return ApiError(500, "internal", f"{type(error).__name__}: {error}")
