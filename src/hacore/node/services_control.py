"""Asks and does: how a service is, and start, stop and restart of it, one at a time for each.

A unit is asked and told over D-Bus; the rest by the three commands of the settings. A command that outlived the control
worker which started it is waited for before the next one runs, so that a stop of before cannot end what was started
after it: its process is written down in `runtime_dir/services`.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from hacore.errors import HacoreError
from hacore.linux.process import start_ticks
from hacore.linux.systemd import Systemd, UnitStatus
from hacore.node import async_commands
from hacore.node.commands import GRACE, Result
from hacore.services.service import Action, Outcome, Report, Service, State

STATUS_TIMEOUT = 10.0
JOURNAL_TIMEOUT = 5.0
#: Of the journal, when something failed.
JOURNAL_LINES = 10
JOURNAL_BEFORE = 0.25  # seconds: a process may have written before systemd notes that its unit began
OUTPUT_SHOWN = 2000  # characters
#: A service that was started may need a moment until its status says so.
COMING_UP = 3.0
LOOK_AGAIN = 0.2

_UNIT_STATES = {
    "active": State.RUNNING,
    "reloading": State.RUNNING,
    "refreshing": State.RUNNING,
    "activating": State.STARTING,
    "deactivating": State.STOPPING,
    "inactive": State.STOPPED,
    "failed": State.FAILED,
    "maintenance": State.STOPPED,
}


class _Process(msgspec.Struct, frozen=True):
    """A command under way; `started` in clock ticks since the boot tells it from another with the same id."""

    pid: int
    started: int


class Control:
    """Everything that is done to services goes through here."""

    def __init__(self, directory: Path, systemd: Systemd | None = None) -> None:
        """`directory` survives a crash of this process, not a reboot."""
        self._directory = directory
        self._systemd = systemd or Systemd()
        self._locks: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._changed: dict[str, float] = {}  # when a service under commands was last started or stopped here

    def close(self) -> None:
        """Lets go of the bus."""
        self._systemd.close()

    async def report(self, service: Service, *, with_journal: bool = True) -> Report:
        """How it is, also in the middle of an action; with the end of its journal where it failed."""
        if service.unit:
            return await self._unit_report(service, with_journal)
        result = await async_commands.run(service.status, timeout=STATUS_TIMEOUT)
        state = State.RUNNING if result.ok else State.STOPPED
        if result.error or result.timed_out or result.signal is not None:
            state = State.UNKNOWN
        return Report(
            id=service.id,
            description=service.description,
            state=state,
            since=self._changed.get(service.id) if state is not State.UNKNOWN else None,
            detail=f"status: {result}" if not result.ok else "",
            log=_lines(result.output) if state is State.UNKNOWN else [],
        )

    async def settled_report(self, service: Service) -> Report:
        """How it is when no action is under way with it."""
        async with self._locks[service.id]:
            await self._wait_for_leftover(service)
            return await self.report(service, with_journal=False)

    async def run(self, service: Service) -> tuple[State, float | None]:
        """How it is, and when its last run began by the monotonic clock, where systemd knows that."""
        if not service.unit:
            return (await self.report(service)).state, None
        try:
            status = await self._systemd.status(service.unit)
        except HacoreError:
            return State.UNKNOWN, None
        return _unit_state(status), status.began_monotonic

    async def act(self, service: Service, action: Action, timeout: float) -> Outcome:
        """Does it and waits for the result, at most `timeout` seconds for each job or command.

        What fails is an outcome and not an exception.
        """
        async with self._locks[service.id]:
            begun = time.monotonic()
            try:
                if service.unit:
                    outcome = await self._unit_act(service, action, timeout)
                else:
                    outcome = await self._command_act(service, action, timeout)
            except HacoreError as error:
                outcome = Outcome(id=service.id, action=action, ok=False, message=str(error))
            return msgspec.structs.replace(outcome, duration=time.monotonic() - begun)

    # Units

    async def _unit_report(self, service: Service, with_journal: bool) -> Report:
        try:
            status = await self._systemd.status(service.unit)
        except HacoreError as error:
            return Report(
                id=service.id,
                description=service.description,
                unit=service.unit,
                state=State.UNKNOWN,
                detail=str(error),
            )
        state = _unit_state(status)
        return Report(
            id=service.id,
            description=service.description,
            unit=service.unit,
            state=state,
            since=status.since if state is not State.MISSING else None,
            detail=_unit_detail(status),
            log=await self._journal(status) if state is State.FAILED and with_journal else [],
        )

    async def _unit_act(self, service: Service, action: Action, timeout: float) -> Outcome:
        if action is not Action.STOP and (await self._systemd.status(service.unit)).outdated:
            await self._systemd.reload()  # such as after a push of the unit's file, or of a drop-in
        job = await self._systemd.run_job(service.unit, action, timeout)
        status = await self._systemd.status(service.unit)
        state = _unit_state(status)
        if job.ok:
            return Outcome(id=service.id, action=action, ok=True, state=state)
        why = {
            "not-found": f"systemd knows no unit {service.unit}",
            "masked": f"{service.unit} is masked",
            "waited": job.message,
        }.get(job.result, f"{service.unit}: {_unit_detail(status)} (job: {job.result})")
        log = [] if job.result in ("not-found", "masked") else await self._journal(status)
        return Outcome(id=service.id, action=action, ok=False, state=state, message=why, output="\n".join(log))

    async def _journal(self, status: UnitStatus) -> list[str]:
        """The last lines of the unit's last run: what it wrote, and what systemd wrote of it."""
        await async_commands.run(["journalctl", "--sync"], timeout=JOURNAL_TIMEOUT)  # what it wrote a moment ago, too
        which = [f"_SYSTEMD_UNIT={status.unit}", "+", "_PID=1", f"UNIT={status.unit}"]
        if status.began is not None:
            # Not the run's own id, and the process beside the unit: the journal does not know either of a process which
            # ended before it was looked up.
            which = [
                f"--since=@{status.began - JOURNAL_BEFORE:.6f}",
                *which,
                *(["+", f"_PID={status.main_pid}"] if status.main_pid else []),
            ]
        # From the end: from a time on, it would tell the first lines.
        newest = ["--reverse", f"--lines={JOURNAL_LINES}"]
        command = ["journalctl", *newest, "--no-pager", "--quiet", "--output=cat", *which]
        result = await async_commands.run(command, timeout=JOURNAL_TIMEOUT)
        return _lines("\n".join(result.output.splitlines()[::-1])) if result.ok else []

    # Commands

    async def _command_act(self, service: Service, action: Action, timeout: float) -> Outcome:
        steps = {Action.START: ["start"], Action.STOP: ["stop"], Action.RESTART: ["stop", "start"]}[action]
        await self._wait_for_leftover(service)
        before = (await self.report(service)).state
        output: list[str] = []
        state = before
        for step in steps:
            wanted = step == "start"
            # Commands, unlike systemd, may take it ill to be told twice.
            if state is State.RUNNING if wanted else state is State.STOPPED:
                continue
            result = await self._command(service, service.start if wanted else service.stop, timeout)
            if result.output:
                output.append(result.output)
            if not result.ok:
                state = (await self.report(service)).state
                return _failure(service, action, state, f"{step}: {result}", output)
            state = await self._await_state(service, State.RUNNING if wanted else State.STOPPED)
            if state is not (State.RUNNING if wanted else State.STOPPED):
                return _failure(service, action, state, f"{step} succeeded, but its status says {state}", output)
            self._changed[service.id] = time.time()
        return Outcome(id=service.id, action=action, ok=True, state=state, output=_end(output))

    async def _await_state(self, service: Service, wanted: State) -> State:
        deadline = time.monotonic() + COMING_UP
        while True:
            state = (await self.report(service)).state
            if state is wanted or time.monotonic() > deadline:
                return state
            await asyncio.sleep(LOOK_AGAIN)

    async def _command(self, service: Service, argv: Sequence[str], timeout: float) -> Result:
        place = self._directory / service.id

        def started(pid: int) -> None:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            place.write_bytes(msgspec.json.encode(_Process(pid, start_ticks(pid))))

        try:
            return await async_commands.run(
                argv, timeout=timeout, variables={"HACORE_SERVICE": service.id}, started=started
            )
        finally:
            place.unlink(missing_ok=True)

    async def _wait_for_leftover(self, service: Service) -> None:
        """Until the command that a worker of before has started is gone; one that takes too long is ended."""
        place = self._directory / service.id
        if service.unit or not place.exists():
            return
        try:
            known = msgspec.json.decode(place.read_bytes(), type=_Process)
        except (OSError, msgspec.MsgspecError):
            known = _Process(0, 0)  # it was cut off in the writing
        deadline = time.monotonic() + STATUS_TIMEOUT
        last = deadline + GRACE
        told = False
        while known.started and start_ticks(known.pid) == known.started:
            if time.monotonic() > deadline:
                number, deadline, told = signal.SIGKILL if told else signal.SIGTERM, last, True
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(known.pid, number)
            await asyncio.sleep(LOOK_AGAIN)
        place.unlink(missing_ok=True)


def _unit_state(status: UnitStatus) -> State:
    if status.load_state == "not-found" and status.active_state in ("inactive", "failed"):
        return State.MISSING
    return _UNIT_STATES.get(status.active_state, State.UNKNOWN)


def _unit_detail(status: UnitStatus) -> str:
    if status.load_state not in ("loaded", "not-found"):
        return f"{status.active_state}, unit file {status.load_state}"
    if status.active_state == "failed":
        return f"failed: {status.result}"
    if status.load_state == "not-found":
        return f"systemd knows no unit {status.unit}"
    return f"{status.active_state} ({status.sub_state})"


def _failure(service: Service, action: Action, state: State, message: str, output: list[str]) -> Outcome:
    return Outcome(id=service.id, action=action, ok=False, state=state, message=message, output=_end(output))


def _end(output: Sequence[str]) -> str:
    return "".join(output)[-OUTPUT_SHOWN:].strip()


def _lines(output: str) -> list[str]:
    return output[-OUTPUT_SHOWN:].strip().splitlines()[-JOURNAL_LINES:]
