"""Two replicating nodes, kernel to kernel, beside conntrackd and a bare injector in the same namespaces and one run.
A program, as root (Debian package: conntrackd):

python -m bench.states_pair latency --rate 1000 --duration 10
python -m bench.states_pair bulk --states 200000
python -m bench.states_pair flood --rate 100000 --duration 10
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.conntrackd import Conntrackd
from bench.states_load import (
    Counter,
    Lag,
    Stream,
    cpu,
    flush,
    inject,
    room_for,
    rss_bytes,
    settle,
    table_of,
)
from hacore._fast import ctnetlink
from hacore.linux import conntrack
from hacore.states.layout import Rows, keys_of
from tests.namespaces import wait_until
from tests.node.states_pair import Node, Pair, made
from tools.ct_flows import flow
from tools.ct_packets import UDP, segment

LOOK = 0.0003  # seconds between two looks at what has come: whoever looks does not take a core from who is looked at
QUIET = 0.5  # seconds after a load in which the processes come to rest
ROUNDS = 3
Figures = dict[str, Any]


class Rivals:
    """conntrackd on both nodes, for as long as it is entered."""

    def __init__(self, pair: Pair, *, external_cache: bool = True) -> None:
        self._pair, self._external_cache = pair, external_cache
        self._stack = ExitStack()
        self.daemons: dict[str, Conntrackd] = {}

    def __enter__(self) -> dict[str, Conntrackd]:
        for node in self._pair.nodes:
            self.start(node)
        return self.daemons

    def start(self, node: Node) -> Conntrackd:
        """One of them."""
        place = f"conntrackd-{node.name}-{self._external_cache}-{time.monotonic_ns()}"
        daemon = Conntrackd(
            node.host, self._pair.directory / place, f"10.9.0.{node.number}", f"10.9.0.{3 - node.number}",
            external_cache=self._external_cache,
        )  # fmt: skip
        self._stack.callback(daemon.close)
        self.daemons[node.name] = daemon
        return daemon

    def __exit__(self, *_: object) -> None:
        self._stack.close()


def warm(pair: Pair, rows: Rows) -> None:
    """The kernel takes memory for so many entries once; the first load would pay for all."""
    for node in pair.nodes:
        inject(node.host, rows)
        flush(node.host)


def workers(pair: Pair) -> dict[str, int]:
    """The processes that replicate."""
    return {node.name: node.worker() for node in pair.nodes}


def empty(pair: Pair) -> None:
    """Both kernels."""
    for node in pair.nodes:
        flush(node.host)


def stopped(pair: Pair) -> None:
    """No node runs, no kernel has anything."""
    for node in pair.nodes:
        if node.process is not None and node.process.poll() is None:
            node.stop()
    empty(pair)


# Latency: real packets, each flow by itself


def latency(pair: Pair, rate: int, duration: float) -> Figures:
    """From the event on the MASTER to the one in the peer's kernel, for each new flow."""
    pair.start()
    found = {"hacore": _latency(pair, rate, duration, 0, workers(pair))}
    stopped(pair)
    with Rivals(pair, external_cache=False) as daemons:
        pids = {name: daemon.pid for name, daemon in daemons.items()}
        found["conntrackd, no external cache"] = _latency(pair, rate, duration, 1_000_000, pids)
    return found


def _latency(pair: Pair, rate: int, duration: float, first: int, pids: dict[str, int]) -> Figures:
    sockets = {}
    for node in pair.nodes:
        with node.host.entered():
            sockets[node.name] = conntrack.EventSocket(expectations=False)
    seen: dict[str, dict[bytes, float]] = {node.name: {} for node in pair.nodes}

    def look() -> None:
        for name, sock in sockets.items():
            while (received := sock.receive()).messages:
                now = time.perf_counter()
                rows = sock.rows[: received.rows][sock.events["kind"][: received.rows] == ctnetlink.EVENT_NEW]
                for key in keys_of(rows):
                    seen[name].setdefault(key.tobytes(), now)

    used = {name: cpu(pid) for name, pid in pids.items()}
    began = time.perf_counter()
    sent = 0
    while (passed := time.perf_counter() - began) < duration:
        while sent < passed * rate:
            number = first + sent
            way = flow(
                UDP, f"10.{50 + number // 60_000}.{number // 250 % 240}.{1 + number % 250}", "198.51.100.9", 5000, 53
            )
            pair.one.gateway.send("inside", way, segment(way))
            sent += 1
        look()
        time.sleep(LOOK)
    until = time.perf_counter() + 1.0
    while time.perf_counter() < until:
        look()
        time.sleep(LOOK)
    used = {name: cpu(pid) - used[name] for name, pid in pids.items()}
    for sock in sockets.values():
        sock.close()
    one, two = seen["fw1"], seen["fw2"]
    delays = np.array([two[key] - at for key, at in one.items() if key in two])
    return {
        "flows": sent,
        "arrived": len(delays),
        **_delays(delays),
        "cpu_us_a_flow": {name: round(seconds / sent * 1e6, 1) for name, seconds in used.items()},
    }


