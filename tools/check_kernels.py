"""Translates and compiles every kernel, and what fuzzes them, with warnings as errors: Cython's, its performance hints,
and the C compiler's.

Nothing is kept; the package itself is built by setup.py. Python's own headers count as system headers, so that only our
C and what Cython generates from our sources is judged. Exits with 1 when anything is said.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
FAST = ROOT / "src" / "hacore" / "_fast"
FUZZERS = (ROOT / "tests" / "fuzz", ROOT / "tools")
# With optimization, because the compiler sees uninitialized and overrun memory only then.
STRICT = ["-std=gnu11", "-O2", "-fPIC", "-Wall", "-Wextra", "-Wsign-compare", "-Wconversion", "-Werror"]


def complaints(command: list[str]) -> str:
    """What the command says, on either stream, when it fails or gives a performance hint; empty when all is well."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    return done.stdout if done.returncode != 0 or "performance hint" in done.stdout else ""


def check(fast: Path, generated: Path) -> Iterator[str]:
    """The complaints about each `.pyx` and `.c` file of the folder `fast`, and about the fuzzers of its kernels; the
    generated C goes to `generated`.
    """
    compiler = os.environ.get("CC", "gcc")
    include = ["-I", str(fast), "-isystem", sysconfig.get_path("include")]
    sources = [source for folder in (fast, *FUZZERS) for source in sorted(folder.glob("*.c"))]
    for kernel in sorted(fast.glob("*.pyx")):
        target = generated / f"{kernel.stem}.c"
        yield complaints([sys.executable, "-m", "cython", "-3", "-Werror", str(kernel), "-o", str(target)])
        if target.exists():
            sources.append(target)
    for source in sources:
        yield complaints([compiler, *STRICT, *include, "-c", str(source), "-o", os.devnull])


def main() -> int:
    """Checks the package's kernels; the exit code."""
    with tempfile.TemporaryDirectory() as generated:
        found = [text for text in check(FAST, Path(generated)) if text]
    print("\n".join(found), end="")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
