"""Runs the commands of health checks and hooks as processes of their own, without ever holding up the loop.

Each runs in a session of its own, as an ordinary process (not real-time) in `/`, with no descriptor but stdin,
stdout and stderr and no environment but what it is given. What it writes is read as it comes and the end of it kept.
A command that overruns its time is asked to end (SIGTERM to its process group), and killed two seconds later.
Starting a process holds the caller until the new program is loaded (posix_spawn(3)), so that no more than one starts
in a turn of the loop.
"""

from __future__ import annotations

import os
import signal
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from msgspec import Struct

from hacore.node.loop import READ, Loop, Timer

#: Of what a command writes, this many bytes are kept: the end says why it failed.
OUTPUT_KEPT = 4096
#: Output is read so many bytes at a time, with a pause after each, so that a command that writes without end cannot
#: keep the loop busy.
OUTPUT_AT_ONCE = 65536
OUTPUT_PAUSE = 0.01
#: From SIGTERM to SIGKILL.
GRACE = 2.0

SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
ENVIRONMENT = {"PATH": SEARCH_PATH, "LANG": "C.UTF-8", "HOME": "/root"}

_CATCHABLE = sorted(set(signal.valid_signals()) - {signal.SIGKILL, signal.SIGSTOP})


class Result(Struct, frozen=True, kw_only=True):
    """How a command ended: exactly one of `exit_code`, `signal` and `error` (it could not be started) is set.

    `output` is the end of stdout and stderr together; `duration` in seconds from start to end; `timed_out` when it
    was stopped for that.
    """

    exit_code: int | None = None
    signal: int | None = None
    error: str = ""
    timed_out: bool = False
    output: str = ""
    duration: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether it ended by itself, in time, with exit code 0."""
        return self.exit_code == 0 and not self.timed_out

    def __str__(self) -> str:
        if self.error:
            return self.error
        if self.signal is not None:
            how = f"killed by {_signal_name(self.signal)}"
        else:
            how = f"exit code {self.exit_code}"
        return f"stopped after {self.duration:.3g} s: time is up, {how}" if self.timed_out else how


Done = Callable[[Result, float], None]


class Command:
    """One command, from the moment it was asked for."""

    def __init__(
        self,
        runner: Runner,
        argv: Sequence[str],
        done: Done,
        environment: dict[str, str],
        stdin: bytes,
        timeout: float,
        on_timeout: Callable[[float], None] | None,
        keep: int,
    ) -> None:
        self._runner = runner
        self._keep = keep
        self._loop = runner.loop
        self._argv = [*argv]
        self._done: Done | None = done
        self._environment = environment
        self._stdin = stdin
        self._timeout = timeout
        self._on_timeout = on_timeout
        self._output = bytearray()
        self._pidfd = self._pipe = -1
        self._started = 0.0
        self._timed_out = False
        self._timer: Timer | None = None
        self._pause: Timer | None = None
        #: Process id, and id of its process group and session; 0 before it started.
        self.pid = 0

    def cancel(self) -> None:
        """Stops it (SIGTERM, then SIGKILL) and forgets it: `done` is not called any more."""
        self._done = self._on_timeout = None
        if self.pid:
            self._terminate(self._loop.now())

    def _start(self, now: float) -> None:
        self._started = now
        output = -1
        try:
            self._pipe, output = os.pipe2(os.O_CLOEXEC)
            os.set_blocking(self._pipe, False)
            self.pid = _spawn(self._argv, self._environment, self._stdin, output)
            self._pidfd = os.pidfd_open(self.pid)
            self._loop.register(self._pidfd, self._ended)
            self._loop.register(self._pipe, self._readable)
        except OSError as error:
            if self.pid:  # it runs, and nobody would learn of its end
                self._signal_group(signal.SIGKILL)
                os.waitpid(self.pid, os.WNOHANG)
            self._finish(
                Result(error=f"cannot start {self._argv[0]}: {error.strerror}", duration=self._loop.now() - now)
            )
            return
        finally:
            if output >= 0:
                os.close(output)
        self._timer = self._loop.call_at(self._loop.now() + self._timeout, self._time_is_up)

    def _readable(self, _events: int, now: float) -> None:
        if self._read():
            self._loop.modify(self._pipe, 0)
            if self._pause is not None:
                self._pause.cancel()
            self._pause = self._loop.call_at(now + OUTPUT_PAUSE, self._resume)

    def _resume(self, _now: float) -> None:
        self._loop.modify(self._pipe, READ)

    def _read(self) -> bool:
        """Takes what is there; whether more may come."""
        try:
            data = os.read(self._pipe, OUTPUT_AT_ONCE)
        except BlockingIOError:
            return True
        if not data:
            self._loop.unregister(self._pipe)
            if self._pause is not None:
                self._pause.cancel()
        self._output += data[-self._keep :]
        del self._output[: -self._keep]
        return bool(data)

    def _time_is_up(self, now: float) -> None:
        self._timed_out = True
        if self._on_timeout is not None:
            self._on_timeout(now)
        self._terminate(now)

    def _terminate(self, now: float) -> None:
        self._signal_group(signal.SIGTERM)
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(now + GRACE, self._kill)

    def _kill(self, _now: float) -> None:
        self._signal_group(signal.SIGKILL)

    def _signal_group(self, number: int) -> None:
        # The leader is not waited for before its group got its last signal, so that the number cannot be another
        # group's by now.
        with suppress(ProcessLookupError, PermissionError):  # gone, or it has made itself another user
            os.killpg(self.pid, number)

    def _ended(self, _events: int, now: float) -> None:
        if self._timed_out or self._done is None:
            self._signal_group(signal.SIGKILL)  # what the leader left behind
        status = os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED | os.WNOHANG)
        if status is None:
            return
        self._read()
        exited = status.si_code == os.CLD_EXITED
        self._finish(
            Result(
                exit_code=status.si_status if exited else None,
                signal=None if exited else status.si_status,
                timed_out=self._timed_out,
                output=self._output.decode(errors="replace"),
                duration=now - self._started,
            )
        )

    def _finish(self, result: Result) -> None:
        for timer in (self._timer, self._pause):
            if timer is not None:
                timer.cancel()
        for fd in (self._pipe, self._pidfd):
            if fd >= 0:
                self._loop.unregister(fd)
                os.close(fd)
        self._pipe = self._pidfd = -1
        self._runner._forget(self)
        if self._done is not None:
            self._done(result, self._loop.now())


class Runner:
    """Starts commands in the order asked, one in a turn of the loop."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self._waiting: deque[Command] = deque()
        self._running: set[Command] = set()
        self._turn: Timer | None = None
        if signal.getsignal(signal.SIGCHLD) == signal.SIG_IGN:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # inherited; the kernel would throw the exit codes away

    @property
    def idle(self) -> bool:
        """Whether nothing runs or waits to."""
        return not self._running and not self._waiting

    def run(
        self,
        argv: Sequence[str],
        done: Done,
        *,
        timeout: float,
        variables: Mapping[str, str] | None = None,
        stdin: bytes = b"",
        on_timeout: Callable[[float], None] | None = None,
        keep: int = OUTPUT_KEPT,
    ) -> Command:
        """Runs `argv` and calls `done(result, now)` from the loop when it ended.

        A program without a slash is looked up in PATH; `variables` are added to the small environment; `stdin` is what
        it reads; `keep` bytes of what it writes are kept, the last ones. `on_timeout` is called at the moment the time
        is up, because a process that cannot be killed (it waits for a dead disk) ends much later or never.
        """
        command = Command(self, argv, done, {**ENVIRONMENT, **(variables or {})}, stdin, timeout, on_timeout, keep)
        self._waiting.append(command)
        self._next_turn()
        return command

    def cancel_all(self) -> None:
        """Stops everything, without results; `idle` once the last process is gone, so that the loop has to go on."""
        self._waiting.clear()
        for command in self._running:
            command.cancel()

    def _next_turn(self) -> None:
        if self._turn is None and self._waiting:
            self._turn = self.loop.call_soon(self._start_one)

    def _start_one(self, now: float) -> None:
        self._turn = None
        while self._waiting:
            command = self._waiting.popleft()
            if command._done is None:
                continue  # cancelled before its turn
            self._running.add(command)
            try:
                command._start(now)
            finally:
                self._next_turn()
            return

    def _forget(self, command: Command) -> None:
        self._running.discard(command)


