"""Commands as real processes."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from hacore.node.commands import OUTPUT_AT_ONCE, OUTPUT_KEPT, OUTPUT_PAUSE, Result, Runner
from hacore.node.loop import Loop

LIMIT = 30.0


@pytest.fixture
def runner(loop: Loop) -> Iterator[Runner]:
    runner = Runner(loop)
    yield runner
    runner.cancel_all()
    turn(loop, lambda: runner.idle)


def turn(loop: Loop, until: Callable[[], bool]) -> None:
    end = loop.now() + LIMIT
    while not until():
        assert loop.now() < end, "nothing happened"
        loop.run_once(0.05)


def run(runner: Runner, argv: Sequence[str], timeout: float = LIMIT, **arguments: Any) -> Result:
    results: list[Result] = []
    runner.run(argv, lambda result, now: results.append(result), timeout=timeout, **arguments)
    turn(runner.loop, lambda: bool(results))
    assert runner.idle
    return results[0]


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] in "ZX"
    except FileNotFoundError:
        return True


def test_exit_codes_output_and_stdin(runner: Runner) -> None:
    result = run(runner, ["sh", "-c", "cat; echo to stderr >&2; exit 3"], stdin=b"given\n")
    assert (result.exit_code, result.signal, result.output, result.ok) == (3, None, "given\nto stderr\n", False)
    assert str(result) == "exit code 3"
    assert 0 < result.duration < LIMIT
    assert run(runner, ["true"]).ok


def test_signals(runner: Runner) -> None:
    result = run(runner, ["sh", "-c", "kill -KILL $$"])
    assert (result.exit_code, result.signal, str(result)) == (None, signal.SIGKILL, "killed by SIGKILL")


@pytest.mark.parametrize(
    ("argv", "why"),
    [
        (["no-such-program-anywhere"], "cannot start no-such-program-anywhere: not found in /usr/local/sbin:"),
        (["/no/such/program"], "cannot start /no/such/program: No such file or directory"),
        (["/etc/passwd"], "cannot start /etc/passwd: Permission denied"),
        (["echo", "nul\0"], "cannot start echo: embedded null byte"),
    ],
)
def test_what_cannot_start(runner: Runner, argv: list[str], why: str) -> None:
    before = set(os.listdir("/proc/self/fd"))
    result = run(runner, argv)
    assert result.error.startswith(why)
    assert str(result) == result.error
    assert not result.ok
    assert set(os.listdir("/proc/self/fd")) == before


def test_the_process_is_ordinary_alone_and_has_little(runner: Runner) -> None:
    inherited = os.open("/", os.O_PATH)
    os.set_inheritable(inherited, True)
    program = """
