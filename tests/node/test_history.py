"""The event history on a real file system, with kills, full disks and torn lines."""

from __future__ import annotations

import json
import os
import select
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hacore.node import history as history_module
from hacore.node import history_file
from hacore.node.event import Event
from hacore.node.history import History
from hacore.node.history_file import EventFile, read_events

LIMIT = 30.0


@pytest.fixture
def history(tmp_path: Path) -> Iterator[History]:
    history = History(tmp_path, "fw1")
    yield history
    history.close()


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def has_after(directory: Path, seq: int) -> bool:
    return any(event.seq > seq for event in read_events(directory, 1))


def has_policy(thread: int, policy: int) -> bool:
    return os.sched_getscheduler(thread) == policy


def fill(directory: Path, count: int) -> None:
    history = History(directory, "fw1")
    for number in range(count):
        history.record("test", f"event {number}")
    history.close()


def test_events_are_on_disk_as_json_lines(tmp_path: Path, history: History) -> None:
    history.record("transition", "lan is MASTER", vip="lan", at=12.5, epoch=3, quick=True)
    history.record("started", "up\nand running")
    history.close()
    first, second = (tmp_path / "events.jsonl").read_text().splitlines()
    assert json.loads(first) == {
        "seq": 1,
        "boot": Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
        "time": 12.5,
        "node": "fw1",
        "kind": "transition",
        "text": "lan is MASTER",
        "vip": "lan",
        "fields": {"epoch": 3, "quick": True},
    }
    assert json.loads(second)["text"] == "up\nand running"
    assert stat.S_IMODE((tmp_path / "events.jsonl").stat().st_mode) == 0o640
    assert history.warnings() == []


def test_events_reach_the_disk_without_closing(tmp_path: Path, history: History) -> None:
    history.record("test", "one")
    until(lambda: len(read_events(tmp_path, 10)) == 1)
    until(lambda: not history._writer._file.unsynced)


def test_numbers_and_events_go_on_after_a_restart(tmp_path: Path) -> None:
    fill(tmp_path, 3)
    fill(tmp_path, 2)
    history = History(tmp_path, "fw1")
    assert history.seq == 5
    assert [event.seq for event in history.read(10)] == [1, 2, 3, 4, 5]
    assert history.record("test", "more").seq == 6
    assert [event.text for event in history.read(2)] == ["event 1", "more"]
    history.close()


def test_reading(tmp_path: Path, history: History) -> None:
    for number in range(10):
        history.record("test", str(number))
    history.close()
    for read in (history.read, lambda limit, after=0: read_events(tmp_path, limit, after)):
        assert [event.seq for event in read(3)] == [8, 9, 10]
        assert [event.seq for event in read(100, 7)] == [8, 9, 10]
        assert [event.seq for event in read(2, 7)] == [9, 10]
        assert read(0) == read(5, 10) == []


def test_followers_hear_each_event_once(history: History) -> None:
    heard: list[tuple[Event, bytes]] = []
    history.record("test", "before")
    history.follow(lambda event, line: heard.append((event, line)))
    event = history.record("test", "after")
    assert heard == [(event, history.read_lines(1)[0])]


def test_text_that_is_no_unicode_is_recorded_as_well(history: History) -> None:
    event = history.record("test", "file \udcff", vip="lan", path="\udcfe", count=3)
    assert (event.text, event.fields) == ("file \\udcff", {"path": "\\udcfe", "count": 3})
    assert history.read(1) == [event]


def test_memory_is_bounded(history: History) -> None:
    for number in range(history_module.KEPT + 50):
        history.record("test", str(number))
    assert len(history.read(10_000)) == history_module.KEPT


def test_rotation_keeps_two_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history_file, "ROTATE_AT_BYTES", 20_000)
    history = History(tmp_path, "fw1")
    for number in range(1000):
        history.record("test", str(number))
        if number % 20 == 0:
            until(lambda: history._writer._queue.empty())
    history.close()
    assert sorted(os.listdir(tmp_path)) == ["events.jsonl", "events.jsonl.1"]
    for name in os.listdir(tmp_path):
        assert (tmp_path / name).stat().st_size <= 20_000
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o640
    events = read_events(tmp_path, 1000)
    assert [event.seq for event in events] == list(range(events[0].seq, 1001))
    assert sum((tmp_path / name).stat().st_size for name in os.listdir(tmp_path)) > 20_000
    assert history.warnings() == []
    (tmp_path / "events.jsonl").unlink()
    restarted = History(tmp_path, "fw1")  # as after a kill between the rename and the next write
    assert restarted.seq == read_events(tmp_path, 1)[0].seq
    restarted.close()


def test_a_reader_that_meets_a_rotation_sees_each_event_once(tmp_path: Path) -> None:
    fill(tmp_path, 5)
    os.link(tmp_path / "events.jsonl", tmp_path / "events.jsonl.1")
    assert [event.seq for event in read_events(tmp_path, 100)] == [1, 2, 3, 4, 5]


@given(torn=st.integers(1, 400), junk=st.binary(max_size=100))
def test_a_torn_end_costs_only_itself(tmp_path_factory: pytest.TempPathFactory, torn: int, junk: bytes) -> None:
    directory = tmp_path_factory.mktemp("torn")
    fill(directory, 10)
    path = directory / "events.jsonl"
    data = path.read_bytes()
    kept = data[: max(0, len(data) - torn)]
    path.write_bytes(kept + junk)
    # What is left of a line may be whole without its newline.
    whole = kept.count(b"\n")
    found = [event.seq for event in read_events(directory, 100)]
    assert found in (list(range(1, whole + 1)), list(range(1, whole + 2)))
    history = History(directory, "fw1")
    assert history.record("test", "after").seq == len(found) + 1
    history.close()
    assert [event.seq for event in read_events(directory, 100)] == [*found, len(found) + 1]
    assert history.warnings() == []


