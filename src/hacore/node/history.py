"""The node's event history: the latest events in memory, all of them on disk, safe from a restart and a power cut.

A disk can take seconds for a write and for ever for a sync, and the supervisor waits for nothing: a thread of its
own takes the lines from a queue, writes what has gathered in one write, and syncs at most once a second. Whatever the
disk says, the node goes on; what did not reach it is counted and shown.
"""

from __future__ import annotations

import os
import time
from _queue import Empty, SimpleQueue
from _thread import allocate_lock, stack_size, start_new_thread
from collections import deque
from collections.abc import Callable

from msgspec.structs import replace

from hacore.node.address_writer import take_policy_of_process
from hacore.node.event import Event, Value, decode, encode
from hacore.node.history_file import FILE, EventFile, read_events

#: Events kept in memory.
KEPT = 1000
#: Lines that wait for a disk that does not answer; more are counted and not written.
WAITING = 10_000
#: Seconds between two syncs, and those that `close` waits for the last.
SYNC_INTERVAL = 1.0
CLOSE_TIMEOUT = 2.0
#: Bounds one write.
LINES_AT_ONCE = 500
#: The thread's stack is locked memory in a real-time node.
STACK_BYTES = 256 << 10

#: Called with each new event and its JSON text, without the newline.
Follower = Callable[[Event, bytes], None]


class History:
    """Gives events their numbers, keeps the latest, and hands them to the writer."""

    def __init__(self, state_dir: str | os.PathLike[str], node: str) -> None:
        self._node = node
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as boot_id:
            self._boot = boot_id.read().strip()
        self._latest: deque[tuple[int, bytes]] = deque(maxlen=KEPT)
        self._followers: list[Follower] = []
        self._seq = 0
        problem = ""
        try:
            for event in read_events(state_dir, KEPT):
                self._latest.append((event.seq, encode(event)))
                self._seq = max(self._seq, event.seq)
        except OSError as error:
            problem = f"cannot read {error.filename}: {error.strerror}"
        self._writer = Writer(os.fspath(state_dir), problem)

    @property
    def seq(self) -> int:
        """The number of the latest event, 0 before the first."""
        return self._seq

    def record(self, kind: str, text: str, *, vip: str = "", at: float | None = None, **fields: Value) -> Event:
        """Adds one event, `at` a unix time or now, and tells the followers.

        Never waits for the disk, never fails because of it.
        """
        self._seq += 1
        event = Event(
            seq=self._seq,
            boot=self._boot,
            time=time.time() if at is None else at,
            node=self._node,
            kind=kind,
            text=text,
            vip=vip,
            fields=fields,
        )
        try:
            line = encode(event)
        except UnicodeEncodeError:  # half a surrogate pair, as in a file's name that is no UTF-8
            event = _printable(event)
            line = encode(event)
        self._latest.append((event.seq, line))
        self._writer.put(line)
        for follower in tuple(self._followers):
            follower(event, line)
        return event

    def follow(self, follower: Follower) -> None:
        """Calls `follower` for each event from now on."""
        self._followers.append(follower)

    def read_lines(self, limit: int, after: int = 0) -> list[bytes]:
        """The JSON texts of the latest `limit` events in memory with a number above `after`, oldest first."""
        lines = [line for seq, line in self._latest if seq > after]
        return lines[-limit:] if limit > 0 else []

    def read(self, limit: int, after: int = 0) -> list[Event]:
        """The events of `read_lines`."""
        return [decode(line) for line in self.read_lines(limit, after)]

    def warnings(self) -> list[str]:
        """What `status` says about the history; empty while all is well."""
        return self._writer.warnings()

    def close(self) -> None:
        """Writes and syncs what is left, for at most two seconds."""
        self._writer.close()


class Writer:
    """The thread that owns the file, and the queue before it.

    The thread keeps the real-time policy of the process: it holds the interpreter's lock for microseconds at a time,
    but one of ordinary priority that lost the processor meanwhile would hold up the loop.
    """

    def __init__(self, directory: str, problem: str = "") -> None:
        self._path = f"{directory}/{FILE}"
        self._file = EventFile(directory)
        self._queue: SimpleQueue[bytes | None] = SimpleQueue()
        self._read_problem = problem
        self._refused = 0
        self._lost = 0
        self._last_problem = ""
        self._synced_at = 0.0
        self._closed = False
        self._ended = allocate_lock()
        self._ended.acquire()
        previous = stack_size(STACK_BYTES)
        try:
            start_new_thread(self._run, ())
        finally:
            stack_size(previous)

    def put(self, line: bytes) -> None:
        """Queues one line (without its newline)."""
        if self._closed or self._queue.qsize() >= WAITING:
            self._refused += 1
        else:
            self._queue.put(line)

    def warnings(self) -> list[str]:
        """Why events are missing on disk, or may be after the next power cut."""
        said = [self._read_problem] if self._read_problem else []
        if self._lost or self._last_problem:
            said.append(f"{self._lost} events are not in {self._path}: {self._last_problem}")
        if self._refused:
            said.append(f"{self._refused} events are not in {self._path}: the disk does not answer")
        return said

    def close(self) -> None:
        """Ends the thread after what is queued, or leaves it to a disk that does not answer."""
        if not self._closed:
            self._closed = True
            self._queue.put(None)
            self._ended.acquire(timeout=CLOSE_TIMEOUT)

    def _run(self) -> None:
        try:
            while self._turn():
                pass
            self._file.close()
        finally:
            self._ended.release()

    def _turn(self) -> bool:
        """Waits for lines, or for the time to sync; false at the end."""
        due = self._synced_at + SYNC_INTERVAL
        more = True
        take_policy_of_process()
        try:
            first = self._queue.get(timeout=max(0.0, due - time.monotonic()) if self._file.unsynced else None)
        except Empty:
            pass
        else:
            take_policy_of_process()
            lines, more = self._gather(first)
            if lines:
                self._lost += len(lines) - self._file.append(lines)
        if self._file.unsynced and time.monotonic() >= due:
            self._file.sync()
            self._synced_at = time.monotonic()
        self._last_problem = self._file.problem or self._last_problem
        return more

    def _gather(self, line: bytes | None) -> tuple[list[bytes], bool]:
        lines: list[bytes] = []
        while line is not None:
            lines.append(line)
            if len(lines) == LINES_AT_ONCE:
                return lines, True
            try:
                line = self._queue.get_nowait()
            except Empty:
                return lines, True
        return lines, False


def _printable(event: Event) -> Event:
    def clean(value: Value) -> Value:
        return value.encode(errors="backslashreplace").decode() if isinstance(value, str) else value

    fields = {str(clean(name)): clean(value) for name, value in event.fields.items()}
    texts = {name: str(clean(getattr(event, name))) for name in ("kind", "text", "vip", "node")}
    return replace(event, fields=fields, **texts)
