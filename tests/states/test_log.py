"""What the log of changes takes."""

from __future__ import annotations

import tracemalloc

import pytest

from hacore.states.frames import Kind
from hacore.states.log import Log


@pytest.mark.parametrize("size", [1, 40, 5000])
def test_the_memory_is_what_is_counted(size: int) -> None:
    log = Log(4 << 20)
    log.wanted = True
    tracemalloc.start()
    try:
        while not log.overflowed:
            log.append(Kind.CHANGES, 1, 1, 1000.0 + log.last, bytes(size))
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert log.bytes_held <= log.limit_bytes
    assert 0.7 * log.bytes_held < taken < 1.1 * log.bytes_held


def test_what_is_let_go_of_is_not_counted() -> None:
    log = Log(1 << 20)
    log.wanted = True
    for number in range(5000):
        log.append(Kind.CHANGES, 1, 1, float(number), bytes(10))
    log.trim(4000)
    assert log.lag(4000) == (1000, 4000.0)
    log.drop()
    assert log.bytes_held == 0
    assert log.skip(3) == 5001
    assert log.lag(5001) == (0, None)
