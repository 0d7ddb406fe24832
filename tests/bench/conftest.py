"""`hacore bench` from outside, with labs of its own that are gone afterwards."""

from __future__ import annotations

import secrets
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Bench = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of a lab that is not made yet."""
    base = tmp_path / "labs"
    monkeypatch.setenv("HACORE_LAB_DIRECTORY", str(base))
    return base / f"ht-{secrets.token_hex(4)}"


@pytest.fixture
def bench() -> Bench:
    """`hacore bench ARGUMENTS`, run by `prefix`."""

    def run(*arguments: str, prefix: tuple[str, ...] = (), **options: str) -> subprocess.CompletedProcess[str]:
        command = [*prefix, sys.executable, "-c", "from hacore.cli import main; main()", "bench", *arguments]
        return subprocess.run(command, check=False, capture_output=True, text=True, env=options or None)

    return run
