"""Conntrack messages: read against pyroute2 and against the bare walk from message to message; written into the kernel
against a bare sender of the same messages, prebuilt. The kernel's side needs root and makes a network namespace of its
own.
"""

from __future__ import annotations

import contextlib
import functools
import os
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyroute2.netlink.nfnetlink.nfctsocket import nfct_msg  # type: ignore[import-untyped]

from bench.realistic import kernel_table
from hacore._fast import ctnetlink
from hacore._fast.ctnetlink_dtypes import DISPLAY_DTYPE, EVENT_DTYPE
from hacore.bench.room import room_for
from hacore.linux import conntrack, libc
from hacore.states.layout import empty_rows

SIZES = [1_000, 100_000, 1_000_000]
ONE_BY_ONE = 500  # messages that pyroute2 gets: its rate is that of such a part
INJECTED = [1_000, 100_000]

sized = pytest.mark.parametrize("size", SIZES)


kernel_rows = functools.lru_cache(maxsize=len(SIZES))(functools.partial(kernel_table, seed=7))


@pytest.fixture(scope="module")
def namespace() -> Iterator[str]:
    """This thread works in a network namespace of its own, with events as a node keeps them."""
    name = f"hb-{os.getpid()}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    own = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    other = os.open(f"/run/netns/{name}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        with room_for(2 * max(SIZES)):  # set outside: a namespace may not
            libc.setns(other, libc.CLONE_NEWNET)
            try:
                conntrack.keep_events()
                yield name
            finally:
                libc.setns(own, libc.CLONE_NEWNET)
    finally:
        os.close(own)
        os.close(other)
        subprocess.run(["ip", "netns", "del", name], check=True)


@functools.lru_cache(maxsize=len(SIZES))
def dump_of(size: int) -> bytes:
    """The messages of a dump, as they come from the kernel."""
    accounting = Path("/proc/sys/net/netfilter/nf_conntrack_acct")
    accounting.write_text("1\n")
    octets = bytearray()
    with conntrack.Injector() as injector:
        injector.inject(kernel_rows(size))
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12) as asking:
            asking.send(struct.pack("=IHHIIBBH", 20, 0x101, 0x301, 1, 0, 0, 0, 0))
            while True:
                part = asking.recv(1 << 16)
                if struct.unpack_from("=H", part, 4)[0] == 3:
                    break
                octets += part
        conntrack.flush()
    accounting.write_text("0\n")
    return bytes(octets)


def note(benchmark: Any, count: int) -> None:
    if benchmark.stats is not None:
        benchmark.extra_info["million_a_second"] = round(count / benchmark.stats.stats.min / 1e6, 3)


@sized
@pytest.mark.parametrize("how", ["hacore", "hacore with display", "bare walk", "pyroute2"])
def test_read(benchmark: Any, namespace: str, how: str, size: int) -> None:
    benchmark.group = f"read the messages of a dump, {size:,}"
    octets = dump_of(size)
    count = ctnetlink.count_messages(octets)
    if how == "bare walk":
        assert benchmark.pedantic(ctnetlink.count_messages, (octets,), rounds=3, warmup_rounds=1) == count
    elif how == "pyroute2":
        count = min(count, ONE_BY_ONE)
        end = 0
        for _ in range(count):
            end += (struct.unpack_from("=I", octets, end)[0] + 3) & ~3
        octets = octets[:end]

        def read() -> None:
            at = 0
            while at < end:
                message = nfct_msg(octets, offset=at)
                message.decode()
                at += (message["header"]["length"] + 3) & ~3

        benchmark.pedantic(read, rounds=3)
    else:
        rows, events = empty_rows(count), np.zeros(count, EVENT_DTYPE)
        display = np.zeros(count, DISPLAY_DTYPE) if how.endswith("display") else None

        def parse() -> ctnetlink.Received:
            return ctnetlink.parse(octets, rows, events, display=display)

        received = benchmark.pedantic(parse, rounds=3, warmup_rounds=1)
        assert (received.rows, received.malformed) == (count, 0)
    note(benchmark, count)


