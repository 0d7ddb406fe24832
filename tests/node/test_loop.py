"""The supervisor's loop, on real descriptors, timers and signals."""

from __future__ import annotations

import contextlib
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from hacore.node.loop import FAILURES_IN_A_ROW, HANGUP, READ, WRITE, Loop, Timer

Errors = list[tuple[str, Exception]]


@pytest.fixture
def errors() -> Errors:
    return []


@pytest.fixture
def loop(errors: Errors) -> Iterator[Loop]:
    loop = Loop(lambda where, error: errors.append((where, error)))
    yield loop
    loop.close()


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    read_end, write_end = os.pipe()
    yield read_end, write_end
    for fd in (read_end, write_end):
        with contextlib.suppress(OSError):
            os.close(fd)


def test_a_descriptor_calls_back_as_long_as_it_is_ready(loop: Loop, pipe: tuple[int, int]) -> None:
    read_end, write_end = pipe
    seen: list[tuple[int, bytes]] = []
    loop.register(read_end, lambda events, now: seen.append((events, os.read(read_end, 1))))
    os.write(write_end, b"ab")
    loop.run_once(1)
    loop.run_once(1)
    assert seen == [(READ, b"a"), (READ, b"b")]
    loop.unregister(read_end)
    os.write(write_end, b"c")
    loop.run_once(0)
    assert len(seen) == 2


def test_hangup_is_told_without_being_asked_for(loop: Loop, pipe: tuple[int, int]) -> None:
    read_end, write_end = pipe
    seen: list[int] = []
    loop.register(read_end, lambda events, now: seen.append(events), 0)
    os.close(write_end)
    loop.run_once(1)
    assert seen == [HANGUP]


def test_modify_changes_what_is_watched(loop: Loop, pipe: tuple[int, int]) -> None:
    _read_end, write_end = pipe
    seen: list[int] = []
    loop.register(write_end, lambda events, now: seen.append(events), 0)
    loop.run_once(0)
    assert seen == []
    loop.modify(write_end, WRITE)
    loop.run_once(0)
    assert seen == [WRITE]


def test_a_watch_ended_by_an_earlier_callback_of_the_turn_is_not_called(loop: Loop) -> None:
    pipes = [os.pipe() for _ in range(2)]
    seen: list[int] = []

    def only_one(events: int, now: float) -> None:
        seen.append(events)
        for read_end, _ in pipes:
            loop.unregister(read_end)

    for read_end, write_end in pipes:
        loop.register(read_end, only_one)
        os.write(write_end, b"x")
    loop.run_once(1)
    assert len(seen) == 1
    for ends in pipes:
        for fd in ends:
            os.close(fd)


def test_timers_run_in_order_and_never_early(loop: Loop) -> None:
    start = loop.now()
    seen: list[tuple[str, float]] = []
    for name, after in (("c", 0.0031), ("a", 0.0011), ("b", 0.0021), ("b2", 0.0021)):
        loop.call_at(start + after, lambda now, name=name, after=after: seen.append((name, now - start - after)))  # type: ignore[misc]
    while len(seen) < 4:
        loop.run_once()
    assert [name for name, _ in seen] == ["a", "b", "b2", "c"]
    assert all(late >= 0 for _, late in seen)


def test_the_wait_is_not_rounded_to_milliseconds(loop: Loop) -> None:
    """The kernel's own account of the timer (proc_pid_fdinfo(5)) gives back the deadline, to the microsecond."""
    when = loop.now() + 1000.0001234
    loop.call_at(when, lambda now: None)
    loop.run_once(0)
    before = loop.now()
    account = Path(f"/proc/self/fdinfo/{loop._timer.fileno()}").read_text()
    after = loop.now()
    found = re.search(r"it_value: \((\d+), (\d+)\)", account)
    assert found is not None
    left = int(found[1]) + int(found[2]) / 1e9
    assert when - after - 1e-6 <= left <= when - before + 1e-6


