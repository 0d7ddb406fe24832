"""The state table against what Python and numpy offer: a dict of bytes, and a sorted array with binary search.

One group is one operation on a table of one size; each test handles the same rows, so the ratios of the times are
those of the rates. `rows_per_second` stands in the saved results, for the insert also the worst pause of 1,000
rows (`worst_batch`, seconds). Keys are looked up in no order, beside a bare read of as many rows in the same order:
what a cache miss costs on the machine.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.realistic import realistic_table
from hacore._fast.table import NEW, SAME, Table
from hacore.states.layout import KEY_BYTES, Rows, keys_of

SIZES = [1_000, 100_000, 1_000_000]
BATCH = 1_000
SECRETS = bytes(range(16)), bytes(range(16, 32))

sized = pytest.mark.parametrize("size", SIZES)
sized_finely = pytest.mark.parametrize("size", [1_000, 10_000, 100_000, 1_000_000])


@functools.lru_cache(maxsize=1)
def rows_of(size: int) -> Rows:
    return realistic_table(size, 1)


def order_of(size: int) -> npt.NDArray[np.int64]:
    return np.random.default_rng(2).permutation(size)


def pairs_of(size: int) -> list[tuple[bytes, bytes]]:
    """Key and row, as a dict has them."""
    octets, width = rows_of(size).tobytes(), rows_of(size).itemsize
    return [(octets[at : at + KEY_BYTES], octets[at : at + width]) for at in range(0, len(octets), width)]


def filled(size: int) -> Table:
    table = Table(*SECRETS, max_states=size)
    table.put(rows_of(size))
    return table


def key_bytes(rows: Rows) -> list[bytes]:
    octets = keys_of(rows).tobytes()
    return [octets[at : at + KEY_BYTES] for at in range(0, len(octets), KEY_BYTES)]


def run(benchmark: BenchmarkFixture, size: int, function: Callable[..., Any], setup: Callable[[], Any]) -> Any:
    """Once on each of three fresh things that `setup` makes."""
    result = benchmark.pedantic(function, setup=lambda: ((setup(),), {}), rounds=3)  # type: ignore[no-untyped-call]
    if benchmark.stats is not None:
        benchmark.extra_info["rows_per_second"] = size / benchmark.stats.stats.min
    return result


@pytest.mark.benchmark(group="insert")
@sized
def test_insert(benchmark: BenchmarkFixture, size: int) -> None:
    rows, worst = rows_of(size), 0.0

    def insert(table: Table) -> Table:
        nonlocal worst
        for start in range(0, size, BATCH):
            before = time.perf_counter()
            outcomes = table.put(rows[start : start + BATCH])
            worst = max(worst, time.perf_counter() - before)
            assert outcomes[0] == NEW
        return table

    table = run(benchmark, size, insert, lambda: Table(*SECRETS, max_states=size))
    assert len(table) == size
    benchmark.extra_info["worst_batch"] = worst
    benchmark.extra_info["bytes_per_row"] = table.memory_bytes / size


@pytest.mark.benchmark(group="insert")
@sized
def test_insert_baseline_dict(benchmark: BenchmarkFixture, size: int) -> None:
    rows = rows_of(size)
    octets = rows.tobytes()

    def insert(table: dict[bytes, bytes]) -> dict[bytes, bytes]:
        for at in range(0, len(octets), rows.itemsize):
            table[octets[at : at + KEY_BYTES]] = octets[at : at + rows.itemsize]
        return table

    assert len(run(benchmark, size, insert, dict)) == size


@pytest.mark.benchmark(group="insert")
@sized
def test_insert_baseline_sort(benchmark: BenchmarkFixture, size: int) -> None:
    """Numpy's way to a searchable table: all at once, by sorting the keys."""
    keys = keys_of(rows_of(size)).view("V40")
    run(benchmark, size, np.argsort, lambda: keys)


@pytest.mark.benchmark(group="look up")
@sized_finely
def test_look_up(benchmark: BenchmarkFixture, size: int) -> None:
    order = order_of(size)
    table, keys = filled(size), keys_of(rows_of(size))[order]
    assert (run(benchmark, size, table.find, lambda: keys) == order).all()


