"""The calls of the C library."""

from __future__ import annotations

import errno
import os
import select
import time

import pytest

from hacore.linux import libc


def test_a_timer_fires_at_its_deadline_and_not_when_disarmed() -> None:
    timer = libc.Timer()
    assert timer.drain() == 0
    deadline = time.monotonic() + 0.02
    timer.arm(deadline)
    assert select.select([timer.fileno()], [], [], 5.0)[0]
    assert time.monotonic() >= deadline
    assert timer.drain() == 1
    assert timer.drain() == 0
    timer.arm(0.0)
    assert select.select([timer.fileno()], [], [], 5.0)[0]
    timer.arm(time.monotonic() + 0.02)
    timer.arm(None)
    assert not select.select([timer.fileno()], [], [], 0.1)[0]
    timer.close()
    timer.close()
    with pytest.raises(OSError, match="timerfd_settime"):
        timer.arm(1.0)


def _in_child(act: str) -> int:
    """The exit code of a child that does `act`, with `libc` and `os` at hand; an OSError ends it with its errno."""
    child = os.fork()
    if child == 0:
        code = 0
        try:
            exec(act, {"libc": libc, "os": os})
        except OSError as error:
            code = error.errno or 255
        except BaseException:  # noqa: BLE001 - the child must end here whatever happens
            code = 255
        os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_memory_name_dumps_and_slack() -> None:
    assert _in_child("libc.lock_memory(); libc.unlock_memory()") == 0
    assert _in_child("libc.forbid_core_dumps(); libc.set_timer_slack(1); libc.signal_at_parent_death(9)") == 0
    named = "libc.set_process_name('hacore-election-long'); name = open('/proc/self/comm').read()\n"
    assert _in_child(named + "assert name == 'hacore-election\\n'") == 0


def test_children_of_a_realtime_process_are_ordinary() -> None:
    act = "libc.schedule_realtime(1); assert os.sched_getscheduler(0) & 0xFF == os.SCHED_RR\n"
    act += "p = os.fork()\nif p == 0: os._exit(os.sched_getscheduler(0))\nassert os.waitpid(p, 0)[1] == 0"
    assert _in_child(act) == 0


def test_errors_carry_their_errno() -> None:
    with pytest.raises(OSError, match="setns") as refused:
        libc.setns(-1, 0)
    assert refused.value.errno == errno.EBADF
    assert _in_child("libc.unshare(0x1)") == errno.EINVAL
    assert _in_child("libc.unshare(libc.CLONE_NEWNET); assert os.listdir('/proc/self/net')") == 0


def test_what_the_kernel_says_of_process_and_clock() -> None:
    assert libc.effective_capabilities() >> libc.CAP_NET_ADMIN & 1
    assert _in_child("os.setuid(65534); assert libc.effective_capabilities() == 0") == 0
    status = libc.clock_status()
    assert 0 <= status.estimated_error <= status.maximum_error