import json, os, signal, sys
status = open("/proc/self/status").read()
json.dump({
    "fds": sorted(int(fd) for fd in os.listdir("/proc/self/fd"))[:-1],
    "cwd": os.getcwd(), "env": dict(os.environ), "session": os.getsid(0) == os.getpid(),
    "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
    "ignored": [line.split()[1] for line in status.splitlines() if line.startswith("SigIgn")],
}, sys.stdout)
"""
    where = os.getcwd()
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
    try:
        result = run(runner, [sys.executable, "-ISc", program], variables={"HACORE_VIP": "lan"})
    finally:
        signal.signal(signal.SIGUSR1, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGUSR2])
        os.close(inherited)
    assert os.getcwd() == where
    seen = json.loads(result.output)
    assert seen["fds"] == [0, 1, 2]
    assert seen["cwd"] == "/"
    assert seen["session"]
    assert seen["blocked"] == []
    ignored = {number for number in range(1, 32) if int(seen["ignored"][0], 16) >> (number - 1) & 1}
    assert ignored == {signal.SIGPIPE, signal.SIGXFSZ}, "the child's interpreter ignores these two itself"
    assert seen["env"].pop("HACORE_VIP") == "lan"
    assert set(seen["env"]) - {"LC_CTYPE"} == {"PATH", "LANG", "HOME"}


def test_children_of_a_realtime_process_are_not_realtime(runner: Runner) -> None:
    program = ["sh", "-c", "cut -d' ' -f41 /proc/$$/stat"]  # policy, proc_pid_stat(5)
    os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    try:
        assert run(runner, program).output == "0\n"
        os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(1))
        assert run(runner, program).output == "0\n"
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def test_of_the_output_the_end_is_kept(runner: Runner) -> None:
    result = run(runner, ["sh", "-c", "seq 100000; echo the end"])
    assert len(result.output) == OUTPUT_KEPT
    assert result.output.endswith("100000\nthe end\n")
    assert run(runner, ["printf", r"\377\376"]).output == "\N{REPLACEMENT CHARACTER}" * 2


def test_one_that_writes_without_end_does_not_keep_the_loop_busy(runner: Runner) -> None:
    reads = 0
    original = os.read

    def counted(fd: int, length: int) -> bytes:
        nonlocal reads
        reads += length == OUTPUT_AT_ONCE
        return original(fd, length)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hacore.node.commands.os.read", counted)
        result = run(runner, ["yes"], timeout=0.5)
    assert result.timed_out
    assert result.output.endswith("y\ny\n")
    assert reads <= result.duration / OUTPUT_PAUSE + 5, "one a pause, and the last few at the end"


def test_time_is_up_for_the_whole_group(runner: Runner, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    moments: list[float] = []
    result = run(
        runner, ["sh", "-c", f"sleep 1000 & echo $$ $! > {pids}; wait"], timeout=0.5, on_timeout=moments.append
    )
    assert result.timed_out
    assert result.signal == signal.SIGTERM
    assert str(result).endswith("time is up, killed by SIGTERM")
    assert len(moments) == 1
    for pid in map(int, pids.read_text().split()):
        turn(runner.loop, lambda pid=pid: gone(pid))  # type: ignore[misc]


def test_one_that_ignores_sigterm_is_killed(runner: Runner, tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    result = run(runner, ["sh", "-c", f"trap '' TERM; touch {ready}; while :; do sleep 1; done"], timeout=0.5)
    assert ready.exists()
    assert result.timed_out
    assert result.signal == signal.SIGKILL


def test_exit_zero_after_the_timeout_is_not_ok(runner: Runner) -> None:
    result = run(runner, ["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.05; done"], timeout=0.5)
    assert (result.exit_code, result.timed_out, result.ok) == (0, True, False)


def test_a_process_left_in_the_background_neither_holds_the_result_nor_is_harmed(
    runner: Runner, tmp_path: Path
) -> None:
    pid_file = tmp_path / "pid"
    result = run(runner, ["sh", "-c", f"sleep 1000 & echo $! > {pid_file}; echo started"])
    assert result.output == "started\n"
    pid = int(pid_file.read_text())
    assert not gone(pid)
    os.kill(pid, signal.SIGKILL)


def test_cancelled_commands_end_without_a_word(runner: Runner, tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    results: list[Result] = []
    keep = [
        runner.run(["sh", "-c", script], lambda result, now: results.append(result), timeout=LIMIT)
        for script in (f"echo $$ > {pid_file}; exec sleep 1000", "echo never started")
    ]
    runner.loop.run_once()
    keep[1].cancel()
    turn(runner.loop, lambda: pid_file.exists() and bool(pid_file.read_text()))
    keep[0].cancel()
    turn(runner.loop, lambda: runner.idle)
    assert results == []
    assert gone(int(pid_file.read_text()))


def test_one_process_starts_in_a_turn(runner: Runner) -> None:
    commands = [runner.run(["true"], lambda result, now: None, timeout=LIMIT) for _ in range(5)]
    for started in range(6):
        assert sum(command.pid != 0 for command in commands) == started
        runner.loop.run_once(0)
    turn(runner.loop, lambda: runner.idle)


def test_no_descriptor_stays_open(runner: Runner) -> None:
    before = set(os.listdir("/proc/self/fd"))
    for _ in range(20):
        run(runner, ["true"])
    assert set(os.listdir("/proc/self/fd")) == before


def test_without_descriptors_the_command_fails_and_the_loop_lives(runner: Runner) -> None:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(fd) for fd in os.listdir("/proc/self/fd"))
    for room in range(1, 6):
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest + room, hard))
        try:
            result = run(runner, ["true"])
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert result.ok or "Too many open files" in result.error
    assert run(runner, ["true"]).ok
