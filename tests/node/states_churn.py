"""A connection table that never rests, and a path between two nodes that breaks."""

from __future__ import annotations

import random
import select
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from hacore._fast import ctnetlink
from hacore.bench.load import connections as table_of
from hacore.errors import HacoreError
from hacore.linux import conntrack
from hacore.states.layout import Rows
from tests.namespaces import Host

TURN = 0.01  # seconds
STEP = 20  # rows born, changed and ended in a turn: 2,000 of each a second


@contextmanager
def churning(host: Host, *, live: int = 5000, step: int = STEP) -> Iterator[None]:
    """While entered: rows are born, change and end in that kernel, `live` of them at a time."""
    stop = threading.Event()
    failures: list[Exception] = []
    chance = random.Random(1)
    rows = table_of(live)

    def turn(injector: conntrack.Injector, born: int, ended: int) -> None:
        injector.inject(table_of(step, born))
        changed = np.array(sorted(chance.sample(range(ended + step, born), step)))
        some: Rows = np.concatenate([table_of(1, int(number)) for number in changed])
        some["mark"] = chance.randrange(1 << 16)
        injector.inject(some, np.full(step, ctnetlink.UPDATE, np.uint8))
        injector.inject(table_of(step, ended), np.full(step, ctnetlink.DELETE, np.uint8))

    def work() -> None:
        try:
            with host.entered(), conntrack.Injector() as injector:
                injector.inject(rows)
                born, ended = live, 0
                following = time.monotonic()
                while not stop.is_set():
                    turn(injector, born, ended)
                    born, ended = born + step, ended + step
                    following = max(following + TURN, time.monotonic())
                    time.sleep(max(0.0, following - time.monotonic()))
        except (OSError, HacoreError, ValueError) as error:
            failures.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    assert not failures, failures


class Path:
    """Passes connections to `place` in `host` on, and cuts them after a random number of bytes while `cutting`."""

    def __init__(self, host: Host, listen: tuple[str, int], place: tuple[str, int], seed: int) -> None:
        self.cuts = 0
        self.cutting = False
        self.most_bytes = 200_000
        self._host, self._place, self._chance = host, place, random.Random(seed)
        with host.entered():
            self._listening = socket.create_server(listen)
        self._stop = threading.Event()
        self._passing: list[threading.Thread] = []
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        for thread in (self._thread, *self._passing):
            thread.join()
        self._listening.close()

    def _run(self) -> None:
        with self._host.entered():
            while not self._stop.is_set():
                if select.select([self._listening], [], [], 0.05)[0]:
                    near, _ = self._listening.accept()
                    try:
                        far = socket.create_connection(self._place, timeout=5)
                    except OSError:
                        near.close()
                        continue
                    passing = threading.Thread(target=self._pass_on, args=(near, far))
                    passing.start()
                    self._passing.append(passing)

    def _pass_on(self, near: socket.socket, far: socket.socket) -> None:
        left = self._chance.randrange(self.most_bytes)
        others = {near: far, far: near}
        with near, far:
            while not self._stop.is_set():
                ready, _, _ = select.select(list(others), [], [], 0.05)
                for one in ready:
                    try:
                        data = one.recv(min(left, 65536) if self.cutting and left else 65536)
                    except OSError:
                        return
                    if not data:
                        return
                    try:
                        others[one].sendall(data)
                    except OSError:
                        return
                    left -= len(data)
                if self.cutting and left <= 0:
                    self.cuts += 1
                    return
