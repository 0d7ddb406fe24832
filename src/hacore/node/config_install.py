"""Brings the files of sections from what they are to what a manifest says, so that each file is old or new.

New contents are written beside their targets and flushed, then renamed; folders are made before and removed after. Run
again after a crash at any point, with the same or another manifest, it ends in that manifest.
"""

from __future__ import annotations

import hashlib
import os
import posixpath
import shutil
import stat
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from hacore.configsync.attributes import BadAttribute, to_value
from hacore.configsync.difference import Change
from hacore.configsync.manifest import LONGEST_NAME_BYTES, TEMPORARY, Entry, folders_above
from hacore.linux.libc import syncfs
from hacore.node.config_attributes import set_rights
from hacore.node.config_names import group_id, user_id
from hacore.node.config_space import DiskFull, is_full
from hacore.node.config_store import Store
from hacore.node.config_tree import DIRECTORY, Tree, TreeError

Progress = Callable[[int, int], None]
STRIDE = 100  # files that one thread writes, between two calls of the progress function
WRITERS = 2
FLUSH_INTERVAL = 0.1


def check_owners(changes: Sequence[Change]) -> None:
    """Whether this machine knows all users and groups; raises UnknownName."""
    for name in {each.new.owner for each in changes if each.new is not None}:
        user_id(name)
    for name in {each.new.group for each in changes if each.new is not None}:
        group_id(name)
    for attributes in {each.new.attributes for each in changes if each.new is not None}:
        for attribute, text in attributes:
            to_value(attribute, text, user_id, group_id)


