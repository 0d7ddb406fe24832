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
from collections.abc import Callable, Sequence

from hacore.configsync.difference import Change
from hacore.configsync.manifest import LONGEST_NAME_BYTES, TEMPORARY, Entry
from hacore.linux.libc import start_writeback, syncfs
from hacore.node.config_store import Store
from hacore.node.config_tree import DIRECTORY, Tree, TreeError, group_id, user_id

Progress = Callable[[int, int], None]
#: How many files lie between two calls of the progress function.
STRIDE = 100


def check_owners(changes: Sequence[Change]) -> None:
    """Whether this machine knows all users and groups; raises TreeError."""
    for name in {each.new.owner for each in changes if each.new is not None}:
        user_id(name)
    for name in {each.new.group for each in changes if each.new is not None}:
        group_id(name)


class Installer:
    """Applies changes below `roots`; raises TreeError, StoreError with the path that failed."""

    def __init__(self, tree: Tree, store: Store, roots: Sequence[str], progress: Progress = lambda _done, _all: None):
        self._tree, self._store, self._roots, self._progress = tree, store, tuple(roots), progress
        self._open: tuple[str, int] = ("", -1)
        self._devices: dict[int, int] = {}  # a descriptor of each file system

    def install(self, changes: Sequence[Change]) -> None:
        """Everything, flushed to the disk."""
        count = 0
        try:
            self._make_room(changes)
            for change in changes:
                self._at(change.path, lambda change=change: self._prepare(change))  # type: ignore[misc]
                count += 1
                if count % STRIDE == 0:
                    self._progress(count, len(changes))
            self._flush()
            for change in changes:
                self._at(change.path, lambda change=change: self._place(change))  # type: ignore[misc]
            for change in reversed(changes):
                if change.new is None:
                    self._at(change.path, lambda change=change: self._remove(change))  # type: ignore[misc]
            self._flush()
        finally:
            self._close()
            for handle in self._devices.values():
                os.close(handle)
            self._devices.clear()
        self._progress(len(changes), len(changes))

    def clean(self) -> None:
        """Remove what an installation that did not end has left beside its targets."""
        for root in self._roots:
            above = self._tree.real(posixpath.dirname(root)) or "/"
            _clean_names(above, [name for name in _names(above) if name.startswith(TEMPORARY)])
            for directory, folders, files in os.walk(self._tree.real(root)):
                left = [name for name in (*files, *folders) if name.startswith(TEMPORARY)]
                _clean_names(directory, left)

    def _at(self, path: str, action: Callable[[], None]) -> None:
        try:
            action()
        except OSError as error:
            raise TreeError(f"{path} cannot be written: {error.strerror}") from None

    # The directory that things happen in

    def _parent(self, path: str) -> int:
        directory = posixpath.dirname(path)
        if self._open[0] != directory or self._open[1] < 0:
            self._close()
            self._open = (directory, self._tree.open_parent(path, self._roots))
            device = os.fstat(self._open[1]).st_dev
            if device not in self._devices:
                self._devices[device] = os.dup(self._open[1])
        return self._open[1]

    def _close(self) -> None:
        if self._open[1] >= 0:
            os.close(self._open[1])
        self._open = ("", -1)

    def _flush(self) -> None:
        for handle in self._devices.values():
            syncfs(handle)

    # Before anything is replaced

    def _make_room(self, changes: Sequence[Change]) -> None:
        """The directories above the sections' paths, which no manifest knows."""
        for root in self._roots:
            if any(change.path == root and change.new is not None for change in changes):
                os.makedirs(self._tree.real(posixpath.dirname(root)) or "/", mode=0o755, exist_ok=True)

    def _prepare(self, change: Change) -> None:
        new = change.new
        if new is None:
            return
        name = posixpath.basename(change.path)
        parent = self._parent(change.path)
        if new.kind == "folder":
            self._prepare_folder(name, parent, new)
        elif new.kind == "file":
            if change.old is not None and change.old.kind == "file" and change.old.digest == new.digest:
                return  # only the rights differ
            self._write(_temporary(name), parent, new)
        elif new.kind == "link":
            temporary = _temporary(name)
            _remove_any(temporary, parent)
            os.symlink(new.target, temporary, dir_fd=parent)
            os.chown(temporary, user_id(new.owner), group_id(new.group), dir_fd=parent, follow_symlinks=False)

    def _prepare_folder(self, name: str, parent: int, new: Entry) -> None:
        present = _status(name, parent)
        if present is not None and not stat.S_ISDIR(present.st_mode):
            os.unlink(name, dir_fd=parent)  # what it held is in the store, and a folder cannot replace a file otherwise
            present = None
        if present is None:
            os.mkdir(name, 0o700, dir_fd=parent)
        handle = os.open(name, DIRECTORY, dir_fd=parent)
        try:
            os.fchown(handle, user_id(new.owner), group_id(new.group))
            os.fchmod(handle, new.mode)
        finally:
            os.close(handle)

    def _write(self, temporary: str, parent: int, new: Entry) -> None:
        _remove_any(temporary, parent)
        handle = os.open(
            temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=parent
        )
        try:
            self._store.copy_out(new.digest, handle)
            os.fchown(handle, user_id(new.owner), group_id(new.group))
            os.fchmod(handle, new.mode)
            if new.size:
                start_writeback(handle)
        finally:
            os.close(handle)

    # The change itself

    def _place(self, change: Change) -> None:
        new = change.new
        if new is None or new.kind == "folder":
            return
        name = posixpath.basename(change.path)
        parent = self._parent(change.path)
        temporary = _temporary(name)
        if _status(temporary, parent) is not None:
            present = _status(name, parent)
            if present is not None and stat.S_ISDIR(present.st_mode):
                self._close()
                parent = self._parent(change.path)
                _remove_tree(name, parent)
            os.rename(temporary, name, src_dir_fd=parent, dst_dir_fd=parent)
            return
        handle = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=parent)
        try:
            os.fchown(handle, user_id(new.owner), group_id(new.group))
            os.fchmod(handle, new.mode)
        finally:
            os.close(handle)

    def _remove(self, change: Change) -> None:
        name = posixpath.basename(change.path)
        try:
            parent = self._parent(change.path)
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
