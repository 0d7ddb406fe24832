"""Processes of a running node that die, stop or stall: the addresses move, the node mends itself, and says so."""

from __future__ import annotations

import os
import signal

import pytest

from hacore.lab import faults
from tests.namespaces import wait_until
from tests.running_node import PATIENCE, RunningNode, Segment, await_master, vip

BOTH = {"10.1.0.1", "2001:db8:1::1"}


def end_worker(node: RunningNode, number: signal.Signals) -> int:
    """Sends a signal to the election worker; returns the process id it had."""
    pid = node.worker_pid()
    os.kill(pid, number)
    return pid


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP, signal.SIGSEGV])
def test_a_dead_election_worker(segment: Segment, number: signal.Signals) -> None:
    first, second = segment.pair()
    marks = first.last_event(), second.last_event()
    dead = end_worker(first, number)
    told = first.until_event("worker", after=marks[0])["text"]
    assert number.name in told
    assert "gave up lan" in told
    second.until(lambda: second.transitions(after=marks[1]))
    assert second.transitions(after=marks[1])[0] == ("MASTER", "master bowed out")

    await_master(first, second)
    first.until(lambda: first.held() == BOTH)
    worker = first.status()["node"]["workers"]["election"]
    assert (worker["state"], worker["restarts"]) == ("running", 1)
    assert worker["pid"] != dead
    assert [state for state, _ in first.transitions(after=marks[0])] == ["INIT", "BACKUP", "MASTER"]
    assert second.held() == set()


def test_the_command_line_answers_while_the_worker_is_down(segment: Segment) -> None:
    """Each time the worker dies young the next start waits longer."""
    node = segment.node("fw1", 11)
    node.configure(vip())
    node.start()
    for _ in range(3):
        node.until(lambda: node.status()["node"]["workers"]["election"]["state"] == "running")
        end_worker(node, signal.SIGKILL)
        node.until(lambda: node.status()["node"]["workers"]["election"]["state"] == "failed")
    told = node.vip()
    assert (told["state"], told["reason"]) == ("INIT", "the election worker is not running")
    said = node.hacore("status", check=False)
    assert "the election worker is not running" in said.stdout + said.stderr
    assert node.hacore("demotion", "add", "manual", "7").returncode == 0
    node.until_state("MASTER")
    assert node.status()["node"]["demotion"]["reasons"] == {"manual": 7}
    assert node.vip()["effective_advskew"] == 27


def test_a_dead_supervisor(segment: Segment) -> None:
    """Its worker bows out and ends; the next start takes over what is left."""
    first, second = segment.pair()
    mark = second.last_event()
    assert first.process is not None
    first.process.kill()
    second.until_state("MASTER")
    assert second.transitions(after=mark) == [("MASTER", "master bowed out")]
    wait_until(lambda: first.processes() == [], PATIENCE)
    assert first.held() == set()
    first.start()
    await_master(first, second)


@pytest.mark.parametrize("preempt", [True, False])
def test_a_node_that_is_frozen_and_continues(segment: Segment, preempt: bool) -> None:
    first, second = segment.pair(preempt=preempt)
    marks = first.last_event(), second.last_event()
    pids = first.processes()
    faults.freeze(pids)
    try:
        second.until_state("MASTER")
        assert second.transitions(after=marks[1]) == [("MASTER", "master timed out")]
        wait_until(lambda: first.held() == set(), PATIENCE)  # by the kernel's hand
    finally:
        faults.thaw(pids)
    await_master(*((first, second) if preempt else (second, first)))
    assert first.held() == (BOTH if preempt else set())
    assert first.status()["node"]["workers"]["election"]["state"] == "running"


def test_a_partition_that_heals(segment: Segment) -> None:
    first, second = segment.pair()
    segment.cut(second.host)
    second.until_state("MASTER")
    assert first.state() == "MASTER"
    segment.mend(second.host)
    await_master(first, second)
    assert second.vip()["reason"] == "more frequent advertisement received"
    assert (first.held(), second.held()) == (BOTH, set())
