"""Load for a connection table at a steady rate. `python -m hacore.bench.load '{...}'` (a `Load` as JSON), run
inside the namespace: it says "ready" once its messages are built, begins at a line on its standard input, and ends with
one line, a `Done`.

Everything is built before it begins, so that the load takes the least of the machine.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import IO, Literal, NamedTuple, Self

import msgspec
import numpy as np
import numpy.typing as npt

from hacore._fast import ctnetlink
from hacore.bench.datagrams import Wire, frames_of, rows_of
from hacore.errors import HacoreError
from hacore.lab import namespaces
from hacore.lab.nodes import Node
from hacore.linux import conntrack, libc
from hacore.states.layout import Rows, empty_rows

SYN_SENT, ESTABLISHED, TIME_WAIT = 1, 3, 7
ASSURED, SEEN_CONFIRMED, SRC_NAT = 4, 2 | 8, 16 | 128 | 256
LIFETIME = 40_000
STAGE = 0.1
"""Seconds that a connection of the churn is new, and established, and closed."""

LIFE = 3 * STAGE
EACH_LASTING, LASTING_PORT = 10, 8443
"""Of the churn one connection in so many, to a port of its own, stays established: who replicates nothing lacks it."""

LEAST_SLICE, SLICE = 0.001, 0.005
SLOW = 5_000  # connections a second; below it a slice is short, so that few arrive at once


def connections(count: int, first: int = 0, state: int = ESTABLISHED) -> Rows:
    """`count` TCP connections behind source NAT, of many clients to many servers, numbered from `first`."""
    rows = empty_rows(count)
    index = np.arange(first, first + count)
    rows["family"], rows["protocol"], rows["protocol_state"] = 2, 6, state
    rows["source"][:, 0], rows["source"][:, 1] = 10, 100
    rows["source"][:, 2], rows["source"][:, 3] = index // 250 % 250, 1 + index % 250
    rows["destination"][:, :2] = (198, 51)
    rows["destination"][:, 2], rows["destination"][:, 3] = index // 13 % 250, 1 + index // 7 % 250
    rows["source_port"] = 1024 + index // 62_500
    rows["destination_port"] = rows["reply_source_port"] = 443
    rows["reply_source"] = rows["destination"]
    rows["reply_destination"][:, :3] = (203, 0, 113)
    rows["reply_destination"][:, 3] = 1 + index // 60_000 % 250
    rows["reply_destination_port"] = 1024 + index % 60_000
    rows["status"] = SEEN_CONFIRMED | SRC_NAT | (0 if state == SYN_SENT else ASSURED)
    rows["timeout"] = LIFETIME
    rows["tcp_flags_original"] = rows["tcp_flags_reply"] = 0x23
    rows["tcp_scale_original"] = rows["tcp_scale_reply"] = 7
    return rows


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be sent: `count` connections, numbered from `first`, `rate` of them a second.

    "packets": the first datagram of each, to `mac`, from the interface "lan". "injected": the same flows, put into the
    table as the bare injector does it. "churn": TCP connections that are new, established, closed and deleted, `STAGE`
    apart, also by an injector; some of them stay established. Of the first two, what was not sent within `longest`
    seconds is left out.
    """

    kind: Literal["packets", "injected", "churn"]
    count: int
    first: int = 0
    rate: float
    longest: float = 600.0
    mac: str = ""


