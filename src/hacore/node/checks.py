"""Health checks: commands that run again and again, and demote the node while they fail.

    unknown --fall failures in a row--> down      (the start: neither demotes nor promises anything)
    unknown --rise successes in a row--> up
    up --fall failures in a row--> down           demotion "check NAME" is added
    down --rise successes in a row--> up          and removed

A run that overruns its timeout has failed at that moment, whatever its process says later; an interval that finds
that process still there counts as one more failure, so that a check which hangs for good still makes the node give
way. No check ever runs twice at once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Literal

from hacore.node.commands import Command, Result, Runner
from hacore.node.event import Emit
from hacore.node.loop import Loop, Timer
from hacore.node.snapshot import CheckStatus

if TYPE_CHECKING:
    from hacore.node.settings import Check as Settings

State = Literal["unknown", "up", "down"]


class Check:
    """One check and the runs of its command. `demote` and `undemote` take the reason "check NAME"."""

    def __init__(
        self,
        settings: Settings,
        loop: Loop,
        runner: Runner,
        emit: Emit,
        demote: Callable[[str, int], None],
        undemote: Callable[[str], None],
    ) -> None:
        self.settings = settings
        self.state: State = "unknown"
        self.reason = f"check {settings.name}"
        self._loop = loop
        self._runner = runner
        self._emit = emit
        self._demote = demote
        self._undemote = undemote
        self._since = time.time()
        self._failures = self._successes = self._runs = self._late = 0
        self._finding = ""
        self._ran = self._duration = 0.0
        self._running: Command | None = None
        self._overdue = False
        #: An interval began while the run before it was not over.
        self._due = False
        self._next: Timer = loop.call_soon(self._interval_begins)

    def status(self) -> CheckStatus:
        """What there is to show."""
        return CheckStatus(
            name=self.settings.name,
            state=self.state,
            since=self._since,
            ran=self._ran,
            finding=self._finding,
            failures=self._failures,
            successes=self._successes,
            demotion=self.settings.demotion if self.state == "down" else 0,
            runs=self._runs,
            late=self._late,
            duration=self._duration,
        )

    def change(self, settings: Settings) -> None:
        """Goes on with other settings of the same command; what was counted stays."""
        before, self.settings = self.settings, settings
        if self.state == "down" and settings.demotion != before.demotion:
            self._undemote(self.reason)
            self._demote(self.reason, settings.demotion)
        if settings.interval != before.interval:
            self._next.cancel()
            self._next = self._loop.call_soon(self._interval_begins)

    def stop(self) -> None:
        """Ends the runs; a demotion stays."""
        self._next.cancel()
        if self._running is not None:
            self._running.cancel()
            self._running = None

    def remove(self) -> None:
        """Ends the runs and takes the demotion back."""
        self.stop()
        if self.state == "down":
            self._undemote(self.reason)

    def _interval_begins(self, now: float) -> None:
        # Intervals are counted from one another, so that they do not drift; those that a stalled node missed are left
        # out.
        following = self._next.when + self.settings.interval
        self._next = self._loop.call_at(
            following if following > now else now + self.settings.interval, self._interval_begins
        )
        if self._running is None:
            self._begin()
            return
        self._due = True
        if self._overdue:
            self._count(False, "its process does not end")

    def _begin(self) -> None:
        self._runs += 1
        self._overdue = self._due = False
        self._running = self._runner.run(
            self.settings.command, self._ended, timeout=self.settings.timeout, on_timeout=self._time_is_up
        )

    def _time_is_up(self, _now: float) -> None:
        self._overdue = True
        self._count(False, "time is up")

    def _ended(self, result: Result, _now: float) -> None:
        self._running = None
        self._duration = result.duration
        if self._overdue:
            self._late += 1
        else:
            self._count(result.ok, str(result), result.output)
        if self._due:
            self._begin()

    def _count(self, ok: bool, how: str, output: str = "") -> None:
        self._ran = time.time()
        self._finding = how
        self._failures = 0 if ok else self._failures + 1
        self._successes = self._successes + 1 if ok else 0
        name, settings = self.settings.name, self.settings
        if self.state != "down" and self._failures >= settings.fall:
            self._become("down")
            text = f"check {name} fails: {how} ({self._failures} in a row), demotion {settings.demotion}"
            self._emit("check-failing", text, check=name, demotion=settings.demotion, result=how, output=output)
            self._demote(self.reason, settings.demotion)
        elif self.state != "up" and self._successes >= settings.rise:
            was = self._become("up")
            self._emit("check-passing", f"check {name} passes ({self._successes} in a row)", check=name)
            if was == "down":
                self._undemote(self.reason)

    def _become(self, state: State) -> State:
        was, self.state = self.state, state
        self._since = time.time()
        return was


class Checks:
    """All checks of a node."""

    def __init__(
        self,
        loop: Loop,
        runner: Runner,
        emit: Emit,
        *,
        demote: Callable[[str, int], None],
        undemote: Callable[[str], None],
    ) -> None:
        self._loop = loop
        self._runner = runner
        self._emit = emit
        self._demote = demote
        self._undemote = undemote
        self._checks: dict[str, Check] = {}

    def load(self, settings: Iterable[Settings]) -> None:
        """Takes the settings of all checks, at the start and on a reload.

        A check whose command is the same keeps its state; one with another command starts as unknown; one that is
        gone demotes no more.
        """
        wanted = {check.name: check for check in settings}
        for name, check in list(self._checks.items()):
            new = wanted.get(name)
            if new is None or tuple(new.command) != tuple(check.settings.command):
                check.remove()
                del self._checks[name]
        kept, self._checks = self._checks, {}
        for name, new in wanted.items():
            if name in kept:
                self._checks[name] = kept[name]
                kept[name].change(new)
            else:
                self._checks[name] = Check(new, self._loop, self._runner, self._emit, self._demote, self._undemote)
                self._emit("check-unknown", f"check {name} starts: unknown, it does not demote yet", check=name)

    def demotions(self) -> dict[str, int]:
        """What is added now, by reason: for an election worker that starts anew."""
        return {check.reason: check.settings.demotion for check in self._checks.values() if check.state == "down"}

    def status(self) -> list[CheckStatus]:
        """Every check, in the order of the settings."""
        return [check.status() for check in self._checks.values()]

    def close(self) -> None:
        """Ends all checks.

        Their demotions stay: the node is going to give its VIPs up, and taking them back would promise health.
        """
        for check in self._checks.values():
            check.stop()
