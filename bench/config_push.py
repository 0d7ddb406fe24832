"""A push of many files between the control workers of two real nodes. A program, as root:

python bench/config_push.py --files 10000 --size 1000000000 --repeat 3

`pushed`: from the command line's start to its end, onto a backup that has nothing of it; `nothing changed`: the same
again. `--tmpfs` keeps the trees and the stores in memory.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Self

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.control.push_pair import PushNode, push_pair

SECTION = '[[section]]\nid = "tree"\npaths = ["FILES/tree"]'


def resident_bytes(pid: int) -> int:
    """What a process holds now."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    return 1024 * int(next(line for line in text.splitlines() if line.startswith("Rss")).split()[1])


class Peak:
    """The most that the two workers held, looked at 50 times a second."""

    def __init__(self, nodes: tuple[PushNode, PushNode]) -> None:
        self._pids = {node.name: node.control_pid() for node in nodes}
        self.most_bytes = dict.fromkeys(self._pids, 0)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(0.02):
            for name, pid in self._pids.items():
                self.most_bytes[name] = max(self.most_bytes[name], resident_bytes(pid))


def fill(node: PushNode, files: int, total_bytes: int) -> None:
    """Incompressible files of one size in folders of a hundred."""
    size = total_bytes // files
    for number in range(files):
        node.write(f"tree/{number // 100}/{number}", os.urandom(size))


def timed(node: PushNode, *arguments: str) -> tuple[float, list[dict[str, object]]]:
    """Seconds, and the lines that the command wrote."""
    started = time.perf_counter()
    done = node.hacore("config", "push", "--json", *arguments)
    elapsed = time.perf_counter() - started
    return elapsed, [json.loads(line) for line in done.stdout.splitlines()]


def play(directory: Path, files: int, total_bytes: int, repeat: int) -> dict[str, object]:
    """One pair, pushed to several times, each time with everything changed."""
    results: dict[str, object] = {"files": files, "bytes": total_bytes}
    rates, unchanged, memory = [], [], {"fw1": 0, "fw2": 0}
    with push_pair(directory, SECTION) as nodes:
        one, two = nodes
        for _ in range(repeat):
            fill(one, files, total_bytes)
            subprocess.run(["sync"], check=True)
            with Peak(nodes) as peak:
                elapsed, lines = timed(one, "tree")
            outcome = lines[-1]["outcome"]
            assert isinstance(outcome, dict)
            assert outcome["result"] == "applied", outcome
            rates.append(total_bytes / elapsed)
            memory = {name: max(memory[name], most) for name, most in peak.most_bytes.items()}
            unchanged += [timed(one, "tree")[0] for _ in range(3)]
            different = subprocess.run(["diff", "-r", one.files, two.files], check=False)
            assert different.returncode == 0
    results["pushed_mb_per_second"] = [round(rate / 1e6, 1) for rate in rates]
    results["nothing_changed_seconds"] = [round(seconds, 3) for seconds in unchanged]
    results["memory_mb"] = {name: round(most / 1e6, 1) for name, most in memory.items()}
    return results


def main() -> None:
    """Prints one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--size", type=int, default=1_000_000_000)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--tmpfs", action="store_true")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(dir="/dev/shm" if chosen.tmpfs else None) as directory:
        sys.stdout.write(json.dumps(play(Path(directory), chosen.files, chosen.size, chosen.repeat)) + "\n")


if __name__ == "__main__":
    main()