class Done(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it: connections, and seconds on the clock and of a processor."""

    count: int
    took: float
    cpu: float


def slice_of(rate: float) -> float:
    """Seconds between two sends."""
    return LEAST_SLICE if rate <= SLOW else SLICE


def parts_of(load: Load) -> list[tuple[int, int]]:
    """The numbers of the connections that are sent in each slice: from, to before."""
    duration = slice_of(load.rate)
    ends = np.arange(np.ceil(load.count / load.rate / duration - 1e-9) + 1) * duration * load.rate
    return list(pairwise(np.minimum(np.round(ends), load.count).astype(int).tolist()))


def lasts(numbers: npt.NDArray[np.integer]) -> npt.NDArray[np.bool_]:
    """Which connections of a churn stay established."""
    found: npt.NDArray[np.bool_] = numbers % EACH_LASTING == 0
    return found


def churn_messages(load: Load) -> Iterator[bytes]:
    """What is sent in each slice, one after the other."""
    parts, duration = parts_of(load), slice_of(load.rate)
    steps = [
        (SYN_SENT, ctnetlink.INSERT), (ESTABLISHED, ctnetlink.UPDATE), (TIME_WAIT, ctnetlink.UPDATE),
        (TIME_WAIT, ctnetlink.DELETE),
    ]  # fmt: skip
    apart = round(STAGE / duration)
    for turn in range(len(parts) + apart * (len(steps) - 1)):
        sent = b""
        for step, (state, operation) in enumerate(steps):
            number = turn - step * apart
            if 0 <= number < len(parts):
                start, end = parts[number]
                rows = connections(end - start, load.first + start, state)
                lasting = lasts(np.arange(start, end))
                rows["destination_port"][lasting] = rows["reply_source_port"][lasting] = LASTING_PORT
                rows = rows if state != TIME_WAIT else rows[~lasting]
                sent += ctnetlink.build(rows, np.full(len(rows), operation, np.uint8))
        yield sent


class Stream:
    """A load in a namespace of the lab, from a process of its own that goes with `node`; it begins when it is told."""

    def __init__(self, namespace: Path, node: Node, load: Load) -> None:
        command = [sys.executable, "-m", __name__, msgspec.json.encode(load).decode()]
        with namespaces.inside(namespace):
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment(node)
            )
        self._line(b"ready")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def begin(self) -> None:
        """Let it go; returns at once."""
        sending = self._process.stdin
        assert sending is not None
        sending.write(b"go\n")
        sending.flush()

    @property
    def running(self) -> bool:
        """Whether it still sends."""
        return self._process.poll() is None

    def result(self) -> Done:
        """Waits for the end. HacoreError where it failed."""
        return msgspec.json.decode(self._line(b"{"), type=Done)

    def _line(self, wanted: bytes) -> bytes:
        receiving = self._process.stdout
        assert receiving is not None
        line = receiving.readline()
        if not line.startswith(wanted):
            raise HacoreError(f"the load ended with {self._process.wait()}")
        return line


def environment(node: Node) -> Mapping[str, str]:
    """Of a process that works on a node: it goes with the lab."""
    return node.environment() | {"OPENBLAS_NUM_THREADS": "1"}


class Spent(NamedTuple):
    """Seconds: on the clock, and of a processor."""

    wall: float
    cpu: float


def inject(node: Node, rows: Rows) -> Spent:
    """Into that kernel, as the bare injector does it: prebuilt messages in batches, answers dropped."""
    octets = ctnetlink.build(rows)
    with namespaces.inside(node.namespace), conntrack.Injector() as injector:
        began, used = time.perf_counter(), time.thread_time()
        injector.inject_bare(octets)
        return Spent(time.perf_counter() - began, time.thread_time() - used)


def run(load: Load, told: IO[str], heard: IO[str]) -> None:
    """The program: sends `load` from its network namespace, or into the table of it."""
    parts = parts_of(load)
    if load.kind == "packets":
        with Wire(frames_of(load.count, bytes.fromhex(load.mac), load.first)) as wire:
            _paced(load, [partial(wire.send, *part) for part in parts], told, heard)
        return
    if load.kind == "churn":
        octets = list(churn_messages(load))
    else:
        octets = [ctnetlink.build(rows_of(end - start, load.first + start)) for start, end in parts]
    with conntrack.Injector() as injector:
        _paced(load, [partial(injector.inject_bare, one) for one in octets], told, heard)


def _paced(load: Load, sends: Sequence[Callable[[], object]], told: IO[str], heard: IO[str]) -> None:
    """One of `sends` in each slice, once somebody has spoken; then what came of it is told."""
    duration, late = slice_of(load.rate), load.longest if load.kind != "churn" else float("inf")
    told.write("ready\n")
    told.flush()
    if not heard.readline():
        return
    began, used, sent = time.perf_counter(), time.process_time(), 0
    for number, send in enumerate(sends):
        passed = time.perf_counter() - began
        if passed > late:
            break
        if number * duration > passed:
            time.sleep(number * duration - passed)
        send()
        sent += 1
    took, spent = time.perf_counter() - began, time.process_time() - used
    count = min(load.count, round(sent * duration * load.rate))
    told.write(msgspec.json.encode(Done(count=count, took=took, cpu=spent)).decode() + "\n")
    told.flush()


if __name__ == "__main__":
    libc.signal_at_parent_death(signal.SIGKILL)
    run(msgspec.json.decode(sys.argv[1], type=Load), sys.stdout, sys.stdin)
