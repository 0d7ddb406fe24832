"""The last epoch that this node has raised, kept in the state directory.

It is written in a thread: epochs are raised in the middle of a takeover, and a disk may take a second. What a crash
loses so is told by the hellos of the peers, as far as anybody has heard of it.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path

from hacore.states.ownership import BELIEVED_EPOCH, BELIEVED_STEP

EPOCH_FILE = "states-epoch"
CLOSE_LIMIT = 2.0  # seconds


class EpochFile:
    """`problem` says why the last one could not be written, "" while all is well."""

    def __init__(self, state_dir: Path) -> None:
        self.problem = ""
        self._path = state_dir / EPOCH_FILE
        self._lock = threading.Lock()
        self._wanted: int | None = None  # of the thread, while there is one
        self._thread: threading.Thread | None = None

    def read(self) -> int:
        """0 where none was ever raised, where the file was lost and where it is damaged."""
        try:
            epoch = int(self._path.read_text(encoding="ascii"))
        except (OSError, ValueError):
            return 0
        return epoch if 0 <= epoch <= BELIEVED_EPOCH + BELIEVED_STEP else 0

    def write(self, epoch: int) -> None:
        """Soon; of several that come at once the last one is written."""
        with self._lock:
            self._wanted = epoch
            if self._thread is None:
                self._thread = threading.Thread(target=self._write_all, name="epoch", daemon=True)
                self._thread.start()

    def close(self) -> None:
        """Waits, but not for ever, until what was given to `write` is on the disk or cannot be."""
        thread = self._thread
        if thread is not None:
            thread.join(CLOSE_LIMIT)

    def _write_all(self) -> None:
        while True:
            with self._lock:
                epoch, self._wanted = self._wanted, None
                if epoch is None:
                    self._thread = None
                    return
            try:
                self._write(epoch)
                self.problem = ""
            except OSError as error:
                self.problem = f"{self._path}: {error.strerror or error}"

    def _write(self, epoch: int) -> None:
        new = self._path.with_suffix(".new")
        with open(new, "w", encoding="ascii") as stream:
            stream.write(f"{epoch}\n")
            stream.flush()
            os.fsync(stream.fileno())
        new.replace(self._path)