@sized
@pytest.mark.parametrize("operation", ["insert", "update", "delete"])
def test_write(benchmark: Any, operation: str, size: int) -> None:
    benchmark.group = f"write messages, {size:,}"
    rows = kernel_rows(size)
    operations = np.full(len(rows), getattr(ctnetlink, operation.upper()), np.uint8)
    benchmark.pedantic(ctnetlink.build, (rows, operations), rounds=3, warmup_rounds=1)
    note(benchmark, len(rows))


def test_write_baseline_pyroute2(benchmark: Any) -> None:
    """The attributes of each message as they were read, of those that the kernel takes."""
    benchmark.group = "write messages, 1,000"
    octets = ctnetlink.build(kernel_rows(ONE_BY_ONE))
    messages, at = [], 0
    while at < len(octets):
        message = nfct_msg(octets, offset=at)
        message.decode()
        at += (message["header"]["length"] + 3) & ~3
        made = nfct_msg()
        made["nfgen_family"], made["attrs"] = message["nfgen_family"], message["attrs"]
        messages.append(made)

    def write() -> None:
        for message in messages:
            message.reset()
            message.encode()

    benchmark.pedantic(write, rounds=3, warmup_rounds=1)
    assert sum(len(message.data) for message in messages) > len(octets) / 2
    note(benchmark, len(messages))


@pytest.mark.parametrize("count", INJECTED)
@pytest.mark.parametrize("how", ["hacore", "bare sender"])
def test_inject(benchmark: Any, namespace: str, how: str, count: int) -> None:
    """New entries, nobody listening, events=1."""
    benchmark.group = f"inject into the kernel, {count:,}"
    rows = kernel_rows(count)
    messages = ctnetlink.build(rows)
    with conntrack.Injector() as injector:

        def bare() -> None:
            assert injector.inject_bare(messages) == 0

        def ours() -> None:
            assert injector.inject(rows).inserted == len(rows)

        def cpu(inject: Callable[[], None]) -> float:
            conntrack.flush()
            start = time.thread_time()
            inject()
            return time.thread_time() - start

        benchmark.pedantic(ours if how == "hacore" else bare, setup=conntrack.flush, rounds=8, warmup_rounds=1)
        # By turns and in CPU time of this thread, which other work on the machine cannot stretch.
        turns = [(cpu(ours), cpu(bare)) for _ in range(5)]
        conntrack.flush()
    best_ours, best_bare = (min(column) for column in zip(*turns, strict=True))
    benchmark.extra_info["thousand_a_second"] = (
        round(len(rows) / benchmark.stats["min"] / 1e3) if benchmark.stats else None
    )
    benchmark.extra_info["hacore_of_bare"] = round(best_bare / best_ours, 3)


@pytest.mark.parametrize("count", INJECTED)
@pytest.mark.parametrize("how", ["events", "events, bare recv", "dump"])
def test_receive(benchmark: Any, namespace: str, how: str, count: int) -> None:
    """Events that wait, in recvmmsg and parse, or read by recv and dropped; and a dump, which is the kernel's work."""
    benchmark.group = f"receive from the kernel, {count:,}"
    rows = kernel_rows(count)
    with conntrack.Injector() as injector:
        if how == "dump":
            injector.inject(rows)
            found = benchmark.pedantic(lambda: sum(len(batch.rows) for batch in conntrack.dump()), rounds=5)
        else:
            with conntrack.EventSocket(buffer_bytes=256 << 20) as events:

                def fill() -> None:
                    conntrack.flush()
                    while events.receive().messages:
                        pass
                    injector.inject(rows)

                def drain() -> int:
                    total = 0
                    while received := events.receive().rows:
                        total += received
                    return total

                def drop() -> int:
                    total = 0
                    with socket.socket(fileno=os.dup(events.fileno())) as bare, contextlib.suppress(BlockingIOError):
                        while True:
                            total += bare.recv_into(buffer, 0, socket.MSG_DONTWAIT) > 0
                    return total

                buffer = bytearray(1 << 16)
                found = benchmark.pedantic(drop if "bare" in how else drain, setup=fill, rounds=5)
        assert found == len(rows)
        conntrack.flush()
    benchmark.extra_info["million_a_second"] = (
        round(found / benchmark.stats["min"] / 1e6, 2) if benchmark.stats else None
    )
