"""The signals that ask a command to end, so that what it opened is closed again, whichever of them comes."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from types import FrameType


def as_interrupt() -> AbstractContextManager[None]:
    """SIGTERM and SIGHUP raise KeyboardInterrupt, as SIGINT does, for the length of a `with` in the main thread."""

    def interrupt(number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt(signal.Signals(number))

    return _handled((signal.SIGTERM, signal.SIGHUP), interrupt)


def signal_of(error: KeyboardInterrupt) -> signal.Signals:
    """The one that raised it: Python's own handler, of SIGINT, puts nothing into it."""
    return next((each for each in error.args if isinstance(each, signal.Signals)), signal.SIGINT)


def ignored() -> AbstractContextManager[None]:
    """None of them is heard for the length of a `with` in the main thread: something is being put back in order."""
    return _handled((signal.SIGINT, signal.SIGTERM, signal.SIGHUP), signal.SIG_IGN)


@contextmanager
def _handled(
    numbers: Iterable[signal.Signals], handler: Callable[[int, FrameType | None], None] | signal.Handlers
) -> Iterator[None]:
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)
