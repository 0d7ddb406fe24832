"""Fuzzes the conntrack parser and builder by coverage, under AddressSanitizer and UBSan (clang's libFuzzer).

    python tools/fuzz_ctnetlink.py --runs 1000000 --corpus DIRECTORY

The corpus starts from the real messages in tests/vectors/ctnetlink.bin. Debian packages: clang, libclang-rt-dev.
The exit code is the fuzzer's; an input that breaks something is left in the corpus directory.
"""

from __future__ import annotations

import argparse
import hashlib
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
FAST = ROOT / "src" / "hacore" / "_fast"
SOURCES = [FAST / f"ctnetlink_{part}.c" for part in ("parse", "expect", "build", "walk")]
VECTORS = ROOT / "tests" / "vectors" / "ctnetlink.bin"
KEPT = ROOT / "tests" / "vectors" / "ctnetlink-corpus.bin"


def real_messages() -> Iterator[bytes]:
    """Each as an input of its own."""
    octets = VECTORS.read_bytes()
    while octets:
        (length,) = struct.unpack_from("=I", octets)
        yield octets[:length]
        octets = octets[(length + 3) & ~3 :]


def kept_inputs() -> Iterator[bytes]:
    """What earlier campaigns found: inputs of 16 bits of length each, little endian, and their bytes."""
    octets = KEPT.read_bytes() if KEPT.exists() else b""
    while octets:
        (length,) = struct.unpack_from("<H", octets)
        yield octets[2 : 2 + length]
        octets = octets[2 + length :]


def keep(fuzzer: Path, corpus: Path, place: Path) -> None:
    """The smallest part of the corpus that covers what all of it covers, into the file in tests/vectors."""
    least = place / "least"
    least.mkdir()
    subprocess.run([str(fuzzer), "-merge=1", "-max_len=1024", str(least), str(corpus)], check=True, capture_output=True)
    inputs = sorted(path.read_bytes() for path in least.iterdir())
    KEPT.write_bytes(b"".join(struct.pack("<H", len(octets)) + octets for octets in inputs))
    print(f"{len(inputs)} inputs in {KEPT}")


def main() -> int:
    """Builds and runs it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1_000_000)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--keep", action="store_true", help=f"write what is worth keeping to {KEPT.name}")
    options = parser.parse_args()
    options.corpus.mkdir(parents=True, exist_ok=True)
    for octets in (*real_messages(), *kept_inputs()):
        (options.corpus / hashlib.sha1(octets, usedforsecurity=False).hexdigest()).write_bytes(octets)
    with tempfile.TemporaryDirectory() as place:
        fuzzer = Path(place) / "fuzz_ctnetlink"
        flags = ["-std=gnu11", "-O1", "-g", "-fsanitize=fuzzer,address,undefined", "-fno-sanitize-recover=undefined"]
        sources = [str(source) for source in (ROOT / "tools" / "fuzz_ctnetlink.c", *SOURCES)]
        subprocess.run(["clang", *flags, "-I", str(FAST), "-o", str(fuzzer), *sources], check=True)
        bounds = [f"-runs={options.runs}", "-max_len=4096", "-seed=1", "-print_final_stats=1"]
        artifacts = f"-artifact_prefix={options.corpus}/"
        code = subprocess.run([str(fuzzer), *bounds, artifacts, str(options.corpus)], check=False).returncode
        if options.keep and code == 0:
            keep(fuzzer, options.corpus, Path(place))
        return code


if __name__ == "__main__":
    sys.exit(main())