class Installer:
    """Applies changes below `roots`; raises TreeError, DiskFull, StoreError, UnknownName with the path that failed,
    OSError where a flush failed.

    Nothing goes that is not in the changes: a folder that holds something else cannot be removed.
    """

    def __init__(self, tree: Tree, store: Store, roots: Sequence[str], progress: Progress = lambda _done, _all: None):
        self._tree, self._store, self._roots, self._progress = tree, store, tuple(roots), progress
        self._mutex = threading.Lock()
        self._devices: dict[int, int] = {}  # a descriptor of each file system
        self._owners: dict[tuple[str, str], tuple[int, int]] = {}

    def install(self, changes: Sequence[Change]) -> None:
        """Everything, flushed to the disk."""
        files = [change for change in changes if change.new is not None and change.new.kind == "file"]
        gone = [change for change in reversed(changes) if change.new is None]
        replaced = {each.path for each in changes if each.new and each.old and each.new.kind != each.old.kind}
        in_the_way = [change for change in gone if not replaced.isdisjoint(folders_above(change.path))]
        try:
            self._make_room(changes)
            self._each([change for change in changes if change.new is not None and change.new.kind != "file"], _prepare)
            self._prepare_files(files)
            self._flush()
            self._each(in_the_way, _remove)
            self._each([change for change in changes if change.new is not None], _place)
            self._each(gone, _remove)
            self._flush()
        finally:
            for handle in self._devices.values():
                os.close(handle)
            self._devices.clear()
        self._progress(len(changes), len(changes))

    def flush(self) -> None:
        """What lies below the roots is on the disk when this returns, whoever changed it. Raises OSError."""
        for place in {each for root in self._roots for each in (posixpath.dirname(root), root)}:
            try:
                handle = os.open(self._tree.real(place) or "/", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            except (FileNotFoundError, NotADirectoryError):
                continue
            try:
                syncfs(handle)
            finally:
                os.close(handle)

    def clean(self) -> None:
        """Remove what an installation that did not end has left beside its targets."""
        for root in self._roots:
            above = self._tree.real(posixpath.dirname(root)) or "/"
            _clean_names(above, [name for name in _names(above) if name.startswith(TEMPORARY)])
            for directory, folders, files in os.walk(self._tree.real(root)):
                left = [name for name in (*files, *folders) if name.startswith(TEMPORARY)]
                _clean_names(directory, left)

    def _each(self, changes: Sequence[Change], action: Callable[[_Place, Change], None]) -> None:
        """One after the other."""
        place = _Place(self)
        try:
            for change in changes:
                try:
                    action(place, change)
                except OSError as error:
                    kind = DiskFull if is_full(error) else TreeError
                    raise kind(f"{change.path} cannot be written: {error.strerror}") from None
                except BadAttribute as error:
                    raise TreeError(f"{change.path} cannot be written: {error}") from None
        finally:
            place.close()

    def _prepare_files(self, files: Sequence[Change]) -> None:
        """In several threads, each with a run of neighbours."""
        with self._flushing(len(files) > STRIDE), ThreadPoolExecutor(WRITERS, "install") as threads:
            pieces = [files[start : start + STRIDE] for start in range(0, len(files), STRIDE)]
            futures = [threads.submit(self._each, piece, _prepare) for piece in pieces]
            try:
                for number, future in enumerate(futures, 1):
                    future.result()
                    self._progress(min(number * STRIDE, len(files)), len(files))
            except BaseException:
                threads.shutdown(cancel_futures=True)
                raise

    def _flush(self) -> None:
        with self._mutex:
            handles = list(self._devices.values())
        for handle in handles:
            syncfs(handle)

    @contextmanager
    def _flushing(self, many: bool) -> Iterator[None]:
        """What is written goes to the disk while the rest is written, so that little is left at the end.

        Raises OSError: the kernel tells of an error of the disk once, to whoever flushes first.
        """
        ended = threading.Event()
        failed: list[OSError] = []

        def flush() -> None:
            while not failed and not ended.wait(FLUSH_INTERVAL):
                try:
                    self._flush()
                except OSError as error:
                    failed.append(error)

        thread = threading.Thread(target=flush, name="flush")
        if many:
            thread.start()
        try:
            yield
        finally:
            ended.set()
            if many:
                thread.join()
        if failed:
            raise failed[0]

    def _make_room(self, changes: Sequence[Change]) -> None:
        """The directories above the sections' paths, which no manifest knows."""
        for root in self._roots:
            if any(change.path == root and change.new is not None for change in changes):
                os.makedirs(self._tree.real(posixpath.dirname(root)) or "/", mode=0o755, exist_ok=True)

    # For the actions

    def open_directory(self, path: str) -> int:
        """A descriptor of the directory that holds `path`; its file system is flushed later."""
        handle = self._tree.open_parent(path, self._roots)
        device = os.fstat(handle).st_dev
        with self._mutex:
            if device not in self._devices:
                self._devices[device] = os.dup(handle)
        return handle

    def ids(self, entry: Entry) -> tuple[int, int]:
        """The owner and the group of an entry on this machine; raises UnknownName."""
        names = (entry.owner, entry.group)
        if names not in self._owners:
            self._owners[names] = (user_id(entry.owner), group_id(entry.group))
        return self._owners[names]

    def copy_out(self, digest: str, handle: int) -> None:
        """A content into an open file."""
        self._store.copy_out(digest, handle)


class _Place:
    """The directory that things happen in, open as long as they happen there."""

    def __init__(self, installer: Installer) -> None:
        self.installer = installer
        self._directory, self._handle = "", -1

    def parent(self, path: str) -> int:
        directory = posixpath.dirname(path)
        if self._directory != directory or self._handle < 0:
            self.close()
            self._handle = self.installer.open_directory(path)
            self._directory = directory
        return self._handle

    def close(self) -> None:
        if self._handle >= 0:
            os.close(self._handle)
        self._handle = -1


# Before anything is replaced


def _prepare(place: _Place, change: Change) -> None:
    new = change.new
    assert new is not None
    name = posixpath.basename(change.path)
    parent = place.parent(change.path)
    if new.kind == "folder":
        _prepare_folder(place, name, parent, new)
    elif new.kind == "file":
        if change.old is None or change.old.kind != "file" or change.old.digest != new.digest:
            _write(place, _temporary(name), parent, new)  # else only the rights differ
    elif new.kind == "link":
        temporary = _temporary(name)
        _remove_any(temporary, parent)
        os.symlink(new.target, temporary, dir_fd=parent)
        os.chown(temporary, *place.installer.ids(new), dir_fd=parent, follow_symlinks=False)


def _prepare_folder(place: _Place, name: str, parent: int, new: Entry) -> None:
    present = _status(name, parent)
    if present is not None and not stat.S_ISDIR(present.st_mode):
        os.unlink(name, dir_fd=parent)  # what it held is in the store, and a folder cannot replace a file otherwise
        present = None
    if present is None:
        os.mkdir(name, 0o700, dir_fd=parent)
    handle = os.open(name, DIRECTORY, dir_fd=parent)
    try:
        set_rights(handle, place.installer.ids(new), new.mode, new.attributes)
    finally:
        os.close(handle)


def _write(place: _Place, temporary: str, parent: int, new: Entry) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        handle = os.open(temporary, flags, 0o600, dir_fd=parent)
    except FileExistsError:
        _remove_any(temporary, parent)
        handle = os.open(temporary, flags, 0o600, dir_fd=parent)
    try:
        place.installer.copy_out(new.digest, handle)
        set_rights(handle, place.installer.ids(new), new.mode, new.attributes)
    finally:
        os.close(handle)


# The change itself


def _place(place: _Place, change: Change) -> None:
    new = change.new
    if new is None or new.kind == "folder":
        return
    name = posixpath.basename(change.path)
    parent = place.parent(change.path)
    old = change.old
    if new.kind == "file" and old is not None and old.kind == "file" and old.digest == new.digest:
        handle = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=parent)
        try:
            set_rights(handle, place.installer.ids(new), new.mode, new.attributes)
        finally:
            os.close(handle)
        return
    if old is not None and old.kind == "folder" and _status(name, parent) is not None:
        os.rmdir(name, dir_fd=parent)
    os.rename(_temporary(name), name, src_dir_fd=parent, dst_dir_fd=parent)


def _remove(place: _Place, change: Change) -> None:
    name = posixpath.basename(change.path)
    try:
        parent = place.parent(change.path)
    except (FileNotFoundError, NotADirectoryError):
        return  # with the folder that held it
    present = _status(name, parent)
    if present is None:
        return
    if stat.S_ISDIR(present.st_mode):
        os.rmdir(name, dir_fd=parent)
    else:
        os.unlink(name, dir_fd=parent)


def _temporary(name: str) -> str:
    whole = f"{TEMPORARY}{name}"
    if len(os.fsencode(whole)) <= LONGEST_NAME_BYTES:
        return whole
    return TEMPORARY + hashlib.sha256(os.fsencode(name)).hexdigest()


def _status(name: str, parent: int) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _remove_any(name: str, parent: int) -> None:
    status = _status(name, parent)
    if status is None:
        return
    if stat.S_ISDIR(status.st_mode):
        _remove_tree(name, parent)
    else:
        os.unlink(name, dir_fd=parent)


def _remove_tree(name: str, parent: int) -> None:
    shutil.rmtree(name, dir_fd=parent)


def _names(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except OSError:
        return []


def _clean_names(directory: str, names: Sequence[str]) -> None:
    for name in names:
        path = os.path.join(directory, name)
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path, ignore_errors=True)
        else:
            os.unlink(path)
