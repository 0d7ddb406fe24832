"""One recording: the probe runs; all that passes the client and the nodes' ports and every address change is kept.

with Recording(paths, family=4) as recording:
    ... faults ...
    recording.poll()            # now and then, so that no ring fills
seen = recording.observations()
"""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt

from hacore.errors import PlatformError
from hacore.lab import capture, namespaces, topology
from hacore.lab.record import MARK

_PATIENCE = 10.0


class AddressChange(NamedTuple):
    """A virtual address came to (`held`) or went from the kernel of `node`; monotonic seconds."""

    time: float
    node: str
    address: str
    held: bool


class Observations(NamedTuple):
    """What a recording saw, until `end` (monotonic seconds).

    client: all probe frames at the client. ports: for each (node, side) the frames that the node sent out there.
    changes: in order of time, beginning with what was held at the start. missed: frames that found a ring full (0, or
    the figures say too little).
    """

    client: npt.NDArray[np.void]
    ports: dict[tuple[str, str], npt.NDArray[np.void]]
    changes: list[AddressChange]
    missed: int
    end: float


class Recording:
    """Probe and observers, from `__enter__` to `__exit__`.

    paths: the namespaces by role; family: 4 or 6, the probe's. Its processes are children of this one and end with it.
    mark: the lab's directory, for their environment; addresses: the virtual ones to follow, None for the gateways';
    watch: called at each `poll`.
    """

    def __init__(
        self,
        paths: dict[str, Path],
        *,
        family: int = 4,
        mark: Path | None = None,
        addresses: Collection[str] | None = None,
        watch: Callable[[Recording], None] | None = None,
    ) -> None:
        self.paths = paths
        self._listener = watch
        self.family = family
        self.session = secrets.randbits(32)
        self.held: dict[str, set[str]] = {node: set() for node in topology.NODES}
        self.last_reply = 0.0
        self.counts = {"sent": 0, "received": 0}
        self._environment = os.environ | ({MARK: str(mark)} if mark is not None else {})
        self._children: list[subprocess.Popen[bytes]] = []
        self._rings: dict[tuple[str, str], capture.Ring] = {}
        self._frames: dict[tuple[str, str], list[npt.NDArray[np.void]]] = {}
        self._changes: list[AddressChange] = []
        self._missed = 0
        self._text = b""
        self._ready = False
        self._addresses = topology.vip_addresses() if addresses is None else set(addresses)

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _start(self) -> None:
        watched = [f"{node}={self.paths[node]}" for node in topology.NODES]
        self._watch = self._run(topology.SWITCH, "address_watch", *watched)
        client, server = (topology.HOSTS[role][self.family] for role in (topology.CLIENT, topology.SERVER))
        self._run(topology.SERVER, "probe", "echo", server)
        self._rings[topology.CLIENT, "lan"] = capture.Ring(self.paths[topology.CLIENT], "lan", self.session)
        for node in topology.NODES:
            for side in topology.SIDES:
                port = f"{side}-{node}"
                self._rings[node, side] = capture.Ring(self.paths[topology.SWITCH], port, self.session, arriving=True)
        self._frames = {key: [] for key in self._rings}
        assert self._watch.stdout is not None
        os.set_blocking(self._watch.stdout.fileno(), False)
        deadline = time.monotonic() + _PATIENCE
        while not self._ready:
            if self._watch.poll() is not None or time.monotonic() > deadline:
                raise PlatformError("the address observer did not start")
            time.sleep(0.01)
            self._read_watch()
        self._run(topology.CLIENT, "probe", "send", client, server, "--session", str(self.session))

    def _run(self, role: str, module: str, *arguments: str) -> subprocess.Popen[bytes]:
        with namespaces.inside(self.paths[role]):
            child = subprocess.Popen(
                [sys.executable, "-m", f"hacore.lab.{module}", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if module == "address_watch" else subprocess.DEVNULL,
                env=self._environment,
            )
        self._children.append(child)
        return child

    def _read_watch(self) -> None:
        assert self._watch.stdout is not None
        self._text += self._watch.stdout.read() or b""
        *lines, self._text = self._text.split(b"\n")
        for line in lines:
            words = line.decode("ascii").split()
            if words == ["ready"]:
                self._ready = True
            elif words[3] in self._addresses:
                change = AddressChange(float(words[0]), words[1], words[3], words[2] == "+")
                self._changes.append(change)
                (self.held[change.node].add if change.held else self.held[change.node].discard)(change.address)

    def poll(self) -> None:
        """Take in what was seen since the last call; every second or oftener."""
        self._read_watch()
        for key, ring in self._rings.items():
            rows = ring.drain()
            self._missed += ring.lost()
            if not len(rows):
                continue
            self._frames[key].append(rows)
            if key[0] == topology.CLIENT:
                replies = rows[(rows["kind"] == capture.PROBE) & ~rows["outgoing"]]
                self.counts["received"] += len(replies)
                self.counts["sent"] += int(np.count_nonzero((rows["kind"] == capture.PROBE) & rows["outgoing"]))
                if len(replies):
                    self.last_reply = float(replies["time"].max())
        if self._listener is not None:
            self._listener(self)

    def observations(self) -> Observations:
        """Everything so far."""
        self.poll()
        arrays = {
            key: np.concatenate([np.zeros(0, dtype=capture.PACKETS), *parts]) for key, parts in self._frames.items()
        }
        ports = {key: rows for key, rows in arrays.items() if key[0] in topology.NODES}
        client = arrays[topology.CLIENT, "lan"]
        changes = sorted(self._changes)
        return Observations(client, ports, changes, self._missed, time.monotonic())

    def __exit__(self, *_: object) -> None:
        for child in reversed(self._children):
            child.kill()
            child.wait()
            if child.stdout is not None:
                child.stdout.close()
        for ring in self._rings.values():
            ring.close()
