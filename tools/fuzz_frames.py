"""Fuzzes the frames of replication by coverage of their Python code (atheris, libFuzzer's engine): any body of any
kind is a value or a WireError, and no session raises anything.

    python tools/fuzz_frames.py -runs=1000000 [LIBFUZZER OPTION...]

Starts from tests/corpus/frames; with KEEP=1 what has found new code is added to it. An input is the kind, a byte that
tells whether it goes through the sessions too (1 in 32) and whether its numbers and checksums are made right (1 in 2),
and the body.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

import atheris  # type: ignore[import-not-found,import-untyped,unused-ignore]  # noqa: E402

with atheris.instrument_imports(include=["hacore.states"]):
    from hacore.states.frames import Kind
    from tests.states.test_frames import VALID, Target, read_any, rechecked

KEPT = ROOT / "tests" / "corpus" / "frames"
KINDS = list(Kind)
target = Target()


def one_input(data: bytes) -> None:
    """The property, for one input."""
    if len(data) < 2:
        return
    kind, content, fits = KINDS[data[0] % len(KINDS)], data[2:], data[1] & 128 != 0
    read_any(kind, rechecked(kind, content) if fits else content)
    if data[1] % 32 == 0:
        target.feed(kind, content, fits=fits)


def main() -> None:
    """Runs it; the exit code is the fuzzer's."""
    with tempfile.TemporaryDirectory() as place:
        KEPT.mkdir(parents=True, exist_ok=True)
        found, begin = Path(place) / "found", Path(place) / "valid"
        found.mkdir()
        begin.mkdir()
        if os.environ.get("KEEP") == "1":
            found = KEPT
        for number, content in enumerate(VALID):
            for kind in range(len(KINDS)):
                for flags in (0, 128):
                    (begin / f"{number}-{kind}-{flags}").write_bytes(bytes((kind, flags)) + content)
        places = dict.fromkeys(map(str, (found, KEPT, begin)))
        arguments = [sys.argv[0], "-max_len=600", "-print_final_stats=1", *sys.argv[1:], *places]
        atheris.Setup(arguments, one_input)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