def _delays(delays: npt.NDArray[np.float64]) -> Figures:
    if not len(delays):
        return {}
    median, most, worst = np.percentile(delays, (50, 99, 100)) * 1e3
    return {"median_ms": round(median, 3), "p99_ms": round(most, 3), "worst_ms": round(worst, 3)}


# Bulk: a node that has nothing yet


def bulk(pair: Pair, states: int) -> Figures:
    """The peer starts anew on an empty kernel while the other node has so many; by turns with a bare injector."""
    rows = table_of(states)
    warm(pair, rows)
    with Counter(pair.two.host) as arrived:
        pair.start()
        pair.two.stop()
        idle = rss_bytes(pair.one.worker())
        inject(pair.one.host, rows)
        wait_until(lambda: pair.one.states()["table"]["own"] >= states, 120)
        # Where nobody is MASTER nobody listens. A listener in one namespace makes the kernel build events for all,
        # which on two machines would not slow the other one.
        pair.one.host.ip("link set lan down")
        wait_until(lambda: not pair.one.states()["kernel"]["listening"], 20)
        bare, ours = [], []
        for _ in range(ROUNDS):
            flush(pair.two.host)
            bare.append(inject(pair.two.host, rows))
            flush(pair.two.host)
            ours.append(_bulk_update(pair, states, arrived, idle))
            pair.two.stop()
        stopped(pair)
        theirs = _resync_and_commit(pair, states, arrived)
    best = min(ours, key=lambda figures: float(figures["seconds"]))
    rate = states / min(spent.wall for spent in bare)
    used = min(spent.cpu for spent in bare) / states * 1e6
    return {
        "hacore": best,
        "bare injector": {
            "states": states, "states_a_second": round(rate), "seconds": round(min(bare).wall, 3),
            "cpu_us_a_state": {"fw2": round(used, 2)},
        },
        "conntrackd": theirs,
        "of_bare": round(best["states_a_second"] / rate, 3),
        "of_bare_by_cpu": round(used / min(figures["cpu_us_a_state"]["fw2"] for figures in ours), 3),
        "times_conntrackd": round(best["states_a_second"] / theirs["states_a_second"], 2),
        "rates": {"hacore": [f["states_a_second"] for f in ours], "bare": [round(states / s.wall) for s in bare]},
    }  # fmt: skip


def _bulk_update(pair: Pair, states: int, arrived: Counter, idle: int) -> Figures:
    pair.two.start()
    wait_until(lambda: arrived() > 100, 60, 0.0005)
    began, first = time.perf_counter(), arrived()
    pids = workers(pair)
    used = {name: cpu(pid) for name, pid in pids.items()}
    settle(arrived, states)
    spent = time.perf_counter() - began
    wait_until(pair.two.follows, 60)
    used = {name: cpu(pid) - used[name] for name, pid in pids.items()}
    shown = pair.one.states()
    return {
        "states": states,
        "states_a_second": round((states - first) / spent),
        "seconds": round(spent, 3),
        "cpu_us_a_state": {name: round(seconds / (states - first) * 1e6, 2) for name, seconds in used.items()},
        "sent_bytes_a_state": round(shown["peers"][0]["sending"]["sent_bytes"] / states, 1),
        "rss_growth_bytes_a_state": {name: round((rss_bytes(pid) - idle) / states) for name, pid in pids.items()},
        "table_bytes_a_state": round(shown["table"]["memory_bytes"] / states),
        "history": [text for text in pair.two.history() if "states in" in text or "refused" in text],
    }


def _resync_and_commit(pair: Pair, states: int, arrived: Counter) -> Figures:
    rivals = Rivals(pair)
    with rivals as daemons:
        inject(pair.one.host, table_of(states))
        wait_until(lambda: daemons["fw1"].cached("internal") >= states, 180, 0.1)
        wait_until(lambda: daemons["fw2"].cached("external") >= states, 60, 0.1)
        daemons["fw2"].close()
        flush(pair.two.host)
        two = rivals.start(pair.two)
        pids = {"fw1": daemons["fw1"].pid, "fw2": two.pid}
        used = {name: cpu(pid) for name, pid in pids.items()}
        began = time.perf_counter()
        two.ask("-n")
        wait_until(lambda: two.cached("external") >= states, 120, 0.005)
        resynchronised = time.perf_counter()
        memory = rss_bytes(two.pid)
        two.ask("-c")
        settle(arrived, states)
        ended = time.perf_counter()
        used = {name: cpu(pid) - used[name] for name, pid in pids.items()}
    return {
        "states": states,
        "states_a_second": round(states / (ended - began)),
        "resync_seconds": round(resynchronised - began, 3),
        "commit_seconds": round(ended - resynchronised, 3),
        "cpu_us_a_state": {name: round(seconds / states * 1e6, 2) for name, seconds in used.items()},
        "rss_bytes_a_state": round(memory / states),
    }


# Flood: new states at a steady rate


