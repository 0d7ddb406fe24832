"""Two replicating nodes, kernel to kernel: latency at a steady rate, bulk updates, and CPU a flow. A program, as root:

python bench/states_pair.py latency --rate 1000 --duration 10
python bench/states_pair.py bulk --states 200000
python bench/states_pair.py flood --flows 200000
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

from hacore._fast import ctnetlink
from hacore.linux import conntrack
from hacore.states.layout import Rows, empty_rows, keys_of
from tests.namespaces import wait_until
from tests.node.states_pair import Node, Pair, made
from tools.ct_flows import flow
from tools.ct_packets import UDP, segment

TICKS = os.sysconf("SC_CLK_TCK")
ESTABLISHED, SEEN_ASSURED_CONFIRMED = 3, 2 | 4 | 8
SRC_NAT = 16 | 128 | 256


def table_of(count: int, first: int = 0) -> Rows:
    """`count` established TCP connections behind source NAT, of many clients to many servers."""
    rows = empty_rows(count)
    index = np.arange(first, first + count)
    rows["family"], rows["protocol"] = 2, 6
    rows["source"][:, 0], rows["source"][:, 1] = 10, 100
    rows["source"][:, 2], rows["source"][:, 3] = index // 250 % 250, 1 + index % 250
    rows["destination"][:, :2] = (198, 51)
    rows["destination"][:, 2], rows["destination"][:, 3] = index // 13 % 250, 1 + index // 7 % 250
    rows["source_port"] = 1024 + index // 62_500
    rows["destination_port"] = rows["reply_source_port"] = 443
    rows["reply_source"] = rows["destination"]
    rows["reply_destination"][:, :4] = (203, 0, 113, 1)
    rows["reply_destination"][:, 3] = 1 + index // 60_000 % 250
    rows["reply_destination_port"] = 1024 + index % 60_000
    rows["status"] = SEEN_ASSURED_CONFIRMED | SRC_NAT
    rows["timeout"] = 40_000
    rows["protocol_state"] = ESTABLISHED
    rows["tcp_flags_original"] = rows["tcp_flags_reply"] = 0x23
    rows["tcp_scale_original"] = rows["tcp_scale_reply"] = 7
    return rows


def inject(node: Node, rows: Rows) -> float:
    """Into the node's kernel, as the bare injector does it; how long that took."""
    with node.host.entered(), conntrack.Injector() as injector:
        messages = ctnetlink.build(rows)
        began = time.perf_counter()
        injector.inject_bare(messages)
        return time.perf_counter() - began


def flush(node: Node) -> None:
    with node.host.entered():
        conntrack.flush()


def count(node: Node) -> int:
    with node.host.entered():
        return conntrack.count()


def cpu(pid: int) -> float:
    """Seconds that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def rss_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


def latency(pair: Pair, rate: int, duration: float) -> dict[str, Any]:
    """From the event on the MASTER to the one in the peer's kernel, for each new flow."""
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

    began = time.perf_counter()
    sent = 0
    used = {node.name: cpu(node.worker()) for node in pair.nodes}
    while (passed := time.perf_counter() - began) < duration:
        while sent < passed * rate:
            way = flow(UDP, f"10.{50 + sent // 60_000}.{sent // 250 % 240}.{1 + sent % 250}", "198.51.100.9", 5000, 53)
            pair.one.gateway.send("inside", way, segment(way))
            sent += 1
        look()
    until = time.perf_counter() + 1.0
    while time.perf_counter() < until:
        look()
    used = {node.name: cpu(node.worker()) - used[node.name] for node in pair.nodes}
    one, two = seen["fw1"], seen["fw2"]
    delays = np.array([two[key] - at for key, at in one.items() if key in two]) * 1e3
    return {
        "flows": sent,
        "arrived": len(delays),
        "median_ms": round(float(np.percentile(delays, 50)), 3),
        "p99_ms": round(float(np.percentile(delays, 99)), 3),
        "worst_ms": round(float(delays.max()), 3),
        "cpu_us_a_flow": {name: round(seconds / sent * 1e6, 1) for name, seconds in used.items()},
    }


def bulk(pair: Pair, states: int) -> dict[str, Any]:
    """The peer's worker starts anew on an empty kernel, while the MASTER has so many states."""
    rows = table_of(states)
    bare = []
    pair.two.stop()
    flush(pair.two)
    for _ in range(3):
        bare.append(inject(pair.two, rows))
        flush(pair.two)
    inject(pair.one, rows)
    wait_until(lambda: pair.one.states()["table"]["own"] >= states, 60)
    flush(pair.two)
    pair.two.start()
    began = 0.0
    wait_until(lambda: count(pair.two) > 100, 60, 0.001)
    began = time.perf_counter()
    first = count(pair.two)
    used = {node.name: cpu(node.worker()) for node in pair.nodes}
    wait_until(lambda: count(pair.two) >= states, 120, 0.005)
    spent = time.perf_counter() - began
    wait_until(pair.two.follows, 60)
    used = {node.name: cpu(node.worker()) - used[node.name] for node in pair.nodes}
    workers = {node.name: node.worker() for node in pair.nodes}
    return {
        "states": states,
        "bare_rate": round(states / min(bare)),
        "bulk_rate": round((states - first) / spent),
        "part_of_bare": round((states - first) / spent / (states / min(bare)), 3),
        "bulk_seconds": round(spent, 3),
        "cpu_us_a_state": {name: round(seconds / (states - first) * 1e6, 2) for name, seconds in used.items()},
        "bytes_sent_a_state": round(pair.one.states()["peers"][0]["sending"]["sent_bytes"] / states, 1),
        "worker_rss_bytes_a_state": {name: round(rss_bytes(pid) / states) for name, pid in workers.items()},
        "history": [text for text in pair.two.history() if "states in" in text or "refused" in text],
    }


def flood(pair: Pair, flows: int) -> dict[str, Any]:
    """New entries as fast as the kernel takes them, with an injector that is not the worker's: CPU of both workers."""
    rows = table_of(flows, 1_000_000)
    workers = {node.name: node.worker() for node in pair.nodes}
    used = {name: cpu(pid) for name, pid in workers.items()}
    spent = inject(pair.one, rows)
    began = time.perf_counter()
    wait_until(lambda: count(pair.two) >= flows, 60, 0.01)
    behind = time.perf_counter() - began
    time.sleep(0.5)
    used = {name: cpu(pid) - used[name] for name, pid in workers.items()}
    return {
        "flows": flows,
        "rate": round(flows / spent),
        "last_arrives_after_seconds": round(behind, 3),
        "cpu_us_a_flow": {name: round(seconds / flows * 1e6, 2) for name, seconds in used.items()},
        "lost": pair.one.states()["kernel"]["lost"],
        "injected": pair.two.states()["kernel"]["injected"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["latency", "bulk", "flood"])
    parser.add_argument("--rate", type=int, default=1000, help="flows a second")
    parser.add_argument("--duration", type=float, default=10.0, help="seconds")
    parser.add_argument("--states", type=int, default=200_000)
    parser.add_argument("--flows", type=int, default=200_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory, made(Path(directory)) as pair:
        if arguments.what == "latency":
            found = latency(pair, arguments.rate, arguments.duration)
        elif arguments.what == "bulk":
            found = bulk(pair, arguments.states)
        else:
            found = flood(pair, arguments.flows)
    sys.stdout.write(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
