"""The files of sections on this machine: read into manifests, opened without following a link.

What stands above a section's path is the administrator's word and may be a link; from there on down every directory is
opened by descriptor and no link is followed, so that the owner of a directory in a section cannot lead hacore out of
it.
"""

from __future__ import annotations

import os
import posixpath
import stat
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from threading import BoundedSemaphore

import msgspec

from hacore.configsync.attributes import BadAttribute
from hacore.configsync.manifest import TEMPORARY, BadManifest, Entry, Manifest, check_path, is_utf8, within
from hacore.errors import HacoreError
from hacore.node.config_attributes import attributes_of
from hacore.node.config_digests import Content, Digests
from hacore.node.config_names import group_name, user_name

READERS = 2  # threads that read files: a digest is a matter of one core
TOGETHER = 50  # files that are handed to a thread at once
MOST_WAITING = 8  # such batches: each holds a directory open
UNREAD: Content = ("", ())
DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class TreeError(HacoreError):
    """Files of a section that cannot be read or carried; the message names the path."""

    exit_code = 74


class Tree:
    """A root directory under which the paths of sections lie; `/` on a real node."""

    def __init__(self, digests: Digests, root: str | os.PathLike[str] = "/") -> None:
        self.root = os.fspath(root).rstrip("/")
        self._digests = digests

    def real(self, path: str) -> str:
        """Where the path of a section is on this machine."""
        return f"{self.root}{path}"

    def scan(self, section: str, paths: Sequence[str]) -> Manifest:
        """What is there now. Raises TreeError, ChangedMeanwhile."""
        scanner = _Scanner(self._digests)
        try:
            for path in paths:
                if not any(other != path and within(path, [other]) for other in paths):
                    self._take(scanner, path)
            entries = scanner.finish()
        finally:
            scanner.close()
        self._digests.save()
        return Manifest.of(section, entries)

    def _take(self, scanner: _Scanner, path: str) -> None:
        try:
            parent = os.open(self.real(posixpath.dirname(path)), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            return
        except OSError as error:
            raise TreeError(f"{posixpath.dirname(path)} cannot be read: {error.strerror}") from None
        try:
            scanner.take(path, posixpath.basename(path), parent)
        finally:
            os.close(parent)

    def open_parent(self, path: str, roots: Sequence[str]) -> int:
        """A descriptor of the directory that holds `path`, which lies in one of `roots`; raises OSError."""
        above = min((posixpath.dirname(root) for root in roots if within(path, [root])), key=len)
        handle = os.open(self.real(above) or "/", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for name in posixpath.relpath(posixpath.dirname(path), above).split("/"):
                if name != ".":
                    inner = os.open(name, DIRECTORY, dir_fd=handle)
                    os.close(handle)
                    handle = inner
        except OSError:
            os.close(handle)
            raise
        return handle

    def open_file(self, path: str, roots: Sequence[str]) -> int:
        """A descriptor to read a regular file in one of `roots`; raises OSError, TreeError."""
        folder = Folder(self)
        try:
            return folder.open_file(path, roots)
        finally:
            folder.close()


class Folder:
    """The directory that was used last, open, for many files one after the other. Of one thread."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._directory, self._handle = "", -1

    def parent(self, path: str, roots: Sequence[str]) -> int:
        """A descriptor of the directory that holds `path`, valid until the next call; raises OSError."""
        directory = posixpath.dirname(path)
        if self._directory != directory or self._handle < 0:
            self.close()
            self._handle = self._tree.open_parent(path, roots)
            self._directory = directory
        return self._handle

    def open_file(self, path: str, roots: Sequence[str]) -> int:
        """As `Tree.open_file`."""
        parent = self.parent(path, roots)
        handle = os.open(
            posixpath.basename(path), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=parent
        )
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            os.close(handle)
            raise TreeError(f"{path} is no regular file any more")
        return handle

    def close(self) -> None:
        """Let go of it."""
        if self._handle >= 0:
            os.close(self._handle)
        self._handle = -1


class _Batch:
    """Files of one directory that are read in one go, in a thread of their own."""

    def __init__(self, directory: int) -> None:
        self._directory = os.dup(directory)
        self.files: list[tuple[int, str, str, os.stat_result]] = []  # place among the entries, path, name, status

    def read(self, digests: Digests) -> list[tuple[int, Content]]:
        found = []
        try:
            for place, path, name, status in self.files:
                try:
                    found.append((place, digests.read(status, name, self._directory)))
                except OSError as error:
                    raise TreeError(f"{path} cannot be read: {error.strerror}") from None
                except BadAttribute as error:
                    raise TreeError(f"{path}: {error}: a push cannot carry it") from None
        finally:
            os.close(self._directory)
        return found


class _Scanner:
    """Walks depth first; directories that vanish meanwhile are an error, as the picture would be of no moment."""

    def __init__(self, digests: Digests) -> None:
        self._digests = digests
        self._entries: list[Entry] = []
        self._users: dict[int, str] = {}
        self._groups: dict[int, str] = {}
        self._readers: ThreadPoolExecutor | None = None
        self._batch: _Batch | None = None
        self._batches: list[Future[list[tuple[int, Content]]]] = []
        self._free = BoundedSemaphore(MOST_WAITING)

    def finish(self) -> list[Entry]:
        """All entries, when every file is read."""
        self._hand_over()
        for future in self._batches:
            for place, (digest, attributes) in future.result():
                self._entries[place] = msgspec.structs.replace(
                    self._entries[place], digest=digest, attributes=attributes
                )
        return self._entries

    def close(self) -> None:
        """Nothing is read any more."""
        self._hand_over()
        if self._readers is not None:
            self._readers.shutdown(wait=True)

    def _read(self, path: str, name: str, directory: int, status: os.stat_result) -> None:
        """Later, beside the walk: the entry that comes next gets the result."""
        if self._batch is None:
            self._batch = _Batch(directory)
        self._batch.files.append((len(self._entries), path, name, status))
        if len(self._batch.files) == TOGETHER:
            self._hand_over()

    def _hand_over(self) -> None:
        batch, self._batch = self._batch, None
        if batch is None:
            return
        if self._readers is None:
            self._readers = ThreadPoolExecutor(READERS, "digests")
        self._free.acquire()
        future = self._readers.submit(batch.read, self._digests)
        future.add_done_callback(lambda _future: self._free.release())
        self._batches.append(future)

    def _names(self, status: os.stat_result) -> tuple[str, str]:
        user, group = status.st_uid, status.st_gid
        if user not in self._users:
            self._users[user] = user_name(user)
        if group not in self._groups:
            self._groups[group] = group_name(group)
        return self._users[user], self._groups[group]

    def take(self, path: str, name: str, parent: int) -> None:
        try:
            status = os.stat(name, dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            return
        self._take(path, name, parent, status)
        self._hand_over()

    def _take(self, path: str, name: str, parent: int, status: os.stat_result) -> None:
        if name.startswith(TEMPORARY):
            return
        kind = stat.S_IFMT(status.st_mode)
        mode = stat.S_IMODE(status.st_mode)
        owner, group = self._names(status)
        try:
            if kind == stat.S_IFREG:
                content = self._digests.known(status)
                if content is None:
                    self._read(path, name, parent, status)
                    content = UNREAD
                self._entries.append(
                    Entry(path, "file", mode, owner, group, status.st_size, content[0], attributes=content[1])
                )
            elif kind == stat.S_IFDIR:
                self._folder(path, name, parent, Entry(path, "folder", mode, owner, group))
            elif kind == stat.S_IFLNK:
                target = os.readlink(name, dir_fd=parent)
                if not is_utf8(target):
                    raise TreeError(f"the target of the link {path} is not UTF-8: a push cannot carry it")
                self._entries.append(Entry(path, "link", 0, owner, group, target=target))
            else:
                raise TreeError(f"{path} is neither a file nor a folder nor a link: a push cannot carry it")
        except OSError as error:
            raise TreeError(f"{path} cannot be read: {error.strerror}") from None

    def _folder(self, path: str, name: str, parent: int, entry: Entry) -> None:
        self._hand_over()  # it is about another directory
        handle = os.open(name, DIRECTORY, dir_fd=parent)
        try:
            try:
                attributes = attributes_of(handle)
            except BadAttribute as error:
                raise TreeError(f"{path}: {error}: a push cannot carry it") from None
            self._entries.append(msgspec.structs.replace(entry, attributes=attributes) if attributes else entry)
            with os.scandir(handle) as found:
                for each in found:
                    inner = f"{path.rstrip('/')}/{each.name}"
                    if not each.name.isascii():
                        _checked(inner)
                    self._take(inner, each.name, handle, each.stat(follow_symlinks=False))
            self._hand_over()
        finally:
            os.close(handle)


def _checked(path: str) -> None:
    try:
        check_path(path)
    except BadManifest as error:
        raise TreeError(f"{error}: a push cannot carry it") from None