def flood(pair: Pair, rate: int, duration: float) -> Figures:
    """New entries at this rate from an injector of its own: CPU of both sides, lag from kernel to kernel, losses."""
    rows = table_of(round(rate * duration))
    warm(pair, rows)
    pair.start()
    found = {"hacore": _flood(pair, rows, rate, workers(pair))}
    found["hacore"] |= {
        "events_lost": pair.one.states()["kernel"]["lost"],
        "refused": pair.two.states()["kernel"]["errors"],
    }
    pair.two.stop()
    flush(pair.two.host)
    # As before: fw1's worker listens, for which the kernel builds events in every namespace, and the load in fw1 goes
    # on, which takes the mutex that the injector needs.
    found["bare injector"] = _bare(pair, rows, rate)
    stopped(pair)
    for name, cache in (("conntrackd", True), ("conntrackd, no external cache", False)):
        with Rivals(pair, external_cache=cache) as daemons:
            pids = {node: daemon.pid for node, daemon in daemons.items()}
            found[name] = _flood(pair, rows, rate, pids, to_the_kernel=not cache)
        stopped(pair)
    return found | {"ratios": _ratios(found)}


def _bare(pair: Pair, rows: Rows, rate: int) -> Figures:
    load = Stream(pair.one.host, table_of(len(rows), len(rows)), rate)
    took, used = Stream(pair.two.host, rows, rate).result()
    load.result()
    return {
        "flows": len(rows),
        "a_second": round(len(rows) / took),
        "cpu_us_a_flow": {"fw2": round(used / len(rows) * 1e6, 2)},
    }


def _flood(pair: Pair, rows: Rows, rate: int, pids: dict[str, int], *, to_the_kernel: bool = True) -> Figures:
    with Counter(pair.one.host) as one, Counter(pair.two.host) as two:
        lag = Lag(one, two)
        used = {name: cpu(pid) for name, pid in pids.items()}
        stream = Stream(pair.one.host, rows, rate)
        if to_the_kernel:
            lag.watch(len(rows), len(rows) / rate + 30)
        took, own = stream.result()
        time.sleep(QUIET)
        used = {name: cpu(pid) - used[name] for name, pid in pids.items()}
        return {
            "flows": len(rows),
            "a_second": round(len(rows) / took),
            "load_cpu_us_a_flow": round(own / len(rows) * 1e6, 2),
            "missing": max(0, len(rows) - two()) if to_the_kernel else None,
            "cpu_us_a_flow": {name: round(seconds / len(rows) * 1e6, 2) for name, seconds in used.items()},
            **(_delays(lag.delays()) if to_the_kernel else {}),
        }


def _ratios(found: dict[str, Figures]) -> Figures:
    def used(name: str, node: str) -> float:
        return float(found[name]["cpu_us_a_flow"][node])

    direct = "conntrackd, no external cache"
    return {
        "sender_of_conntrackd": round(used("hacore", "fw1") / min(used("conntrackd", "fw1"), used(direct, "fw1")), 2),
        "receiver_of_conntrackd_no_external_cache": round(used("hacore", "fw2") / used(direct, "fw2"), 2),
        "receiver_of_bare": round(used("hacore", "fw2") / used("bare injector", "fw2"), 2),
    }


def table(found: Figures) -> str:
    """One line a measurement, one column a figure."""
    subjects = {
        name: figures
        for name, figures in found.items()
        if isinstance(figures, dict) and name not in ("ratios", "rates")
    }
    columns = list(dict.fromkeys(key for figures in subjects.values() for key in figures if key != "history"))
    lines = [["", *columns]]
    for name, figures in subjects.items():
        lines.append([name, *(_shown(figures.get(column)) for column in columns)])
    widths = [max(len(line[index]) for line in lines) for index in range(len(columns) + 1)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return " / ".join(map(str, value.values()))
    return "" if value is None else str(value)


def main() -> None:
    """The program."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["latency", "bulk", "flood"])
    parser.add_argument("--rate", type=int, help="flows a second: 1000 for latency, 100000 for flood")
    parser.add_argument("--duration", type=float, default=10.0, help="seconds")
    parser.add_argument("--states", type=int, default=200_000)
    parser.add_argument("--json", action="store_true", help="for programs")
    arguments = parser.parse_args()
    runs: dict[str, Callable[[Pair], Figures]] = {
        "latency": lambda pair: latency(pair, arguments.rate or 1000, arguments.duration),
        "bulk": lambda pair: bulk(pair, arguments.states),
        "flood": lambda pair: flood(pair, arguments.rate or 100_000, arguments.duration),
    }
    states = {"bulk": arguments.states, "flood": round((arguments.rate or 100_000) * arguments.duration)}
    more = "max_states = 3_000_000"
    with (
        tempfile.TemporaryDirectory() as directory,
        room_for(2 * states.get(arguments.what, 100_000)),
        made(Path(directory), start=False, more=more) as pair,
    ):
        found = runs[arguments.what](pair)
    if arguments.json:
        sys.stdout.write(json.dumps(found, indent=1) + "\n")
        return
    sys.stdout.write(table(found) + "\n")
    for name, value in found.items():
        if not isinstance(value, dict) or name in ("ratios", "rates"):
            sys.stdout.write(f"{name}: {json.dumps(value)}\n")


if __name__ == "__main__":
    main()
