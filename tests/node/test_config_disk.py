"""A disk that is full, or that fails, at each moment of a push."""

from __future__ import annotations

import errno
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hacore.configsync.plan import Step
from hacore.node import config_install, config_journal
from hacore.node.config_space import DiskFull
from hacore.node.config_store import StoreError
from hacore.node.durable import write_durably
from tests.node.config_pair import Side, old_and_new_rules, push, sending

SECTION = """
[[section]]
id = "rules"
paths = ["/etc/rules.conf", "/etc/rules.d"]
apply = ["cp", "TREE/etc/rules.conf", "TREE/../applied"]
"""


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Side, Side]]:
    with old_and_new_rules(tmp_path, SECTION) as sides:
        yield sides


def full(*_arguments: Any, **_more: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("step", ["opened", "staged", "checked", "swapping"])
def test_a_full_disk_before_the_swap_refuses(
    pair: tuple[Side, Side], monkeypatch: pytest.MonkeyPatch, step: Step
) -> None:
    a, b = pair
    written: list[bytes] = []

    def write(path: Path, data: bytes, *, mode: int) -> None:
        written.append(data)
        if len(written) > ["opened", "staged", "checked", "swapping"].index(step):
            full()
        write_durably(path, data, mode=mode)

    monkeypatch.setattr(config_journal, "write_durably", write)
    outcome = push(a, b, ["rules"])
    assert outcome.result == "refused"
    assert outcome.failure is not None
    assert (outcome.failure.code, outcome.failure.message) == (
        "disk-full",
        "the disk is full: No space left on device",
    )
    assert f'"step":"{step}"'.encode() in written[-1]
    assert b.read("/etc/rules.conf") == "old\n"
    assert (b.node.busy, b.node.unfinished) == ("", False)
    assert len(b.history) == 1
    assert "refused, nothing was changed: the disk is full" in b.history[0]
    assert not list((b.directory / "state/config/packs").glob("*.new"))


@pytest.mark.parametrize("step", ["applying", "restarting", "verifying"])
def test_a_disk_that_fills_up_after_the_swap_undoes(
    pair: tuple[Side, Side], monkeypatch: pytest.MonkeyPatch, step: Step
) -> None:
    a, b = pair
    filled: list[Step] = []

    def write(path: Path, data: bytes, *, mode: int) -> None:
        if f'"step":"{step}"'.encode() in data or filled:
            filled.append(step)
            full()
        write_durably(path, data, mode=mode)

    monkeypatch.setattr(config_journal, "write_durably", write)
    outcome = push(a, b, ["rules"])
    assert (outcome.result, outcome.undo) == ("undone", [])
    assert outcome.failure is not None
    assert outcome.failure.code == "disk-full"
    assert b.read("/etc/rules.conf") == "old\n"
    assert (b.node.busy, b.node.unfinished) == ("", False)
    assert len(filled) == 4  # neither could "undoing", that the files are back, and "undone" be written
    assert [each.kind for each in b.node.parts.revisions.all()] == ["found"]


def test_what_fails_after_the_revision_is_written_is_a_note(
    pair: tuple[Side, Side], monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = pair
    monkeypatch.setattr("hacore.node.config_revisions.KEPT", 1)

    def write(path: Path, data: bytes, *, mode: int) -> None:
        if b'"step":"done"' in data:
            full()
        write_durably(path, data, mode=mode)

    def damaged() -> None:
        raise StoreError("the content abc is damaged")

    monkeypatch.setattr(config_journal, "write_durably", write)
    monkeypatch.setattr(b.node.parts.revisions, "sweep", damaged)
    outcome = push(a, b, ["rules"])
    assert (outcome.result, outcome.revision) == ("applied", 2)
    assert b.read("/etc/rules.conf") == "new\n"
    assert len(outcome.notes) == 2
    assert outcome.notes[1] == "what old revisions had could not be removed: the content abc is damaged"
    assert (b.node.busy, b.node.unfinished) == ("", False)


def test_an_error_of_the_disk_that_only_the_flushing_thread_hears_of(
    pair: tuple[Side, Side], monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = pair
    for number in range(config_install.STRIDE + 1):
        a.write(f"/etc/rules.d/{number}", str(number))
    heard = threading.Event()

    def syncfs(_handle: int) -> None:
        """As the kernel does: each error once."""
        if not heard.is_set():
            assert threading.current_thread().name == "flush"
            heard.set()
            raise OSError(errno.EIO, "syncfs: Input/output error")

    copy_out = config_install.Installer.copy_out

    def waiting(installer: config_install.Installer, digest: str, handle: int) -> None:
        copy_out(installer, digest, handle)
        heard.wait()

    monkeypatch.setattr(config_install, "syncfs", syncfs)
    monkeypatch.setattr(config_install.Installer, "copy_out", waiting)
    outcome = push(a, b, ["rules"])
    assert outcome.result == "undone"
    assert outcome.failure is not None
    assert "Input/output error" in outcome.failure.message
    assert b.read("/etc/rules.conf") == "old\n"


# A disk that is small


@pytest.fixture
def small(pair: tuple[Side, Side]) -> Iterator[Path]:
    """fw2's files, on a file system of one megabyte."""
    tree = pair[1].tree
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", tree], check=True)
    pair[1].write("/etc/rules.conf", "old\n")
    yield tree
    subprocess.run(["umount", tree], check=True)


def test_a_push_that_finds_no_room_is_refused_before_anything_is_sent(pair: tuple[Side, Side], small: Path) -> None:
    a, b = pair
    a.write("/etc/rules.d/large", bytes(2_000_000))
    with pytest.raises(DiskFull, match=rf"the disk of {small}/etc is too full: the push needs 2\.0 MB and 1\.0 MB"):
        push(a, b, ["rules"])
    assert b.node.busy == ""


def test_a_disk_that_fills_up_during_the_swap(pair: tuple[Side, Side], small: Path) -> None:
    a, b = pair
    a.write("/etc/rules.d/large", bytes(900_000))
    prepared = sending(a, b, ["rules"])
    opened = b.node.open(prepared.request())
    for piece in prepared.stream(opened.lacking):
        b.node.take(opened.transaction, piece)
    (small / "other").write_bytes(bytes(500_000))
    outcome = b.node.commit(opened.transaction, lambda _progress: None)
    assert outcome.result == "undone"
    assert outcome.failure is not None
    assert outcome.failure.code == "disk-full"
    assert outcome.failure.message == "/etc/rules.d/large cannot be written: No space left on device"
    assert sorted(str(path.relative_to(small)) for path in small.rglob("*")) == ["etc", "etc/rules.conf", "other"]


def test_contents_that_fill_the_disk(pair: tuple[Side, Side], monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = pair
    prepared = sending(a, b, ["rules"])
    opened = b.node.open(prepared.request())
    monkeypatch.setattr("hacore.node.config_store.os.pwrite", full)
    with pytest.raises(DiskFull, match=f"the disk of {b.directory}/state/config is full"):
        b.node.take(opened.transaction, next(prepared.stream(opened.lacking)))
    b.node.discard(opened.transaction)
