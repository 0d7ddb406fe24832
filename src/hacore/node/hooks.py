"""Hooks: commands that run after a transition, in order, one at a time for each VIP.

Every transition of a VIP raises its epoch and queues the hooks that want its new state, behind those of the
transitions before it. A hook that still waits when a newer transition queues the same hook is skipped, and an event
says so: what it would say is no longer true, and the newer one says it. A hook that has no newer run waiting is never
skipped, so that each hook hears the last state it asked for, and a queue holds each hook once at most. The election
knows nothing of all this: transitions come to the supervisor as news.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
from msgspec import Struct

from hacore.node.commands import Command, Result, Runner
from hacore.node.event import Emit, Event

if TYPE_CHECKING:
    from hacore.node.settings import Hook as Settings

#: Hooks of different VIPs run side by side, so many at most: a failover of 200 VIPs is not to start 200 processes.
AT_ONCE = 16


class Transition(Struct, frozen=True, kw_only=True):
    """A change of state of one VIP; `at` is unix seconds, `epoch` its number among the transitions of this VIP."""

    vip: str
    interface: str
    vhid: int
    before: str
    after: str
    reason: str
    at: float
    epoch: int


class _Waiting(NamedTuple):
    hook: Settings
    transition: Transition


class _Queue:
    """The hooks of one VIP: at most one running, and behind it each hook once at most."""

    __slots__ = ("running", "waiting")

    def __init__(self) -> None:
        self.running: Command | None = None
        self.waiting: list[_Waiting] = []


class Hooks:
    """Runs the hooks of all VIPs.

    `epochs` are the last epochs of an earlier run, so that they keep growing (see `epochs_of`).
    """

    def __init__(self, runner: Runner, emit: Emit, node: str, epochs: Mapping[str, int] | None = None) -> None:
        self._runner = runner
        self._emit = emit
        self._node = node
        self._epochs = dict(epochs or {})
        self._hooks: tuple[Settings, ...] = ()
        self._queues: dict[str, _Queue] = {}
        self._running = 0
        self._stopped = False

    @property
    def idle(self) -> bool:
        """Whether every hook that was due has run."""
        return not self._queues

    def load(self, settings: Iterable[Settings]) -> None:
        """Takes the settings of all hooks, at the start and on a reload.

        What waits runs as the new settings say, or not at all when its hook is gone.
        """
        self._hooks = tuple(settings)
        by_name = {hook.name: hook for hook in self._hooks}
        for vip, queue in list(self._queues.items()):
            kept = []
            for entry in queue.waiting:
                hook = by_name.get(entry.hook.name)
                if hook is None:
                    self._skipped(entry, "the settings have it no more")
                else:
                    kept.append(_Waiting(hook, entry.transition))
            queue.waiting = kept
            self._drop_when_empty(vip, queue)

    def transition(
        self, vip: str, *, interface: str, vhid: int, before: str, after: str, reason: str, at: float | None = None
    ) -> Transition:
        """Numbers a transition, queues its hooks, and returns it for the caller to record; `at` is unix time or now."""
        epoch = self._epochs[vip] = self._epochs.get(vip, 0) + 1
        transition = Transition(
            vip=vip,
            interface=interface,
            vhid=vhid,
            before=before,
            after=after,
            reason=reason,
            at=time.time() if at is None else at,
            epoch=epoch,
        )
        wanted = [_Waiting(hook, transition) for hook in self._hooks if after in hook.on]
        if not wanted or self._stopped:
            return transition
        queue = self._queues.setdefault(vip, _Queue())
        again = {entry.hook.name for entry in wanted}
        for entry in queue.waiting:
            if entry.hook.name in again:
                self._skipped(entry, f"superseded by epoch {epoch} ({after})")
        queue.waiting = [entry for entry in queue.waiting if entry.hook.name not in again] + wanted
        self._start()
        return transition

    def stop(self) -> None:
        """Runs no more hooks; those that run are left to end, or to `Runner.cancel_all`."""
        self._stopped = True
        for vip, queue in list(self._queues.items()):
            for entry in queue.waiting:
                self._skipped(entry, "the node ends")
            queue.waiting = []
            self._drop_when_empty(vip, queue)

    def _start(self) -> None:
        for vip, queue in self._queues.items():
            if self._running >= AT_ONCE:
                return
            if queue.running is None and queue.waiting:
                entry = queue.waiting.pop(0)
                self._running += 1
                queue.running = self._run(vip, queue, entry)

    def _run(self, vip: str, queue: _Queue, entry: _Waiting) -> Command:
        hook, transition = entry.hook, entry.transition
        values = {
            "node": self._node,
            "vip": transition.vip,
            "interface": transition.interface,
            "vhid": transition.vhid,
            "from": transition.before,
            "to": transition.after,
            "reason": transition.reason,
            "at": transition.at,
            "epoch": transition.epoch,
        }

        def ended(result: Result, _now: float) -> None:
            self._running -= 1
            queue.running = None
            self._ended(entry, result)
            # A VIP that has more to run goes behind the others, so that a few busy ones cannot take all the places.
            del self._queues[vip]
            if queue.waiting:
                self._queues[vip] = queue
            self._start()

        return self._runner.run(
            hook.command,
            ended,
            timeout=hook.timeout,
            variables={f"HACORE_{name.upper()}": str(value).replace("\0", "") for name, value in values.items()},
            stdin=msgspec.json.encode(values) + b"\n",
        )

    def _ended(self, entry: _Waiting, result: Result) -> None:
        hook, transition = entry.hook, entry.transition
        what = f"hook {hook.name} for {transition.before} -> {transition.after} (epoch {transition.epoch})"
        fields: dict[str, Any] = {"hook": hook.name, "epoch": transition.epoch, "duration": result.duration}
        if result.ok:
            self._emit("hook-done", f"{what} done in {result.duration:.3g} s", vip=transition.vip, **fields)
        else:
            self._emit(
                "hook-failed",
                f"{what} failed: {result}",
                vip=transition.vip,
                **fields,
                exit_code=result.exit_code,
                signal=result.signal,
                timed_out=result.timed_out,
                output=result.output,
            )

    def _skipped(self, entry: _Waiting, why: str) -> None:
        hook, transition = entry.hook, entry.transition
        text = (
            f"hook {hook.name} for {transition.before} -> {transition.after} (epoch {transition.epoch}) skipped: {why}"
        )
        self._emit("hook-skipped", text, vip=transition.vip, hook=hook.name, epoch=transition.epoch)

    def _drop_when_empty(self, vip: str, queue: _Queue) -> None:
        if queue.running is None and not queue.waiting:
            del self._queues[vip]


def epochs_of(events: Iterable[Event]) -> dict[str, int]:
    """The last epoch of each VIP in a history: the largest `epoch` among the fields of its events."""
    epochs: dict[str, int] = {}
    for event in events:
        epoch = event.fields.get("epoch")
        if event.vip and isinstance(epoch, int):
            epochs[event.vip] = max(epochs.get(event.vip, 0), epoch)
    return epochs
