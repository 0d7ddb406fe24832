"""The maintenance flag: set once, on the disk before anything follows from it, gone when left."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hacore.errors import PlatformError
from hacore.node import maintenance


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths that were synced, in order, each with whether the flag stood when it was."""
    seen: list[str] = []

    def fsync(handle: int) -> None:
        seen.append(os.readlink(f"/proc/self/fd/{handle}"))
        original(handle)

    original = os.fsync
    monkeypatch.setattr(os, "fsync", fsync)
    return seen


def test_entering_and_leaving(tmp_path: Path) -> None:
    state_dir = tmp_path / "var" / "hacore"
    assert not maintenance.is_entered(state_dir)
    assert maintenance.enter(state_dir)
    assert maintenance.is_entered(state_dir)
    assert not maintenance.enter(state_dir)
    assert maintenance.leave(state_dir)
    assert not maintenance.is_entered(state_dir)
    assert not maintenance.leave(state_dir)


def test_the_flag_and_its_directory_are_on_the_disk(tmp_path: Path, synced: list[str]) -> None:
    maintenance.enter(tmp_path)
    assert synced == [str(tmp_path / "maintenance"), str(tmp_path)]
    synced.clear()
    maintenance.enter(tmp_path)  # the first writer may have died between the file and the directory
    assert synced == [str(tmp_path)]
    synced.clear()
    maintenance.leave(tmp_path)
    assert synced == [str(tmp_path)]


def test_leaving_where_nothing_ever_ran(tmp_path: Path) -> None:
    assert not maintenance.leave(tmp_path / "absent")


def test_a_state_dir_that_is_a_file_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for verb in (maintenance.enter, maintenance.leave):
        with pytest.raises(PlatformError, match=r"the maintenance flag in .*/file cannot be changed: "):
            verb(tmp_path / "file")
