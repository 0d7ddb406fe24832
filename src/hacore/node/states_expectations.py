"""What helpers expect, asked of the kernel: events do not tell that SIP's helper has made an expectation active and put
off its end, nor what was lost of them. There are few, and a dump of none takes 70 us.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from hacore.errors import HacoreError
from hacore.linux import conntrack
from hacore.node.loop import Loop, Timer
from hacore.node.states_filter import Filter
from hacore.states.expectation_origin import ExpectationOrigin
from hacore.states.expectations import INACTIVE, Expectations
from hacore.states.masters import masters_of

FIRST_LOOK = 0.25  # seconds after one came that is not active yet; then twice as long each time
SPACING = 100  # times the work of a look until the next one: 1 % of a core


class ExpectationLooks:
    """One when a comparison of the rows has ended (`look`), and more while one is inactive."""

    def __init__(
        self,
        loop: Loop,
        origin: ExpectationOrigin,
        wanted: Callable[[], Filter],
        interval: float,
        clock: Callable[[], float],
        on_change: Callable[[], None],
        on_problem: Callable[[str], None],
    ) -> None:
        self._loop, self._origin, self._wanted = loop, origin, wanted
        self._interval, self._clock = interval, clock
        self._on_change, self._on_problem = on_change, on_problem
        self._pause = FIRST_LOOK
        self._earliest = 0.0
        self._next: Timer | None = None

    def stop(self) -> None:
        """Until something is told or compared again."""
        if self._next is not None:
            self._next.cancel()
            self._next = None

    def told(self, born: Expectations) -> None:
        """Events told of these."""
        if (born["flags"] & INACTIVE).any():
            self._pause = FIRST_LOOK
            self._plan()

    def look(self) -> None:
        """Now."""
        began = time.thread_time()
        try:
            found = conntrack.dump_expectations()
            if len(found):
                found = found[self._wanted().wanted(masters_of(found))]
        except HacoreError as error:
            self._on_problem(str(error))
            return
        changed = self._origin.reconcile(found, self._clock())
        self._earliest = self._loop.now() + SPACING * (time.thread_time() - began)
        if (found["flags"] & INACTIVE).any():
            self._plan()
        if changed:
            self._on_change()

    def _plan(self) -> None:
        at = max(self._loop.now() + self._pause, self._earliest)
        if self._next is None or self._next.when > at:
            self.stop()
            self._next = self._loop.call_at(at, self._look_again)

    def _look_again(self, _now: float) -> None:
        self._next = None
        self._pause = min(2 * self._pause, self._interval)
        self.look()
