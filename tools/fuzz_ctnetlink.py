"""Fuzzes the conntrack parser and builder by coverage, under AddressSanitizer and UBSan (clang's libFuzzer).

    python tools/fuzz_ctnetlink.py --runs 1000000 --corpus DIRECTORY

The corpus starts from the real messages in tests/vectors/ctnetlink.bin. Debian packages: clang, libclang-rt-14-dev.
The exit code is the fuzzer's; an input that breaks something is left in the corpus directory.
"""

from __future__ import annotations

import argparse
import hashlib
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
FAST = ROOT / "src" / "hacore" / "_fast"
SOURCES = [FAST / f"ctnetlink_{part}.c" for part in ("parse", "expect", "build", "walk")]
VECTORS = ROOT / "tests" / "vectors" / "ctnetlink.bin"


def seed(corpus: Path) -> None:
    """Each real message as an input of its own."""
    octets = VECTORS.read_bytes()
    while octets:
        (length,) = struct.unpack_from("=I", octets)
        message, octets = octets[:length], octets[(length + 3) & ~3 :]
        (corpus / hashlib.sha1(message, usedforsecurity=False).hexdigest()).write_bytes(message)


def main() -> int:
    """Builds and runs it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1_000_000)
    parser.add_argument("--corpus", type=Path, required=True)
    options = parser.parse_args()
    options.corpus.mkdir(parents=True, exist_ok=True)
    seed(options.corpus)
    with tempfile.TemporaryDirectory() as place:
        fuzzer = Path(place) / "fuzz_ctnetlink"
        flags = ["-std=gnu11", "-O1", "-g", "-fsanitize=fuzzer,address,undefined", "-fno-sanitize-recover=undefined"]
        sources = [str(source) for source in (ROOT / "tools" / "fuzz_ctnetlink.c", *SOURCES)]
        subprocess.run(["clang", *flags, "-I", str(FAST), "-o", str(fuzzer), *sources], check=True)
        bounds = [f"-runs={options.runs}", "-max_len=4096", "-seed=1", "-print_final_stats=1"]
        artifacts = f"-artifact_prefix={options.corpus}/"
        return subprocess.run([str(fuzzer), *bounds, artifacts, str(options.corpus)], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
