"""What is told of files that become others, and what is not."""

from __future__ import annotations

import os
import select
from collections.abc import Iterator
from pathlib import Path

import pytest

from hacore.linux import libc
from hacore.linux.file_watch import FileWatch


@pytest.fixture
def watch() -> Iterator[FileWatch]:
    made = FileWatch()
    yield made
    made.close()
    made.close()


def told(watch: FileWatch) -> bool:
    """What happened before this call is there at once: the kernel tells in the call that does it."""
    ready, _, _ = select.select([watch.fileno()], [], [], 0)
    return bool(ready) and watch.read()


def test_written_replaced_deleted_and_made(watch: FileWatch, tmp_path: Path) -> None:
    file, new = tmp_path / "a", tmp_path / "a.new"
    file.write_text("1")
    watch.follow([file])
    assert watch.works
    assert not told(watch)
    file.write_text("2")
    assert told(watch)
    assert not told(watch)
    new.write_text("3")
    new.replace(file)
    assert told(watch)
    file.unlink()
    assert told(watch)
    file.write_text("4")
    assert told(watch)


def test_other_files_of_the_directory_are_nothing(watch: FileWatch, tmp_path: Path) -> None:
    watch.follow([tmp_path / "a"])
    (tmp_path / "b").write_text("1")
    assert not told(watch)
    (tmp_path / "a").write_text("1")
    assert told(watch)


def test_a_directory_that_is_not_there_yet(watch: FileWatch, tmp_path: Path) -> None:
    file = tmp_path / "one/two/a"
    watch.follow([file])
    assert watch.works
    file.parent.mkdir(parents=True)
    assert told(watch)
    file.write_text("1")
    assert told(watch)


def test_a_directory_that_is_replaced(watch: FileWatch, tmp_path: Path) -> None:
    directory, other = tmp_path / "tls", tmp_path / "other"
    directory.mkdir()
    other.mkdir()
    watch.follow([directory / "a"])
    directory.rename(tmp_path / "old")
    assert told(watch)
    other.rename(directory)
    assert told(watch)
    (tmp_path / "old/a").write_text("1")
    assert not told(watch)
    (directory / "a").write_text("1")
    assert told(watch)
    (directory / "a").unlink()
    directory.rmdir()
    assert told(watch)
    directory.mkdir()
    assert told(watch)
    (directory / "a").write_text("1")
    assert told(watch)


def test_where_a_symbolic_link_leads_to(watch: FileWatch, tmp_path: Path) -> None:
    (tmp_path / "archive").mkdir()
    (tmp_path / "live").mkdir()
    first, second, link = tmp_path / "archive/1", tmp_path / "archive/2", tmp_path / "live/a"
    first.write_text("1")
    link.symlink_to(first)
    watch.follow([link])
    first.write_text("2")
    assert told(watch)
    second.write_text("3")
    assert not told(watch)
    link.unlink()
    link.symlink_to(second)
    assert told(watch)
    second.write_text("4")
    assert told(watch)


def test_other_files_from_now_on(watch: FileWatch, tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    watch.follow([tmp_path / "one/a"])
    watch.follow([tmp_path / "two/a"])
    told(watch)
    (tmp_path / "one/a").write_text("1")
    assert not told(watch)
    (tmp_path / "two/a").write_text("1")
    assert told(watch)


def test_more_than_the_queue_holds_may_be_anything(watch: FileWatch, tmp_path: Path) -> None:
    with open("/proc/sys/fs/inotify/max_queued_events", encoding="ascii") as limit:
        count = int(limit.read()) + 2
    watch.follow([tmp_path / "a"])
    for number in range(count):
        os.close(os.open(tmp_path / f"b{number % 2}", os.O_WRONLY | os.O_CREAT))
    assert told(watch)


def test_without_the_kernel_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_arguments: object) -> int:
        raise OSError

    with monkeypatch.context() as patched:
        patched.setattr(libc, "inotify_add_watch", refused)
        limited = FileWatch()
        limited.follow([tmp_path / "a"])
        assert not limited.works
        patched.setattr(libc, "inotify_init", refused)
        none = FileWatch()
        none.follow([tmp_path / "a"])
        assert not none.works
        assert none.fileno() == -1
    limited.follow([tmp_path / "a"])
    assert limited.works
    limited.close()
