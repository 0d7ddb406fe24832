"""The epoch in the state directory."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from hacore.node.states_epoch import EPOCH_FILE, EpochFile


def test_what_was_written_is_read_by_the_next_worker(tmp_path: Path) -> None:
    assert EpochFile(tmp_path).read() == 0
    file = EpochFile(tmp_path)
    for epoch in (1, 2, 77):
        file.write(epoch)
    file.close()
    assert EpochFile(tmp_path).read() == 77
    assert file.problem == ""


@pytest.mark.parametrize("text", ["", "-1", "4294967295", "4294967296", "99999999999999999999", "seven", "\0\0\0"])
def test_a_damaged_file_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / EPOCH_FILE).write_text(text)
    assert EpochFile(tmp_path).read() == 0


def test_a_directory_that_is_gone_is_told_and_forgotten_when_it_is_back(tmp_path: Path) -> None:
    file = EpochFile(tmp_path / "state")
    file.write(3)
    file.close()
    assert file.problem == f"{tmp_path}/state/states-epoch: No such file or directory"
    (tmp_path / "state").mkdir()
    file.write(4)
    file.close()
    assert file.problem == ""
    assert file.read() == 4


def test_a_disk_that_takes_its_time_holds_nobody_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    awake = threading.Event()
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(fd) if awake.wait(20) else None)
    file = EpochFile(tmp_path)
    for epoch in range(1, 10):
        file.write(epoch)
    assert file.read() == 0
    awake.set()
    file.close()
    assert file.read() == 9
    assert 1 <= len(synced) <= 2
