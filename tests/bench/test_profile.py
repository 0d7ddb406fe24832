"""tools/profile keeps what it says."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

PROFILE = Path(__file__).parents[2] / "tools/profile"
BUSY = "sum(range(5_000_000))"


def profile(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([PROFILE, *map(str, arguments)], check=False, capture_output=True, text=True)


@pytest.mark.parametrize("arguments", [(), ("where",), ("where", "run"), ("where", "walk", "true")])
def test_usage(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    done = profile(*(str(tmp_path) if word == "where" else word for word in arguments))
    assert done.returncode == 2
    assert "usage: profile DIRECTORY" in done.stderr


def test_costliest_functions_of_a_command(tmp_path: Path, tool: Callable[[str], str]) -> None:
    tool("perf")
    done = profile(tmp_path, "run", sys.executable, "-c", BUSY)
    if subprocess.run(["perf", "stat", "-e", "cpu-clock", "true"], check=False, capture_output=True).returncode:
        assert done.returncode == 77
        assert "perf may not measure here" in done.stderr
        return
    assert done.returncode == 0, done.stderr
    assert "Overhead" in (tmp_path / "report.txt").read_text()


def test_a_kernel_line_by_line(tmp_path: Path, tool: Callable[[str], str]) -> None:
    tool("valgrind")
    snippet = 'from hacore._fast.advert import AdvertKey; AdvertKey("s", 1, ["10.0.0.1"]).build(1, 0, 1)'
    done = profile(tmp_path, "kernel", snippet)
    assert done.returncode == 0, done.stderr
    assert "advert" in (tmp_path / "report.txt").read_text(errors="replace")
