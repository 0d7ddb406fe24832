"""Snapshots against general compressors and serializers over the same rows: zstd 1 and 3, lz4, msgpack, struct.

One group is one direction at one size. `rows_per_second` and `bytes_per_row` stand in the saved results. msgpack and
struct handle rows one by one, so they get at most 10,000; their rates are those of such a part.
"""

from __future__ import annotations

import functools
import io
import struct
from collections.abc import Callable
from typing import Any

import lz4.frame  # type: ignore[import-untyped]
import msgpack  # type: ignore[import-untyped]
import numpy as np
import pytest
import zstandard
from pytest_benchmark.fixture import BenchmarkFixture

from bench.realistic import realistic_table
from hacore._fast.codec import encode_changes
from hacore.states import decode_snapshot, encode_snapshot, key_order
from hacore.states.layout import KEY_DTYPE, ROW_BYTES, Rows, empty_rows

SIZES = [1_000, 100_000, 1_000_000]
ONE_BY_ONE = 10_000
ROUNDS = 3
ROW = struct.Struct("<BBH16s16sHH16s16sHHHBBIIIBBBBII16sIiiIiiIIIHH16s16s16s")

Coder = tuple[Callable[[Rows], bytes], Callable[[bytes], Any], int]


@functools.lru_cache(maxsize=1)
def rows_of(size: int) -> Rows:
    return realistic_table(size, 1)


def zstd(level: int) -> Coder:
    compressor, decompressor = zstandard.ZstdCompressor(level=level), zstandard.ZstdDecompressor()
    return lambda rows: compressor.compress(rows.data.cast("B")), decompressor.decompress, SIZES[-1]


CODERS: dict[str, Coder] = {
    "hacore": (encode_snapshot, decode_snapshot, SIZES[-1]),
    "zstd-1": zstd(1),
    "zstd-3": zstd(3),
    "lz4": (lambda rows: lz4.frame.compress(rows.tobytes()), lz4.frame.decompress, SIZES[-1]),
    "msgpack": (
        lambda rows: b"".join(msgpack.packb(ROW.unpack(row.tobytes())) for row in rows),
        lambda data: list(msgpack.Unpacker(io.BytesIO(data))),
        ONE_BY_ONE,
    ),
    "struct": (
        lambda rows: b"".join(ROW.pack(*ROW.unpack(row.tobytes())) for row in rows),
        lambda data: list(ROW.iter_unpack(data)),
        ONE_BY_ONE,
    ),
}

each = pytest.mark.parametrize("name", CODERS)
sized = pytest.mark.parametrize("size", SIZES)


def note(benchmark: BenchmarkFixture, count: int, data: bytes) -> None:
    benchmark.extra_info["bytes_per_row"] = len(data) / count
    if benchmark.stats is not None:
        benchmark.extra_info["rows_per_second"] = count / benchmark.stats.stats.min


@pytest.mark.benchmark(group="encode")
@sized
@each
def test_encode(benchmark: BenchmarkFixture, name: str, size: int) -> None:
    encode, _, most = CODERS[name]
    rows = rows_of(size)[:most]
    data = benchmark.pedantic(encode, (rows,), rounds=ROUNDS, warmup_rounds=1)  # type: ignore[no-untyped-call]
    note(benchmark, len(rows), data)


@pytest.mark.benchmark(group="decode")
@sized
@each
def test_decode(benchmark: BenchmarkFixture, name: str, size: int) -> None:
    encode, decode, most = CODERS[name]
    rows = rows_of(size)[:most]
    data = encode(rows)
    back = benchmark.pedantic(decode, (data,), rounds=ROUNDS, warmup_rounds=1)  # type: ignore[no-untyped-call]
    note(benchmark, len(rows), data)
    if isinstance(back, bytes):
        assert back == rows.tobytes()
    elif isinstance(back, np.ndarray):
        assert back.tobytes() == rows[key_order(rows)].tobytes()
    else:
        assert len(back) == len(rows)


@pytest.mark.benchmark(group="a batch of 1,000 TCP state changes, named by number")
def test_encode_changes(benchmark: BenchmarkFixture) -> None:
    rows = rows_of(100_000)
    before = rows[(rows["protocol"] == 6) & (rows["protocol_state"] == 3)][:1000]
    after = before.copy()
    after["protocol_state"], after["timeout"] = 7, 120
    names = np.random.default_rng(1).integers(0, 1 << 48, 1000).astype(np.uint64)
    none, no_keys = empty_rows(0), np.empty(0, KEY_DTYPE)
    data = benchmark(encode_changes, none, before, after, no_keys, updated_names=names)
    note(benchmark, 1000, data)
    assert ROW.size == ROW_BYTES
