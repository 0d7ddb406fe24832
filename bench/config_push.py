"""A push of many files between the control workers of two real nodes. A program, as root:

python bench/config_push.py --files 10000 --size 1000000000 --repeat 3

`pushed`: from the command line's start to its end, onto a backup that has nothing of it; `nothing changed`: the same
again. `--tmpfs` keeps the trees and the stores in memory, `--image` on a new ext4 in a file: one from which much was
deleted in the last minutes makes new files slowly.

`bare`: the same files written by one thread and flushed (once), and beside them one file of that size (twice),
which is what a node does that keeps what it was sent. `ratio` is the push's rate by that of twice.
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
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Self

sys.path.insert(0, str(Path(__file__).parent.parent))

from hacore.bench.usage import Usage
from hacore.linux.libc import syncfs
from tests.control.push_pair import PushNode, push_pair

SECTION = '[[section]]\nid = "tree"\npaths = ["FILES/tree"]'


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
                self.most_bytes[name] = max(self.most_bytes[name], Usage.of([pid]).resident_bytes)


def fill(node: PushNode, files: int, total_bytes: int) -> None:
    """Incompressible files of one size in folders of a hundred."""
    size = total_bytes // files
    for number in range(files):
        node.write(f"tree/{number // 100}/{number}", os.urandom(size))


def bare(directory: Path, files: int, total_bytes: int) -> tuple[float, float]:
    """Seconds for the same files, flushed; and for these and one file with all of it."""
    size = total_bytes // files
    content = os.urandom(size)
    started = time.perf_counter()
    for number in range(files):
        folder = directory / str(number // 100)
        if number % 100 == 0:
            folder.mkdir(parents=True)
        handle = os.open(folder / str(number), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        os.write(handle, content)
        os.close(handle)
    flush(directory)
    once = time.perf_counter()
    with open(directory / "pack", "wb", buffering=0) as pack:
        pack.writelines(content for _ in range(files))
    flush(directory)
    return once - started, time.perf_counter() - started


def flush(directory: Path) -> None:
    """The whole file system."""
    handle = os.open(directory, os.O_RDONLY)
    syncfs(handle)
    os.close(handle)


@contextmanager
def image(directory: Path, size_bytes: int) -> Iterator[Path]:
    """A new ext4 in a file."""
    file, place = directory / "image", directory / "mounted"
    with open(file, "wb") as made:
        made.truncate(size_bytes)
    place.mkdir()
    subprocess.run(["mkfs.ext4", "-q", file], check=True)
    subprocess.run(["mount", "-o", "loop", file, place], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)


def timed(node: PushNode, *arguments: str) -> tuple[float, list[dict[str, object]]]:
    """Seconds, and the lines that the command wrote."""
    started = time.perf_counter()
    done = node.hacore("config", "push", "--json", *arguments)
    elapsed = time.perf_counter() - started
    return elapsed, [json.loads(line) for line in done.stdout.splitlines()]


def play(directory: Path, files: int, total_bytes: int, repeat: int) -> dict[str, object]:
    """One pair, pushed to several times, each time with everything changed."""
    results: dict[str, object] = {"files": files, "bytes": total_bytes}
    rates, once, twice, unchanged, memory = [], [], [], [], {"fw1": 0, "fw2": 0}
    (directory / "pair").mkdir()
    with push_pair(directory / "pair", SECTION) as nodes:
        one, two = nodes
        for number in range(repeat):
            fill(one, files, total_bytes)
            subprocess.run(["sync"], check=True)
            seconds = bare(directory / f"bare{number}", files, total_bytes)
            once.append(total_bytes / seconds[0])
            twice.append(total_bytes / seconds[1])
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
    results["bare_once_mb_per_second"] = [round(rate / 1e6, 1) for rate in once]
    results["bare_twice_mb_per_second"] = [round(rate / 1e6, 1) for rate in twice]
    results["ratio"] = [round(rate / disk, 2) for rate, disk in zip(rates, twice, strict=True)]
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
    parser.add_argument("--image", action="store_true")
    chosen = parser.parse_args()
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(dir="/dev/shm" if chosen.tmpfs else None)))
        if chosen.image:
            place = stack.enter_context(image(place, (5 * chosen.repeat + 3) * chosen.size))
        sys.stdout.write(json.dumps(play(place, chosen.files, chosen.size, chosen.repeat)) + "\n")


if __name__ == "__main__":
    main()
