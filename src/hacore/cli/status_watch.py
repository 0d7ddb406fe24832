"""`hacore status --watch`: what the status page shows, in the terminal: this node and its peers, each with its age."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import msgspec
from rich.live import Live

from hacore.cli.pair_status_view import Known, pair_view
from hacore.cli.snapshot_answer import as_snapshot
from hacore.cli.status_view import Seen
from hacore.cli.terminal import console
from hacore.control.local import LocalClient
from hacore.errors import HacoreError
from hacore.node.bus import Client
from hacore.node.event import Event

#: Seconds between two looks, and how long each may wait: a node that is well answers in milliseconds.
INTERVAL = 1.0
TIMEOUT = 2.0
#: Peers that the settings name since a moment ago.
FIND_INTERVAL = 10.0
#: Both nodes look at their files for it.
COMPARE_INTERVAL = 30.0
COMPARE_TIMEOUT = 600.0
EVENTS = 8


class Watch:
    """Asks in threads of its own, so that whoever does not answer holds up nothing else."""

    def __init__(self, runtime_dir: Path) -> None:
        self._bus = Client(runtime_dir, TIMEOUT)
        self._control = LocalClient(runtime_dir)
        self._peers: dict[str, Known] = {}
        self.changed = threading.Event()
        self.here = Known("", here=True)
        self.events: list[Event] = []

    def start(self) -> None:
        """Raises HacoreError where the node does not answer at all."""
        self._look_here()
        self._spawn(self._look_here, INTERVAL)
        self._spawn(self._find_peers, FIND_INTERVAL)
        self._spawn(self._compare, COMPARE_INTERVAL)

    @property
    def nodes(self) -> list[Known]:
        """This node first."""
        return [self.here, *self._peers.values()]

    def _spawn(self, work: Callable[[], None], interval: float) -> None:
        def run() -> None:
            while True:
                begun = time.monotonic()
                with suppress(HacoreError):  # it stands in what is shown
                    work()
                self.changed.set()
                time.sleep(max(0.0, interval - (time.monotonic() - begun)))

        threading.Thread(target=run, daemon=True).start()

    def _look_here(self) -> None:
        self._look(self.here, lambda: self._bus.request("status"))
        self.here.name = self.here.seen.snapshot.node.name if self.here.seen is not None else ""
        answer = self._bus.request("events", limit=EVENTS)
        self.events = [msgspec.convert(one, Event) for one in answer.get("events", [])]

    def _look(self, known: Known, ask: Callable[[], Any]) -> None:
        try:
            known.seen = Seen(as_snapshot(ask()), time.time())
            known.problem = ""
        except HacoreError as error:
            known.problem = str(error)
            if known.seen is not None:
                known.seen = known.seen._replace(unreachable=known.problem)
            elif known.here:
                raise

    def _find_peers(self) -> None:
        seen = self.here.seen
        if seen is None or "control" not in seen.snapshot.node.workers:
            return
        for one in self._control.ask("GET", "/peers"):
            name = str(one["name"])
            if name not in self._peers:
                known = self._peers.setdefault(name, Known(name, here=False))
                path = f"/peers/{name}/status"
                self._spawn(
                    lambda known=known, path=path: self._look(  # type: ignore[misc]
                        known, lambda: self._control.ask("GET", path, timeout=TIMEOUT * 2)
                    ),
                    INTERVAL,
                )

    def _compare(self) -> None:
        if not self._peers:
            time.sleep(INTERVAL)
            self._find_peers()
        if self._peers:
            for one in self._control.ask("GET", "/config", timeout=COMPARE_TIMEOUT)["peers"]:
                if (known := self._peers.get(str(one["name"]))) is not None:
                    known.sync, known.compared = one, time.time()


def follow(runtime_dir: Path) -> None:
    """Until Ctrl-C. Raises HacoreError where the node does not answer at the beginning."""
    watch = Watch(runtime_dir)
    out = console()
    watch.start()
    with Live(console=out, auto_refresh=False, screen=True) if out.is_terminal else nullcontext() as live:
        try:
            while True:
                watch.changed.clear()
                shown = pair_view(watch.nodes, watch.events, time.time(), out.width)
                if live is None:
                    out.print(shown, "")
                else:
                    live.update(shown, refresh=True)
                time.sleep(INTERVAL if live is None else 0.2)
                watch.changed.wait(INTERVAL)
        except KeyboardInterrupt:
            return