def _spawn(argv: Sequence[str], environment: Mapping[str, str], stdin: bytes, output: int) -> int:
    """The pid of the new process; raises OSError with a message for people."""
    program = _find(argv[0], environment)
    here = os.open(".", os.O_PATH | os.O_CLOEXEC)
    given = -1
    try:
        given = os.memfd_create("stdin", os.MFD_CLOEXEC)
        os.write(given, stdin)
        os.lseek(given, 0, os.SEEK_SET)
        actions: list[tuple[int, int] | tuple[int, int, int]] = [
            (os.POSIX_SPAWN_DUP2, given, 0),
            (os.POSIX_SPAWN_DUP2, output, 1),
            (os.POSIX_SPAWN_DUP2, output, 2),
        ]
        actions += [(os.POSIX_SPAWN_CLOSE, fd) for fd in _inheritable()]
        os.chdir("/")  # posix_spawn has no attribute for it
        return os.posix_spawn(
            program,
            [*argv],
            environment,
            file_actions=actions,
            setsid=True,
            setsigmask=(),
            setsigdef=_CATCHABLE,
            **_ordinary_scheduler(),
        )
    except ValueError as error:
        raise OSError(0, str(error)) from None  # a NUL in an argument or a variable
    finally:
        os.fchdir(here)
        os.close(here)
        if given >= 0:
            os.close(given)


def _find(program: str, environment: Mapping[str, str]) -> str:
    if "/" in program:
        return program
    path = environment["PATH"]
    for directory in path.split(":"):
        candidate = f"{directory}/{program}"
        if os.access(candidate, os.X_OK) and os.path.isfile(candidate):
            return candidate
    raise OSError(0, f"not found in {path}")


def _inheritable() -> list[int]:
    """Descriptors above 2 that a new program would get: those that came from outside or were made so for a worker."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        fd = int(name)
        try:
            if fd > 2 and os.get_inheritable(fd):
                found.append(fd)
        except OSError:
            pass  # the listing's own descriptor
    return found


def _ordinary_scheduler() -> dict[str, Any]:
    """The arguments of posix_spawn that take the real-time policy off the child; none when it would have none.

    A C library without these calls (musl) answers with an error; a process that is real-time there has set
    SCHED_RESET_ON_FORK.
    """
    try:
        policy = os.sched_getscheduler(0)
    except OSError:
        return {}
    if policy & os.SCHED_RESET_ON_FORK or policy == os.SCHED_OTHER:
        return {}
    return {"scheduler": (os.SCHED_OTHER, os.sched_param(0))}


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
