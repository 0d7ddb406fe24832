"""New flows as a firewall gets them: packets of as many new flows a second through the MASTER, hacore beside conntrackd
and a bare injector in the same namespaces and one run. A program, as root (Debian package: conntrackd):

python -m bench.states_packets --rate 100000 --duration 10

`bench.states_pair flood` makes its states with an injector, which holds the kernel's one mutex for such messages, for
which the replica waits: on two machines it would not. Packets take no mutex.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import multiprocessing
import os
import socket
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.states_load import SLICE, Counter, Lag, Stream, cpu, flush, room_for
from bench.states_pair import QUIET, Figures, Rivals, _delays, _ratios, stopped, table, warm, workers
from hacore.linux import conntrack
from hacore.states.layout import Rows
from tests.node.states_pair import Pair, made
from tools.ct_flows import GATEWAY_MAC, WIRE_MAC, inside

SOURCES = 60_000  # of 10.66.0.0/16, which the gateways forward without translation
FRAME_BYTES = 48
SOL_PACKET, PACKET_QDISC_BYPASS = 263, 20
MESSAGE = np.dtype(
    [("name", "u8"), ("name_length", "u8"), ("vectors", "u8"), ("vector_count", "u8"), ("control", "u8"),
     ("control_length", "u8"), ("flags", "u8"), ("sent", "u8")]
)  # fmt: skip
"""struct mmsghdr of a machine with 64 bits."""


def frames_of(count: int, first: int = 0) -> npt.NDArray[np.uint8]:
    """(count, FRAME_BYTES): Ethernet frames of one UDP datagram each, every one of another flow."""
    index = np.arange(first, first + count)
    host = index % SOURCES
    frames = np.zeros((count, FRAME_BYTES), np.uint8)
    head = GATEWAY_MAC["inside"] + WIRE_MAC["inside"] + b"\x08\x00"
    head += bytes((0x45, 0, 0, FRAME_BYTES - 14, 0, 0, 0, 0, 64, 17, 0, 0, 10, 66, 0, 0, 198, 51, 100, 9))
    frames[:, : len(head)] = np.frombuffer(head, np.uint8)
    frames[:, 28], frames[:, 29] = 1 + host // 250, 1 + host % 250
    words = frames[:, 14:34].reshape(count, 10, 2).astype(np.uint32)
    total = (words[:, :, 0] << 8 | words[:, :, 1]).sum(axis=1)
    total = (total & 0xFFFF) + (total >> 16)
    check = ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF
    frames[:, 24], frames[:, 25] = check >> 8, check & 0xFF
    port = 1024 + index // SOURCES
    frames[:, 34], frames[:, 35] = port >> 8, port & 0xFF
    frames[:, 36:40] = (4000 >> 8, 4000 & 0xFF, 0, FRAME_BYTES - 34)
    return frames


class Packets:
    """Frames of new flows from a wire into a gateway at a steady rate, from a process of its own."""

    def __init__(self, wire: str, frames: npt.NDArray[np.uint8], rate: float) -> None:
        context = multiprocessing.get_context("fork")
        self._receiving, sending = context.Pipe(duplex=False)
        self._process = context.Process(target=self._run, args=(wire, frames, rate, sending))
        self._process.start()

    @staticmethod
    def _run(wire: str, frames: npt.NDArray[np.uint8], rate: float, told: Any) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        size = max(1, round(rate * SLICE))
        vectors = np.zeros((len(frames), 2), np.uint64)
        vectors[:, 0] = frames.ctypes.data + FRAME_BYTES * np.arange(len(frames), dtype=np.uint64)
        vectors[:, 1] = FRAME_BYTES
        messages = np.zeros(len(frames), MESSAGE)
        messages["vectors"] = vectors.ctypes.data + 16 * np.arange(len(frames), dtype=np.uint64)
        messages["vector_count"] = 1
        with inside(wire), socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as sock:
            sock.bind(("inside", 0))
            sock.setsockopt(SOL_PACKET, PACKET_QDISC_BYPASS, 1)
            began, used = time.perf_counter(), time.process_time()
            for number, start in enumerate(range(0, len(frames), size)):
                wait = began + number * size / rate - time.perf_counter()
                if wait > 0:
                    time.sleep(wait)
                end = min(start + size, len(frames))
                while start < end:
                    at = ctypes.c_void_p(messages.ctypes.data + MESSAGE.itemsize * start)
                    sent = libc.sendmmsg(sock.fileno(), at, min(end - start, 1024), 0)
                    if sent < 0:
                        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
                    start += sent
            told.send((time.perf_counter() - began, time.process_time() - used))

    def result(self) -> tuple[float, float]:
        """How long it took, and the CPU time of it; waits for the end."""
        found: tuple[float, float] = self._receiving.recv()
        self._process.join()
        return found


def flood(pair: Pair, rate: int, duration: float) -> Figures:
    """New flows at this rate: CPU of both sides, lag from kernel to kernel, losses."""
    frames = frames_of(round(rate * duration))
    rows = _rows_of(pair, frames)
    warm(pair, rows)
    pair.start()
    time.sleep(2 * QUIET)  # the first comparison with the kernel's table
    found = {"hacore": _flood(pair, frames, rate, workers(pair))}
    found["hacore"] |= {
        "events_lost": pair.one.states()["kernel"]["lost"],
        "refused": pair.two.states()["kernel"]["errors"],
    }
    pair.two.stop()
    flush(pair.two.host)
    flush(pair.one.host)
    time.sleep(2 * QUIET)
    # As before: fw1's worker listens, for which the kernel builds events in every namespace, and the load goes on.
    load = Packets(pair.one.gateway.wire, frames, rate)
    took, used = Stream(pair.two.host, rows, rate).result()
    load.result()
    found["bare injector"] = {
        "flows": len(rows), "a_second": round(len(rows) / took),
        "cpu_us_a_flow": {"fw2": round(used / len(rows) * 1e6, 2)},
    }  # fmt: skip
    stopped(pair)
    for name, cache in (("conntrackd", True), ("conntrackd, no external cache", False)):
        with Rivals(pair, external_cache=cache) as daemons:
            pids = {node: daemon.pid for node, daemon in daemons.items()}
            found[name] = _flood(pair, frames, rate, pids, to_the_kernel=not cache)
        stopped(pair)
    return found | {"ratios": _ratios(found)}


def _rows_of(pair: Pair, frames: npt.NDArray[np.uint8]) -> Rows:
    """What the kernel makes of them, in the order in which they come."""
    Packets(pair.one.gateway.wire, frames, 50_000).result()
    with pair.one.host.entered():
        rows = conntrack.dump_rows()
    flush(pair.one.host)
    rows = rows[(rows["protocol"] == 17) & (rows["destination_port"] == 4000)]
    if len(rows) != len(frames):
        raise AssertionError(f"{len(frames)} flows were sent and {len(rows)} came into being")
    host = (rows["source"][:, 2].astype(np.int64) - 1) * 250 + rows["source"][:, 3] - 1
    chosen: Rows = rows[np.argsort((rows["source_port"].astype(np.int64) - 1024) * SOURCES + host)]
    return chosen


def _flood(
    pair: Pair, frames: npt.NDArray[np.uint8], rate: int, pids: dict[str, int], *, to_the_kernel: bool = True
) -> Figures:
    with Counter(pair.one.host) as one, Counter(pair.two.host) as two:
        lag = Lag(one, two)
        before = two()
        used = {name: cpu(pid) for name, pid in pids.items()}
        load = Packets(pair.one.gateway.wire, frames, rate)
        if to_the_kernel:
            lag.watch(len(frames), len(frames) / rate + 20)
        took, own = load.result()
        time.sleep(QUIET)
        used = {name: cpu(pid) - used[name] for name, pid in pids.items()}
        return {
            "flows": len(frames),
            "a_second": round(len(frames) / took),
            "load_cpu_us_a_flow": round(own / len(frames) * 1e6, 2),
            "missing": max(0, len(frames) - (two() - before)) if to_the_kernel else None,
            "cpu_us_a_flow": {name: round(seconds / len(frames) * 1e6, 2) for name, seconds in used.items()},
            **(_delays(lag.delays()) if to_the_kernel else {}),
        }


def main() -> None:
    """The program."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=int, default=100_000, help="new flows a second")
    parser.add_argument("--duration", type=float, default=10.0, help="seconds")
    parser.add_argument("--json", action="store_true", help="for programs")
    arguments = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as directory,
        room_for(2 * round(arguments.rate * arguments.duration)),
        made(Path(directory), start=False, more="max_states = 3_000_000") as pair,
    ):
        for node in pair.nodes:
            node.gateway.close()  # nobody is to look at the packets
        found = flood(pair, arguments.rate, arguments.duration)
    if arguments.json:
        sys.stdout.write(json.dumps(found, indent=1) + "\n")
        return
    sys.stdout.write(table(found) + "\n")
    sys.stdout.write(f"ratios: {json.dumps(found['ratios'])}\n")


if __name__ == "__main__":
    main()
