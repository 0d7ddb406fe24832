"""Long campaigns against the codec and the table: the coverage-guided fuzzer, spoiled streams, the mirror for many more
steps."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import settings

from bench.realistic import realistic_table
from hacore._fast.codec import sort_rows
from hacore.errors import WireError
from hacore.states import apply_delta, decode_snapshot, encode_delta, encode_snapshot
from tests._fast.test_codec import seeds, spoiled, survives
from tests._fast.test_table import TableMirror

pytestmark = pytest.mark.soak

ROOT = Path(__file__).parent.parent.parent


def test_a_million_inputs_of_the_coverage_guided_fuzzer(tmp_path: Path) -> None:
    subprocess.run([str(ROOT / "tools" / "fuzz-kernels"), "codec", "2000000"], check=True, cwd=tmp_path)


@pytest.mark.parametrize("seed", range(10))
def test_spoiled_chunks(seed: int) -> None:
    source = random.Random(seed)
    good = seeds()
    for _ in range(100_000):
        survives(spoiled(source, source.choice(good)))


@pytest.mark.parametrize("seed", range(4))
def test_spoiled_snapshots_and_deltas(seed: int) -> None:
    source = random.Random(seed)
    old, new = realistic_table(300, seed), realistic_table(320, seed)
    snapshot, delta = encode_snapshot(new), encode_delta(old, new)
    for _ in range(20_000):
        for data, decode in ((snapshot, decode_snapshot), (delta, lambda data: apply_delta(old, data))):
            edited = bytearray(data)
            edited[source.randrange(len(edited))] ^= 1 << source.randrange(8)
            with pytest.raises(WireError):
                decode(bytes(edited))
    assert apply_delta(old, delta).tobytes() == decode_snapshot(snapshot).tobytes() == sort_rows(new).tobytes()


class LongMirror(TableMirror):
    """The same steps, many more of them."""


TestLongMirror = LongMirror.TestCase
TestLongMirror.settings = settings(max_examples=1000, stateful_step_count=100, deadline=None)


def test_the_sanitizers_find_nothing_in_snapshots_and_deltas() -> None:
    command = [str(ROOT / "tools" / "sanitized-tests"), "tests/states/test_snapshot.py", "tests/states/test_delta.py"]
    subprocess.run(command, check=True, env={**os.environ, "PYTHON": sys.executable})
