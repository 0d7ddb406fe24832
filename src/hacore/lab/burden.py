"""Work that keeps the cores busy: `python -m hacore.lab.burden spin|copy`, until killed.

`spin` never leaves user space, `copy` hardly ever leaves the kernel. Both run with the ordinary scheduling policy.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from hacore.lab.record import MARK
from hacore.linux import libc

KINDS = ("spin", "copy")


def work(kind: str) -> None:
    """Never returns."""
    if kind == "spin":
        while True:
            pass
    buffer = bytearray(1 << 20)
    with open("/dev/zero", "rb", buffering=0) as zero:
        while True:
            zero.readinto(buffer)


@contextmanager
def on_every_core(mark: Path) -> Iterator[int]:
    """One process of each kind for each core, while the `with` lasts; how many.

    mark: the lab's directory, for their environment.
    """
    environment = os.environ | {MARK: str(mark)}
    kinds = KINDS * len(os.sched_getaffinity(0))
    children: list[subprocess.Popen[bytes]] = []
    try:
        children.extend(subprocess.Popen([sys.executable, "-m", __name__, kind], env=environment) for kind in kinds)
        yield len(children)
    finally:
        for child in children:
            child.kill()
            child.wait()


def main(arguments: Sequence[str]) -> None:
    """Argument: the kind of work."""
    libc.signal_at_parent_death(signal.SIGKILL)
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    work(arguments[0])


if __name__ == "__main__":
    main(sys.argv[1:])