@given(data=st.binary(max_size=2000))
@example(data=b'{"seq": 1, "text": "\xff"}\n')
@example(data=b'{"seq": 1, "what": ' + b"[" * 100_000)
def test_any_bytes_in_the_file_are_survived(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    directory = tmp_path_factory.mktemp("junk")
    (directory / "events.jsonl").write_bytes(data)
    history = History(directory, "fw1")
    event = history.record("test", "after")
    history.close()
    assert read_events(directory, 1) == [event]


def test_lines_longer_than_a_block_are_read(tmp_path: Path, history: History) -> None:
    for length in (10, 200_000, 65_536, 10):
        history.record("test", "x" * length)
    history.close()
    assert [len(event.text) for event in read_events(tmp_path, 10)] == [10, 200_000, 65_536, 10]


WRITE_UNTIL_KILLED = """
import sys
from hacore.node import history_file
from hacore.node.history import History
history_file.ROTATE_AT_BYTES = 100_000
history = History(sys.argv[1], "fw1")
print(history.seq, flush=True)
while True:
    for _ in range(50):
        history.record("test", "x" * (history.seq % 300))
    sys.stdout.write(".")
    sys.stdout.flush()
"""


def test_kill_in_the_middle_of_writing(tmp_path: Path) -> None:
    last = 0
    for round_ in range(15):
        with subprocess.Popen(
            [sys.executable, "-c", WRITE_UNTIL_KILLED, str(tmp_path)], stdout=subprocess.PIPE
        ) as writer:
            assert writer.stdout is not None
            assert int(writer.stdout.readline()) >= last, "numbers go on"
            until(partial(has_after, tmp_path, last))
            writer.stdout.read(1 + round_ * 7)
            writer.send_signal(signal.SIGKILL)
            writer.wait()
        events = read_events(tmp_path, 100_000)
        numbers = [event.seq for event in events]
        assert numbers == list(range(numbers[0], numbers[-1] + 1)), "no event is missing before the last, none doubled"
        assert numbers[-1] > last
        assert all(event.text == "x" * ((event.seq - 1) % 300) for event in events)
        last = numbers[-1]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], check=True)
    yield disk
    subprocess.run(["umount", disk], check=True)


def test_a_full_disk_is_counted_and_shown_and_left_when_there_is_room(small_disk: Path) -> None:
    (small_disk / "filler").write_bytes(bytes(40_000))
    history = History(small_disk, "fw1")
    for number in range(500):
        history.record("test", f"{number} " + "x" * 100)
        if number % 10 == 0:
            until(lambda: history._writer._queue.empty())
    until(history.warnings)
    assert history.seq == 500
    assert len(history.read(1000)) == 500, "those in memory are all there"
    (small_disk / "filler").unlink()
    history.record("test", "there is room")
    history.close()
    (warning,) = history.warnings()
    events = read_events(small_disk, 1000)
    assert (
        warning == f"{501 - len(events)} events are not in {small_disk}/events.jsonl: "
        "cannot write events.jsonl: No space left on device"
    )
    assert 0 < len(events) < 500
    assert events[-1].text == "there is room"
    assert [event.seq for event in events[:-1]] == sorted({event.seq for event in events[:-1]})


def test_a_read_only_disk_is_shown(small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    history = History(small_disk, "fw1")
    history.record("test", "nowhere to write")
    history.close()
    assert history.warnings() == [
        f"1 events are not in {small_disk}/events.jsonl: cannot write events.jsonl: Read-only file system"
    ]
    assert [event.text for event in history.read(10)] == ["nowhere to write"]


def test_an_unreadable_history_is_shown(tmp_path: Path) -> None:
    (tmp_path / "events.jsonl").mkdir()
    history = History(tmp_path, "fw1")
    history.record("test", "one")
    history.close()
    assert len(history.warnings()) == 2


def test_a_disk_that_hangs_holds_nobody_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The writer waits in the kernel (a fifo without a reader stands for the disk); the node goes on, within bounds."""
    monkeypatch.setattr(history_module, "WAITING", 100)
    monkeypatch.setattr(history_module, "CLOSE_TIMEOUT", 0.1)
    read_end, write_end = os.pipe()
    monkeypatch.setattr(EventFile, "append", lambda self, lines: os.write(write_end, b"x" * (1 << 20)) and 0)
    history = History(tmp_path, "fw1")
    history.record("test", "first")
    until(lambda: select.select([read_end], [], [], 0)[0])
    until(history._writer._queue.empty)
    for number in range(150):
        history.record("test", str(number))
    assert len(history.read(1000)) == 151
    assert history.warnings() == [f"50 events are not in {tmp_path}/events.jsonl: the disk does not answer"]
    history.close()
    while os.read(read_end, 1 << 20):
        if history._writer._ended.acquire(timeout=0.01):
            break
    os.close(read_end)
    os.close(write_end)


def test_the_writer_has_the_policy_of_the_process(tmp_path: Path) -> None:
    before = set(os.listdir("/proc/self/task"))
    history = History(tmp_path, "fw1")
    (thread,) = set(os.listdir("/proc/self/task")) - before
    try:
        for policy in (os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.SCHED_OTHER):
            os.sched_setscheduler(0, policy, os.sched_param(3 if policy != os.SCHED_OTHER else 0))
            history.record("test", "one")
            until(partial(has_policy, int(thread), policy))
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
        history.close()
