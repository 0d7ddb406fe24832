"""The new files of a transaction in a directory of their own, so that checks see them before anything is replaced."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from hacore.configsync.manifest import Manifest
from hacore.node.config_store import Store


class Staging:
    """`{root}` of the checks: each section whole, under the paths that it will have; readable by root alone."""

    def __init__(self, directory: Path, store: Store) -> None:
        self.root = directory
        self._store = store

    def build(self, manifests: Iterable[Manifest], files: Iterable[tuple[str, bytes]] = ()) -> None:
        """Make it anew, with these sections and further files."""
        self.remove()
        self.root.mkdir(mode=0o700, parents=True)
        for manifest in manifests:
            for entry in manifest.entries:
                place = f"{self.root}{entry.path}"
                if entry.kind == "folder":
                    os.makedirs(place, exist_ok=True)
                elif entry.kind == "file":
                    self._file(place, entry.digest)
                elif entry.kind == "link":
                    os.makedirs(os.path.dirname(place), exist_ok=True)
                    os.symlink(entry.target, place)
        for path, content in files:
            target = Path(f"{self.root}{path}")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)

    def _file(self, place: str, digest: str) -> None:
        try:
            handle = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:
            os.makedirs(os.path.dirname(place), exist_ok=True)
            handle = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            self._store.copy_out(digest, handle)
        finally:
            os.close(handle)

    def remove(self) -> None:
        """Nothing is staged any more."""
        shutil.rmtree(self.root, ignore_errors=True)