@pytest.mark.benchmark(group="look up")
@sized_finely
def test_look_up_baseline_random_read(benchmark: BenchmarkFixture, size: int) -> None:
    marks, order = rows_of(size)["mark"], order_of(size)
    run(benchmark, size, lambda order: marks[order], lambda: order)


@pytest.mark.benchmark(group="look up")
@sized_finely
def test_look_up_baseline_dict(benchmark: BenchmarkFixture, size: int) -> None:
    order = order_of(size)
    keys = key_bytes(rows_of(size))
    table = dict(zip(keys, range(size), strict=True))
    shuffled = [keys[number] for number in order]
    found = run(benchmark, size, lambda keys: [table[key] for key in keys], lambda: shuffled)
    assert found[-1] == order[-1]


@pytest.mark.benchmark(group="look up")
@sized_finely
def test_look_up_baseline_binary_search(benchmark: BenchmarkFixture, size: int) -> None:
    keys = keys_of(rows_of(size)).view(f"S{KEY_BYTES}")
    ordered, shuffled = np.sort(keys), keys[order_of(size)]
    run(benchmark, size, lambda keys: np.searchsorted(ordered, keys), lambda: shuffled)


@pytest.mark.benchmark(group="put what is there")
@sized
def test_put_what_is_there(benchmark: BenchmarkFixture, size: int) -> None:
    """What a reconcile does with nearly every row of a dump."""
    table, rows = filled(size), rows_of(size)
    assert (run(benchmark, size, lambda rows: table.put(rows, generation=1), lambda: rows) == SAME).all()


@pytest.mark.benchmark(group="put what is there")
@sized
def test_put_what_is_there_baseline_dict(benchmark: BenchmarkFixture, size: int) -> None:
    pairs = pairs_of(size)
    table = dict(pairs)
    assert all(run(benchmark, size, lambda pairs: [table.get(key) == row for key, row in pairs], lambda: pairs))


@pytest.mark.benchmark(group="update")
@sized
def test_update(benchmark: BenchmarkFixture, size: int) -> None:
    """Every row changes, and the digest of its partition with it."""
    rows = rows_of(size).copy()
    rows["status"] ^= 4
    run(benchmark, size, lambda table: table.put(rows), lambda: filled(size))


@pytest.mark.benchmark(group="update")
@sized
def test_update_baseline_dict(benchmark: BenchmarkFixture, size: int) -> None:
    pairs = pairs_of(size)
    changed = [(key, row[::-1]) for key, row in pairs]
    run(benchmark, size, lambda table: table.update(changed), lambda: dict(pairs))


@pytest.mark.benchmark(group="delete")
@sized
def test_delete(benchmark: BenchmarkFixture, size: int) -> None:
    rows = rows_of(size)
    run(benchmark, size, lambda table: table.delete(rows), lambda: filled(size))


@pytest.mark.benchmark(group="delete")
@sized
def test_delete_baseline_dict(benchmark: BenchmarkFixture, size: int) -> None:
    pairs = pairs_of(size)

    def delete(table: dict[bytes, bytes]) -> None:
        for key, _ in pairs:
            del table[key]

    run(benchmark, size, delete, lambda: dict(pairs))


@pytest.mark.benchmark(group="what changed, 1 % of the rows")
@sized
def test_dirty(benchmark: BenchmarkFixture, size: int) -> None:
    table = filled(size)
    since = table.version
    changed = rows_of(size)[:: size // (size // 100)].copy()
    changed["mark"] ^= 1
    table.put(changed)
    assert len(run(benchmark, size, table.dirty, lambda: since)[0]) == len(changed)


@pytest.mark.benchmark(group="what changed, 1 % of the rows")
@sized
def test_dirty_baseline_dict(benchmark: BenchmarkFixture, size: int) -> None:
    """Without a list of what changed every row's version is looked at."""
    versions = {key: int(number % 100 == 0) for number, key in enumerate(key_bytes(rows_of(size)))}
    found = run(benchmark, size, lambda since: [key for key, at in versions.items() if at > since], lambda: 0)
    assert len(found) == size // 100