def test_cancelled_timers_do_not_run_and_do_not_pile_up(loop: Loop) -> None:
    seen: list[str] = []
    for _ in range(10_000):
        loop.call_at(loop.now() + 3600, lambda now: seen.append("far")).cancel()
    assert len(loop._heap) < 200
    timers: list[Timer] = []

    def first(_now: float) -> None:
        seen.append("first")
        timers[1].cancel()

    now = loop.now()
    timers += [loop.call_at(now, first), loop.call_at(now, lambda now: seen.append("second"))]
    assert timers[1].pending
    loop.run_once(0)
    loop.run_once(0)
    assert seen == ["first"]
    assert not any(timer.pending for timer in timers)
    timers[0].cancel()


def test_a_chain_of_due_timers_lets_descriptors_in(loop: Loop, pipe: tuple[int, int]) -> None:
    read_end, write_end = pipe
    seen: list[str] = []

    def again(_now: float) -> None:
        seen.append("timer")
        loop.call_soon(again)

    loop.register(read_end, lambda events, now: seen.append(os.read(read_end, 1).decode()))
    loop.call_soon(again)
    for text in (b"1", b"2"):
        os.write(write_end, text)
        loop.run_once()
    assert seen == ["1", "timer", "2", "timer"]


def test_run_ends_with_stop(loop: Loop) -> None:
    seen: list[str] = []
    now = loop.now()
    loop.call_at(now, lambda now: loop.stop())
    loop.call_at(now, lambda now: seen.append("same turn"))
    loop.call_at(now + 3600, lambda now: seen.append("never"))
    loop.run()
    assert seen == ["same turn"]


def test_an_exception_goes_to_the_owner_and_the_loop_goes_on(loop: Loop, errors: Errors) -> None:
    def fails(_now: float) -> None:
        raise ValueError("broken")

    seen: list[str] = []
    loop.call_at(0.0, fails)
    loop.call_at(0.0, lambda now: seen.append("after"))
    loop.run_once(0)
    assert seen == ["after"]
    ((where, error),) = errors
    assert "fails" in where
    assert str(error) == "broken"


def test_a_descriptor_whose_callback_always_fails_does_not_spin_for_ever(
    loop: Loop, errors: Errors, pipe: tuple[int, int]
) -> None:
    read_end, write_end = pipe

    def fails(_events: int, _now: float) -> None:
        raise ValueError("broken")

    loop.register(read_end, fails)
    os.write(write_end, b"x")
    for _ in range(3 * FAILURES_IN_A_ROW):
        loop.run_once(0)
    assert len(errors) == FAILURES_IN_A_ROW
    assert "unregistered" in errors[-1][0]
    loop.register(read_end, lambda events, now: None)


def test_errors_that_are_not_exceptions_end_the_loop(loop: Loop) -> None:
    def interrupt(_now: float) -> None:
        raise KeyboardInterrupt

    loop.call_soon(interrupt)
    with pytest.raises(KeyboardInterrupt):
        loop.run()


def test_signals_are_told_from_the_loop(errors: Errors) -> None:
    before = signal.getsignal(signal.SIGUSR1)
    loop = Loop(lambda where, error: errors.append((where, error)))
    seen: list[str] = []

    def second() -> None:
        seen.append("USR2")
        raise ValueError("broken")

    loop.on_signals({signal.SIGUSR1: lambda: seen.append("USR1"), signal.SIGUSR2: second})
    os.kill(os.getpid(), signal.SIGUSR1)
    os.kill(os.getpid(), signal.SIGUSR1)
    os.kill(os.getpid(), signal.SIGUSR2)
    assert seen == []
    loop.run_once(1)
    assert seen == ["USR1", "USR2"]
    assert "SIGUSR2" in errors[0][0]
    loop.close()
    assert signal.getsignal(signal.SIGUSR1) == before
