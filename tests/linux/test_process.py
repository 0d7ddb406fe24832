"""What the kernel says about processes."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from hacore.linux import process

BUSY = """
import sys, time
while time.process_time() < 0.2:
    pass
print(time.process_time(), flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def busy() -> Iterator[tuple[int, float]]:
    """A process that waits now, and the processor time that it has taken by its own clock."""
    with subprocess.Popen([sys.executable, "-c", BUSY], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        yield child.pid, float(child.stdout.readline())
        child.kill()


def test_the_time_of_another_process_is_what_it_reads_itself(busy: tuple[int, float]) -> None:
    pid, read = busy
    found = process.cpu_time(pid)
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        fields = file.read().rpartition(")")[2].split()
    # utime and stime, proc_pid_stat(5): what the kernel's accounting says, in ticks.
    accounted = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    assert found >= read >= 0.2
    assert found == pytest.approx(accounted, abs=2 / os.sysconf("SC_CLK_TCK"))


def test_all_threads_count() -> None:
    before = process.cpu_time(os.getpid())

    def spend() -> None:
        began = time.thread_time()
        while time.thread_time() - began < 0.05:
            pass

    thread = threading.Thread(target=spend)
    thread.start()
    thread.join()
    assert process.cpu_time(os.getpid()) - before >= 0.05
    assert process.cpu_time(0) == pytest.approx(time.process_time(), rel=0.1)


def test_who_is_gone_has_no_clock() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        pass
    with pytest.raises(ProcessLookupError, match=f"there is no process {child.pid}"):
        process.cpu_time(child.pid)


def test_the_memory_of_another_process_is_what_it_has_touched() -> None:
    found = []
    for size in (1, 32 << 20):
        program = f"import sys; held = b'x' * {size}; print(flush=True); sys.stdin.readline()"
        command = [sys.executable, "-c", program]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
            assert child.stdout is not None
            child.stdout.readline()
            found.append(process.resident_bytes(child.pid))
            child.kill()
    assert found[1] - found[0] == pytest.approx(32 << 20, rel=0.1)
    with pytest.raises(ProcessLookupError, match=f"there is no process {child.pid}"):
        process.resident_bytes(child.pid)


def test_who_is_gone_has_not_started(busy: tuple[int, float]) -> None:
    assert process.start_ticks(busy[0]) >= process.start_ticks(os.getpid()) > 0
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert process.start_ticks(child.pid) == 0
        assert process.start_ticks(child.pid, zombies=True) > 0
    assert process.start_ticks(child.pid, zombies=True) == 0
